//! The worker's Redis: the few commands that a worker needs, each of them a script of the ledger.
//!
//! Commands of one connection are answered in order, also those that come while a read blocks, as Redis does it. A
//! generation that was claimed listens only to connections that show the nonce; the scripts check the generation of all.

mod handshake;
mod read;
mod write;

use std::io;
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use contract::{DispatchClaims, TurnId};
use ledger::{DrainReason, LedgerError, Standing};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use super::WorkerPort;
use super::allowance::Flooded;
use super::command::{Command, Commands, upper};
use super::links::Seat;
use super::listener::{Rewound, Wire};
use super::reply::{Reply, Version, not_its_key, wrong_number};

/// Room in a command besides its event.
const ROOM_BYTES: usize = 64 << 10;
/// Bytes that a connection may keep for itself; beyond that it takes from what its generation has for all of them. So one
/// generation makes a gateway keep at most 64 connections times this, and the 4 MiB of `allowance`: 8 MiB.
const KEPT_BYTES: usize = 64 << 10;
/// Time for the rest of a command whose beginning has come.
const COMMAND_TIME: Duration = Duration::from_secs(10);
/// Time for the client to take an answer.
const ANSWER_TIME: Duration = Duration::from_secs(30);
/// Refusals after which a connection is taken for a flood.
const MOST_REFUSALS: u32 = 1000;

/// One `redis` connection.
pub(super) struct Facade<'a> {
    port: &'a WorkerPort,
    claims: DispatchClaims,
    seat: Seat,
    io: Rewound<Wire>,
    stop: CancellationToken,
    commands: Commands,
    version: Version,
    name: Bytes,
    /// It showed the nonce, or made the claim.
    shown: bool,
    /// It is a foreign worker's, whose generation has been made Live.
    foreign_ready: bool,
    /// It has read, so that the ledger may have it as the link.
    has_read: bool,
    /// Turns that were given to this connection, the latest last: none is given twice to one that is alive.
    given: std::collections::VecDeque<TurnId>,
    /// The turn whose cancel this connection was told.
    told: Option<TurnId>,
    /// It was told to end when idle.
    told_stop: bool,
    refusals: u32,
}

/// What becomes of the connection after a command.
enum Next {
    Answer(Reply),
    AnswerAndEnd(Reply),
    End,
}

/// Why a command was not served: an answer, or the end.
enum Stop {
    Refuse(Reply),
    Over,
}

impl From<LedgerError> for Stop {
    fn from(error: LedgerError) -> Self {
        let source = std::error::Error::source(&error).map(ToString::to_string);
        if error.retry_after().is_some() {
            tracing::warn!(%error, source, "a worker's command has to be repeated");
            return Self::Refuse(Reply::error("TRYAGAIN the ledger does not answer; repeat the command"));
        }
        tracing::error!(%error, source, "a worker's command failed");
        Self::Refuse(Reply::error("ERR the platform failed; its log says how. Repeating the command will not help"))
    }
}

impl<'a> Facade<'a> {
    pub(super) fn new(
        port: &'a WorkerPort,
        claims: DispatchClaims,
        seat: Seat,
        mut io: Rewound<Wire>,
        stop: CancellationToken,
    ) -> Self {
        let first = std::mem::replace(&mut io.first, BytesMut::new());
        Self {
            port,
            claims,
            seat,
            io,
            stop,
            commands: Commands::new(first, port.limits.event_bytes.saturating_add(ROOM_BYTES)),
            version: Version::default(),
            name: Bytes::new(),
            shown: false,
            foreign_ready: false,
            has_read: false,
            given: std::collections::VecDeque::new(),
            told: None,
            told_stop: false,
            refusals: 0,
        }
    }

    /// Answers commands until the client goes, breaks the rules, or the generation or the server ends.
    pub(super) async fn serve(mut self) {
        if let Err(error) = self.answer_all().await {
            tracing::debug!(uid = %self.claims.unit, %error, "a worker's connection broke");
        }
        if self.has_read {
            let (uid, generation) = (&self.claims.unit, self.claims.generation);
            let number = self.seat.number();
            // When this fails, the link stays until the next read replaces it; what is delivered to it meanwhile is unseen,
            // and given again.
            if let Err(error) = self.port.ledger.unlink(uid, generation, number).await {
                tracing::debug!(%uid, %error, "cannot take back a link");
            }
        }
    }

    async fn answer_all(&mut self) -> io::Result<()> {
        while let Some(command) = self.next_command().await? {
            // Also when the client always has more to say.
            if self.stop.is_cancelled() || self.seat.over().is_cancelled() {
                return Ok(());
            }
            let next = match self.afford(&command).await {
                Ok(true) => self.answer(&command).await,
                Ok(false) => return Ok(()),
                Err(Flooded) => Ok(self.flooded().await),
            };
            let next = match next {
                Ok(next) => next,
                Err(Stop::Refuse(reply)) => Next::Answer(reply),
                Err(Stop::Over) => self.fenced(),
            };
            match next {
                Next::Answer(reply) => {
                    self.refusals += u32::from(reply.is_error());
                    self.write(reply).await?;
                    if self.refusals > MOST_REFUSALS {
                        let flood = Reply::error("ERR too many refused commands");
                        return self.write(flood).await;
                    }
                }
                Next::AnswerAndEnd(reply) => {
                    return self.write(reply).await;
                }
                Next::End => return Ok(()),
            }
        }
        Ok(())
    }

    /// Waits until the command is within what the generation may say; `false` when the connection ends meanwhile.
    async fn afford(&self, command: &Command) -> Result<bool, Flooded> {
        let wait = self.seat.allowance().spend(command.bytes())?;
        if wait.is_zero() {
            return Ok(true);
        }
        Ok(tokio::select! {
            () = tokio::time::sleep(wait) => true,
            () = self.seat.over().cancelled() => false,
            () = self.stop.cancelled() => false,
        })
    }

    /// The generation is ended; the next one is asked for the turn's record, which decides.
    async fn flooded(&self) -> Next {
        let (uid, generation) = (&self.claims.unit, self.claims.generation);
        tracing::warn!(%uid, %generation, "a worker says more than a turn may; ending it");
        if let Err(error) = self.port.ledger.begin_drain(uid, generation, DrainReason::Flooded, None).await {
            // The next command comes here again.
            tracing::warn!(%uid, %generation, %error, "cannot end a worker that says too much");
        }
        Next::AnswerAndEnd(Reply::error(
            "FLOODED the worker says more than a turn may (limits.slowed_commands_per_turn, limits.event_bytes_per_turn)",
        ))
    }

    /// The next command; `None` at the end of the connection. Broken framing is told once, and is the end.
    async fn next_command(&mut self) -> io::Result<Option<Command>> {
        let mut late: Option<Instant> = None;
        let mut room = None;
        loop {
            match self.commands.next() {
                Ok(Some(command)) => return Ok(Some(command)),
                Ok(None) => {}
                Err(broken) => {
                    tracing::info!(uid = %self.claims.unit, %broken, "a worker's connection is not RESP");
                    self.write(Reply::error(format!("ERR {broken}"))).await?;
                    return Ok(None);
                }
            }
            if self.commands.has_begun() && late.is_none() {
                late = Some(Instant::now() + COMMAND_TIME);
            }
            let in_time = async {
                match late {
                    Some(at) => tokio::time::sleep_until(at).await,
                    None => std::future::pending().await,
                }
            };
            let needs_room = room.is_none() && self.commands.held() >= KEPT_BYTES;
            tokio::select! {
                more = self.seat.allowance().room(self.commands.most_bytes()), if needs_room => room = more,
                read = self.io.read_buf(self.commands.space()), if !needs_room => {
                    if read? == 0 {
                        return Ok(None);
                    }
                }
                () = in_time => {
                    self.write(Reply::error("ERR Protocol error: the rest of the command did not come")).await?;
                    return Ok(None);
                }
                () = self.seat.over().cancelled() => {
                    return Ok(None);
                }
                () = self.stop.cancelled() => return Ok(None),
            }
        }
    }

    async fn answer(&mut self, command: &Command) -> Result<Next, Stop> {
        let args = command.args();
        let reply = match command.name().as_str() {
            "HELLO" => self.hello(args).await?,
            "AUTH" => self.auth(args).await?,
            "CLIENT" => self.client(args).await?,
            "SELECT" => select(args),
            "PING" => match args {
                [] => Reply::Simple("PONG"),
                [text] => Reply::Bulk(text.clone()),
                _ => wrong_number("ping"),
            },
            "QUIT" => return Ok(Next::AnswerAndEnd(Reply::OK)),
            "XREADGROUP" => return self.read(args, true).await,
            "XREAD" => return self.read(args, false).await,
            "XADD" => self.add(args).await?,
            "XACK" => self.acknowledge(args).await?,
            "XGROUP" => self.group(args).await?,
            _ => no_permission(&command.shown()),
        };
        Ok(Next::Answer(reply))
    }

    /// Lets pass who showed the nonce, and everybody of a generation that nobody claimed. Asked anew for every command of
    /// the latter, so that a claim shuts them out at once.
    async fn may_use(&mut self) -> Result<Standing, Stop> {
        if self.shown {
            return Ok(Standing::Current);
        }
        let (uid, generation) = (&self.claims.unit, self.claims.generation);
        let current = self.port.ledger.current(uid, generation).await?;
        if matches!(current.standing, Standing::Over) {
            return Err(Stop::Over);
        }
        if current.claimed {
            return Err(Stop::Refuse(Reply::error("NOAUTH Authentication required.")));
        }
        Ok(current.standing)
    }

    /// The answer to whoever is of a generation that is over, after which all its connections end.
    fn fenced(&self) -> Next {
        let generation = self.claims.generation;
        self.port.links.close_generation(&self.claims.unit, generation);
        Next::AnswerAndEnd(Reply::error(format!("FENCED generation {generation} of this unit is over")))
    }

    /// Settlement, not this, takes an entry out; a client that acknowledges is told what it expects.
    async fn acknowledge(&mut self, args: &[Bytes]) -> Result<Reply, Stop> {
        self.may_use().await?;
        let [stream, _group, ids @ ..] = args else {
            return Ok(wrong_number("xack"));
        };
        Ok(if ids.is_empty() {
            wrong_number("xack")
        } else if self.is_inbox(stream) {
            Reply::Number(i64::try_from(ids.len()).unwrap_or(i64::MAX))
        } else {
            not_its_key()
        })
    }

    /// A unit has one reader and needs no group; clients that make one are told that it is there.
    async fn group(&mut self, args: &[Bytes]) -> Result<Reply, Stop> {
        self.may_use().await?;
        let Some(verb) = args.first() else {
            return Ok(wrong_number("xgroup"));
        };
        Ok(match (upper(verb).as_str(), &args[1..]) {
            ("CREATE", [stream, _name, _id, ..]) if self.is_inbox(stream) => Reply::OK,
            ("CREATE", [_, _, _, ..]) => not_its_key(),
            ("CREATE", _) => wrong_number("xgroup|create"),
            (other, _) => no_permission(&format!("xgroup|{}", clean(other))),
        })
    }

    fn is_inbox(&self, key: &[u8]) -> bool {
        key == self.claims.unit.in_stream().as_bytes()
    }

    async fn write(&mut self, reply: Reply) -> io::Result<()> {
        let mut out = BytesMut::new();
        reply.encode(self.version, &mut out).map_err(io::Error::other)?;
        tokio::time::timeout(ANSWER_TIME, self.io.write_all(&out))
            .await
            .map_err(|_| io::Error::new(io::ErrorKind::TimedOut, "the client takes no answer"))?
    }
}

fn select(args: &[Bytes]) -> Reply {
    // Redis' usual sixteen; all are the one that the worker sees.
    let number = |text: &Bytes| std::str::from_utf8(text).ok()?.parse::<u8>().ok();
    match args {
        [db] => match number(db) {
            Some(0..=15) => Reply::OK,
            _ => Reply::error("ERR DB index is out of range"),
        },
        _ => wrong_number("select"),
    }
}

fn clean(word: &str) -> String {
    let word = word.to_lowercase();
    word.chars().filter(|c| !c.is_control()).take(64).collect()
}

fn no_permission(command: &str) -> Reply {
    Reply::error(format!("NOPERM this user has no permissions to run the '{command}' command"))
}
