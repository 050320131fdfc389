//! What the journeys stand on: a whole Rekindle of real processes, a real Redis, a scripted model endpoint, an HTTP client.
//!
//! Everything listens on loopback or on Unix sockets below a temporary folder, runs with an environment of its own, and ends
//! with the value that started it. A helper that finds something missing panics with the command that installs it.

pub mod api;
pub mod claude;
pub mod gate;
pub mod git;
pub mod http;
pub mod keys;
pub mod meddler;
pub mod model;
pub mod noise;
pub mod options;
pub mod packages;
pub mod paths;
pub mod proc;
pub mod redis;
pub mod sandbox;
pub mod service;
pub mod sse;
pub mod stack;

use std::future::Future;
use std::time::Duration;

/// Asks `probe` every 20 ms until it has an answer.
///
/// # Panics
/// When there is none after `limit`, with `what` was waited for.
pub async fn eventually<T, F>(what: &str, limit: Duration, mut probe: impl FnMut() -> F) -> T
where
    F: Future<Output = Option<T>>,
{
    let ask = async {
        loop {
            if let Some(answer) = probe().await {
                return answer;
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    match tokio::time::timeout(limit, ask).await {
        Ok(answer) => answer,
        Err(_) => panic!("waited {limit:?} in vain: {what}"),
    }
}
