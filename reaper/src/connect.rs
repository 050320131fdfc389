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
    let (redis, limits) = (&settings.redis, &settings.limits);
    let password = redis.password_file.as_deref().map(read_secret).transpose();
    // All of it: its scripts hold the same bounds as the gateways'.
    let config = Config {
        url: redis.url.clone(),
        password: password.context("read redis.password_file")?,
        wait_replicas: 0,
        gateway: ulid::Ulid::new().to_string(),
        out_entries: limits.out_entries,
        out_bytes: limits.out_bytes,
        turn_ttl: Duration::from_secs(limits.turn_ttl_sec),
        queued_turns_per_unit: limits.queued_turns_per_unit,
        queued_turns_per_owner: limits.queued_turns_per_owner,
        turn_margin: Duration::from_secs(limits.turn_margin_sec),
        live_per_owner: limits.live_per_owner,
        live_total: limits.live_total,
        pending_starts: limits.pending_starts,
        detail_ttl: Duration::from_secs(limits.detail_ttl_sec),
        stored_bytes_per_owner: limits.stored_mb_per_owner.saturating_mul(1 << 20),
        units_per_owner: limits.units_per_owner,
        workspaces_per_owner: limits.workspaces_per_owner,
        open_turns: limits.open_turns,
    };
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
