//! The loop behind the fan-out: one blocking `XREAD` over every stream that somebody listens to.

use std::collections::{HashMap, VecDeque};
use std::pin::pin;
use std::time::Duration;

use contract::UnitId;
use redis::aio::{ConnectionManager, MultiplexedConnection};
use redis::{Client, Cmd, Value};
use tokio::sync::{mpsc, oneshot};
use tokio::time::{Interval, MissedTickBehavior, interval, sleep, timeout};
use tokio_util::sync::CancellationToken;

use crate::connection::{BOUND, blocking, run_on, send, send_pipeline};
use crate::error::{LedgerError, Result};
use crate::fields::{Fields, items, text};
use crate::keys;
use crate::mail::Mail;
use crate::script::{self, Header};
use crate::share::{EventJson, Share};
use crate::stream_id::StreamId;
use crate::subscription::{Entry, Listener, Written, entries, events, stream_id};

/// A mailbox lives for a minute after its last heartbeat.
const HEARTBEAT: Duration = Duration::from_secs(10);
const BLOCK: Duration = Duration::from_secs(5);
/// How soon undelivered mail is offered again, and an unblocking that came too early is repeated.
const AGAIN: Duration = Duration::from_millis(20);
/// Entries per stream and read; few, because one may be half a megabyte.
const COUNT: usize = 16;

/// A new listener. The answer is the id after which events come to it.
pub(crate) struct Command {
    pub(crate) uid: UnitId,
    /// The stream's last id: where reading begins if nobody reads it yet.
    pub(crate) end: StreamId,
    /// Whose memory its events are.
    pub(crate) share: Share,
    pub(crate) listener: Listener,
    pub(crate) answer: oneshot::Sender<StreamId>,
}

struct Stream {
    uid: UnitId,
    /// Last id that was handed to the listeners.
    position: StreamId,
    /// The first listener's: most often all are the same owner's.
    share: Share,
    listeners: Vec<Listener>,
}

impl Stream {
    fn offer(&mut self, entry: &Entry) {
        self.listeners.retain(|listener| listener.offer(entry.clone()));
    }

    /// An event for all of them, kept once. Where there is no room for it, each reads it again when there is.
    fn event(&mut self, id: StreamId, json: Vec<u8>) {
        self.position = id;
        match self.share.try_take(json.len()) {
            Some(held) => self.offer(&Entry::Event { id, json: EventJson::new(json, Some(held)) }),
            None => self.listeners.clear(),
        }
    }
}

pub(crate) struct Reader {
    client: Client,
    scripts: ConnectionManager,
    gateway: String,
    header: Header,
    commands: mpsc::Receiver<Command>,
    mails: mpsc::Sender<Mail>,
    /// By the name of the out-stream.
    streams: HashMap<String, Stream>,
    mailbox: StreamId,
    /// `None` before the first connection.
    nudged: Option<StreamId>,
    /// Read, not yet taken by the gateway. While there is any, the mailbox is not read further: it stays in Redis.
    undelivered: VecDeque<Mail>,
}

impl Reader {
    pub(crate) fn new(
        client: Client,
        scripts: ConnectionManager,
        gateway: String,
        header: Header,
        commands: mpsc::Receiver<Command>,
        mails: mpsc::Sender<Mail>,
    ) -> Self {
        Self {
            client,
            scripts,
            gateway,
            header,
            commands,
            mails,
            streams: HashMap::new(),
            mailbox: StreamId::ZERO,
            nudged: None,
            undelivered: VecDeque::new(),
        }
    }

    pub(crate) async fn run(mut self, until: CancellationToken) {
        let mut pause = Duration::from_millis(50);
        loop {
            let session = async {
                let mut connection = self.connect().await?;
                pause = Duration::from_millis(50);
                self.read(&mut connection).await
            };
            let error = tokio::select! {
                () = until.cancelled() => return,
                ended = session => match ended {
                    Err(error) => error,
                    // No handle is left, so nobody can listen any more.
                    Ok(()) => return,
                },
            };
            tracing::warn!(error = &error as &dyn std::error::Error, "the fan-out reconnects");
            tokio::select! {
                () = until.cancelled() => return,
                _ = self.serving(sleep(pause)) => {}
            }
            pause = (pause * 2).min(Duration::from_secs(1));
        }
    }

    /// Does something that takes time without keeping new listeners waiting; also says whether a new stream came.
    async fn serving<T>(&mut self, work: impl Future<Output = T>) -> (T, bool) {
        let (mut work, mut fresh) = (pin!(work), false);
        loop {
            tokio::select! {
                done = &mut work => return (done, fresh),
                Some(command) = self.commands.recv() => fresh |= self.listen(command),
            }
        }
    }

    fn listen(&mut self, command: Command) -> bool {
        let Command { uid, end, share, listener, answer } = command;
        let mut fresh = false;
        let stream = self.streams.entry(uid.out_stream()).or_insert_with(|| {
            fresh = true;
            Stream { uid, position: end, share, listeners: Vec::new() }
        });
        // Whoever gave up waiting for the answer is dropped with the first entry that it does not take.
        if answer.send(stream.position).is_ok() {
            stream.listeners.push(listener);
        }
        fresh
    }

    /// A connection, the mailbox, and what changed while there was none.
    async fn connect(&mut self) -> Result<MultiplexedConnection> {
        let client = self.client.clone();
        let (connection, _) = self.serving(async move { blocking(&client).await }).await;
        let connection = connection?;
        let first = self.nudged.is_none();
        self.beat(first).await?;
        if first {
            let mut newest = redis::cmd("XREVRANGE");
            newest.arg(keys::NUDGE_STARTS).arg("+").arg("-").arg("COUNT").arg(1);
            let newest = entries(keys::NUDGE_STARTS, send(&self.scripts, &newest).await?)?;
            self.nudged = Some(newest.first().map_or(StreamId::ZERO, |(id, _)| *id));
        } else {
            self.undelivered.push_back(Mail::Relink);
        }
        self.undelivered.push_back(Mail::StartsWaiting);
        let names: Vec<_> = self.streams.keys().cloned().collect();
        self.find_gaps(&names).await?;
        Ok(connection)
    }

    async fn beat(&mut self, first: bool) -> Result<()> {
        let read = self.mailbox.to_string();
        let reply = run_on(&self.scripts, &self.header, &script::HEARTBEAT, &[read.as_bytes()]).await?;
        if Fields::reply("heartbeat", reply)?.0 == "made" && !first {
            self.undelivered.push_back(Mail::Relink);
        }
        Ok(())
    }

    /// Tells the listeners of streams that were trimmed past what they have got.
    async fn find_gaps(&mut self, names: &[String]) -> Result<()> {
        if names.is_empty() {
            return Ok(());
        }
        let mut pipe = redis::pipe();
        for name in names {
            if let Some(stream) = self.streams.get(name) {
                pipe.cmd("HGET").arg(keys::unit(&stream.uid)).arg("trimmed_to");
            }
        }
        for (name, value) in names.iter().zip(send_pipeline(&self.scripts, &pipe).await?) {
            let trimmed = stream_id(name, value)?;
            if let Some(stream) = self.streams.get_mut(name)
                && trimmed > stream.position
            {
                stream.offer(&Entry::Gap { from: stream.position });
                stream.position = trimmed;
            }
        }
        Ok(())
    }

    async fn read(&mut self, connection: &mut MultiplexedConnection) -> Result<()> {
        let id = match connection.send_packed_command(redis::cmd("CLIENT").arg("ID")).await? {
            Value::Int(id) => id,
            other => return Err(LedgerError::corrupt("CLIENT ID", format!("{other:?}"))),
        };
        let mut unblock = redis::cmd("CLIENT");
        unblock.arg("UNBLOCK").arg(id);
        let mut heart = interval(HEARTBEAT);
        heart.set_missed_tick_behavior(MissedTickBehavior::Delay);
        heart.reset();
        loop {
            self.streams.retain(|_, stream| {
                stream.listeners.retain(|listener| !listener.is_gone());
                !stream.listeners.is_empty()
            });
            self.hand_over();
            let command = self.command();
            let Some(reply) = self.one_read(connection, &command, &unblock, &mut heart).await? else { return Ok(()) };
            self.received(reply).await?;
        }
    }

    fn command(&self) -> Cmd {
        let with_mail = self.undelivered.is_empty();
        let block = if with_mail { BLOCK } else { AGAIN };
        let mut read = redis::cmd("XREAD");
        read.arg("COUNT").arg(COUNT).arg("BLOCK").arg(block.as_millis() as u64).arg("STREAMS");
        let mut ids = Vec::with_capacity(self.streams.len() + 2);
        if with_mail || self.streams.is_empty() {
            // The nudges also stand in where there would be nothing to read at all.
            read.arg(keys::NUDGE_STARTS);
            ids.push(self.nudged.unwrap_or_default());
        }
        if with_mail {
            read.arg(keys::mail(&self.gateway));
            ids.push(self.mailbox);
        }
        for (name, stream) in &self.streams {
            read.arg(name);
            ids.push(stream.position);
        }
        for id in ids {
            read.arg(id.to_string());
        }
        read
    }

    /// One blocking read; a new stream wakes it. `None` when no handle to the fan-out is left.
    async fn one_read(
        &mut self,
        connection: &mut MultiplexedConnection,
        command: &Cmd,
        unblock: &Cmd,
        heart: &mut Interval,
    ) -> Result<Option<Value>> {
        let mut reply = pin!(timeout(BLOCK + BOUND, connection.send_packed_command(command)));
        let mut fresh = false;
        loop {
            tokio::select! {
                reply = &mut reply => {
                    return Ok(Some(reply.map_err(|_| LedgerError::timed_out())??.extract_error()?));
                }
                command = self.commands.recv() => match command {
                    Some(command) => {
                        fresh |= self.listen(command);
                        while let Ok(command) = self.commands.try_recv() {
                            fresh |= self.listen(command);
                        }
                        if fresh {
                            send(&self.scripts, unblock).await?;
                        }
                    }
                    None => return Ok(None),
                },
                // The first one may have come before the read did.
                () = sleep(AGAIN), if fresh => { send(&self.scripts, unblock).await?; }
                _ = heart.tick() => self.beat(false).await?,
            }
        }
    }

    async fn received(&mut self, reply: Value) -> Result<()> {
        let mailbox = keys::mail(&self.gateway);
        let mut full = Vec::new();
        for stream in items("XREAD", reply)? {
            let mut parts = items("XREAD", stream)?.into_iter();
            let name = text("XREAD", parts.next().unwrap_or_default())?;
            let entries_of = parts.next().unwrap_or_default();
            if name == keys::NUDGE_STARTS {
                if let Some((id, _)) = entries(&name, entries_of)?.last() {
                    self.nudged = Some(*id);
                    self.undelivered.push_back(Mail::StartsWaiting);
                }
            } else if name == mailbox {
                self.mail(&name, entries_of)?;
            } else if self.events(&name, entries_of)? == COUNT {
                full.push(name);
            }
        }
        // Far enough behind to be overtaken by trimming.
        self.find_gaps(&full).await
    }

    fn events(&mut self, name: &str, value: Value) -> Result<usize> {
        let list = events(name, value)?;
        let Some(stream) = self.streams.get_mut(name) else { return Ok(0) };
        let count = list.len();
        for Written { id, json, after } in list {
            if after > stream.position {
                stream.offer(&Entry::Gap { from: stream.position });
            }
            stream.event(id, json);
        }
        Ok(count)
    }

    fn mail(&mut self, name: &str, value: Value) -> Result<()> {
        for (id, fields) in entries(name, value)? {
            self.mailbox = id;
            match Fields::parse(name, fields).and_then(|fields| Mail::parse(&self.gateway, &fields)) {
                Ok(mail) => self.undelivered.extend(mail),
                // A turn in it is not lost: it is held, and given again on the next read.
                Err(error) => tracing::error!(%id, error = &error as &dyn std::error::Error, "unreadable mail"),
            }
        }
        Ok(())
    }

    /// Gives the gateway what it takes now.
    fn hand_over(&mut self) {
        while let Some(mail) = self.undelivered.pop_front() {
            match self.mails.try_send(mail) {
                Ok(()) => {}
                Err(mpsc::error::TrySendError::Full(mail)) => {
                    self.undelivered.push_front(mail);
                    return;
                }
                // Nobody wants mail here.
                Err(mpsc::error::TrySendError::Closed(_)) => {}
            }
        }
    }
}
