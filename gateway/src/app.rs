//! What all requests share.

use std::ops::Deref;
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use anyhow::Context;
use contract::ErrorCode;
use ledger::{Fanout, Ledger, Paced, StartJob, Submission, Submitted};
use runtimes::RuntimeClient;
use settings::{Settings, read_secret};
use tokio::sync::{Notify, mpsc};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::auth::{Authenticator, Gate};
use crate::http::problem::Failure;
use crate::metrics::Metrics;
use crate::per_owner::{Places, Shares};
use crate::rates::Rates;
use crate::worker_port::Links;

/// Start jobs that wait for the dispatcher. One above this stays in the ledger and is picked up when its lease is over.
const START_QUEUE: usize = 256;

/// Shared by all requests and tasks; cheap to clone.
#[derive(Clone)]
pub struct App(Arc<Shared>);

/// The parts of an [`App`].
pub struct Shared {
    /// `rekindle.toml`.
    pub settings: Settings,
    /// Checks callers' credentials.
    pub auth: Authenticator,
    /// Counts callers' requests.
    pub gate: Gate,
    /// Who has workloads run.
    pub runtime: RuntimeClient,
    /// What the runtime shows with its callbacks.
    pub runtime_token: String,
    /// Worker connections of this gateway.
    pub links: Links,
    /// Who looks into a workspace at the moment.
    pub looks: Places,
    /// Memory for what callers read.
    pub shares: Shares,
    /// KiB of their large requests and answers.
    pub bulk: Rates,
    /// Figures.
    pub metrics: Metrics,
    /// Start jobs leased to this gateway.
    pub starts: mpsc::Sender<StartJob>,
    /// Rung when start jobs wait in the ledger.
    pub starts_waiting: Notify,
    /// The shutdown began: nothing new is accepted, endless streams end.
    pub closing: CancellationToken,
    /// The shutdown's patience is over: everything ends.
    pub ended: CancellationToken,
    /// What a caller's disconnect must not cut short.
    pub tasks: TaskTracker,
    ledger: OnceLock<(Ledger, Fanout)>,
}

impl Deref for App {
    type Target = Shared;
    fn deref(&self) -> &Shared {
        &self.0
    }
}

impl App {
    /// Reads the secrets. The receiver is the dispatcher's.
    ///
    /// # Errors
    /// When a secret's file cannot be read, a caller's key cannot be used, or the runtime's URL is none.
    pub fn new(settings: Settings) -> anyhow::Result<(Self, mpsc::Receiver<StartJob>)> {
        let runtime_token = read_secret(&settings.runtime.token_file).context("read runtime.token_file")?;
        let runtime =
            RuntimeClient::new(&settings.runtime.url, Some(runtime_token.clone())).context("use runtime.url")?;
        let auth = Authenticator::new(&settings.auth)?;
        let gate = Gate::new(&settings.auth, &settings.limits);
        let limits = &settings.limits;
        let bulk = Rates::new(Paced::Bulk, limits.bulk_kib_per_sec, limits.bulk_burst_kib);
        let (starts, jobs) = mpsc::channel(START_QUEUE);
        let links = Links::new(&settings.limits);
        let shared = Shared {
            settings,
            auth,
            gate,
            runtime,
            runtime_token,
            links,
            looks: Places::default(),
            shares: Shares::default(),
            bulk,
            metrics: Metrics::default(),
            starts,
            starts_waiting: Notify::new(),
            closing: CancellationToken::new(),
            ended: CancellationToken::new(),
            tasks: TaskTracker::new(),
            ledger: OnceLock::new(),
        };
        Ok((Self(Arc::new(shared)), jobs))
    }

    /// Redis was reached for the first time; from now on [`Self::ledger`] answers. A second call changes nothing.
    pub fn connected(&self, ledger: Ledger, fanout: Fanout) {
        let _ = self.ledger.set((ledger, fanout));
    }

    /// The ledger.
    ///
    /// # Errors
    /// 503 until Redis was reached for the first time.
    pub fn ledger(&self) -> Result<&Ledger, Failure> {
        self.parts().map(|(ledger, _)| ledger)
    }

    /// The readers of the out-streams.
    ///
    /// # Errors
    /// As [`Self::ledger`].
    pub fn fanout(&self) -> Result<&Fanout, Failure> {
        self.parts().map(|(_, fanout)| fanout)
    }

    fn parts(&self) -> Result<&(Ledger, Fanout), Failure> {
        self.ledger.get().ok_or_else(|| {
            Failure::new(ErrorCode::Unavailable, "the ledger (Redis) was not reached yet; try again")
                .retry_after(Duration::from_secs(1))
        })
    }

    /// Submits a turn and hands on what follows from it. Runs to its end even when the caller is gone meanwhile: a turn that
    /// was given to a link but never handed over would wait for that worker's next read.
    ///
    /// # Errors
    /// 503 when the ledger does not answer; the turn may then have been accepted (an idempotency key tells).
    pub async fn submit(&self, submission: Submission) -> Result<Submitted, Failure> {
        let ledger = self.ledger()?.clone();
        let app = self.clone();
        let submitting = self.tasks.spawn(async move {
            let mut submitted = ledger.submit(&submission).await?;
            if let Submitted::Accepted { start, deliver, .. } = &mut submitted {
                app.hand_on(start.as_ref(), deliver.clone());
            }
            Ok::<_, ledger::LedgerError>(submitted)
        });
        match submitting.await {
            Ok(submitted) => Ok(submitted?),
            Err(error) => {
                tracing::error!(%error, "a submission ended badly");
                Err(Failure::new(ErrorCode::Internal, "the submission ended badly; the gateway's log says why"))
            }
        }
    }

    fn hand_on(&self, start: Option<&StartJob>, deliver: Option<ledger::Delivery>) {
        if let Some(delivery) = deliver {
            self.links.deliver(delivery);
        }
        if let Some(job) = start
            && self.starts.try_send(job.clone()).is_err()
        {
            tracing::warn!(uid = %job.uid, "too many starts at once; this one waits until its lease is over");
        }
    }
}
