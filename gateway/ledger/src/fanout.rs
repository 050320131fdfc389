//! One Redis connection reads all streams that have listeners.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use contract::UnitId;
use redis::aio::ConnectionManager;
use redis::{Client, Value};
use tokio::sync::{mpsc, oneshot};
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;

use crate::connection::{BOUND, run_on};
use crate::error::{LedgerError, Result};
use crate::fields::Fields;
use crate::mail::Mail;
use crate::reader::{Command, Reader};
use crate::script::{self, Header, Script};
use crate::share::Share;
use crate::stream_id::StreamId;
use crate::subscription::{Live, Subscription, channel, subscription};

/// Mails that wait for the gateway before the mailbox is left unread.
const MAILS: usize = 1024;

/// A handle to the one reader of all streams; clones share it.
#[derive(Clone)]
pub struct Fanout(Arc<Shared>);

struct Shared {
    scripts: ConnectionManager,
    bulk: ConnectionManager,
    header: Header,
    commands: mpsc::Sender<Command>,
    /// Taken by `run`.
    reader: Mutex<Option<Reader>>,
    /// Taken by `mail`.
    mail: Mutex<Option<mpsc::Receiver<Mail>>>,
}

impl Fanout {
    pub(crate) fn new(
        client: Client,
        scripts: ConnectionManager,
        bulk: ConnectionManager,
        gateway: String,
        header: Header,
    ) -> Self {
        let (commands, received) = mpsc::channel(256);
        let (mails, mail) = mpsc::channel(MAILS);
        let reader = Reader::new(client, scripts.clone(), gateway, header.clone(), received, mails);
        let (reader, mail) = (Mutex::new(Some(reader)), Mutex::new(Some(mail)));
        Self(Arc::new(Shared { scripts, bulk, header, commands, reader, mail }))
    }

    /// Reads until cancelled; reconnects by itself. Call it once, in a task of its own: a second call returns at once.
    pub async fn run(self, until: CancellationToken) {
        let reader = self.0.reader.lock().unwrap_or_else(PoisonError::into_inner).take();
        // Subscriptions have handles too; they do not keep it going.
        drop(self);
        match reader {
            Some(reader) => reader.run(until).await,
            None => tracing::error!("the fan-out runs already"),
        }
    }

    /// Subscribes to a unit's events after an id. An id that is later than the stream's last is taken for that one. What is read
    /// and not taken yet is of this share.
    ///
    /// # Errors
    /// [`LedgerError::Unavailable`] within two seconds when Redis does not answer or the fan-out does not run.
    pub async fn subscribe(&self, uid: &UnitId, from: StreamId, share: &Share) -> Result<Subscription> {
        let end = self.end(uid).await?;
        let live = self.listen(uid, end, share).await?;
        let live =
            live.ok_or_else(|| LedgerError::Unavailable { why: "the fan-out does not run".into(), source: None })?;
        let from = from.min(end.max(live.after));
        Ok(subscription(self.clone(), uid.clone(), share.clone(), from, live))
    }

    /// Registers a listener; `None` when the fan-out has ended or does not take it in time.
    async fn listen(&self, uid: &UnitId, end: StreamId, share: &Share) -> Result<Option<Live>> {
        let (listener, entries) = channel();
        let (answer, position) = oneshot::channel();
        let command = Command { uid: uid.clone(), end, share: share.clone(), listener, answer };
        let registered = async {
            self.0.commands.send(command).await.ok()?;
            position.await.ok()
        };
        let after = timeout(BOUND, registered).await.map_err(|_| LedgerError::timed_out())?;
        Ok(after.map(|after| Live { after, entries }))
    }

    /// For a reader that fell behind: from the present end of the stream on, however long it takes; `None` when the fan-out has
    /// ended.
    pub(crate) async fn listen_again(&self, uid: &UnitId, share: &Share) -> Option<Live> {
        let mut pause = Duration::from_millis(50);
        loop {
            let listening = async { self.listen(uid, self.end(uid).await?, share).await };
            match listening.await {
                Ok(live) => return live,
                Err(error) => {
                    tracing::warn!(%uid, error = &error as &dyn std::error::Error, "a reader waits for Redis");
                    tokio::time::sleep(pause).await;
                    pause = (pause * 2).min(Duration::from_secs(1));
                }
            }
        }
    }

    pub(crate) async fn run_bulk(&self, script: &Script, args: &[&[u8]]) -> Result<Value> {
        run_on(&self.0.bulk, &self.0.header, script, args).await
    }

    /// Id of the unit's last event, kept or not; [`StreamId::ZERO`] where there was none.
    ///
    /// # Errors
    /// [`LedgerError::Unavailable`].
    pub async fn end(&self, uid: &UnitId) -> Result<StreamId> {
        let args = [uid.as_str().as_bytes()];
        let reply = run_on(&self.0.scripts, &self.0.header, &script::LAST_EVENT, &args).await?;
        Fields::reply("last_event", reply)?.1.parsed("id")
    }

    /// This process' mail. Once: a second call gets a receiver that is closed.
    pub fn mail(&self) -> mpsc::Receiver<Mail> {
        let mail = self.0.mail.lock().unwrap_or_else(PoisonError::into_inner).take();
        mail.unwrap_or_else(|| mpsc::channel(1).1)
    }
}
