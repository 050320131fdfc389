//! One Redis connection reads all streams that have listeners.

use std::sync::{Arc, Mutex, PoisonError};

use contract::UnitId;
use redis::Client;
use redis::aio::ConnectionManager;
use tokio::sync::{mpsc, oneshot};
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;

use crate::connection::{BOUND, send_pipeline};
use crate::error::{LedgerError, Result};
use crate::keys;
use crate::mail::Mail;
use crate::reader::{Command, Reader};
use crate::script::Header;
use crate::stream_id::StreamId;
use crate::subscription::{Subscription, channel, entries, trimmed_to};

/// Mails that wait for the gateway before the mailbox is left unread.
const MAILS: usize = 1024;

/// A handle to the one reader of all streams; clones share it.
#[derive(Clone)]
pub struct Fanout(Arc<Shared>);

struct Shared {
    scripts: ConnectionManager,
    header: Header,
    commands: mpsc::Sender<Command>,
    /// Taken by `run`.
    reader: Mutex<Option<Reader>>,
    /// Taken by `mail`.
    mail: Mutex<Option<mpsc::Receiver<Mail>>>,
}

impl Fanout {
    pub(crate) fn new(client: Client, scripts: ConnectionManager, gateway: String, header: Header) -> Self {
        let (commands, received) = mpsc::channel(256);
        let (mails, mail) = mpsc::channel(MAILS);
        let reader = Reader::new(client, scripts.clone(), gateway, header.clone(), received, mails);
        Self(Arc::new(Shared {
            scripts,
            header,
            commands,
            reader: Mutex::new(Some(reader)),
            mail: Mutex::new(Some(mail)),
        }))
    }

    /// Reads until cancelled; reconnects by itself. Call it once, in a task of its own: a second call returns at once.
    pub async fn run(self, until: CancellationToken) {
        let reader = self.0.reader.lock().unwrap_or_else(PoisonError::into_inner).take();
        match reader {
            Some(reader) => reader.run(until).await,
            None => tracing::error!("the fan-out runs already"),
        }
    }

    /// Subscribes to a unit's events after an id. An id that is later than the stream's last is taken for that one.
    ///
    /// # Errors
    /// [`LedgerError::Unavailable`] within two seconds when Redis does not answer or the fan-out does not run.
    pub async fn subscribe(&self, uid: &UnitId, from: StreamId) -> Result<Subscription> {
        let end = self.end(uid).await?;
        let (listener, waiting) = channel();
        let (answer, position) = oneshot::channel();
        let command = Command { uid: uid.clone(), end, listener, answer };
        let registered = async {
            self.0.commands.send(command).await.ok()?;
            position.await.ok()
        };
        let live = timeout(BOUND, registered)
            .await
            .ok()
            .flatten()
            .ok_or_else(|| LedgerError::Unavailable { why: "the fan-out does not run".into(), source: None })?;
        let from = from.min(end.max(live));
        Ok(waiting.subscription(self.0.scripts.clone(), self.0.header.clone(), uid.clone(), from, live))
    }

    /// Id of the unit's last event, kept or not; [`StreamId::ZERO`] where there was none.
    ///
    /// # Errors
    /// [`LedgerError::Unavailable`].
    pub async fn end(&self, uid: &UnitId) -> Result<StreamId> {
        let out = uid.out_stream();
        let mut ask = redis::pipe();
        ask.cmd("XREVRANGE").arg(&out).arg("+").arg("-").arg("COUNT").arg(1);
        ask.cmd("HGET").arg(keys::unit(uid)).arg("trimmed_to");
        let mut replies = send_pipeline(&self.0.scripts, &ask).await?.into_iter();
        let newest = entries(&out, replies.next().unwrap_or_default())?;
        let trimmed = trimmed_to(&out, replies.next().unwrap_or_default())?;
        Ok(newest.first().map_or(trimmed, |(id, _)| *id))
    }

    /// This process' mail. Once: a second call gets a receiver that is closed.
    pub fn mail(&self) -> mpsc::Receiver<Mail> {
        let mail = self.0.mail.lock().unwrap_or_else(PoisonError::into_inner).take();
        mail.unwrap_or_else(|| mpsc::channel(1).1)
    }
}
