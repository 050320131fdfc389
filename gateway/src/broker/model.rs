//! Names of models.

/// Characters that are kept of one.
const CHARS: usize = 100;

/// A model's name as it is kept: it becomes a part of keys.
pub(super) fn model_name(name: &str) -> Option<String> {
    let plain = |c: char| if c.is_ascii_alphanumeric() || "-._:@/".contains(c) { c } else { '_' };
    let name: String = name.chars().take(CHARS).map(plain).collect();
    (!name.is_empty()).then_some(name)
}
