//! Reaching the ledger and the runtime at start; neither has to be there yet.

use std::time::Duration;

use anyhow::Context;
use ledger::{Config, Ledger};
use runtimes::RuntimeClient;
use settings::{Settings, read_secret};
use tokio_util::sync::CancellationToken;

const AGAIN: Duration = Duration::from_secs(1);

/// Connects to the ledger, as often as it takes. None when `stop` came first.
///
/// # Errors
/// When the settings cannot work, whatever Redis does.
pub async fn ledger(settings: &Settings, stop: &CancellationToken) -> anyhow::Result<Option<Ledger>> {
    let mut config = Config::new(settings.redis.url.clone(), ulid::Ulid::new().to_string());
    if let Some(path) = &settings.redis.password_file {
        config.password = Some(read_secret(path).context("read redis.password_file")?);
    }
    config.turn_ttl = Duration::from_secs(settings.limits.turn_ttl_sec);
    config.out_entries = settings.limits.out_entries;
    config.out_bytes = settings.limits.out_bytes;
    config.queued_turns_per_unit = settings.limits.queued_turns_per_unit;
    let mut said = false;
    loop {
        let error = tokio::select! {
            connected = Ledger::connect(config.clone()) => match connected {
                Ok(ledger) => {
                    tracing::info!(url = settings.redis.url, "the ledger answers");
                    return Ok(Some(ledger));
                }
                Err(error) => error,
            },
            () = stop.cancelled() => return Ok(None),
        };
        let Some(after) = error.retry_after() else {
            return Err(error).context("connect to the ledger (redis.url)");
        };
        if !std::mem::replace(&mut said, true) {
            tracing::warn!(
                url = settings.redis.url,
                error = chain(&error),
                "the ledger does not answer; trying until it does"
            );
        }
        tokio::select! {
            () = tokio::time::sleep(after.max(AGAIN)) => {}
            () = stop.cancelled() => return Ok(None),
        }
    }
}

/// The runtime's client. Whether the runtime answers is only said: jobs wait for it.
///
/// # Errors
/// When the settings cannot work.
pub async fn runtime(settings: &Settings) -> anyhow::Result<RuntimeClient> {
    let token = read_secret(&settings.runtime.token_file).context("read runtime.token_file")?;
    let client = RuntimeClient::new(&settings.runtime.url, Some(token))?;
    match tokio::time::timeout(AGAIN, client.health()).await {
        Ok(Ok(_)) => tracing::info!(url = settings.runtime.url, "the runtime answers"),
        Ok(Err(error)) => {
            tracing::warn!(url = settings.runtime.url, %error, "the runtime does not answer; workloads end when it does");
        }
        Err(_) => {
            tracing::warn!(url = settings.runtime.url, "the runtime does not answer yet; workloads end when it does")
        }
    }
    Ok(client)
}

/// An error with its causes.
pub fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(e) = cause {
        text.push_str(": ");
        text.push_str(&e.to_string());
        cause = e.source();
    }
    text
}
