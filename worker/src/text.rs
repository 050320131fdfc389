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

/// The same by the bytes that the text has as serde_json writes it, quotes not counted.
pub(crate) fn truncate_json(text: &mut String, max_bytes: usize) -> bool {
    let mut left = max_bytes;
    let end = text.char_indices().find_map(|(at, c)| {
        left = match left.checked_sub(json_bytes(c)) {
            Some(left) => left,
            None => return Some(at),
        };
        None
    });
    if let Some(end) = end {
        text.truncate(end);
    }
    end.is_some()
}

fn json_bytes(c: char) -> usize {
    match c {
        '"' | '\\' | '\n' | '\r' | '\t' | '\u{8}' | '\u{c}' => 2,
        ..' ' => 6,
        c => c.len_utf8(),
    }
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
    fn texts_are_cut_by_what_they_are_as_json() {
        let all: String = ('\0'..'\u{800}').chain(['\u{2028}', '\u{10ffff}']).collect();
        for max in 0..all.len() * 2 {
            let mut text = all.clone();
            let cut = truncate_json(&mut text, max);
            let bytes = serde_json::to_string(&text).unwrap().len() - 2;
            assert!(bytes <= max && all.starts_with(&text) && cut == (text.len() < all.len()));
            if let Some(next) = all[text.len()..].chars().next() {
                assert!(bytes + serde_json::to_string(&next).unwrap().len() - 2 > max, "no shorter than it must be");
            }
        }
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
