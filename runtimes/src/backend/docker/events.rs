//! The engine's stream of events: who has ended.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use bollard::query_parameters::EventsOptionsBuilder;
use futures_util::StreamExt;
use jiff::Timestamp;
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;
use tracing::{debug, info, warn};

use super::super::Sighting;
use super::{DEPLOYMENT, Engine, labelled, words};

const FIRST_DELAY: Duration = Duration::from_millis(100);
const LONGEST_DELAY: Duration = Duration::from_secs(5);
/// Without an event for this long everything is looked at anew: a stream may be dead and not know it.
const QUIET: Duration = Duration::from_secs(60);

/// Listens until it is told to stop; connects again whenever the engine comes back.
pub(super) async fn listen(
    engine: Arc<Engine>,
    deployment: String,
    sightings: mpsc::Sender<Sighting>,
    stop: CancellationToken,
) {
    let mut delay = FIRST_DELAY;
    loop {
        let outcome = tokio::select! {
            () = stop.cancelled() => return,
            outcome = follow(&engine, &deployment, &sightings, &mut delay) => outcome,
        };
        engine.heard.store(false, Ordering::Relaxed);
        if let Err(error) = outcome {
            warn!(error, "no events from the Docker engine; trying again");
        }
        tokio::select! {
            () = stop.cancelled() => return,
            () = tokio::time::sleep(delay) => delay = (delay * 2).min(LONGEST_DELAY),
        }
    }
}

async fn follow(
    engine: &Engine,
    deployment: &str,
    sightings: &mpsc::Sender<Sighting>,
    delay: &mut Duration,
) -> Result<(), String> {
    let docker = engine.get().await.map_err(|e| e.0)?;
    // From a moment before the look at everything, so that nothing falls between the two.
    let since = (Timestamp::now().as_second() - 1).to_string();
    docker.ping().await.map_err(|e| words(&e))?;
    let filters = HashMap::from([
        ("type", vec!["container".to_owned()]),
        ("event", ["die", "oom", "destroy"].map(str::to_owned).to_vec()),
        ("label", vec![format!("{DEPLOYMENT}={deployment}")]),
    ]);
    let options = EventsOptionsBuilder::new().since(&since).filters(&filters).build();
    let mut events = std::pin::pin!(docker.events(Some(options)));
    info!(host = engine.host, "the Docker engine answers");
    *delay = FIRST_DELAY;
    engine.heard.store(true, Ordering::Relaxed);
    let tell = |sighting| async move { sightings.send(sighting).await.map_err(|_| "the runtime ends".to_owned()) };
    tell(Sighting::Reconnected).await?;
    loop {
        match tokio::time::timeout(QUIET, events.next()).await {
            Ok(Some(Ok(event))) => {
                let attributes = event.actor.and_then(|a| a.attributes).unwrap_or_default();
                debug!(action = event.action, name = attributes.get("name"), "engine event");
                if let Some(id) = labelled(&attributes) {
                    match event.action.as_deref() {
                        Some("oom") => {
                            engine.oom.send_if_modified(|all| all.insert(id.to_string()));
                            continue;
                        }
                        Some("destroy") => {
                            engine.oom.send_if_modified(|all| all.remove(&id.to_string()));
                        }
                        _ => {}
                    }
                    tell(Sighting::Ended(id)).await?;
                }
            }
            Ok(Some(Err(error))) => return Err(words(&error)),
            Ok(None) => return Err("the stream ended".into()),
            Err(_) => tell(Sighting::Reconnected).await?,
        }
    }
}
