//! The one way that services open the ledger: the bounds that its scripts hold are the settings', whichever process runs them.

use std::error::Error;
use std::time::Duration;

use settings::{Settings, read_secret};
use tokio::time::sleep;

use crate::config::Config;
use crate::connection::Ledger;
use crate::error::{LedgerError, Result};

const RETRY: Duration = Duration::from_millis(250);
const RETRY_MAX: Duration = Duration::from_secs(2);

impl Ledger {
    /// Opens the ledger of a deployment for one process, as soon as Redis answers; that may take for ever.
    ///
    /// # Errors
    /// What more tries do not help with: a password that cannot be read, an address or a server that cannot be used.
    pub async fn open(settings: &Settings) -> Result<Self> {
        let config = Config::of(settings)?;
        let url = without_password(&config.url);
        let mut wait = RETRY;
        loop {
            match Self::connect(config.clone()).await {
                Ok(ledger) => {
                    tracing::info!(url, "Redis answers");
                    return Ok(ledger);
                }
                Err(error) if error.retry_after().is_some() => {
                    if wait == RETRY {
                        let error = &error as &(dyn Error + 'static);
                        tracing::warn!(url, error, "Redis does not answer yet; trying until it does");
                    }
                    sleep(wait).await;
                    wait = (wait * 2).min(RETRY_MAX);
                }
                Err(error) => return Err(error),
            }
        }
    }
}

impl Config {
    /// What the settings say, for a process that has a name of its own from now on.
    fn of(settings: &Settings) -> Result<Self> {
        let (redis, limits) = (&settings.redis, &settings.limits);
        let password = redis.password_file.as_deref().map(read_secret).transpose();
        let unreadable =
            |error| LedgerError::Misconfigured { why: format!("redis.password_file: {error}"), source: None };
        Ok(Self {
            url: redis.url.clone(),
            password: password.map_err(unreadable)?,
            wait_replicas: redis.wait_replicas,
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
        })
    }
}

/// Fit for a log: without what stands before `@`.
fn without_password(url: &str) -> String {
    match (url.split_once("://"), url.rsplit_once('@')) {
        (Some((scheme, _)), Some((_, host))) => format!("{scheme}://…@{host}"),
        _ => url.into(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn logs_have_no_passwords() {
        assert_eq!(without_password("redis://me:p@ss@host:1/0"), "redis://…@host:1/0");
        assert_eq!(without_password("redis+unix:///run/redis.sock"), "redis+unix:///run/redis.sock");
    }
}
