//! The worker's main loop: claims its generation, takes turns one at a time, ends when it is told to.

use std::process::ExitCode;
use std::sync::OnceLock;
use std::time::Duration;

use anyhow::Context;
use contract::{EventBody, FailReason, TurnMessage, Usage};
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::sync::mpsc;
use tokio::task::{JoinError, JoinSet};
use tokio::time::Instant;

use crate::link::{Delivery, Events, Link, LinkEnd, Running};
use crate::oom::OomCounter;
use crate::ports::Forward;
use crate::processes::{self, Awaited};
use crate::settings::Settings;
use crate::stop::{Stop, stopper};
use crate::turn::{self, Bench, Ended};
use crate::{foreign, memory, quiet, tidy};

/// The port in a sandbox of its own; any other where that is taken.
const GATEWAY_PORT: u16 = 7070;
/// From TERM to the end: less than the grace that runtimes give.
const GRACE: Duration = Duration::from_secs(8);
/// How long events may take to be written when the worker ends.
const LAST_WORDS: Duration = Duration::from_secs(2);

/// A connection that has brought a larger one is made anew afterwards: it keeps a buffer of that size.
const LARGE_PROMPT_BYTES: usize = 128 * 1024;

/// A deadline that is not set yet.
const FAR: Duration = Duration::from_secs(365 * 24 * 3600);

/// Exit statuses: the generation is over; no gateway could be reached; a process could not be stopped.
const FENCED: u8 = 3;
const ORPHANED: u8 = 4;
const RESTLESS: u8 = 5;

/// Runs the worker, or the program that stands in its place.
///
/// # Errors
/// When the environment is not a worker's.
pub async fn main() -> anyhow::Result<ExitCode> {
    processes::adopt_orphans()?;
    let var = |name: &str| std::env::var(name).ok();
    if let Some(command) = var("REKINDLE_COMMAND") {
        return foreign::run(&command).await;
    }
    let settings = Settings::read(&var)?;
    let mut ends = EndSignals::new()?;
    let link = tokio::select! {
        claimed = Link::claim(&settings, boot_ms) => match claimed {
            Ok(link) => link,
            Err(end) => return Ok(link_ended(&end)),
        },
        () = ends.recv() => return Ok(ExitCode::SUCCESS),
    };
    tracing::info!(unit = %settings.unit, generation = %settings.generation, "claimed");
    if let Err(error) = std::fs::create_dir_all(&settings.home) {
        tracing::warn!(%error, home = %settings.home.display(), "the runner has no home");
    }
    let forward = Forward::listen(GATEWAY_PORT, settings.gateway_sock.clone()).await.context("no loopback port")?;
    let bench = Bench {
        gateway_port: forward.port()?,
        connections: forward.closer(),
        awaited: Awaited::default(),
        oom: OomCounter::find(),
        state: OnceLock::new(),
        settings,
    };
    let mut tasks = JoinSet::new();
    tasks.spawn(forward.run());
    let awaited = bench.awaited.clone();
    tasks.spawn(async move {
        if let Err(error) = processes::reap_orphans(awaited).await {
            tracing::error!(%error, "orphans are not reaped");
        }
    });
    let ended = serve(&bench, link, ends).await;
    tasks.shutdown().await;
    Ok(ended)
}

/// What the loop listens to.
struct Ears {
    deliveries: mpsc::Receiver<Delivery>,
    /// The two halves of the link; the first that ends ends the worker.
    links: JoinSet<LinkEnd>,
    signals: EndSignals,
}

async fn serve(bench: &Bench, link: Link, signals: EndSignals) -> ExitCode {
    let Running { deliveries, events, renew, reader, writer } = link.run();
    let mut links = JoinSet::new();
    links.spawn(reader);
    links.spawn(writer);
    let mut ears = Ears { deliveries, links, signals };
    let (mut next, mut turns) = (None, 0_u64);
    let (code, idle) = loop {
        let delivery = match next.take() {
            Some(turn) => Delivery::Turn(turn),
            None => tokio::select! {
                biased;
                () = ears.signals.recv() => break (ExitCode::SUCCESS, true),
                Some(end) = ears.links.join_next() => break (joined(end), false),
                Some(delivery) = ears.deliveries.recv() => delivery,
            },
        };
        match delivery {
            Delivery::Turn(turn) => {
                turns += 1;
                let large = turn.prompt.len() > LARGE_PROMPT_BYTES;
                let after = work(bench, *turn, &events, &mut ears).await;
                // The turn itself is gone by now, and a prompt may be large.
                memory::trim();
                if large {
                    renew.notify_one();
                }
                match after {
                    After::Leave(code) => break (code, false),
                    After::Stop => break (ExitCode::SUCCESS, true),
                    After::Take(turn) => next = turn,
                }
            }
            Delivery::Stop => break (ExitCode::SUCCESS, true),
            Delivery::Unreadable { turn, why } => events.emit(&turn, unreadable(why)).await,
            // Of turns that do not run any more.
            Delivery::Cancel(_) | Delivery::Stale(_) => {}
        }
    };
    // A link that is over flushes at once.
    let _ = tokio::time::timeout(LAST_WORDS, events.flush()).await;
    match quiet::end_everything_else().await {
        Err(restless) => tracing::error!(%restless, "leaving all the same"),
        // Not when its last turn is another generation's business, nor when the generation is over.
        Ok(()) if idle && turns > 0 => tidy::tidy(&bench.settings).await,
        Ok(()) => {}
    }
    code
}

enum After {
    Leave(ExitCode),
    /// As it was asked to, now that it is idle.
    Stop,
    /// Idle again, or with a turn that came meanwhile.
    Take(Option<Box<TurnMessage>>),
}

/// Runs one turn, and listens meanwhile.
async fn work(bench: &Bench, turn: TurnMessage, events: &Events, ears: &mut Ears) -> After {
    let id = turn.turn_id.clone();
    tracing::info!(turn = %id, attempt = turn.attempt, "turn");
    let (stopper, stops) = stopper();
    let running = async {
        let ended = turn::run(bench, &turn, events.clone(), &stopper, stops).await;
        // Until its end is written it counts as running: a repeated delivery of it is ignored.
        events.flush().await;
        workspace::crash_point("done");
        ended
    };
    tokio::pin!(running);
    let (mut leave, mut fenced, mut stop_when_idle, mut next) = (None, false, false, None);
    let deadline = tokio::time::sleep(FAR);
    tokio::pin!(deadline);
    let ended = loop {
        tokio::select! {
            biased;
            ended = &mut running => break ended,
            () = ears.signals.recv(), if leave.is_none() => {
                stopper.stop(Stop::Shutdown);
                stop_when_idle = true;
                leave = Some(ExitCode::SUCCESS);
                deadline.as_mut().reset(Instant::now() + GRACE);
            }
            Some(end) = ears.links.join_next(), if leave.is_none() => {
                stopper.stop(Stop::Fenced);
                fenced = true;
                leave = Some(joined(end));
                deadline.as_mut().reset(Instant::now() + GRACE);
            }
            Some(delivery) = ears.deliveries.recv() => match delivery {
                Delivery::Cancel(which) if which == id => stopper.stop(Stop::Cancelled),
                Delivery::Stale(which) if which == id => stopper.stop(Stop::Stale),
                Delivery::Turn(other) if other.turn_id != id => next = Some(other),
                Delivery::Unreadable { turn, why } => events.emit(&turn, unreadable(why)).await,
                // When idle, which is after this turn.
                Delivery::Stop => stop_when_idle = true,
                Delivery::Turn(_) | Delivery::Cancel(_) | Delivery::Stale(_) => {}
            },
            () = &mut deadline => return After::Leave(ExitCode::FAILURE),
        }
    };
    match (ended, leave) {
        (Ended::Restless(restless), _) => {
            tracing::error!(%restless, "the sandbox has to go");
            After::Leave(ExitCode::from(RESTLESS))
        }
        // Told just before it was asked to end, it is idle now.
        (Ended::Told, _) if stop_when_idle && !fenced => After::Stop,
        (_, Some(code)) => After::Leave(code),
        (Ended::Told, None) => After::Take(next),
        (Ended::Left, None) => After::Leave(ExitCode::FAILURE),
    }
}

fn unreadable(why: String) -> EventBody {
    EventBody::Done {
        ok: false,
        reply: String::new(),
        output: None,
        session_id: None,
        usage: Usage::default(),
        detail: Some(why),
        reason: Some(FailReason::Error),
        cache: None,
    }
}

fn joined(end: Result<LinkEnd, JoinError>) -> ExitCode {
    match end {
        Ok(end) => link_ended(&end),
        Err(error) => {
            tracing::error!(%error, "the link failed");
            ExitCode::FAILURE
        }
    }
}

fn link_ended(end: &LinkEnd) -> ExitCode {
    tracing::info!(%end, "ending");
    ExitCode::from(match end {
        LinkEnd::Fenced(_) => FENCED,
        LinkEnd::Orphaned(_) => ORPHANED,
    })
}

/// TERM and INT.
struct EndSignals {
    term: Signal,
    int: Signal,
}

impl EndSignals {
    fn new() -> std::io::Result<Self> {
        Ok(Self { term: signal(SignalKind::terminate())?, int: signal(SignalKind::interrupt())? })
    }

    async fn recv(&mut self) {
        tokio::select! {
            _ = self.term.recv() => {}
            _ = self.int.recv() => {}
        }
    }
}

/// Milliseconds since this process was started, which was before it was this program's.
fn boot_ms() -> u64 {
    let mut now = libc::timespec { tv_sec: 0, tv_nsec: 0 };
    // SAFETY: the kernel writes to a timespec of ours; sysconf only reads.
    let ticks_per_sec = unsafe {
        libc::clock_gettime(libc::CLOCK_BOOTTIME, &raw mut now);
        libc::sysconf(libc::_SC_CLK_TCK)
    };
    let now_ms = now.tv_sec as u64 * 1000 + now.tv_nsec as u64 / 1_000_000;
    let ticks = processes::Stat::of(rustix::process::getpid().as_raw_nonzero().get()).map(|stat| stat.starttime);
    let start_ms = ticks.and_then(|ticks| (ticks * 1000).checked_div(ticks_per_sec.try_into().ok()?));
    start_ms.map_or(0, |start| now_ms.saturating_sub(start))
}
