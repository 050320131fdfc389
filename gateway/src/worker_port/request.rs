//! What the words of a read or of an `XADD` ask for. No more than words: whether it may be had is decided elsewhere.

use std::time::Duration;

use bytes::Bytes;

use super::command::upper;
use super::reply::{Reply, not_its_key, wrong_number};

/// What a read asks for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Read {
    /// How long it waits: not at all, so long, or (zero in Redis) for ever.
    pub(super) wait: Wait,
    /// It asks for what its consumer has not acknowledged (`XREADGROUP` with another id than `>`).
    pub(super) history: bool,
}

/// How long.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Wait {
    No,
    For(Duration),
    Ever,
}

/// `[GROUP g c] [COUNT n] [BLOCK ms] [NOACK] STREAMS key id`, options in any order and letters of any case.
pub(super) fn read(args: &[Bytes], grouped: bool, inbox: &[u8]) -> Result<Read, Reply> {
    let command = if grouped { "xreadgroup" } else { "xread" };
    let number = |word: &Bytes| std::str::from_utf8(word).ok()?.parse::<u64>().ok();
    let mut wait = Wait::No;
    let mut has_group = false;
    let mut rest = args;
    loop {
        let [option, more @ ..] = rest else {
            return Err(wrong_number(command));
        };
        rest = match (upper(option).as_str(), more) {
            ("GROUP", [_, _, more @ ..]) if grouped => {
                has_group = true;
                more
            }
            ("COUNT", [count, more @ ..]) => {
                number(count).ok_or_else(|| Reply::error("ERR value is not an integer or out of range"))?;
                more
            }
            ("BLOCK", [ms, more @ ..]) => {
                let ms = number(ms).ok_or_else(|| Reply::error("ERR timeout is not an integer or out of range"))?;
                wait = match ms {
                    0 => Wait::Ever,
                    _ => Wait::For(Duration::from_millis(ms)),
                };
                more
            }
            ("NOACK", more) if grouped => more,
            ("STREAMS", [key, id]) => {
                if grouped && !has_group {
                    return Err(Reply::error("ERR Missing GROUP option for XREADGROUP"));
                }
                if key != inbox {
                    return Err(not_its_key());
                }
                let history = grouped && id != ">";
                return Ok(Read { wait, history });
            }
            ("STREAMS", more) if !more.is_empty() && more.len().is_multiple_of(2) => {
                return Err(not_its_key());
            }
            _ => return Err(Reply::error("ERR syntax error")),
        };
    }
}

/// `<out> * event <json>`: the event.
pub(super) fn add<'a>(args: &'a [Bytes], outbox: &[u8]) -> Result<&'a Bytes, Reply> {
    match args {
        [key, ..] if key != outbox => Err(not_its_key()),
        [_, id, field, json] if id == "*" && field == "event" => Ok(json),
        [_, _, _, _, ..] => Err(Reply::error(
            "ERR only `XADD <out-stream> * event <json>` is taken here: ids are given and the stream is trimmed by the \
             platform",
        )),
        _ => Err(wrong_number("xadd")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse_text(text: &str, grouped: bool) -> Result<Read, Reply> {
        let args: Vec<Bytes> = text.split_whitespace().map(|w| Bytes::copy_from_slice(w.as_bytes())).collect();
        read(&args, grouped, b"in")
    }

    #[test]
    fn reads_as_clients_write_them() {
        let read = |wait, history| Ok(Read { wait, history });
        let five = Wait::For(Duration::from_millis(5));
        assert_eq!(parse_text("GROUP g c COUNT 1 BLOCK 5 STREAMS in >", true), read(five, false));
        assert_eq!(parse_text("group g c block 0 noack streams in >", true), read(Wait::Ever, false));
        assert_eq!(parse_text("GROUP g c STREAMS in 0", true), read(Wait::No, true));
        for id in ["$", "0", "0-0", "17-3"] {
            assert_eq!(parse_text(&format!("BLOCK 5 STREAMS in {id}"), false), read(five, false));
        }
    }

    #[test]
    fn other_reads_are_refused() {
        for (text, grouped, why) in [
            ("STREAMS in >", true, "Missing GROUP"),
            ("GROUP g c", true, "wrong number"),
            ("GROUP g c STREAMS other >", true, "NOPERM"),
            ("BLOCK 1 STREAMS in other 0 0", false, "NOPERM"),
            ("BLOCK x STREAMS in 0", false, "timeout"),
            ("BLOCK -1 STREAMS in 0", false, "timeout"),
            ("COUNT x STREAMS in 0", false, "integer"),
            ("NOACK STREAMS in 0", false, "syntax"),
            ("STREAMS in", false, "syntax"),
            ("", false, "wrong number"),
        ] {
            match parse_text(text, grouped) {
                Err(Reply::Error(told)) => assert!(told.contains(why), "{text}: {told}"),
                other => panic!("{text}: {other:?}"),
            }
        }
    }
}
