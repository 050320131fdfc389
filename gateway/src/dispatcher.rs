//! Start jobs become workloads. A job is durable and leased: whatever ends this process, another gateway goes on with it, and
//! the runtime answers a repeated start with the workload that is already there.

use std::sync::Arc;
use std::time::Duration;

use contract::{StopReason, WorkloadStatus};
use ledger::{Ledger, StartJob};
use runtimes::RuntimeError;
use tokio::sync::mpsc;
use tokio::task::JoinSet;
use tokio::time::{Instant, MissedTickBehavior, interval, interval_at, sleep};
use tokio_util::sync::CancellationToken;

use crate::app::App;
use crate::http::problem::chain;
use crate::tokens::DispatchTokens;
use crate::workload;

/// How long a job is this gateway's own without a word; renewed at a third of it.
const LEASE: Duration = Duration::from_secs(5);
const RENEW_EVERY: Duration = Duration::from_millis(1500);
/// Between two looks for jobs that nobody nudged about: those whose lease is over or whose back-off is.
const LOOK_EVERY: Duration = Duration::from_millis(250);
const MOST_AT_ONCE: usize = 32;
/// While the runtime does not answer; less than a lease, which is renewed after it.
const BACK_OFF: Duration = Duration::from_millis(200);
const BACK_OFF_MAX: Duration = Duration::from_secs(2);
/// A start that waits for room is tried again long before, also when the runtime is away for a while.
const ROOM_WAIT: Duration = Duration::from_secs(10);

/// Has the runtime start what the ledger wants started.
pub struct Dispatcher {
    /// Settings, runtime, figures.
    pub app: App,
    /// The ledger.
    pub ledger: Ledger,
    /// Signs each generation's token.
    pub tokens: Arc<DispatchTokens>,
    /// Where the runtime posts its events.
    pub callback_url: String,
}

/// What came of a job, as it is counted.
type Outcome = &'static str;

impl Dispatcher {
    /// Works until cancelled, and returns when no start of its own runs any more. What is left is the next gateway's, when
    /// its lease is over.
    pub async fn run(self, mut jobs: mpsc::Receiver<StartJob>, cancel: CancellationToken) {
        let dispatcher = Arc::new(self);
        let mut running = JoinSet::new();
        let mut look = interval(LOOK_EVERY);
        look.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut ledger_answers = true;
        loop {
            let room = MOST_AT_ONCE.saturating_sub(running.len());
            let waiting = &dispatcher.app.starts_waiting;
            let picked = tokio::select! {
                () = cancel.cancelled() => break,
                Some(ended) = running.join_next(), if !running.is_empty() => {
                    log_panic(ended);
                    continue;
                }
                Some(job) = jobs.recv(), if room > 0 => Ok(vec![job]),
                () = waiting.notified(), if room > 0 => dispatcher.ledger.pick_starts(LEASE, room).await,
                _ = look.tick(), if room > 0 => dispatcher.ledger.pick_starts(LEASE, room).await,
            };
            match picked {
                Ok(jobs) => {
                    ledger_answers = true;
                    for job in jobs {
                        running.spawn(dispatcher.clone().job(job, cancel.clone()));
                    }
                }
                Err(error) if ledger_answers => {
                    tracing::warn!(error = chain(&error), "cannot look for start jobs; trying on");
                    ledger_answers = false;
                }
                Err(_) => {}
            }
        }
        while let Some(ended) = running.join_next().await {
            log_panic(ended);
        }
    }

    async fn job(self: Arc<Self>, job: StartJob, cancel: CancellationToken) {
        let (uid, generation) = (job.uid.clone(), job.generation);
        let attempts = Box::pin(self.attempts(job));
        let outcome = match cancel.run_until_cancelled(attempts).await {
            Some(outcome) => outcome,
            None => {
                // Another gateway goes on at once; when this fails, it does when the lease is over.
                let _ = self.ledger.renew_start(&uid, generation, Duration::from_millis(1)).await;
                "abandoned"
            }
        };
        self.app.metrics.workload(outcome);
    }

    /// Tries until the runtime has said yes or no, or the job is somebody else's.
    async fn attempts(&self, mut job: StartJob) -> Outcome {
        let mut back_off = BACK_OFF;
        loop {
            let spec = match self.spec(&job) {
                Ok(spec) => spec,
                Err(detail) => return self.failed(&job, &detail, false).await,
            };
            match self.start(&job, &spec).await {
                Ok(status) if status.state.is_alive() => {
                    tracing::info!(uid = %job.uid, generation = %job.generation, "started");
                    return "started";
                }
                // The runtime posts this as an event as well; whichever comes first counts it.
                Ok(status) => return self.failed(&job, &describe(&status), true).await,
                // Not replaced without being counted: a worker that never comes up would be started for ever.
                Err(RuntimeError::Stale { highest }) if highest == job.generation => {
                    return self.failed(&job, "the workload ended before its worker was ready", true).await;
                }
                Err(RuntimeError::Stale { highest }) => {
                    match self.ledger.restart(&job.uid, job.generation, highest).await {
                        Ok(Some(next)) => job = next,
                        Ok(None) => return "abandoned",
                        Err(error) => return abandon(&job, &chain(&error)),
                    }
                }
                Err(RuntimeError::Unavailable { detail, .. }) => {
                    if back_off == BACK_OFF {
                        tracing::warn!(uid = %job.uid, generation = %job.generation, detail, "the runtime does not answer; trying on");
                    }
                    if !self.wait(&job, &mut back_off).await {
                        return abandon(&job, "the lease is lost");
                    }
                }
                Err(RuntimeError::NoRoom { detail }) => {
                    if back_off == BACK_OFF {
                        tracing::warn!(uid = %job.uid, generation = %job.generation, detail, "no room for a start; it waits");
                    }
                    // No fault of the turn's: it is not counted against it, however long it lasts.
                    match self.ledger.start_waits(&job.uid, job.generation, "disk", ROOM_WAIT).await {
                        Ok(true) => {}
                        Ok(false) => return "abandoned",
                        Err(error) => return abandon(&job, &chain(&error)),
                    }
                    if !self.wait(&job, &mut back_off).await {
                        return abandon(&job, "the lease is lost");
                    }
                }
                Err(RuntimeError::Refused { problem }) => {
                    // A conflict may be over the next time; everything else will be refused again.
                    let retry = problem.status == http::StatusCode::CONFLICT;
                    return self.failed(&job, problem.detail.as_deref().unwrap_or(&problem.title), retry).await;
                }
                Err(error @ RuntimeError::NotFound) => return self.failed(&job, &error.to_string(), true).await,
            }
        }
    }

    fn spec(&self, job: &StartJob) -> Result<contract::WorkloadSpec, String> {
        let name = &job.shape.profile;
        let profile = self.app.settings.profile(name);
        let profile = profile.ok_or_else(|| format!("profile `{name}` is no longer in this deployment's settings"))?;
        let now_sec = u64::try_from(jiff::Timestamp::now().as_second()).unwrap_or_default();
        let token = self.tokens.mint(&workload::claims(job, now_sec));
        let token = token.map_err(|e| format!("the generation's token cannot be signed: {}", chain(&e)))?;
        Ok(workload::spec(job, &profile, token, &self.callback_url))
    }

    /// Calls the runtime, and keeps the lease meanwhile. A lease that is lost does not end the call: what was begun is told
    /// of, and everything that follows is fenced by the generation.
    async fn start(&self, job: &StartJob, spec: &contract::WorkloadSpec) -> Result<WorkloadStatus, RuntimeError> {
        let mut call = std::pin::pin!(self.app.runtime.start(spec));
        let mut renew = interval_at(Instant::now() + RENEW_EVERY, RENEW_EVERY);
        let mut held = true;
        loop {
            tokio::select! {
                answer = &mut call => return answer,
                _ = renew.tick(), if held => held = self.renew(job).await,
            }
        }
    }

    /// A little longer each time; `false` when the job is no longer this gateway's.
    async fn wait(&self, job: &StartJob, back_off: &mut Duration) -> bool {
        sleep(*back_off).await;
        *back_off = (*back_off * 2).min(BACK_OFF_MAX);
        self.renew(job).await
    }

    async fn renew(&self, job: &StartJob) -> bool {
        // A ledger that does not answer cannot confirm it; then the lease ends by itself and whoever comes next goes on.
        self.ledger.renew_start(&job.uid, job.generation, LEASE).await.unwrap_or(false)
    }

    async fn failed(&self, job: &StartJob, detail: &str, retry: bool) -> Outcome {
        tracing::warn!(uid = %job.uid, generation = %job.generation, detail, retry, "a start failed");
        match self.ledger.start_failed(&job.uid, job.generation, detail, retry).await {
            Ok(_) => "failed",
            Err(error) => abandon(job, &chain(&error)),
        }
    }
}

fn abandon(job: &StartJob, why: &str) -> Outcome {
    tracing::warn!(uid = %job.uid, generation = %job.generation, why, "left a start to whoever picks it up");
    "abandoned"
}

fn describe(status: &WorkloadStatus) -> String {
    let reason = status.stop_reason.unwrap_or(StopReason::StartFailed);
    match (&status.detail, status.exit_code) {
        (Some(detail), _) => detail.clone(),
        (None, Some(code)) => format!("the worker ended with status {code} before it was ready"),
        (None, None) => format!("the workload ended before it was ready: {}", reason.as_str()),
    }
}

fn log_panic(ended: Result<(), tokio::task::JoinError>) {
    if let Err(error) = ended {
        tracing::error!(%error, "a start ended badly; its lease will be picked up");
    }
}
