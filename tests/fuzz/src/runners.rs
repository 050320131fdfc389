//! What an agent CLI, or any program, prints.

#[allow(dead_code, reason = "a part of it is used here")]
#[path = "../../../worker/src/runners/claude_stream.rs"]
mod claude_stream;
#[allow(dead_code, reason = "a part of it is used here")]
#[path = "../../../worker/src/runners/exec_stream.rs"]
mod exec_stream;
#[path = "../../../worker/src/runners/lines.rs"]
mod lines;

use contract::EventBody;

use self::lines::{Piece, Splitter};
use crate::{block_on, in_parts};

/// Longest line where the cutting of lines is looked at, and where what they say is.
const SHORT: usize = 24;
const LONG: usize = 1 << 16;
/// Longest reply in these tests.
const REPLY: usize = 64;

/// Lines, and what they say, are the same however the bytes come; nothing is lost of them; they say only what is a runner's.
pub fn check(data: &[u8]) {
    let Some((whole, parts)) = in_parts(data) else {
        return;
    };
    check_lines(whole, &pieces(SHORT, [whole].into_iter()), &pieces(SHORT, parts.clone()));

    let (at_once, printed) = print([whole].into_iter());
    let (in_parts, printed_in_parts) = print(parts);
    assert_eq!(at_once, in_parts, "an exec program says the same however it is read");
    assert_eq!(printed.reply, printed_in_parts.reply);
    let said: String = at_once.iter().filter_map(|e| text(e)).collect();
    assert!(said.starts_with(&printed.reply) && printed.reply.len() <= REPLY);
    assert_eq!(printed.cut, said.len() > printed.reply.len());

    let mut stream = claude_stream::Stream::default();
    for line in whole.split(|b| *b == b'\n') {
        stream.line(line).iter().for_each(is_a_runners);
    }
    if let Some(result) = &stream.result {
        let usage = result.usage(1.0, stream.model.as_deref());
        serde_json::to_value(&usage).expect("usage can be told");
        assert!(result.is_success() || !result.complaint().is_empty() || result.subtype.is_empty());
        assert!(result.denied_tools().is_sorted_by(|a, b| a < b));
    }
}

#[derive(Debug, PartialEq)]
enum Cut {
    Line(Vec<u8>),
    Part(Vec<u8>),
}

fn pieces<'a>(max: usize, parts: impl Iterator<Item = &'a [u8]>) -> Vec<Cut> {
    let mut cuts = Vec::new();
    split(max, parts, |piece| match piece {
        Piece::Line(line) => cuts.push(Cut::Line(line.into())),
        Piece::Part(part) => cuts.push(Cut::Part(part.into())),
        Piece::Pause => {}
    });
    cuts
}

fn split<'a>(max: usize, parts: impl Iterator<Item = &'a [u8]>, mut each: impl FnMut(Piece<'_>)) {
    block_on(async {
        let mut take = async |piece: Piece<'_>| each(piece);
        let mut splitter = Splitter::new(max);
        for part in parts {
            splitter.push(part, &mut take).await;
            take(Piece::Pause).await;
        }
        splitter.finish(&mut take).await;
    });
}

fn check_lines(whole: &[u8], at_once: &[Cut], in_parts: &[Cut]) {
    assert_eq!(at_once, in_parts, "lines are the same however they come");
    let mut again = Vec::new();
    for cut in at_once {
        let (Cut::Line(bytes) | Cut::Part(bytes)) = cut;
        assert!(bytes.len() <= SHORT);
        again.extend_from_slice(bytes);
        if matches!(cut, Cut::Line(_)) {
            again.push(b'\n');
        }
    }
    if !whole.ends_with(b"\n") && matches!(at_once.last(), Some(Cut::Line(_))) {
        again.pop();
    }
    assert_eq!(again, whole, "every byte once");
}

/// What an `exec` program's bytes mean; texts that follow one another are one.
fn print<'a>(parts: impl Iterator<Item = &'a [u8]>) -> (Vec<EventBody>, exec_stream::Printed) {
    let mut printed = exec_stream::Printed::new(REPLY);
    let mut events: Vec<EventBody> = Vec::new();
    split(LONG, parts, |piece| {
        for event in printed.piece(piece) {
            is_a_runners(&event);
            match (events.last_mut(), event) {
                (Some(EventBody::MessageDelta { text }), EventBody::MessageDelta { text: more }) => {
                    text.push_str(&more)
                }
                (_, event) => events.push(event),
            }
        }
    });
    (events, printed)
}

fn text(event: &EventBody) -> Option<&str> {
    if let EventBody::MessageDelta { text } = event { Some(text) } else { None }
}

fn is_a_runners(event: &EventBody) {
    use EventBody::{MessageDelta, ThinkingDelta, ToolCall, ToolResult};
    assert!(
        matches!(event, MessageDelta { .. } | ThinkingDelta { .. } | ToolCall { .. } | ToolResult { .. }),
        "{event:?} is not a runner's to say"
    );
}
