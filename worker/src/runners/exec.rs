//! `exec`: any program. The prompt on stdin; on stdout text, or JSON lines that are events; the exit status decides.

use contract::EventBody;
use serde::Deserialize;
use serde_json::Value;

use super::lines::Piece;
use super::program::{Program, drive};
use super::{Context, Outcome, REPLY_BYTES, environment as env_list, find_program};
use crate::events::{Sink, truncate};
use crate::stop::Stops;

/// A longer line is text, whatever it looks like.
const MAX_LINE: usize = 1 << 20;

/// A line of stdout that is no text.
#[derive(Debug, Deserialize)]
#[serde(tag = "type", rename_all = "kebab-case")]
enum Said {
    MessageDelta {
        text: String,
    },
    ThinkingDelta {
        text: String,
    },
    ToolCall {
        tool: String,
        #[serde(default)]
        args: Value,
        #[serde(rename = "callId")]
        call_id: String,
    },
    ToolResult {
        #[serde(rename = "callId")]
        call_id: String,
        #[serde(default = "yes")]
        ok: bool,
        #[serde(default)]
        summary: String,
    },
    Result(Answer),
}

#[derive(Debug, Default, Deserialize)]
struct Answer {
    ok: Option<bool>,
    reply: Option<String>,
    output: Option<Value>,
    #[serde(alias = "sessionId")]
    session_id: Option<String>,
    detail: Option<String>,
}

fn yes() -> bool {
    true
}

pub(super) async fn run(ctx: &Context<'_>, sink: &mut Sink, stops: Stops) -> Outcome {
    let Some(name) = ctx.config.command.first() else {
        return Outcome::failed(
            "the profile's runner `exec` has no command: set `command = [\"program\", \"argument\", …]` in it",
        );
    };
    let env = environment(ctx);
    let Some(file) = find_program(name, env_list::get(&env, "PATH").unwrap_or_default()) else {
        return Outcome::failed(format!(
            "`{name}` is no program in this sandbox: look at the profile's `command` and its image"
        ));
    };
    let mut argv = ctx.config.command.clone();
    argv[0] = file.to_string_lossy().into_owned();
    let program =
        Program { argv: &argv, env: &env, cwd: ctx.workspace, stdin: ctx.prompt.as_bytes(), max_line: MAX_LINE };
    let mut output = Output { sink, text: String::new(), reply: String::new(), cut: false, answer: None };
    let ended = drive(program, ctx.awaited, &stops, async |piece| {
        output.take(piece).await;
        true
    })
    .await;
    let Output { reply, cut, answer, .. } = output;
    let ended = match ended {
        Ok(ended) => ended,
        Err(error) => return Outcome::failed(format!("cannot run `{name}`: {error}")),
    };
    let answer = answer.unwrap_or_default();
    let mut outcome = Outcome {
        ok: ended.status.success() && answer.ok.unwrap_or(true),
        output: answer.output,
        session_id: answer.session_id,
        detail: answer.detail,
        ..Outcome::default()
    };
    if cut && answer.reply.is_none() {
        outcome.say("the reply was cut to 256 KiB");
    }
    outcome.reply = answer.reply.unwrap_or(reply);
    if !ended.status.success() {
        outcome.say(&format!("`{name}`: {}", ended.describe()));
    }
    if !outcome.ok {
        outcome.reason = Some(contract::FailReason::Error);
    }
    outcome
}

/// What every runner gets, and what such a program may want to know of its turn.
fn environment(ctx: &Context<'_>) -> Vec<(String, String)> {
    let mut env = env_list::build(ctx, &env_list::own);
    let mut set = |name: &str, value: &str| env.push((name.to_owned(), value.to_owned()));
    set("REKINDLE_UNIT", ctx.unit.as_str());
    set("REKINDLE_TURN", ctx.turn.turn_id.as_str());
    set("REKINDLE_THREAD", &ctx.turn.thread);
    set("REKINDLE_STATE", &ctx.state.to_string_lossy());
    if let Some(session) = &ctx.session {
        set("REKINDLE_SESSION", &session.session_id);
    }
    env
}

/// What the program has printed so far, as far as it matters.
struct Output<'a> {
    sink: &'a mut Sink,
    /// Text that is not emitted yet: what one read brought becomes one event.
    text: String,
    reply: String,
    cut: bool,
    answer: Option<Answer>,
}

impl Output<'_> {
    async fn take(&mut self, piece: Piece<'_>) {
        match piece {
            Piece::Pause => self.flush().await,
            Piece::Part(bytes) => self.text.push_str(&String::from_utf8_lossy(bytes)),
            Piece::Line(line) => match event(line) {
                Some(said) => self.say(said).await,
                None => {
                    self.text.push_str(&String::from_utf8_lossy(line));
                    self.text.push('\n');
                }
            },
        }
    }

    async fn say(&mut self, said: Said) {
        let body = match said {
            // In order with the text around it.
            Said::MessageDelta { text } => return self.text.push_str(&text),
            Said::Result(answer) => {
                self.answer = Some(answer);
                return;
            }
            Said::ThinkingDelta { text } => EventBody::ThinkingDelta { text },
            Said::ToolCall { tool, args, call_id } => EventBody::ToolCall { tool, args, call_id },
            Said::ToolResult { call_id, ok, summary } => EventBody::ToolResult { call_id, ok, summary },
        };
        self.flush().await;
        self.sink.emit(body).await;
    }

    async fn flush(&mut self) {
        if self.text.is_empty() {
            return;
        }
        let text = std::mem::take(&mut self.text);
        if !self.cut {
            self.reply.push_str(&text);
            self.cut = truncate(&mut self.reply, REPLY_BYTES);
        }
        self.sink.emit(EventBody::MessageDelta { text }).await;
    }
}

fn event(line: &[u8]) -> Option<Said> {
    if line.first() != Some(&b'{') { None } else { serde_json::from_slice(line).ok() }
}

#[cfg(test)]
#[path = "exec_tests.rs"]
mod tests;
