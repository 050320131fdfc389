//! What a turn may leave in a workspace, and how it is told what was put back.

use contract::WorkspaceId;

/// Limits of a workspace. A turn's changes beyond them are put back and reported.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Limits {
    /// Largest file that is committed, in bytes.
    pub max_file_bytes: u64,
    /// Most files in a commit.
    pub max_files: usize,
    /// Most bytes that one turn may change, counting each changed file whole.
    pub max_changed_bytes: u64,
    /// Most files that `.gitignore` keeps out.
    pub max_ignored_files: u64,
    /// Most bytes in files that `.gitignore` keeps out.
    pub max_ignored_bytes: u64,
    /// Most entries of any kind. A tree of more is [`Unusable`](crate::WorkspaceError::Unusable).
    pub max_entries: u64,
    /// Deepest folder.
    pub max_depth: usize,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            max_file_bytes: 50 << 20,
            max_files: 100_000,
            max_changed_bytes: 2 << 30,
            max_ignored_files: 1_000_000,
            max_ignored_bytes: 20 << 30,
            max_entries: 3_000_000,
            max_depth: 128,
        }
    }
}

/// A path that breaks a rule, and the rule.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Reverted {
    /// Relative to the workspace; bytes that are not UTF-8 are replaced.
    pub path: String,
    /// What the rule says, and whether the path could be put back.
    pub reason: String,
}

impl Reverted {
    pub(crate) fn new(path: &[u8], reason: impl Into<String>) -> Self {
        Self { path: String::from_utf8_lossy(path).into_owned(), reason: reason.into() }
    }
}

/// Largest `.gitignore` that is read, in bytes.
pub(crate) const MAX_IGNORE_BYTES: u64 = 1 << 20;

/// Why a name cannot be part of a committed path, if so. An exact `.git` never gets here: it is skipped.
pub(crate) fn bad_name(name: &[u8], is_link: bool) -> Option<&'static str> {
    let lower = name.to_ascii_lowercase();
    // HFS+ drops these code points from names, NTFS knows `.git` by its short name: a checkout there would
    // write into the repository (CVE-2014-9390, CVE-2019-1352).
    let plain = String::from_utf8_lossy(&lower)
        .chars()
        .filter(
            |c| !matches!(*c, '\u{200c}'..='\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{206a}'..='\u{206f}' | '\u{feff}'),
        )
        .collect::<String>();
    let ntfs = plain.split(':').next().unwrap_or_default().trim_end_matches(['.', ' ']);
    if ntfs == ".git" || ntfs == "git~1" {
        return Some("a name that means .git on another system cannot be committed");
    }
    if name == b"." || name == b".." || name.is_empty() || name.contains(&b'/') || name.contains(&0) {
        return Some("not a file name");
    }
    if is_link && matches!(ntfs, ".gitmodules") {
        return Some(".gitmodules cannot be a link");
    }
    None
}

/// Whether knowledge-graph rules apply to a path: `kg/entities/**.md` but `index.md` and `log.md`.
pub(crate) fn wants_front_matter(path: &[u8]) -> bool {
    let Some(rest) = path.strip_prefix(b"kg/entities/") else {
        return false;
    };
    let name = rest.rsplit(|b| *b == b'/').next().unwrap_or_default();
    name.ends_with(b".md") && name != b"index.md" && name != b"log.md"
}

const MAX_FRONT_MATTER_BYTES: usize = 64 << 10;

/// Checks the front matter of an entity: `type`, `id` and `title`, none of them empty.
pub(crate) fn check_front_matter(content: &[u8]) -> Result<(), String> {
    let head = match content.get(..MAX_FRONT_MATTER_BYTES) {
        // Whole lines only: a longer one that begins with `---` does not close anything.
        Some(head) if content.len() > head.len() => {
            &head[..head.iter().rposition(|b| *b == b'\n').map_or(0, |end| end + 1)]
        }
        _ => content,
    };
    let head = head.strip_prefix(b"\xef\xbb\xbf").unwrap_or(head);
    let mut lines = head.split(|b| *b == b'\n').map(|l| l.strip_suffix(b"\r").unwrap_or(l));
    if lines.next() != Some(b"---") {
        return Err("an entity needs front matter: begin the file with a line `---`".into());
    }
    let mut seen: Vec<(&[u8], bool)> = Vec::new();
    let mut closed = false;
    for line in lines {
        if line == b"---" || line == b"..." {
            closed = true;
            break;
        }
        // Nested values, list items and comments are YAML's business; only top-level `key: value` counts here.
        if line.first().is_none_or(|b| b.is_ascii_whitespace() || matches!(b, b'#' | b'-')) {
            continue;
        }
        let Some(colon) = line.iter().position(|b| *b == b':') else {
            return Err(format!("front matter line `{}` is not `key: value`", shown(line)));
        };
        let (key, value) = (line[..colon].trim_ascii(), &line[colon + 1..]);
        if value.first().is_some_and(|b| !b.is_ascii_whitespace()) {
            return Err(format!("front matter line `{}` needs a space after the colon", shown(line)));
        }
        if seen.iter().any(|(k, _)| *k == key) {
            return Err(format!("front matter has `{}` twice", shown(key)));
        }
        seen.push((key, !is_empty_scalar(value)));
    }
    if !closed {
        return Err("front matter does not end: close it with a line `---`".into());
    }
    for wanted in ["type", "id", "title"] {
        if !seen.iter().any(|(key, full)| *key == wanted.as_bytes() && *full) {
            return Err(format!("front matter needs a `{wanted}` that is not empty"));
        }
    }
    Ok(())
}

/// A line as a message can have it: short, and without what would control a terminal.
fn shown(line: &[u8]) -> String {
    const MOST_CHARS: usize = 80;
    let text = String::from_utf8_lossy(line);
    let mut shown: String =
        text.chars().take(MOST_CHARS).map(|c| if c.is_control() { '\u{fffd}' } else { c }).collect();
    if text.chars().nth(MOST_CHARS).is_some() {
        shown.push('…');
    }
    shown
}

fn is_empty_scalar(value: &[u8]) -> bool {
    let value = value.trim_ascii();
    let value = if value.starts_with(b"#") { b"" } else { value };
    matches!(value, b"" | b"~" | b"null" | b"\"\"" | b"''" | b"[]" | b"{}" | b"|" | b">")
}

/// How a workspace is named in messages.
pub(crate) fn named(id: &WorkspaceId) -> String {
    format!("workspace {id}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn front_matter_needs_its_three_keys() {
        assert_eq!(check_front_matter(b"---\ntype: person\nid: p1\ntitle: \"A: b\"\ntags:\n  - x\n---\nbody"), Ok(()));
        assert_eq!(check_front_matter(b"---\r\ntype: a\r\nid: b\r\ntitle: c\r\n---\r\n"), Ok(()));
        for (bad, word) in [
            (&b"# no front matter"[..], "begin"),
            (b"---\ntype: a\nid: b\n---\n", "title"),
            (b"---\ntype: a\nid: ''\ntitle: c\n---\n", "`id`"),
            (b"---\ntype: a\nid: b\ntitle: # nothing\n---\n", "title"),
            (b"---\ntype: a\nid: b\ntitle: c\n", "close"),
            (b"---\ntype: a\ntype: b\n---\n", "twice"),
            (b"---\ntype:a\n---\n", "space"),
            (b"---\njust words\n---\n", "key: value"),
            (b"", "begin"),
        ] {
            let why = check_front_matter(bad).unwrap_err();
            assert!(why.contains(word), "{why}");
        }
    }

    #[test]
    fn long_lines_neither_close_front_matter_nor_fill_a_message() {
        let begin = "---\ntype: a\nid: b\ntitle: c\n";
        // The first bytes of the last line are the last that are looked at.
        let filled = format!("{begin}#{}\n---x\n", "x".repeat(MAX_FRONT_MATTER_BYTES - begin.len() - 5));
        assert!(check_front_matter(filled.as_bytes()).unwrap_err().contains("close"));
        let why = check_front_matter(format!("---\n\u{1b}[2J{}\n---\n", "x".repeat(5000)).as_bytes()).unwrap_err();
        assert!(why.len() < 400 && why.contains('…') && !why.contains('\u{1b}'), "{why}");
    }

    #[test]
    fn entities_are_found_by_path() {
        assert!(wants_front_matter(b"kg/entities/a.md"));
        assert!(wants_front_matter(b"kg/entities/people/a.md"));
        for not in [
            &b"kg/entities/index.md"[..],
            b"kg/entities/x/log.md",
            b"kg/entities/a.txt",
            b"x/kg/entities/a.md",
            b"kg/a.md",
        ] {
            assert!(!wants_front_matter(not));
        }
    }

    #[test]
    fn names_that_mean_dot_git_elsewhere_are_refused() {
        for bad in [
            &b".GIT"[..],
            b".Git",
            b"git~1",
            b"GIT~1",
            b".git.",
            b".git ",
            ".g\u{200c}it".as_bytes(),
            b".git::$DATA",
            b"..",
        ] {
            assert!(bad_name(bad, false).is_some(), "{bad:?}");
        }
        for good in [&b".gitignore"[..], b".github", b"git", b"a.git", b"\xff\xfe", b"a\nb"] {
            assert!(bad_name(good, false).is_none(), "{good:?}");
        }
        assert!(bad_name(b".gitmodules", true).is_some());
        assert!(bad_name(b".gitmodules", false).is_none());
    }
}
