//! Ends connections of generations that are over, or drain, whoever was told of it.
//!
//! A token stays good until it expires; what it opens is asked of the ledger, when it is shown and with every command. A
//! connection that says nothing, such as a model's stream, is asked for here: all of a gateway's generations at once.

use std::time::Duration;

use ledger::{LedgerError, Standing};

use super::WorkerPort;

/// How often. What is revoked is closed within twice that.
const LOOK: Duration = Duration::from_millis(450);

/// Never ends by itself. A ledger that does not answer says nothing: the scripts, which then do not answer either, are the
/// fence.
pub(super) async fn watch(port: &WorkerPort) {
    let mut ticks = tokio::time::interval(LOOK);
    ticks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    loop {
        ticks.tick().await;
        if let Err(error) = look(port).await {
            tracing::debug!(%error, "cannot ask which generations are over");
        }
    }
}

async fn look(port: &WorkerPort) -> Result<(), LedgerError> {
    let generations = port.links.generations();
    let currents = port.ledger.currents(&generations).await?;
    for ((uid, generation), current) in generations.iter().zip(currents) {
        match current.standing {
            Standing::Over => port.links.forget(uid, *generation),
            Standing::Draining if current.taken.is_none() => port.links.close_http(uid, *generation),
            Standing::Draining | Standing::Current => {}
        }
    }
    Ok(())
}
