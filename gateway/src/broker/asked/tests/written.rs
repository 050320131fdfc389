//! The same requests, written in any way that there is. serde_json is the judge of what JSON is.

use proptest::prelude::*;
use serde::de::IgnoredAny;

use super::*;

/// Writes a value as somebody else would: white space, escapes of any character, the members in another order.
fn encoded(value: &Any, dice: &mut impl Iterator<Item = u8>, out: &mut String) {
    let blank =
        |dice: &mut dyn Iterator<Item = u8>| ["", "", "", " ", "\n", "\t \r"][usize::from(dice.next().unwrap()) % 6];
    out.push_str(blank(dice));
    match value {
        Any::String(text) => {
            out.push('"');
            for c in text.chars() {
                match (dice.next().unwrap() % 4, c) {
                    (0, _) => c.encode_utf16(&mut [0; 2]).iter().for_each(|unit| *out += &format!("\\u{unit:04X}")),
                    (1, '/') => out.push_str("\\/"),
                    (_, '"' | '\\' | ..' ') => {
                        let quoted = serde_json::to_string(&c).unwrap();
                        out.push_str(&quoted[1..quoted.len() - 1]);
                    }
                    _ => out.push(c),
                }
            }
            out.push('"');
        }
        Any::Array(values) => {
            let separated = |n: usize| if n == 0 { '[' } else { ',' };
            values.iter().enumerate().for_each(|(n, value)| {
                out.push(separated(n));
                encoded(value, dice, out);
            });
            out.push_str(if values.is_empty() { "[]" } else { "]" });
        }
        Any::Object(members) => {
            let mut members: Vec<_> = members.iter().collect();
            let by = usize::from(dice.next().unwrap()) % members.len().max(1);
            members.rotate_left(by);
            out.push('{');
            for (n, (name, value)) in members.into_iter().enumerate() {
                if n > 0 {
                    out.push(',');
                }
                encoded(&Any::String(name.clone()), dice, out);
                out.push_str(blank(dice));
                out.push(':');
                encoded(value, dice, out);
            }
            out.push('}');
        }
        other => out.push_str(&other.to_string()),
    }
    out.push_str(blank(dice));
}

fn in_pieces(bytes: &[u8], sizes: &[usize]) -> Result<(), Unasked> {
    let mut asked = Asked::new(Allowed::default());
    let (mut rest, mut sizes) = (bytes, sizes.iter().cycle());
    while !rest.is_empty() {
        let (piece, more) = rest.split_at((*sizes.next().unwrap()).min(rest.len()));
        rest = more;
        asked.feed(piece, false)?;
    }
    asked.feed(b"", true)
}

fn documents() -> impl Strategy<Value = Any> {
    let names = prop::sample::select(places::KNOWN).prop_map(str::to_owned);
    let leaf = prop_oneof![
        Just(Any::Null),
        any::<bool>().prop_map(Any::from),
        any::<i32>().prop_map(Any::from),
        any::<i32>().prop_map(|n| Any::from(f64::from(n) / 8.0)),
        any::<String>().prop_map(Any::from),
        prop::sample::select(&["web_search", "custom", "data:x", "mcp", "message", "x"]).prop_map(Any::from),
    ];
    leaf.prop_recursive(5, 40, 5, move |inner| {
        let name = prop_oneof![names.clone(), any::<String>()];
        prop_oneof![
            prop::collection::vec(inner.clone(), 0..5).prop_map(Any::from),
            prop::collection::btree_map(name, inner, 0..5).prop_map(|all| Any::Object(all.into_iter().collect())),
        ]
    })
}

fn dice() -> impl Strategy<Value = Vec<u8>> {
    prop::collection::vec(any::<u8>(), 1..60)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(128))]

    /// The reader takes what serde_json takes, of texts that nearly are JSON.
    #[test]
    fn json_is_what_serde_json_takes(value in documents(), dice in dice(), at in any::<prop::sample::Index>(),
        change in 0usize..4, by in "[\\[\\]{}\",:0-9a-z\\\\+.eE \n\u{1}-]{0,3}", cut in any::<prop::sample::Index>())
    {
        let mut text = String::new();
        encoded(&value, &mut dice.into_iter().cycle(), &mut text);
        let mut chars: Vec<char> = text.chars().collect();
        if change > 0 {
            let at = at.index(chars.len() + 1);
            chars.splice(at..(at + change - 1).min(chars.len()), by.chars());
        }
        let text: String = chars.into_iter().collect();
        let container = text.trim_start_matches([' ', '\t', '\r', '\n']).starts_with(['{', '[']);
        let takes = container && serde_json::from_str::<IgnoredAny>(&text).is_ok();
        let mut json = Json::new(usize::MAX);
        let (one, two) = text.as_bytes().split_at(cut.index(text.len() + 1));
        let fed = json.feed(one, &mut |_| {}).and_then(|()| json.feed(two, &mut |_| {}));
        prop_assert_eq!(fed.is_ok() && json.is_complete(), takes, "{}", text);
    }

    /// However it is written and cut, a document is judged as it is.
    #[test]
    fn a_document_is_judged_the_same_however_it_is_written(value in documents(), dice in dice(),
        sizes in prop::collection::vec(1usize..40, 1..9))
    {
        prop_assume!(value.is_object());
        let mut text = String::new();
        encoded(&value, &mut dice.into_iter().cycle(), &mut text);
        prop_assert_eq!(&serde_json::from_str::<Any>(&text).unwrap(), &value, "{}", text);
        let (whole, pieces) = (read(&value, &[]), in_pieces(text.as_bytes(), &sizes));
        // Which of several offences comes first depends on the order.
        prop_assert_eq!(whole.is_ok(), pieces.is_ok(), "{:?} {:?} {}", whole, pieces, text);
    }

    /// What is refused is refused however it is written, and passes where nothing means anything.
    #[test]
    fn nothing_hides_behind_its_spelling(which in any::<prop::sample::Index>(), around in any::<prop::sample::Index>(),
        dice in dice(), sizes in prop::collection::vec(1usize..40, 1..9))
    {
        let (all, plain) = (refused(), plain());
        let (word_of_it, offence) = &all[which.index(all.len())];
        let mut body = plain[around.index(plain.len())].clone();
        let mut harmless = body.clone();
        for (name, value) in offence.as_object().unwrap() {
            body[name] = value.clone();
        }
        let mut text = String::new();
        encoded(&body, &mut dice.iter().copied().cycle(), &mut text);
        let named = word(in_pieces(text.as_bytes(), &sizes));
        prop_assert_eq!(named.as_deref(), Some(*word_of_it), "{}", text);
        harmless["metadata"] = offence.clone();
        let mut text = String::new();
        encoded(&harmless, &mut dice.into_iter().cycle(), &mut text);
        prop_assert_eq!(in_pieces(text.as_bytes(), &sizes), Ok(()), "{}", text);
    }

    #[test]
    fn utf_8_is_what_std_takes(bytes in prop::collection::vec(prop_oneof![any::<u8>(), 0x80u8..0xc0, 0xe0u8..0xf5], 0..24),
        text in any::<String>(), cuts in prop::collection::vec(0usize..5, 1..30))
    {
        for bytes in [bytes.clone(), [text.as_bytes(), &bytes].concat()] {
            let (mut utf8, mut rest, mut good) = (Utf8::default(), &bytes[..], true);
            for cut in cuts.iter().chain([&usize::MAX]) {
                let (piece, more) = rest.split_at((*cut).min(rest.len()));
                rest = more;
                good = good && utf8.feed(piece);
            }
            let std = std::str::from_utf8(&bytes);
            prop_assert_eq!(good, std.map_or_else(|e| e.error_len().is_none(), |_| true));
        }
    }
}
