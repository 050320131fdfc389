//! From an accepted connection to the one who answers it.

use std::sync::Arc;

use contract::DispatchClaims;
use ledger::{LedgerError, Standing};
use tokio::sync::OwnedSemaphorePermit;
use tokio_util::sync::CancellationToken;

use super::WorkerPort;
use super::facade::Facade;
use super::listener::{Rewound, Wire};
use super::preamble::{self, Kind, PreambleError};
use super::proxied;
use crate::tokens::TokenError;

/// `scope` of a token that may use the worker port.
const SCOPE: &str = "worker";

/// Why a connection is closed before it is served.
#[derive(Debug, thiserror::Error)]
enum Refused {
    #[error(transparent)]
    Preamble(#[from] PreambleError),
    #[error(transparent)]
    Token(#[from] TokenError),
    #[error("the token's scope is not `{SCOPE}`")]
    Scope,
    #[error("the generation is over")]
    Over,
    #[error("the generation has too many connections")]
    TooMany,
    #[error(transparent)]
    Ledger(#[from] LedgerError),
}

/// Serves one connection to its end.
pub(super) async fn serve(
    port: Arc<WorkerPort>,
    wire: Wire,
    permit: Option<OwnedSemaphorePermit>,
    cancel: CancellationToken,
) {
    let admitted = tokio::select! {
        () = cancel.cancelled() => return,
        admitted = admit(&port, wire) => admitted,
    };
    drop(permit);
    match admitted {
        Ok(admitted) => admitted.run(&port, cancel).await,
        Err(refused) => {
            // The relay is told nothing: whoever is behind it retries, or is over and will be ended.
            let source = std::error::Error::source(&refused).map(ToString::to_string);
            tracing::info!(%refused, source, "a worker connection was refused");
        }
    }
}

struct Admitted {
    kind: Kind,
    claims: DispatchClaims,
    seat: super::links::Seat,
    io: Rewound<Wire>,
}

async fn admit(port: &WorkerPort, mut wire: Wire) -> Result<Admitted, Refused> {
    let preamble = preamble::read(&mut wire).await?;
    let claims = port.tokens.verify(&preamble.token)?;
    if claims.scope != SCOPE {
        return Err(Refused::Scope);
    }
    let current = port.ledger.current(&claims.unit, claims.generation).await?;
    match (current.standing, preamble.kind) {
        (Standing::Over, _) => return Err(Refused::Over),
        (Standing::Draining, Kind::Http) if current.taken.is_none() => return Err(Refused::Over),
        _ => {}
    }
    let seat = port.links.open(&claims.unit, claims.generation, preamble.kind).ok_or(Refused::TooMany)?;
    Ok(Admitted { kind: preamble.kind, claims, seat, io: Rewound { first: preamble.behind, rest: wire } })
}

impl Admitted {
    async fn run(self, port: &WorkerPort, cancel: CancellationToken) {
        let span = (self.claims.unit.clone(), self.claims.generation, self.seat.number());
        tracing::debug!(uid = %span.0, generation = %span.1, connection = span.2, kind = ?self.kind, "a worker connected");
        match self.kind {
            Kind::Redis => {
                let facade = Facade::new(port, self.claims, self.seat, self.io, cancel);
                facade.serve().await;
            }
            Kind::Http => {
                let over = self.seat.over().clone();
                let drained = async {
                    cancel.cancelled().await;
                    tokio::time::sleep(port.drain).await;
                };
                tokio::select! {
                    () = serve_http(port, &self.claims, self.io, cancel.clone()) => {}
                    () = over.cancelled() => {}
                    () = drained => {}
                }
            }
        }
        tracing::debug!(uid = %span.0, generation = %span.1, connection = span.2, "a worker's connection ended");
    }
}

/// The broker's, or a proxy's.
async fn serve_http(port: &WorkerPort, claims: &DispatchClaims, mut io: Rewound<Wire>, cancel: CancellationToken) {
    let first = cancel.run_until_cancelled(proxied::is_proxied(&mut io));
    match first.await {
        Some(Ok(true)) => port.egress.serve(&port.ledger, claims, io, cancel).await,
        Some(Ok(false)) => port.broker.serve_http(claims, io, cancel).await,
        // It said nothing for too long, or broke off.
        Some(Err(_)) | None => {}
    }
}
