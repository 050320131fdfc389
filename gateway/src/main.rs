//! `rekindle-gateway --config rekindle.toml`

use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::{Context, bail};
use gateway::serve::Gateway;
use settings::Settings;
use tokio::signal::unix::{SignalKind, signal};
use tokio_util::sync::CancellationToken;
use tracing_subscriber::EnvFilter;

const USAGE: &str = "usage: rekindle-gateway --config <rekindle.toml>";

#[tokio::main]
async fn main() -> ExitCode {
    let filter = EnvFilter::try_from_default_env().unwrap_or_else(|_| EnvFilter::new("info"));
    let ansi = std::io::IsTerminal::is_terminal(&std::io::stderr());
    tracing_subscriber::fmt().with_env_filter(filter).with_writer(std::io::stderr).with_ansi(ansi).init();
    match run().await {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            tracing::error!("{error:#}");
            ExitCode::FAILURE
        }
    }
}

async fn run() -> anyhow::Result<()> {
    let Some(path) = config_path()? else {
        println!("{USAGE}");
        return Ok(());
    };
    // Fails only when one is installed already, which is as good.
    let _ = rustls::crypto::aws_lc_rs::default_provider().install_default();
    let settings = Settings::load(&path)?;
    let stop = CancellationToken::new();
    let mut terminate = signal(SignalKind::terminate()).context("listen for SIGTERM")?;
    let mut interrupt = signal(SignalKind::interrupt()).context("listen for SIGINT")?;
    let stopping = stop.clone();
    let signals = tokio::spawn(async move {
        tokio::select! {
            _ = terminate.recv() => {}
            _ = interrupt.recv() => {}
        }
        stopping.cancel();
    });
    let served = Box::pin(async { Gateway::bind(settings).await?.run(stop).await }).await;
    signals.abort();
    served
}

/// The settings file; none when the usage was asked for.
fn config_path() -> anyhow::Result<Option<PathBuf>> {
    let mut arguments = std::env::args_os().skip(1);
    let path = match arguments.next().as_deref().and_then(|a| a.to_str()) {
        Some("--help" | "-h") => return Ok(None),
        Some("--config") => arguments.next(),
        _ => None,
    };
    match (path, arguments.next()) {
        (Some(path), None) => Ok(Some(path.into())),
        _ => bail!(USAGE),
    }
}
