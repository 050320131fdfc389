//! `claude-code`: the Claude Code CLI, without anybody at a terminal.
//!
//! Its state lives under `<state>/claude`, its history under a folder named after the working directory, which is why that is
//! always the primary workspace. A conversation is begun with an id of ours and then resumed by it.

use contract::FailReason;

use super::claude_stream::{RunResult, Stream};
use super::lines::Piece;
use super::program::{Ended, Program, drive};
use super::{Context, Outcome, environment, find_program, new_uuid};
use crate::events::Sink;
use crate::stop::Stops;

/// The CLI repeats what tools printed in one line, images too. What is longer is left out.
const MAX_LINE: usize = 8 << 20;

/// How the conversation is begun or gone on with.
enum Conversation<'a> {
    New(String),
    Resume(&'a str, f64),
}

pub(super) async fn run(ctx: &Context<'_>, sink: &mut Sink, stops: Stops) -> Outcome {
    let fresh = || new_uuid().map(Conversation::New);
    let begun = match &ctx.session {
        Some(session) => Ok(Conversation::Resume(&session.session_id, session.cost_usd_total)),
        None => fresh(),
    };
    let conversation = match begun {
        Ok(conversation) => conversation,
        Err(error) => return Outcome::failed(format!("cannot make a session id: {error}")),
    };
    match attempt(ctx, &conversation, sink, &stops).await {
        Attempt::Ended(outcome) => outcome,
        Attempt::UnknownSession => {
            let lost = ctx.session.as_ref().map(|session| session.session_id.as_str()).unwrap_or_default();
            let note = format!("the conversation {lost} is not known to the agent CLI any more, a new one was begun");
            let mut outcome = match fresh() {
                Ok(conversation) => match attempt(ctx, &conversation, sink, &stops).await {
                    Attempt::Ended(outcome) => outcome,
                    Attempt::UnknownSession => Outcome::failed("the agent CLI does not begin a conversation"),
                },
                Err(error) => Outcome::failed(format!("cannot make a session id: {error}")),
            };
            outcome.say(&note);
            outcome
        }
    }
}

enum Attempt {
    Ended(Outcome),
    UnknownSession,
}

async fn attempt(ctx: &Context<'_>, conversation: &Conversation<'_>, sink: &mut Sink, stops: &Stops) -> Attempt {
    let env = env(ctx);
    let argv = match argv(ctx, conversation, environment::get(&env, "PATH").unwrap_or_default()) {
        Ok(argv) => argv,
        Err(why) => return Attempt::Ended(Outcome::failed(why)),
    };
    let message =
        serde_json::json!({"type": "user", "message": {"role": "user", "content": ctx.prompt}}).to_string() + "\n";
    let program = Program { argv: &argv, env: &env, cwd: ctx.workspace, stdin: message.as_bytes(), max_line: MAX_LINE };
    let mut stream = Stream::default();
    let ended = drive(program, ctx.awaited, stops, async |piece| {
        // A part of a line that is too long says nothing by itself.
        if let Piece::Line(line) = piece {
            for event in stream.line(line) {
                sink.emit(event).await;
            }
        }
        // A command that the agent left in the background would keep the CLI alive after its last word.
        stream.result.is_none()
    })
    .await;
    match ended {
        Ok(ended) => conclude(ctx, conversation, stream, &ended),
        Err(error) => Attempt::Ended(Outcome::failed(format!("cannot run `{}`: {error}", argv[0]))),
    }
}

fn conclude(ctx: &Context<'_>, conversation: &Conversation<'_>, stream: Stream, ended: &Ended) -> Attempt {
    let Some(result) = stream.result else {
        let mut outcome = Outcome::failed(format!("the agent CLI ended without a result: {}", ended.describe()));
        if let Some(retry) = stream.last_retry {
            outcome.say(&format!("its last request to the model had failed: {retry}"));
        }
        outcome.session_id = stream.session_id;
        return Attempt::Ended(outcome);
    };
    if matches!(conversation, Conversation::Resume(..)) && result.is_unknown_session() {
        return Attempt::UnknownSession;
    }
    let cost_before = match conversation {
        Conversation::Resume(_, cost) => *cost,
        Conversation::New(_) => 0.0,
    };
    let mut outcome = judge(ctx, &result);
    outcome.usage = result.usage(cost_before, stream.model.as_deref());
    outcome.cost_usd_total = Some(result.total_cost_usd);
    outcome.session_id = result.session_id.or(stream.session_id);
    Attempt::Ended(outcome)
}

fn judge(ctx: &Context<'_>, result: &RunResult) -> Outcome {
    let mut outcome = if !result.is_success() {
        Outcome::failed(result.complaint())
    } else if ctx.turn.options.output_schema.is_some() && result.structured_output.is_none() {
        let reply = result.result.clone().unwrap_or_default();
        Outcome { reply, ..Outcome::failed("the agent did not answer in the form of `output_schema`") }
    } else {
        Outcome {
            ok: true,
            reply: result.result.clone().unwrap_or_default(),
            output: result.structured_output.clone(),
            ..Outcome::default()
        }
    };
    let denied = result.denied_tools();
    if !denied.is_empty() {
        outcome.say(&format!("tools that the turn may not use were denied: {}", denied.join(", ")));
    }
    debug_assert_eq!(outcome.ok, outcome.reason != Some(FailReason::Error));
    outcome
}

fn env(ctx: &Context<'_>) -> Vec<(String, String)> {
    let mut env = environment::build(ctx, &environment::own);
    let config_dir = ctx.state.join("claude").to_string_lossy().into_owned();
    for (name, value) in [
        ("CLAUDE_CONFIG_DIR", config_dir.as_str()),
        ("CLAUDE_CODE_DISABLE_NONESSENTIAL_TRAFFIC", "1"),
        ("DISABLE_AUTOUPDATER", "1"),
        // The CLI refuses to act unasked as root unless it is told where it is; in a user namespace uid 0 is common.
        ("IS_SANDBOX", "1"),
    ] {
        env.push((name.to_owned(), value.to_owned()));
    }
    env
}

fn argv(ctx: &Context<'_>, conversation: &Conversation<'_>, path: &str) -> Result<Vec<String>, String> {
    let name = ctx.config.command.first().map_or("claude", String::as_str);
    let file = find_program(name, path).ok_or_else(|| {
        format!(
            "`{name}` is not in this sandbox: give the profile an image that has the Claude Code CLI \
             (worker/image builds one), or on `process` install it on this machine (npm install -g @anthropic-ai/claude-code)"
        )
    })?;
    let mut argv = vec![file.to_string_lossy().into_owned()];
    argv.extend(ctx.config.command.iter().skip(1).cloned());
    argv.extend(
        [
            "-p",
            "--input-format",
            "stream-json",
            "--output-format",
            "stream-json",
            "--verbose",
            "--include-partial-messages",
        ]
        .map(Into::into),
    );
    // `--name=value`, so that no value is ever taken for an option.
    let mut set = |name: &str, value: &str| argv.push(format!("--{name}={value}"));
    match conversation {
        Conversation::New(id) => set("session-id", id),
        Conversation::Resume(id, _) => set("resume", id),
    }
    let options = &ctx.turn.options;
    if let Some(model) = options.model.as_ref().or(ctx.config.model.as_ref()) {
        set("model", model);
    }
    if let Some(turns) = options.max_turns {
        set("max-turns", &turns.to_string());
    }
    if let Some(budget) = options.max_budget_usd {
        // Unlike the cost that it reports, this is reckoned from the start of its process.
        set("max-budget-usd", &budget.to_string());
    }
    if let Some(text) = &options.append_system_prompt {
        set("append-system-prompt", text);
    }
    if let Some(schema) = &options.output_schema {
        set("json-schema", &schema.to_string());
    }
    if ctx.turn.tools.is_empty() {
        // The sandbox is the fence, and there is nobody to ask.
        set("permission-mode", "bypassPermissions");
    } else {
        let mut tools = ctx.turn.tools.join(",");
        if options.output_schema.is_some() {
            tools.push_str(",StructuredOutput");
        }
        set("permission-mode", "dontAsk");
        set("allowedTools", &tools);
    }
    Ok(argv)
}

#[cfg(test)]
#[path = "claude_code_tests.rs"]
mod tests;
