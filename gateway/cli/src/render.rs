//! Events as a person reads them, as JSON lines, or the reply alone.

use std::io::{self, Write};

use contract::{EventBody, UnitEvent};
use serde_json::Value;

/// What is written for an event.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Style {
    /// A turn's text as it comes, tool calls and commits as lines.
    Turn,
    /// As [`Self::Turn`], and what happens around turns.
    Unit,
    /// Every event as one line of JSON.
    Json,
    /// The reply when it is there, nothing else: as it is for a program, harmless for a terminal.
    Reply { on_terminal: bool },
    /// Nothing.
    Silent,
}

/// Writes events to `out`.
#[derive(Debug)]
pub struct Renderer<W> {
    out: W,
    style: Style,
    /// The last thing written did not end its line.
    in_line: bool,
    /// Text of the present turn was written.
    told: bool,
}

impl<W: Write> Renderer<W> {
    /// A renderer at the beginning of a line.
    pub fn new(out: W, style: Style) -> Self {
        Self { out, style, in_line: false, told: false }
    }

    /// Whether `event` would be written; a spinner must be out of the way then.
    pub fn shows(&self, event: &UnitEvent) -> bool {
        match self.style {
            Style::Json | Style::Unit => true,
            Style::Silent => false,
            Style::Reply { .. } => matches!(event.body, EventBody::Done { .. }),
            Style::Turn => !matches!(
                event.body,
                EventBody::WorkerReady { .. }
                    | EventBody::Queued { .. }
                    | EventBody::TurnAccepted { .. }
                    | EventBody::WorkerExit { .. }
                    | EventBody::ThinkingDelta { .. }
                    | EventBody::Unknown(_)
            ),
        }
    }

    /// Writes one event; `json` is the event as it came.
    ///
    /// # Errors
    /// As the writer's.
    pub fn event(&mut self, event: &UnitEvent, json: &str) -> io::Result<()> {
        match (self.style, &event.body) {
            (Style::Json, _) => self.json(json)?,
            (Style::Reply { on_terminal: true }, EventBody::Done { reply, .. }) => {
                self.text(reply)?;
                self.end_line()?;
            }
            (Style::Reply { .. }, EventBody::Done { reply, .. }) => {
                self.out.write_all(reply.as_bytes())?;
                if !reply.is_empty() && !reply.ends_with('\n') {
                    self.out.write_all(b"\n")?;
                }
            }
            (Style::Reply { .. } | Style::Silent, _) => {}
            (Style::Turn | Style::Unit, _) if self.shows(event) => self.readable(event)?,
            (Style::Turn | Style::Unit, _) => {}
        }
        self.out.flush()
    }

    /// An event's own line feeds would break the one-line promise; JSON needs none.
    fn json(&mut self, json: &str) -> io::Result<()> {
        let line = match json.contains(['\n', '\r']) {
            false => json_line(json),
            true => match serde_json::from_str::<Value>(json) {
                Ok(value) => json_line(&value),
                Err(_) => json_line(&Value::from(json)),
            },
        };
        writeln!(self.out, "{line}")
    }

    fn readable(&mut self, event: &UnitEvent) -> io::Result<()> {
        match &event.body {
            EventBody::MessageDelta { text } => self.text(text),
            EventBody::Done { ok, reply, detail, .. } => {
                if !std::mem::take(&mut self.told) && !reply.is_empty() {
                    self.text(reply)?;
                }
                self.told = false;
                self.end_line()?;
                match detail {
                    Some(detail) if !*ok || self.style == Style::Unit => self.line(detail),
                    _ => Ok(()),
                }
            }
            EventBody::PolicyReverted { paths, reasons } => {
                let pairs = paths.iter().zip(reasons.iter().map(String::as_str).chain(std::iter::repeat("")));
                for (path, reason) in pairs {
                    self.line(&format!("reverted {path}: {reason}"))?;
                }
                Ok(())
            }
            body => match self.one_line(event, body) {
                Some(line) => self.line(&line),
                None => Ok(()),
            },
        }
    }

    /// The line for an event that has one.
    fn one_line(&self, event: &UnitEvent, body: &EventBody) -> Option<String> {
        let everything = self.style == Style::Unit;
        Some(match body {
            EventBody::ToolCall { tool, args, .. } => format!("[{tool}] {}", gist(args)),
            EventBody::ToolResult { ok: false, summary, .. } => format!("  failed: {}", first_line(summary, 160)),
            EventBody::Commit { workspace, sha, files, insertions, deletions } => {
                let sha = sha.get(..7).unwrap_or(sha);
                let s = if *files == 1 { "" } else { "s" };
                format!("commit {sha} {files} file{s} +{insertions} -{deletions} ({workspace})")
            }
            EventBody::EgressDenied { host, setting } => {
                format!("egress to {host} denied; this would allow it: {setting}")
            }
            EventBody::TurnFailed { reason, attempts, is_final, detail } => {
                let again = if *is_final { "" } else { "; it is tried again" };
                let detail = detail.as_ref().map(|d| format!(": {d}")).unwrap_or_default();
                format!("failed ({}, attempt {attempts}){detail}{again}", reason.as_str())
            }
            EventBody::Gap { from } => format!("gap: what came after {from} is no longer kept"),
            EventBody::TurnComplete { duration_ms } if everything => {
                format!("turn complete in {}", duration(*duration_ms))
            }
            EventBody::WorkerReady { boot_ms } if everything => {
                format!("worker ready in {boot_ms} ms (generation {})", event.generation)
            }
            EventBody::TurnAccepted { prompt, attempt, start } if everything => {
                let turn = event.turn_id.as_ref().map_or("turn", |t| t.as_str());
                let start = start.as_str();
                format!("{turn} ({start}, attempt {attempt}): {}", first_line(prompt, 100))
            }
            EventBody::Queued { reason, position } if everything => {
                format!("queued: {reason}, {position} before it")
            }
            EventBody::WorkerExit { reason, exit_code } if everything => match exit_code {
                Some(code) => format!("worker exit: {reason} (status {code})"),
                None => format!("worker exit: {reason}"),
            },
            EventBody::Unknown(value) if everything => first_line(&value.to_string(), 160),
            _ => return None,
        })
    }

    fn text(&mut self, text: &str) -> io::Result<()> {
        let clean = printable(text);
        if clean.is_empty() {
            return Ok(());
        }
        self.told = true;
        self.in_line = !clean.ends_with('\n');
        self.out.write_all(clean.as_bytes())
    }

    fn line(&mut self, line: &str) -> io::Result<()> {
        self.end_line()?;
        writeln!(self.out, "{}", printable(line))
    }

    fn end_line(&mut self) -> io::Result<()> {
        match std::mem::take(&mut self.in_line) {
            true => self.out.write_all(b"\n"),
            false => Ok(()),
        }
    }
}

/// Without what drives the reader's terminal or makes it show other text than there is.
pub fn printable(text: &str) -> String {
    text.chars().filter(|c| matches!(c, '\n' | '\t') || !misleads(*c)).collect()
}

/// A JSON text as it is printed, with what would mislead a terminal in the escaped form that means the same (RFC 8259 §7).
pub fn json_line(json: &(impl std::fmt::Display + ?Sized)) -> String {
    let mut line = String::new();
    for c in json.to_string().chars() {
        if misleads(c) {
            let mut units = [0; 2];
            line.extend(c.encode_utf16(&mut units).iter().map(|unit| format!("\\u{unit:04x}")));
        } else {
            line.push(c);
        }
    }
    line
}

/// Control characters of either set (C0, DEL, C1), and those of Unicode that are not seen themselves and change what is: marks,
/// overrides and isolates of the direction of writing, separators of lines, tags, fillers and joints of words (UAX #9, UTR #36). The
/// two joiners within words stay, since there are languages that cannot be written without them.
fn misleads(c: char) -> bool {
    c.is_control()
        || matches!(c,
            '\u{ad}' | '\u{34f}' | '\u{61c}' | '\u{115f}'..='\u{1160}' | '\u{17b4}'..='\u{17b5}' | '\u{180b}'..='\u{180f}'
            | '\u{200b}' | '\u{200e}'..='\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2060}'..='\u{206f}' | '\u{3164}'
            | '\u{feff}' | '\u{ffa0}' | '\u{fff0}'..='\u{fffb}' | '\u{1bca0}'..='\u{1bca3}' | '\u{1d173}'..='\u{1d17a}'
            | '\u{e0000}'..='\u{e0fff}')
}

/// The first line, and at most `most` characters of it.
pub fn first_line(text: &str, most: usize) -> String {
    let line = text.trim_start().lines().next().unwrap_or_default();
    let mut short: String = line.chars().take(most).collect();
    if short.len() < line.len() || text.trim().lines().nth(1).is_some() {
        short.push('…');
    }
    short
}

/// Milliseconds as a person says them.
pub fn duration(ms: u64) -> String {
    match ms {
        0..1_000 => format!("{ms} ms"),
        1_000..60_000 => format!("{}.{} s", ms / 1_000, ms % 1_000 / 100),
        60_000..3_600_000 => format!("{} min {} s", ms / 60_000, ms % 60_000 / 1_000),
        3_600_000..86_400_000 => format!("{} h {} min", ms / 3_600_000, ms % 3_600_000 / 60_000),
        _ => format!("{} d {} h", ms / 86_400_000, ms % 86_400_000 / 3_600_000),
    }
}

/// What a tool call is about: the argument that tells most, else all of them.
fn gist(args: &Value) -> String {
    const TELLING: [&str; 8] = ["command", "file_path", "path", "pattern", "url", "query", "description", "prompt"];
    let telling = TELLING.iter().find_map(|key| args.get(key)?.as_str());
    match telling {
        Some(text) => first_line(text, 120),
        None => first_line(&args.to_string(), 120),
    }
}

#[cfg(test)]
mod tests {
    use proptest::strategy::Strategy as _;
    use serde_json::json;

    use super::*;

    const TURN: &[&str] = &[
        r#"{"type":"worker-ready","generation":5,"boot_ms":12}"#,
        r#"{"type":"turn-accepted","turn_id":"01JD0000000000000000000000","generation":5,"seq":1,"prompt":"do\nit","attempt":1,"start":"cold"}"#,
        r#"{"type":"message-delta","turn_id":"01JD0000000000000000000000","generation":5,"text":"I wri"}"#,
        r#"{"type":"message-delta","turn_id":"01JD0000000000000000000000","generation":5,"text":"te.\u001b[2J"}"#,
        r#"{"type":"tool-call","generation":5,"tool":"Bash","args":{"command":"ls -la\nrm x"},"callId":"c"}"#,
        r#"{"type":"tool-result","generation":5,"callId":"c","ok":false,"summary":"no such file"}"#,
        r#"{"type":"something-new","generation":5,"x":1}"#,
        r#"{"type":"commit","generation":5,"workspace":"notes","sha":"1a2b3c4d5e6f","files":1,"insertions":10,"deletions":1}"#,
        r#"{"type":"done","generation":5,"ok":true,"reply":"I write."}"#,
        r#"{"type":"turn-complete","generation":5,"duration_ms":61500}"#,
    ];

    fn render(style: Style, events: &[&str]) -> String {
        let mut out = Vec::new();
        let mut renderer = Renderer::new(&mut out, style);
        for json in events {
            renderer.event(&serde_json::from_str(json).unwrap(), json).unwrap();
        }
        String::from_utf8(out).unwrap()
    }

    #[test]
    fn a_turn_reads_well() {
        assert_eq!(
            render(Style::Turn, TURN),
            "I write.[2J\n[Bash] ls -la…\n  failed: no such file\ncommit 1a2b3c4 1 file +10 -1 (notes)\n"
        );
    }

    #[test]
    fn a_units_events_tell_what_happens_around_turns() {
        let text = render(Style::Unit, TURN);
        assert!(text.starts_with(
            "worker ready in 12 ms (generation 5)\n01JD0000000000000000000000 (cold, attempt 1): do…\nI write."
        ));
        assert!(text.ends_with("turn complete in 1 min 1 s\n"), "{text}");
    }

    #[test]
    fn piped_is_the_reply_alone() {
        assert_eq!(render(Style::Reply { on_terminal: false }, TURN), "I write.\n");
        let bare = r#"{"type":"done","ok":false,"reply":""}"#;
        assert_eq!(render(Style::Reply { on_terminal: true }, &[bare]), "");
    }

    #[test]
    fn json_is_one_line_for_each_event() {
        let text = render(Style::Json, &[TURN[0], "{\n\"type\":\"gap\",\n\"from\":\"1-0\"}"]);
        let lines: Vec<_> = text.lines().collect();
        assert_eq!(lines[0], TURN[0]);
        assert_eq!(lines.len(), 2);
        assert!(serde_json::from_str::<UnitEvent>(lines[1]).is_ok());
    }

    #[test]
    fn a_reply_that_was_not_streamed_is_told_once() {
        let done = r#"{"type":"done","ok":true,"reply":"hello"}"#;
        assert_eq!(render(Style::Turn, &[done]), "hello\n");
        let failed = r#"{"type":"turn-failed","reason":"oom","attempts":2,"final":true}"#;
        assert_eq!(render(Style::Turn, &[failed]), "failed (oom, attempt 2)\n");
    }

    /// Every character that Unicode says orders text (Bidi_Control), the control characters, and others that are not seen.
    const MISLEADING: &str = "\u{0}\u{7}\u{8}\r\u{1b}\u{7f}\u{80}\u{85}\u{9b}\u{9d}\u{ad}\u{61c}\u{200b}\u{200e}\u{200f}\u{2028}\u{2029}\
        \u{202a}\u{202b}\u{202c}\u{202d}\u{202e}\u{2060}\u{2066}\u{2067}\u{2068}\u{2069}\u{feff}\u{fff9}\u{e0001}\u{e0041}\u{e0100}";

    proptest::proptest! {
        #[test]
        fn nothing_that_misleads_reaches_a_terminal(parts in proptest::collection::vec(
            proptest::prop_oneof![
                proptest::sample::select(MISLEADING.chars().collect::<Vec<_>>()).prop_map(String::from),
                ".{0,8}",
            ], 0..12))
        {
            let said = parts.concat();
            let event = |mut body: Value| {
                body["generation"] = 5.into();
                body.to_string()
            };
            let events = [
                event(json!({"type": "turn-accepted", "turn_id": "01JD0000000000000000000000", "prompt": said, "attempt": 1, "start": "cold"})),
                event(json!({"type": "message-delta", "turn_id": "01JD0000000000000000000000", "text": said})),
                event(json!({"type": "thinking-delta", "turn_id": "01JD0000000000000000000000", "text": said})),
                event(json!({"type": "tool-call", "tool": said, "args": {"command": said}, "callId": said})),
                event(json!({"type": "tool-result", "callId": said, "ok": false, "summary": said})),
                event(json!({"type": "policy-reverted", "paths": [said], "reasons": [said]})),
                event(json!({"type": "commit", "workspace": "notes", "sha": said, "files": 1, "insertions": 1, "deletions": 1})),
                event(json!({"type": "egress-denied", "host": said, "setting": said})),
                event(json!({"type": "done", "ok": false, "reply": said, "detail": said})),
                event(json!({"type": "turn-failed", "reason": "error", "attempts": 1, "final": true, "detail": said})),
                event(json!({"type": "something-new", "x": said})),
            ];
            let events: Vec<_> = events.iter().map(String::as_str).collect();
            for style in [Style::Turn, Style::Unit, Style::Json, Style::Reply { on_terminal: true }] {
                let shown = render(style, &events);
                proptest::prop_assert!(!shown.chars().any(|c| MISLEADING.contains(c)), "{style:?}: {shown:?}");
            }
            // What a program reads means what it did.
            let lines = render(Style::Json, &events);
            for (line, event) in lines.lines().zip(&events) {
                proptest::prop_assert_eq!(serde_json::from_str::<Value>(line).unwrap(), serde_json::from_str::<Value>(event).unwrap());
            }
        }
    }

    #[test]
    fn text_of_any_language_is_shown_as_it_is() {
        let text = "Grüße, שלום, مرحبا, می\u{200c}خواهم, 👩\u{200d}👩\u{200d}👧, 漢字\n\tx";
        assert_eq!(printable(text), text);
        assert_eq!(json_line("\"a\u{202e}b\u{e0041}\""), r#""a\u202eb\udb40\udc41""#);
    }
}
