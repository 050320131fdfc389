//! Counts what a request uses, from before it is sent until the last byte of its answer, and holds it against the budgets.

use std::sync::Arc;
use std::time::Duration;

use contract::{DispatchClaims, TurnId};
use http::{HeaderMap, StatusCode};
use ledger::{Admission, Bound, Ledger, LedgerError, Paced, Tokens, UsePart, Used};
use settings::{Budget, Budgets, Settings};
use tokio::time::sleep;
use tokio_util::task::TaskTracker;
use ulid::Ulid;

use super::prices::{Prices, nano};
use super::provider::Provider;
use super::refusal::{Kind, Refusal};
use super::scan::Scanner;
use super::upload::Progress;
use crate::metrics::ModelUse;
use crate::rates::Rates;

/// Bytes of text that are about a token, where nobody says how many there are.
const BYTES_OF_A_TOKEN: u64 = 4;
/// While the ledger does not answer, what was used is told again after these waits; then it is lost, and the log says so.
const WAITS: [Duration; 7] = [
    Duration::from_millis(100),
    Duration::from_millis(400),
    Duration::from_secs(2),
    Duration::from_secs(5),
    Duration::from_secs(10),
    Duration::from_secs(20),
    Duration::from_secs(30),
];
/// Stands for a model that neither the provider nor the request names.
const UNKNOWN_MODEL: &str = "unknown";

/// The deployment's meter.
pub(super) struct Meter {
    ledger: Ledger,
    rates: Rates,
    budgets: Budgets,
    prices: Prices,
    keep_days: u32,
    figures: ModelUse,
    tasks: TaskTracker,
}

impl Meter {
    pub(super) fn new(ledger: Ledger, settings: &Settings, figures: ModelUse) -> Self {
        let limits = &settings.limits;
        Self {
            ledger,
            rates: Rates::new(Paced::ModelRequests, limits.model_requests_per_sec, limits.model_request_burst),
            budgets: settings.budgets.clone(),
            prices: Prices::new(&settings.prices),
            keep_days: settings.usage.retention_days,
            figures,
            tasks: TaskTracker::new(),
        }
    }

    /// Resolves when all that was used is told to the ledger.
    pub(super) async fn settled(&self) {
        self.tasks.close();
        self.tasks.wait().await;
    }

    /// Counts a request that ended before it was metered.
    pub(super) fn refused(&self, provider: &str, refusal: &Refusal) {
        self.figures.request(provider, refusal.kind.outcome());
    }

    /// A request begins. Without budgets a ledger that does not answer holds nothing up; with them nothing passes it unseen.
    pub(super) async fn admit(
        self: &Arc<Self>,
        claims: &DispatchClaims,
        provider: &Arc<Provider>,
        generates: bool,
    ) -> Result<Metered, Refusal> {
        // A ledger that does not answer is told of below.
        if let Ok(Err(late)) = self.rates.pass(&self.ledger, &claims.sub).await {
            return Err(Refusal::late(late));
        }
        let request = Ulid::new().to_string();
        let budgets = self.budgets.of(claims.sub.as_str());
        let bounded = budgets.iter().any(|b| *b != Budget::default());
        let bounds = budgets.map(|b| Bound { requests: b.requests, tokens: b.tokens, cost_nano: b.cost.map(nano) });
        let turn = match self.ledger.admit_use(&request, claims, self.keep_days, &bounds).await {
            Ok(Admission::Admitted { turn }) => turn,
            Ok(Admission::Spent(spent)) => return Err(Refusal::spent(&spent)),
            Ok(Admission::Idle) => {
                let message = "rekindle: turns have a budget here (budgets.turn), and no turn runs";
                return Err(Refusal::new(Kind::Forbidden, message));
            }
            Ok(Admission::Over) => {
                return Err(Refusal::new(Kind::Forbidden, "rekindle: this worker's generation is over"));
            }
            Err(error) => {
                tracing::warn!(%error, uid = %claims.unit, "a model request could not be counted");
                if bounded {
                    return Err(Refusal::no_ledger());
                }
                None
            }
        };
        Ok(Metered {
            meter: self.clone(),
            claims: claims.clone(),
            provider: provider.clone(),
            request,
            turn,
            generates,
            progress: Arc::default(),
            answer: None,
            parts: 0,
            told: Tokens::default(),
            done: false,
        })
    }
}

/// A request that is metered. What it used by the time it is dropped is what it used.
pub(super) struct Metered {
    meter: Arc<Meter>,
    claims: DispatchClaims,
    provider: Arc<Provider>,
    request: String,
    turn: Option<TurnId>,
    generates: bool,
    progress: Arc<Progress>,
    answer: Option<(StatusCode, Scanner)>,
    parts: u32,
    told: Tokens,
    done: bool,
}

impl Metered {
    /// How far its upload is.
    pub(super) fn progress(&self) -> Arc<Progress> {
        self.progress.clone()
    }

    /// The head of its answer is there.
    pub(super) fn answered(&mut self, status: StatusCode, headers: &HeaderMap) {
        self.answer = Some((status, Scanner::new(self.provider.api, headers)));
    }

    /// A piece of its answer passes.
    pub(super) fn see(&mut self, bytes: &[u8]) {
        let Some((status, scanner)) = &mut self.answer else {
            return;
        };
        scanner.feed(bytes);
        // What the input was is known before the output is made: those that begin meanwhile shall see it.
        if self.generates && self.parts == 0 && status.is_success() {
            let tokens = scanner.seen().tokens();
            if tokens.all() > 0 {
                self.tell(tokens, 0, 0);
            }
        }
    }

    /// The answer is complete, or will never be.
    pub(super) fn finish(&mut self) {
        if std::mem::replace(&mut self.done, true) {
            return;
        }
        let outcome = match &self.answer {
            Some((status, _)) if status.is_success() => "answered",
            Some(_) => "error",
            None => "broken",
        };
        self.meter.figures.request(&self.provider.name, outcome);
        let (tokens, estimated) = self.tokens();
        self.tell(tokens, 1, u64::from(estimated));
    }

    /// What it used. A stream that the client cuts short has been worked on all the same, and one that was never asked for
    /// its figures has none: then the output is at least as many tokens as there were events, and the input about as many as
    /// its text has.
    fn tokens(&self) -> (Tokens, bool) {
        let uploaded = self.progress.bytes() / BYTES_OF_A_TOKEN;
        match &self.answer {
            _ if !self.generates => (Tokens::default(), false),
            Some((status, _)) if !status.is_success() => (Tokens::default(), false),
            Some((_, scanner)) if scanner.seen().complete => (scanner.seen().tokens(), false),
            Some((_, scanner)) => {
                let seen = scanner.seen();
                let mut tokens = seen.tokens();
                let made = if seen.events > 0 { seen.events } else { seen.bytes / BYTES_OF_A_TOKEN };
                tokens.output = tokens.output.max(made);
                if tokens.input == 0 && tokens.cache_read == 0 && tokens.cache_write_5m == 0 {
                    tokens.input = uploaded;
                }
                (tokens, true)
            }
            None if self.progress.is_complete() => (Tokens { input: uploaded, ..Tokens::default() }, true),
            None => (Tokens::default(), false),
        }
    }

    /// Tells the ledger what came since the part before.
    fn tell(&mut self, tokens: Tokens, requests: u64, estimated: u64) {
        let since = tokens.since(&self.told);
        self.told = tokens;
        self.parts += 1;
        let seen = self.answer.as_ref().and_then(|(_, scanner)| scanner.seen().model.clone());
        let model = seen.or_else(|| self.progress.model()).unwrap_or_else(|| UNKNOWN_MODEL.into());
        let cost = self.meter.prices.cost_nano(&model, &since);
        let unpriced = if cost.is_none() { since.all() } else { 0 };
        let used = Used { requests, estimated, tokens: since, cost_nano: cost.unwrap_or(0), unpriced };
        self.meter.figures.tokens(&self.provider.name, &since);
        let (meter, claims, request) = (self.meter.clone(), self.claims.clone(), self.request.clone());
        let (turn, part) = (self.turn.clone(), self.parts);
        let tracker = self.meter.tasks.clone();
        tracker.spawn(async move {
            let part = UsePart { request: &request, part, turn: turn.as_ref(), model: &model, used };
            meter.tell(&claims, part).await;
        });
    }
}

impl Meter {
    async fn tell(&self, claims: &DispatchClaims, part: UsePart<'_>) {
        let mut waits = WAITS.iter();
        loop {
            let told = self.ledger.add_use(&claims.sub, &claims.unit, self.keep_days, part).await;
            match (told, waits.next()) {
                (Ok(()), _) => return,
                (Err(LedgerError::Unavailable { .. }), Some(wait)) => sleep(*wait).await,
                (Err(error), _) => {
                    tracing::error!(%error, ?part, uid = %claims.unit, "what a model request used is not counted");
                    return;
                }
            }
        }
    }
}

impl Drop for Metered {
    fn drop(&mut self) {
        self.finish();
    }
}
