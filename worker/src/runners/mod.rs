//! Runners: the adapters that drive one agent CLI each. A closed set.

mod claude_code;
mod claude_stream;
mod echo;
mod environment;
mod exec;
mod exec_stream;
mod lines;
mod program;
#[cfg(test)]
mod testing;

use std::path::{Path, PathBuf};

use contract::{FailReason, TurnMessage, UnitId, Usage};
use serde_json::Value;

use crate::bounds::{fit_detail, is_session};
use crate::events::Sink;
use crate::processes::Awaited;
use crate::settings::{RunnerConfig, RunnerKind};
use crate::stop::{Stop, Stops};

/// Longest reply, in bytes.
const REPLY_BYTES: usize = 256 * 1024;

/// Told when an agent CLI, or a session file, names a session by an id that cannot be one.
pub const NO_SESSION: &str = "the session id that was named is longer than 512 bytes or has control characters: the conversation cannot be gone on with";

/// What a runner works with.
#[derive(Debug)]
pub struct Context<'a> {
    /// The unit.
    pub unit: &'a UnitId,
    /// The turn as it was delivered.
    pub turn: &'a TurnMessage,
    /// What to do.
    pub prompt: &'a str,
    /// The thread's conversation so far, if there is one of this runner.
    pub session: Option<Resume>,
    /// Where the agent works.
    pub workspace: &'a Path,
    /// The unit's state folder.
    pub state: &'a Path,
    /// Its disposable home.
    pub home: &'a Path,
    /// What the profile says.
    pub config: &'a RunnerConfig,
    /// The loopback port to the gateway.
    pub gateway_port: u16,
    /// Whom the worker waits for itself.
    pub awaited: &'a Awaited,
}

/// A conversation to go on with.
#[derive(Debug, Clone, PartialEq)]
pub struct Resume {
    /// The agent CLI's own id.
    pub session_id: String,
    /// What it has cost so far, in US dollars.
    pub cost_usd_total: f64,
}

/// What came of a run.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Outcome {
    /// Whether it went well.
    pub ok: bool,
    /// The answer.
    pub reply: String,
    /// The structured answer.
    pub output: Option<Value>,
    /// The agent CLI's session.
    pub session_id: Option<String>,
    /// What the session has cost in all, in US dollars.
    pub cost_usd_total: Option<f64>,
    /// What this turn used.
    pub usage: Usage,
    /// What else there is to say.
    pub detail: Option<String>,
    /// Why not, where it did not go well.
    pub reason: Option<FailReason>,
}

impl Outcome {
    /// A run that failed with an explanation.
    pub fn failed(detail: impl Into<String>) -> Self {
        Self { detail: Some(detail.into()), reason: Some(FailReason::Error), ..Self::default() }
    }

    /// Adds a sentence to the detail.
    pub fn say(&mut self, more: &str) {
        match &mut self.detail {
            Some(detail) => {
                detail.push_str("; ");
                detail.push_str(more);
            }
            none => *none = Some(more.to_owned()),
        }
    }

    /// Turns it into what a stop means: whatever the runner said, the turn did not run to its end.
    pub fn stopped(mut self, why: Stop) -> Self {
        self.ok = false;
        self.reason = Some(match why {
            Stop::Timeout => FailReason::Timeout,
            _ => FailReason::Cancelled,
        });
        self
    }
}

/// Runs one turn. Returns when the agent CLI has ended; what it left running in the background has not.
pub async fn run(kind: RunnerKind, ctx: &Context<'_>, sink: &mut Sink, stops: Stops) -> Outcome {
    let mut outcome = match kind {
        RunnerKind::Echo => echo::run(ctx, sink).await,
        RunnerKind::Exec => exec::run(ctx, sink, stops.clone()).await,
        RunnerKind::ClaudeCode => claude_code::run(ctx, sink, stops.clone()).await,
    };
    if let Some(detail) = &mut outcome.detail {
        fit_detail(detail);
    }
    if crate::text::truncate(&mut outcome.reply, REPLY_BYTES) {
        outcome.say("the reply was cut to 256 KiB");
    }
    if crate::text::truncate_json(&mut outcome.reply, crate::bounds::REPLY_JSON_BYTES) {
        outcome.say("the reply was cut to 352 KiB of JSON");
    }
    if outcome.session_id.take_if(|id| !is_session(id)).is_some() {
        outcome.say(NO_SESSION);
    }
    if sink.left_out() {
        outcome.say("the turn said more than is kept of one turn; later events were left out");
    }
    match stops.asked() {
        Some(why) => outcome.stopped(why),
        None => outcome,
    }
}

/// Where a program's file is, as `execvp` would find it.
fn find_program(name: &str, path: &str) -> Option<PathBuf> {
    let runs = |file: &Path| rustix::fs::access(file, rustix::fs::Access::EXEC_OK).is_ok() && file.is_file();
    if name.contains('/') {
        return Some(PathBuf::from(name)).filter(|file| runs(file));
    }
    path.split(':').filter(|dir| !dir.is_empty()).map(|dir| Path::new(dir).join(name)).find(|file| runs(file))
}

/// A random UUID of version 4 (RFC 9562).
fn new_uuid() -> std::io::Result<String> {
    use std::io::Read as _;
    let mut b = [0; 16];
    std::fs::File::open("/dev/urandom")?.read_exact(&mut b)?;
    b[6] = b[6] & 0x0f | 0x40;
    b[8] = b[8] & 0x3f | 0x80;
    let n = u128::from_be_bytes(b);
    Ok(format!(
        "{:08x}-{:04x}-{:04x}-{:04x}-{:012x}",
        n >> 96,
        (n >> 80) & 0xffff,
        (n >> 64) & 0xffff,
        (n >> 48) & 0xffff,
        n & 0xffff_ffff_ffff
    ))
}
