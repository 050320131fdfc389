//! The bounds of every field of an event, wherever it comes from: a runner, a session file or record that anybody in the sandbox
//! may have written, a repository. An event that is larger than the gateway takes could never be told, and a turn whose `done`
//! cannot be told has no end.
//!
//! Where a character takes up to six bytes as JSON, the bound is of the JSON. The largest event of each type fits
//! [`contract::EVENT_BYTES`].

use contract::EventBody;
use serde_json::Value;

use crate::text::{truncate, truncate_json};

/// Longest reply, as JSON.
pub(crate) const REPLY_JSON_BYTES: usize = 352 * 1024;
/// Largest structured answer, as JSON.
pub(crate) const OUTPUT_BYTES: usize = 128 * 1024;
/// Longest detail, as JSON.
const DETAIL_BYTES: usize = 8 * 1024;
/// Longest id of an agent CLI's session. A longer one cannot be gone on with.
const SESSION_BYTES: usize = 512;
/// Longest name of a model, of a tool and id of its call, and hash; as JSON.
const NAME_BYTES: usize = 256;
/// Longest text of a tool call's arguments; longer ones are cut and become a text.
const ARGS_BYTES: usize = 16 * 1024;
/// Longest summary of a tool's answer.
const SUMMARY_BYTES: usize = 2 * 1024;
/// Longest text of one event, and prompt that is shown.
pub(crate) const TEXT_BYTES: usize = 64 * 1024;
/// Paths that one `policy-reverted` names; the rest is counted.
const NAMED_PATHS: usize = 200;
/// Longest such path and its reason, as JSON each.
const PATH_BYTES: usize = 1_000;

/// Cuts what a runner says of its run; the platform may have something to add.
pub(crate) fn fit_detail(detail: &mut String) {
    cut_json(detail, DETAIL_BYTES / 2);
}

/// Whether a session can be gone on with by this id: as an argument and a variable of a program it has to be short, and to have
/// no NUL.
pub(crate) fn is_session(id: &str) -> bool {
    (1..=SESSION_BYTES).contains(&id.len()) && !id.chars().any(char::is_control)
}

/// Cuts what is too long in an event. What an end of a turn loses is said in its detail.
pub(crate) fn fit(body: &mut EventBody) {
    match body {
        EventBody::TurnAccepted { prompt: text, .. }
        | EventBody::MessageDelta { text }
        | EventBody::ThinkingDelta { text } => cut(text, TEXT_BYTES),
        EventBody::ToolCall { tool, args, call_id } => {
            cut_json(tool, NAME_BYTES);
            cut_json(call_id, NAME_BYTES);
            match args {
                // What was cut here is one, and has no character that takes more than two bytes.
                Value::String(text) => cut_json(text, 2 * ARGS_BYTES),
                other => {
                    let mut text = other.to_string();
                    if text.len() > ARGS_BYTES {
                        cut(&mut text, ARGS_BYTES);
                        *other = Value::String(text);
                    }
                }
            }
        }
        EventBody::ToolResult { call_id, summary, .. } => {
            cut_json(call_id, NAME_BYTES);
            cut(summary, SUMMARY_BYTES);
        }
        EventBody::PolicyReverted { paths, reasons } => {
            for texts in [&mut *paths, &mut *reasons] {
                texts.iter_mut().take(NAMED_PATHS + 1).for_each(|text| cut_json(text, PATH_BYTES));
            }
            let left_out = paths.len().max(reasons.len()).saturating_sub(NAMED_PATHS);
            // The last one may say that there were more.
            if left_out > 1 {
                paths.truncate(NAMED_PATHS);
                reasons.truncate(NAMED_PATHS);
                paths.push("…".into());
                reasons.push(format!("and {left_out} more"));
            }
        }
        EventBody::Commit { sha, .. } => cut_json(sha, NAME_BYTES),
        EventBody::Done { reply, output, session_id, usage, detail, cache, .. } => {
            let mut lost = Vec::new();
            if truncate_json(reply, REPLY_JSON_BYTES) {
                lost.push("the reply was cut");
            }
            if output.as_ref().is_some_and(|output| output.to_string().len() > OUTPUT_BYTES) {
                *output = None;
                lost.push("the structured answer is larger than 128 KiB and was left out");
            }
            if session_id.take_if(|id| !is_session(id)).is_some() {
                lost.push("the agent CLI's session id is none that a turn can go on with, and was left out");
            }
            if let Some(model) = &mut usage.model {
                cut_json(model, NAME_BYTES);
            }
            cache.take_if(|hash| hash.len() > NAME_BYTES || hash.chars().any(char::is_control));
            if !lost.is_empty() {
                // Before what was said, which may be long.
                let said = detail.take().map(|said| format!("; {said}")).unwrap_or_default();
                *detail = Some(lost.join("; ") + &said);
            }
            if let Some(detail) = detail {
                cut_json(detail, DETAIL_BYTES);
            }
        }
        _ => {}
    }
}

const ELLIPSIS: &str = "…";

fn cut(text: &mut String, max_bytes: usize) {
    if text.len() > max_bytes {
        truncate(text, max_bytes - ELLIPSIS.len());
        text.push_str(ELLIPSIS);
    }
}

fn cut_json(text: &mut String, max_bytes: usize) {
    if truncate_json(text, max_bytes) {
        truncate_json(text, max_bytes - ELLIPSIS.len());
        text.push_str(ELLIPSIS);
    }
}

#[cfg(test)]
mod tests {
    use contract::{EVENT_BYTES, FailReason, Usage, WorkspaceId};
    use proptest::prelude::*;

    use super::*;

    /// A text as a runner may print it, of which most is one character: one byte or six of JSON, two, or a long one.
    fn text() -> impl Strategy<Value = String> {
        let most = prop_oneof![Just(10usize), Just(2_000), Just(700_000)];
        (most, prop::sample::select(&['x', '"', '\u{1}', 'ä', '\u{10ffff}']), any::<String>())
            .prop_map(|(n, c, more)| c.to_string().repeat(n / c.len_utf8()) + &more)
    }

    fn event() -> impl Strategy<Value = EventBody> {
        let value = || text().prop_map(Value::from);
        let usage = (prop::option::of(text()), any::<f64>(), any::<u64>()).prop_map(|(model, cost, n)| Usage {
            model,
            cost_usd: Some(cost),
            input_tokens: n,
            output_tokens: n,
            cache_read_tokens: n,
            cache_write_tokens: n,
        });
        let rest = (usage, prop::option::of(text()), prop::option::of(text()), prop::option::of(text()));
        let workspace = WorkspaceId::parse("w".repeat(128)).unwrap();
        prop_oneof![
            (any::<bool>(), text(), prop::option::of(value()), rest).prop_map(
                |(ok, reply, output, (usage, session_id, detail, cache))| EventBody::Done {
                    ok,
                    reply,
                    output,
                    session_id,
                    usage,
                    detail,
                    reason: (!ok).then_some(FailReason::WorkspaceUnusable),
                    cache,
                }
            ),
            (text(), value(), text()).prop_map(|(tool, args, call_id)| EventBody::ToolCall { tool, args, call_id }),
            (text(), text()).prop_map(|(call_id, summary)| EventBody::ToolResult { call_id, ok: true, summary }),
            (text(), text(), 0usize..400).prop_map(|(path, reason, n)| EventBody::PolicyReverted {
                paths: vec![path.chars().take(3_000).collect(); n],
                reasons: vec![reason.chars().take(3_000).collect(); n],
            }),
            text().prop_map(move |sha| EventBody::Commit {
                workspace: workspace.clone(),
                sha,
                files: u64::MAX,
                insertions: u64::MAX,
                deletions: u64::MAX
            }),
            text().prop_map(|text| EventBody::MessageDelta { text }),
            text().prop_map(|prompt| EventBody::TurnAccepted {
                prompt,
                attempt: u32::MAX,
                start: contract::Start::Prewarmed
            }),
        ]
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(48))]

        /// Whatever was printed or planted, it can be told. What stands around an event (turn, number) takes less than 200 bytes.
        #[test]
        fn every_event_fits_what_the_gateway_takes(mut event in event()) {
            let before = event.clone();
            fit(&mut event);
            let json = serde_json::to_string(&event).unwrap();
            prop_assert!(json.len() + 200 <= EVENT_BYTES, "{} bytes of {}", json.len(), event.name());
            let mut again = event.clone();
            fit(&mut again);
            prop_assert_eq!(serde_json::to_string(&again).unwrap(), json, "once is enough");
            if let (EventBody::Done { ok, reason, reply, .. }, EventBody::Done { ok: was, reason: why, reply: said, .. }) = (&event, &before) {
                prop_assert_eq!((ok, reason), (was, why));
                prop_assert!(said.starts_with(reply));
            }
        }
    }

    #[test]
    fn what_fits_is_left_alone() {
        let done = |reply: &str, session: &str, detail: Option<&str>| EventBody::Done {
            ok: true,
            reply: reply.into(),
            output: Some("x".into()),
            session_id: Some(session.into()),
            usage: Usage::default(),
            detail: detail.map(Into::into),
            reason: None,
            cache: Some("0f".into()),
        };
        let mut whole = done(&"line\n".repeat(50_000), &"s".repeat(SESSION_BYTES), None);
        let before = whole.clone();
        fit(&mut whole);
        assert_eq!(whole, before);
        for odd in ["", "a\0b", "a\nb", &"s".repeat(SESSION_BYTES + 1), &"s".repeat(600_000)] {
            let mut event = done("r", odd, Some("said"));
            fit(&mut event);
            let EventBody::Done { session_id: None, detail: Some(detail), reply, .. } = event else {
                panic!("{odd:.9}")
            };
            assert!(detail.starts_with("the agent CLI's session id") && detail.ends_with("; said") && reply == "r");
        }
    }
}
