//! `exec`: any program. The prompt on stdin; on stdout text, or JSON lines that are events; the exit status decides.

use super::exec_stream::Printed;
use super::program::{Program, drive};
use super::{Context, Outcome, REPLY_BYTES, environment as env_list, find_program};
use crate::events::Sink;
use crate::stop::Stops;

/// A longer line is text, whatever it looks like.
const MAX_LINE: usize = 1 << 20;

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
    let mut printed = Printed::new(REPLY_BYTES);
    let ended = drive(program, ctx.awaited, &stops, async |piece| {
        for event in printed.piece(piece) {
            sink.emit(event).await;
        }
        true
    })
    .await;
    let Printed { reply, cut, answer, .. } = printed;
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

#[cfg(test)]
#[path = "exec_tests.rs"]
mod tests;
