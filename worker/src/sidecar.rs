//! `rekindle-worker relay`: the relay as a process of its own, beside a sandbox.

use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::{Context, bail};
use relay::{Limits, Relay, WorkerPort};
use tokio::signal::unix::{SignalKind, signal};
use tokio_util::sync::CancellationToken;

/// Its command line.
#[derive(Debug, PartialEq, Eq)]
pub struct Args {
    sock: PathBuf,
    token_file: PathBuf,
    gateway: WorkerPort,
}

impl Args {
    /// Parses `--sock <dir> --token-file <file> --gateway <url>`, in any order.
    ///
    /// # Errors
    /// When one is missing, unknown or malformed.
    pub fn parse(mut args: impl Iterator<Item = String>) -> anyhow::Result<Self> {
        let (mut sock, mut token_file, mut gateway) = (None, None, None);
        while let Some(name) = args.next() {
            let value = args.next().with_context(|| format!("{name} needs a value"))?;
            match name.as_str() {
                "--sock" => sock = Some(value.into()),
                "--token-file" => token_file = Some(value.into()),
                "--gateway" => gateway = Some(WorkerPort::parse(&value)?),
                _ => bail!("unknown option {name}: relay knows --sock, --token-file and --gateway"),
            }
        }
        Ok(Self {
            sock: sock.context("relay needs --sock <dir>")?,
            token_file: token_file.context("relay needs --token-file <file>")?,
            gateway: gateway.context("relay needs --gateway <unix:///path | tcp://host:port>")?,
        })
    }
}

/// Relays until TERM or INT.
///
/// # Errors
/// When the token cannot be read or the sockets cannot be made.
pub async fn run(args: Args) -> anyhow::Result<ExitCode> {
    let token = std::fs::read_to_string(&args.token_file)
        .with_context(|| format!("cannot read the dispatch token in {}", args.token_file.display()))?;
    let relay = Relay::listen(&args.sock, token, args.gateway, Limits::default())?;
    let cancel = CancellationToken::new();
    let (mut term, mut int) = (signal(SignalKind::terminate())?, signal(SignalKind::interrupt())?);
    let serving = relay.run(cancel.clone());
    tokio::pin!(serving);
    tokio::select! {
        () = &mut serving => return Ok(ExitCode::FAILURE),
        _ = term.recv() => {}
        _ = int.recv() => {}
    }
    cancel.cancel();
    serving.await;
    Ok(ExitCode::SUCCESS)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(line: &str) -> anyhow::Result<Args> {
        Args::parse(line.split_whitespace().map(Into::into))
    }

    #[test]
    fn the_command_line_is_checked() {
        let args = parse("--gateway tcp://g:1 --sock /s --token-file /t").unwrap();
        assert_eq!(args.sock, PathBuf::from("/s"));
        for bad in ["", "--sock /s --token-file /t", "--sock", "--gateway x", "--what 1"] {
            assert!(parse(bad).is_err(), "{bad}");
        }
    }
}
