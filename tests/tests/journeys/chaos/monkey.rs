//! Who ends or stops one process after the other, and the supervisor that starts it again, as `rekindle up` does.

use std::collections::BTreeMap;
use std::time::Duration;

use rand::Rng;
use rand::rngs::StdRng;
use rand::seq::{IndexedRandom as _, SliceRandom as _};
use rustix::process::Signal;
use tests::sandbox::{Part, Sandbox};
use tests::stack::Stack;
use tokio::time::{Instant, MissedTickBehavior, interval_at};
use tokio_util::sync::CancellationToken;

const PERIOD: Duration = Duration::from_secs(1);

/// A kind of process.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Kind {
    Gateway,
    Runtime,
    Reaper,
    Redis,
    Worker,
    Shim,
}

/// What is done to them.
#[derive(Debug, Clone, Copy)]
pub(super) enum Attack {
    /// KILL every second.
    Kill,
    /// STOP, and CONT after a random while of this length at most; the next one a second later.
    Sleep(Duration),
}

impl Attack {
    fn kinds(self) -> &'static [Kind] {
        match self {
            Self::Kill => &[Kind::Gateway, Kind::Runtime, Kind::Reaper, Kind::Redis, Kind::Worker, Kind::Shim],
            Self::Sleep(_) => &[Kind::Gateway, Kind::Runtime, Kind::Worker],
        }
    }
}

/// How often each kind was hit.
pub(super) type Tally = BTreeMap<Kind, usize>;

/// Attacks until told to stop; everything runs when it returns.
pub(super) async fn attack(stack: &mut Stack, attack: Attack, mut dice: StdRng, until: CancellationToken) -> Tally {
    let mut tally = Tally::new();
    let mut ticks = interval_at(Instant::now() + PERIOD, PERIOD);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        tokio::select! {
            () = until.cancelled() => return tally,
            _ = ticks.tick() => {}
        }
        for service in [&mut stack.gateway, &mut stack.runtime, &mut stack.reaper] {
            let ended = service.ended();
            assert!(ended.is_none(), "{} ended by itself: {ended:?}\n{}", service.name, service.tail());
        }
        let kind = *attack.kinds().choose(&mut dice).expect("there are kinds");
        let hit = match attack {
            Attack::Kill => kill(stack, kind, &mut dice).await,
            Attack::Sleep(at_most) => {
                let asleep = dice.random_range(Duration::ZERO..at_most);
                sleep(stack, kind, asleep, &mut dice).await
            }
        };
        if hit {
            *tally.entry(kind).or_default() += 1;
        }
    }
}

async fn kill(stack: &mut Stack, kind: Kind, dice: &mut StdRng) -> bool {
    let service = match kind {
        Kind::Gateway => &mut stack.gateway,
        Kind::Runtime => &mut stack.runtime,
        Kind::Reaper => &mut stack.reaper,
        Kind::Redis => {
            stack.redis.kill();
            stack.redis.restart().await;
            return true;
        }
        Kind::Worker => return any(stack, Part::Worker, Signal::KILL, dice).is_some(),
        Kind::Shim => return any(stack, Part::Shim, Signal::KILL, dice).is_some(),
    };
    service.kill();
    service.start();
    true
}

async fn sleep(stack: &Stack, kind: Kind, asleep: Duration, dice: &mut StdRng) -> bool {
    let service = match kind {
        Kind::Gateway => &stack.gateway,
        Kind::Runtime => &stack.runtime,
        _ => {
            let Some(worker) = any(stack, Part::Worker, Signal::STOP, dice) else { return false };
            tokio::time::sleep(asleep).await; // the attack itself
            // The platform may have ended it meanwhile.
            worker.signal(Signal::CONT);
            return true;
        }
    };
    service.signal(Signal::STOP);
    tokio::time::sleep(asleep).await; // the attack itself
    service.signal(Signal::CONT);
    true
}

/// Signals one of the workloads, if any is alive.
fn any(stack: &Stack, part: Part, signal: Signal, dice: &mut StdRng) -> Option<Sandbox> {
    let mut all = Sandbox::all(stack, part);
    all.shuffle(dice);
    all.into_iter().find(|sandbox| sandbox.signal(signal))
}
