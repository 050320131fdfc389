//! Texts, cut between characters.

/// The parts of a text, none of them longer than so many bytes (which are enough for a character); none of an empty one.
pub(crate) fn parts(mut text: &str, max_bytes: usize) -> impl Iterator<Item = &str> {
    std::iter::from_fn(move || {
        let (part, rest) = text.split_at(floor(text, max_bytes));
        text = rest;
        (!part.is_empty()).then_some(part)
    })
}

/// The last place between two characters that is not behind so many bytes.
fn floor(text: &str, max_bytes: usize) -> usize {
    (0..=max_bytes.min(text.len())).rev().find(|&i| text.is_char_boundary(i)).unwrap_or(0)
}

/// Cuts a text to at most so many bytes, between characters; says whether it did.
pub(crate) fn truncate(text: &mut String, max_bytes: usize) -> bool {
    if text.len() <= max_bytes {
        return false;
    }
    text.truncate(floor(text, max_bytes));
    true
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn texts_are_cut_between_characters() {
        let mut text = "aäö".to_owned();
        assert!(!truncate(&mut text, 5));
        assert!(truncate(&mut text, 4));
        assert_eq!(text, "aä");
        assert!(truncate(&mut text, 2));
        assert_eq!(text, "a");
    }

    #[test]
    fn long_texts_come_in_parts() {
        const MAX: usize = 64 * 1024;
        let text = "xä".repeat(MAX);
        let lens: Vec<_> = parts(&text, MAX).map(str::len).collect();
        assert_eq!(lens.iter().sum::<usize>(), text.len());
        assert!(lens.iter().all(|&len| (1..=MAX).contains(&len)) && lens.len() == 4, "{lens:?}");
        assert_eq!(parts("", MAX).count(), 0);
    }
}
