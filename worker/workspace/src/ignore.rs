//! `.gitignore`, as found in the tree: no exclude file, no configuration.

use std::rc::Rc;

use gix_glob::Pattern;
use gix_glob::pattern::Case;
use gix_glob::wildmatch;

/// Patterns with more stars than this are left out: matching can be exponential in them.
const MAX_STARS: usize = 12;
const MAX_PATTERNS: usize = 10_000;

#[derive(Debug)]
struct File {
    /// Length of the folder's path with its slash: patterns see what comes after.
    base: usize,
    patterns: Vec<Pattern>,
}

/// The `.gitignore` files that apply in a folder, outermost first.
#[derive(Debug, Clone, Default)]
pub(crate) struct Ignores(Vec<Rc<File>>);

impl Ignores {
    /// With the file of the folder `prefix` (no slash at its end) added.
    pub fn with(&self, prefix: &[u8], content: &[u8]) -> Self {
        let patterns = gix_ignore::parse(content, false)
            .map(|(pattern, _, _)| pattern)
            .filter(|p| p.text.iter().filter(|b| **b == b'*').count() <= MAX_STARS)
            .take(MAX_PATTERNS)
            .collect();
        let base = if prefix.is_empty() { 0 } else { prefix.len() + 1 };
        let mut files = self.0.clone();
        files.push(Rc::new(File { base, patterns }));
        Self(files)
    }

    /// Whether a path, none of whose parents is ignored, is ignored itself: the last pattern that matches decides.
    pub fn matches(&self, path: &[u8], is_dir: bool) -> bool {
        for file in self.0.iter().rev() {
            let relative = &path[file.base..];
            let name_at = relative.iter().rposition(|b| *b == b'/').map(|at| at + 1);
            for pattern in file.patterns.iter().rev() {
                let mode = wildmatch::Mode::NO_MATCH_SLASH_LITERAL;
                if pattern.matches_repo_relative_path(relative.into(), name_at, Some(is_dir), Case::Sensitive, mode) {
                    return !pattern.is_negative();
                }
            }
        }
        false
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_last_pattern_of_the_innermost_file_decides() {
        let root = Ignores::default().with(b"", b"*.log\n/build/\n!keep.log\n{a,b}\n");
        assert!(root.matches(b"x/a.log", false));
        assert!(!root.matches(b"x/keep.log", false));
        assert!(root.matches(b"build", true));
        assert!(!root.matches(b"build", false));
        assert!(!root.matches(b"x/build", true));
        assert!(!root.matches(b"a", false), "braces mean themselves");
        let inner = root.with(b"x", b"!a.log\nsub/*.txt\n");
        assert!(!inner.matches(b"x/a.log", false));
        assert!(inner.matches(b"x/sub/1.txt", false));
        assert!(!inner.matches(b"x/y/sub/1.txt", false));
    }

    #[test]
    fn a_pattern_made_to_take_for_ever_is_left_out() {
        let hostile = format!("{}b\n", "*a".repeat(60));
        let ignores = Ignores::default().with(b"", hostile.as_bytes());
        assert!(!ignores.matches("a".repeat(250).as_bytes(), false));
    }
}
