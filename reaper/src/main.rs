//! `rekindle-reaper`: parses, wires, runs, drains.

use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::{Context, bail};
use reaper::{Board, Reaper, serve};
use settings::Settings;
use tokio::net::TcpListener;
use tokio::signal::unix::{SignalKind, signal};
use tokio_util::sync::CancellationToken;

const USAGE: &str = "usage: rekindle-reaper --config <rekindle.toml>";

#[tokio::main(flavor = "current_thread")]
async fn main() -> ExitCode {
    tracing_subscriber::fmt()
        .with_env_filter(tracing_subscriber::EnvFilter::try_from_default_env().unwrap_or_else(|_| "info".into()))
        .with_writer(std::io::stderr)
        .with_ansi(std::io::IsTerminal::is_terminal(&std::io::stderr()))
        .init();
    match run().await {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            tracing::error!("{error:#}");
            ExitCode::FAILURE
        }
    }
}

async fn run() -> anyhow::Result<()> {
    let settings = Settings::load(&config_path()?)?;
    let (mut term, mut int) = (signal(SignalKind::terminate())?, signal(SignalKind::interrupt())?);
    let (stop, board) = (CancellationToken::new(), Board::new());
    let listener = match &settings.reaper.listen {
        Some(address) => {
            Some(TcpListener::bind(address).await.with_context(|| format!("listen on reaper.listen ({address})"))?)
        }
        None => None,
    };
    let serving = listener.map(|l| tokio::spawn(serve(l, board.clone(), stop.clone())));
    let reaping = async {
        match Reaper::connect(&settings, board, &stop).await? {
            Some(reaper) => reaper.run(stop.clone()).await,
            None => return Ok(()),
        }
        anyhow::Ok(())
    };
    let mut reaping = std::pin::pin!(reaping);
    let ended = tokio::select! {
        ended = &mut reaping => ended,
        () = async { tokio::select! { _ = term.recv() => {}, _ = int.recv() => {} } } => {
            tracing::info!("draining: what is being ended is ended, nothing more is begun");
            stop.cancel();
            reaping.await
        }
    };
    stop.cancel();
    if let Some(serving) = serving {
        serving.await.context("end the status server")??;
    }
    ended
}

fn config_path() -> anyhow::Result<PathBuf> {
    let mut arguments = std::env::args_os().skip(1);
    match (arguments.next(), arguments.next(), arguments.next()) {
        (Some(flag), Some(path), None) if flag == "--config" => Ok(path.into()),
        _ => bail!(USAGE),
    }
}
