//! What each task did last, over HTTP: `/healthz`, `/status`, `/metrics`.

use std::collections::BTreeMap;
use std::fmt::Write;
use std::sync::Arc;
use std::time::Duration;

use axum::extract::State;
use axum::http::header;
use axum::response::IntoResponse;
use axum::routing::get;
use axum::{Json, Router};
use jiff::Timestamp;
use serde::Serialize;
use tokio::net::TcpListener;
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

/// What one activation, or all of them, did.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize)]
pub struct Counts {
    /// Jobs or deadlines that were looked at.
    pub seen: u64,
    /// Of them, those that the task ended.
    pub done: u64,
    /// Of them, those that were left for later because the ledger or the runtime could not.
    pub left: u64,
}

/// A task's last activation and its sums.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct TaskStatus {
    /// When it was last activated.
    pub last_activation: Option<Timestamp>,
    /// How long that took.
    pub last_duration_ms: u64,
    /// What it did then.
    pub last: Counts,
    /// Why it could do nothing, if so.
    pub last_error: Option<String>,
    /// Activations since the start.
    pub activations: u64,
    /// What all of them did.
    pub total: Counts,
}

/// The tasks' statuses; clones share them.
#[derive(Debug, Clone)]
pub struct Board(Arc<watch::Sender<BTreeMap<&'static str, TaskStatus>>>);

impl Default for Board {
    fn default() -> Self {
        Self::new()
    }
}

impl Board {
    /// No task was activated yet.
    pub fn new() -> Self {
        Self(Arc::new(watch::Sender::new(BTreeMap::new())))
    }

    /// Notes an activation.
    pub fn activated(&self, task: &'static str, took: Duration, outcome: Result<Counts, String>) {
        self.0.send_modify(|tasks| {
            let status = tasks.entry(task).or_default();
            status.last_activation = Some(Timestamp::now());
            status.last_duration_ms = u64::try_from(took.as_millis()).unwrap_or(u64::MAX);
            status.activations += 1;
            (status.last, status.last_error) = match outcome {
                Ok(counts) => (counts, None),
                Err(why) => (Counts::default(), Some(why)),
            };
            status.total.seen += status.last.seen;
            status.total.done += status.last.done;
            status.total.left += status.last.left;
        });
    }

    /// The tasks by name.
    pub fn tasks(&self) -> BTreeMap<&'static str, TaskStatus> {
        self.0.borrow().clone()
    }

    /// As OpenMetrics text.
    fn metrics(&self) -> String {
        let tasks = self.tasks();
        let mut text = String::new();
        let mut family = |name: &str, help: &str, value: &dyn Fn(&TaskStatus) -> u64| {
            let family = format!("rekindle_reaper_{name}");
            let _ = writeln!(text, "# TYPE {family} counter\n# HELP {family} {help}");
            for (task, status) in &tasks {
                let _ = writeln!(text, "{family}_total{{task=\"{task}\"}} {}", value(status));
            }
        };
        family("activations", "Activations of a task.", &|t| t.activations);
        family("seen", "Jobs and deadlines that a task looked at.", &|t| t.total.seen);
        family("done", "Jobs and deadlines that a task ended.", &|t| t.total.done);
        family("left", "Jobs and deadlines that were left for later.", &|t| t.total.left);
        let mut gauge = |name: &str, unit: &str, help: &str, value: &dyn Fn(&TaskStatus) -> f64| {
            let family = format!("rekindle_reaper_{name}_{unit}");
            let _ = writeln!(text, "# TYPE {family} gauge\n# UNIT {family} {unit}\n# HELP {family} {help}");
            for (task, status) in &tasks {
                let _ = writeln!(text, "{family}{{task=\"{task}\"}} {}", value(status));
            }
        };
        gauge("last_activation", "seconds", "When a task was last activated, since the epoch.", &|t| {
            t.last_activation.map_or(0.0, |at| at.as_millisecond() as f64 / 1000.0)
        });
        gauge("last_duration", "seconds", "How long that took.", &|t| t.last_duration_ms as f64 / 1000.0);
        gauge("failed", "ratio", "1 while a task can do nothing.", &|t| f64::from(u8::from(t.last_error.is_some())));
        text.push_str("# EOF\n");
        text
    }
}

/// Serves the board until `stop`.
///
/// # Errors
/// When the listener fails.
pub async fn serve(listener: TcpListener, board: Board, stop: CancellationToken) -> anyhow::Result<()> {
    let metrics = |State(board): State<Board>| async move {
        let kind = "application/openmetrics-text; version=1.0.0; charset=utf-8";
        ([(header::CONTENT_TYPE, kind)], board.metrics()).into_response()
    };
    let status = |State(board): State<Board>| async move { Json(serde_tasks(&board)) };
    let routes = Router::new()
        .route("/healthz", get(|| async { Json(BTreeMap::from([("status", "ok")])) }))
        .route("/status", get(status))
        .route("/metrics", get(metrics))
        .with_state(board);
    axum::serve(listener, routes).with_graceful_shutdown(stop.cancelled_owned()).await?;
    Ok(())
}

fn serde_tasks(board: &Board) -> BTreeMap<&'static str, BTreeMap<&'static str, TaskStatus>> {
    BTreeMap::from([("tasks", board.tasks())])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_board_sums_up_and_forgets_errors_that_are_over() {
        let board = Board::new();
        let took = Duration::from_millis(7);
        board.activated("idle", took, Ok(Counts { seen: 3, done: 2, left: 1 }));
        board.activated("idle", took, Err("the ledger does not answer".into()));
        assert!(board.tasks()["idle"].last_error.is_some());
        board.activated("idle", took, Ok(Counts { seen: 1, done: 1, left: 0 }));
        let idle = board.tasks()["idle"].clone();
        assert_eq!(idle.total, Counts { seen: 4, done: 3, left: 1 });
        assert_eq!((idle.activations, idle.last_error, idle.last_duration_ms), (3, None, 7));
        assert!(board.metrics().contains("rekindle_reaper_done_total{task=\"idle\"} 3\n"));
        assert!(board.metrics().contains("rekindle_reaper_last_duration_seconds{task=\"idle\"} 0.007\n"));
        assert!(board.metrics().ends_with("# EOF\n"));
    }
}
