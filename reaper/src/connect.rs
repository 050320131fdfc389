//! Reaching the runtime at start; it does not have to be there yet.

use std::time::Duration;

use anyhow::Context;
use runtimes::RuntimeClient;
use settings::{Settings, read_secret};

const AGAIN: Duration = Duration::from_secs(1);

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
