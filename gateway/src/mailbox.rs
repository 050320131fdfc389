//! What other gateways' scripts leave for this one.

use ledger::Mail;
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;

use crate::app::App;

/// Hands mail to the links and the dispatcher until `cancel`, or until the fan-out ends.
pub(crate) async fn pump(app: App, mut mail: mpsc::Receiver<Mail>, cancel: CancellationToken) {
    while let Some(Some(item)) = cancel.run_until_cancelled(mail.recv()).await {
        match item {
            Mail::Deliver(delivery) => app.links.deliver(delivery),
            Mail::Cancel { uid, generation, connection, turn } => app.links.cancel(&uid, generation, connection, turn),
            Mail::Draining { uid, generation, connection: _ } => app.links.stop(&uid, generation),
            Mail::StartsWaiting => app.starts_waiting.notify_one(),
            Mail::Relink => app.links.relink(),
        }
    }
}
