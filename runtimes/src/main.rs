//! `rekindle-runtime`: serves `runtime.v1`. Ending it ends no workload.

use std::path::PathBuf;
use std::time::Duration;

use anyhow::Context;
use runtimes::{Listener, Runtime, RuntimeConfig, serve};
use settings::{Settings, read_secret};
use tokio::signal::unix::{SignalKind, signal};
use tokio_util::sync::CancellationToken;

/// How long open calls may take once nothing new is accepted.
const DRAIN: Duration = Duration::from_secs(5);

fn main() -> anyhow::Result<()> {
    tracing_subscriber::fmt()
        .with_env_filter(filter())
        .with_writer(std::io::stderr)
        .with_ansi(std::io::IsTerminal::is_terminal(&std::io::stderr()))
        .init();
    let settings = match arguments()? {
        Some(path) => Settings::load(&path)?,
        None => anyhow::bail!("usage: rekindle-runtime --config rekindle.toml"),
    };
    tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build()?.block_on(run(settings))
}

async fn run(settings: Settings) -> anyhow::Result<()> {
    let token = read_secret(&settings.runtime.token_file).context("read runtime.token_file")?;
    let config = RuntimeConfig::from_settings(&settings, Some(token.clone()))?;
    let runtime = Runtime::open(config).await.context("open the runtime")?;
    let listener = Listener::bind(&settings.runtime.url).await.context("listen on runtime.url")?;
    tracing::info!(url = settings.runtime.url, "runtime.v1 is served");

    let stop = CancellationToken::new();
    let (mut term, mut int) = (signal(SignalKind::terminate())?, signal(SignalKind::interrupt())?);
    let serving = serve(runtime.clone(), listener, Some(token), stop.clone());
    tokio::pin!(serving);
    tokio::select! {
        ended = &mut serving => ended.context("serve runtime.v1")?,
        _ = term.recv() => {}
        _ = int.recv() => {}
    }
    tracing::info!("draining; workloads go on");
    stop.cancel();
    runtime.close().await;
    match tokio::time::timeout(DRAIN, serving).await {
        Ok(ended) => ended.context("drain runtime.v1"),
        // Calls that are cut off are idempotent.
        Err(_) => Ok(()),
    }
}

fn arguments() -> anyhow::Result<Option<PathBuf>> {
    let mut arguments = std::env::args_os().skip(1);
    match (arguments.next(), arguments.next(), arguments.next()) {
        (Some(flag), Some(path), None) if flag == "--config" => Ok(Some(path.into())),
        _ => Ok(None),
    }
}

fn filter() -> tracing_subscriber::EnvFilter {
    tracing_subscriber::EnvFilter::try_from_default_env().unwrap_or_else(|_| "info".into())
}
