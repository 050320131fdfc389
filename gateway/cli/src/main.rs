//! `rekindle`: the command line, and the supervisor of a single machine's deployment.

mod agent_cli;
mod api;
mod commands;
mod deployment;
mod docker;
mod failure;
mod follow;
mod local_http;
mod mint;
mod model_key;
mod programs;
mod render;
mod secrets;
mod spinner;
mod sse;
mod table;
mod target;
mod up;

use std::process::ExitCode;

use clap::Parser;

/// Serverless coding agents: units that cost nothing until they are called.
///
/// Exit status: 0 done; 1 the turn or a check failed; 2 refused or wrong usage; 3 the gateway cannot be reached;
/// 4 the turn still runs; 130 interrupted.
#[derive(Debug, Parser)]
#[command(name = "rekindle", version, about, max_term_width = 100)]
struct Cli {
    #[command(flatten)]
    target: target::Target,
    #[command(subcommand)]
    command: commands::Command,
}

fn main() -> ExitCode {
    let cli = Cli::parse();
    if !matches!(cli.command, commands::Command::Up(_)) {
        end_quietly_with_the_reader();
    }
    // One thread: children of `up` are tied to the life of the thread that made them.
    let tokio = tokio::runtime::Builder::new_current_thread().enable_all().build();
    let tokio = match tokio {
        Ok(tokio) => tokio,
        Err(e) => return failure::report(Err(e.into())),
    };
    let result = tokio.block_on(cli.command.run(&cli.target));
    // A read of the terminal may still be pending; it is not waited for.
    tokio.shutdown_background();
    failure::report(result)
}

/// `rekindle events demo | head` ends when `head` does. A supervisor must not: its children go with it.
fn end_quietly_with_the_reader() {
    // SAFETY: no other thread runs yet, and SIG_DFL installs no handler.
    unsafe {
        libc::signal(libc::SIGPIPE, libc::SIG_DFL);
    }
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory;

    #[test]
    fn the_command_line_is_well_formed() {
        super::Cli::command().debug_assert();
    }
}
