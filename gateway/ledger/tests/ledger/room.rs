//! Room: never more units with a workload than the caps allow, and who waits for a place gets one in order.

use contract::{Owner, StopReason, TurnId, UnitId, UnitName};
use ledger::{Cancel, DrainReason, Ledger, StartJob, Submission, Submitted, UnitState};
use proptest::prelude::*;
use proptest::test_runner::{Config, TestRunner};

use crate::sharing::step;
use crate::support::*;

async fn capped(redis: &Redis, per_owner: u64, total: u64) -> Ledger {
    let config = ledger::Config { live_per_owner: per_owner, live_total: total, ..redis.config("g1") };
    Ledger::connect(config).await.unwrap()
}

async fn state(ledger: &Ledger, name: &str) -> UnitState {
    ledger.unit(&uid(name)).await.unwrap().map_or(UnitState::Cold, |u| u.state)
}

async fn exited(ledger: &Ledger, name: &str) {
    let generation = state(ledger, name).await.generation().unwrap();
    assert!(ledger.exited(&uid(name), generation, exit(StopReason::Stopped)).await.unwrap());
}

async fn run_next(ledger: &Ledger, name: &str) {
    let generation = next_live(ledger, &uid(name)).await;
    let turn = take(ledger, &uid(name), generation).await.turn_id;
    settle(ledger, &uid(name), generation, &turn).await;
}

fn queued(submitted: &Submitted) -> bool {
    matches!(submitted, Submitted::Accepted { start: None, deliver: None, .. })
}

#[tokio::test]
async fn at_an_owners_cap_the_longest_idle_unit_is_ended_and_newcomers_wait_in_order() {
    let redis = Redis::start().await;
    let ledger = capped(&redis, 2, 100).await;
    make_idle(&ledger, "a").await;
    tokio::time::sleep(std::time::Duration::from_millis(3)).await;
    make_idle(&ledger, "b").await;
    // Both are idle; a was used before b.
    assert!(queued(&submit(&ledger, &submission("c", "1")).await));
    assert_eq!(state(&ledger, "a").await.as_str(), "draining");
    assert_eq!(state(&ledger, "b").await.as_str(), "live");
    assert!(queued(&submit(&ledger, &submission("d", "1")).await));
    let UnitState::Draining { reason: DrainReason::Preempted, .. } = state(&ledger, "b").await else { panic!() };
    let third = submission("e", "1");
    assert!(queued(&submit(&ledger, &third).await));

    let unit = ledger.unit(&uid("e")).await.unwrap().unwrap();
    assert_eq!((unit.state, unit.waits_for.as_deref()), (UnitState::Cold, Some("owner cap")));
    let told = events(&redis, &uid("e")).await;
    assert_eq!((told[0]["type"].as_str(), told[0]["reason"].as_str()), (Some("queued"), Some("owner cap")));
    assert_eq!(told[0]["position"], 2);
    let turn = ledger.turn(&third.turn).await.unwrap().unwrap();
    assert_eq!((turn.queued_reason.as_deref(), turn.queued_position), (Some("owner cap"), Some(2)));

    exited(&ledger, "b").await;
    assert_eq!(state(&ledger, "c").await.as_str(), "starting");
    assert_eq!(state(&ledger, "d").await, UnitState::Cold);
    exited(&ledger, "a").await;
    assert_eq!(state(&ledger, "d").await.as_str(), "starting");
    assert_eq!(state(&ledger, "e").await, UnitState::Cold);
    // Another owner has places of its own.
    let theirs = Submission { owner: owner("bob"), ..submission("f", "1") };
    assert!(!queued(&submit(&ledger, &theirs).await));
    // Whoever is done first makes room for who waits, also when a turn of its own came later.
    tokio::time::sleep(std::time::Duration::from_millis(3)).await;
    submit(&ledger, &submission("d", "2")).await;
    run_next(&ledger, "d").await;
    let UnitState::Draining { reason: DrainReason::Preempted, .. } = state(&ledger, "d").await else { panic!() };
    exited(&ledger, "d").await;
    assert_eq!(state(&ledger, "e").await.as_str(), "starting");
    let waits = ledger.unit(&uid("d")).await.unwrap().unwrap().waits_for;
    assert_eq!(waits.as_deref(), Some("owner cap"));
    run_next(&ledger, "e").await;
    exited(&ledger, "e").await;
    run_next(&ledger, "d").await;
    assert_eq!(state(&ledger, "d").await.as_str(), "live", "nobody waits any more");
}

#[tokio::test]
async fn the_total_is_shared_by_all_owners_and_who_leaves_the_line_frees_what_it_had() {
    let redis = Redis::start().await;
    let ledger = capped(&redis, 2, 1).await;
    make_idle(&ledger, "a").await;
    let b = submission("b", "1");
    submit(&ledger, &b).await;
    assert_eq!(state(&ledger, "a").await.as_str(), "draining");
    let theirs = Submission { owner: owner("bob"), ..submission("theirs", "1") };
    submit(&ledger, &theirs).await;
    let c = submission("c", "1");
    submit(&ledger, &c).await;
    let waits = async |turn: &TurnId| ledger.turn(turn).await.unwrap().unwrap().queued_reason;
    assert_eq!(waits(&b.turn).await.as_deref(), Some("total cap"));
    assert_eq!(waits(&theirs.turn).await.as_deref(), Some("total cap"));
    // Of ann's two places one is a's still, one is b's already.
    assert_eq!(waits(&c.turn).await.as_deref(), Some("owner cap"));
    assert_eq!(ledger.cancel(&b.turn).await.unwrap(), Cancel::Settled);
    assert_eq!(waits(&c.turn).await.as_deref(), Some("total cap"));
    exited(&ledger, "a").await;
    let bobs = UnitId::of(&owner("bob"), &theirs.name);
    assert_eq!(ledger.unit(&bobs).await.unwrap().unwrap().state.as_str(), "starting");
    assert_eq!(state(&ledger, "c").await, UnitState::Cold);
    let generation = next_live(&ledger, &bobs).await;
    take(&ledger, &bobs, generation).await;
    settle(&ledger, &bobs, generation, &theirs.turn).await;
    ledger.exited(&bobs, generation, exit(StopReason::Stopped)).await.unwrap();
    assert_eq!(state(&ledger, "c").await.as_str(), "starting");
}

#[tokio::test]
async fn a_worker_that_is_lost_with_its_turn_keeps_its_place() {
    let redis = Redis::start().await;
    let ledger = capped(&redis, 1, 1).await;
    let a = submission("a", "1");
    let (a_uid, generation) = make_live(&ledger, &a).await;
    take(&ledger, &a_uid, generation).await;
    tokio::time::sleep(std::time::Duration::from_millis(3)).await;
    assert!(queued(&submit(&ledger, &submission("b", "1")).await));
    crash(&ledger, &a_uid, generation).await;
    run_next(&ledger, "a").await;
    assert_eq!(state(&ledger, "a").await.as_str(), "draining");
    exited(&ledger, "a").await;
    run_next(&ledger, "b").await;
}

#[tokio::test]
async fn an_owners_waiting_turns_are_bounded_and_counted_while_they_wait_only() {
    let redis = Redis::start().await;
    let config = ledger::Config { queued_turns_per_owner: 2, ..redis.config("g1") };
    let ledger = Ledger::connect(config).await.unwrap();
    let (uid, generation) = make_idle(&ledger, "a").await;
    let running = submission("a", "1");
    submit(&ledger, &running).await;
    let waiting = submission("a", "2");
    submit(&ledger, &waiting).await;
    submit(&ledger, &submission("b", "1")).await;
    let full = submit(&ledger, &submission("c", "1")).await;
    assert!(matches!(full, Submitted::OwnerQueueFull { .. }), "{full:?}");
    assert!(ledger.unit(&UnitId::of(&owner("ann"), &UnitName::parse("c").unwrap())).await.unwrap().is_none());
    // A lost worker's turn waits again, and is over the bound without harm.
    crash(&ledger, &uid, generation).await;
    assert_eq!(ledger.cancel(&waiting.turn).await.unwrap(), Cancel::Settled);
    assert!(matches!(submit(&ledger, &submission("c", "1")).await, Submitted::OwnerQueueFull { .. }));
    run_next(&ledger, "a").await;
    assert!(matches!(submit(&ledger, &submission("c", "1")).await, Submitted::Accepted { .. }));
}

#[tokio::test]
async fn starts_that_are_worked_on_are_bounded_by_themselves() {
    let redis = Redis::start().await;
    let config = ledger::Config { pending_starts: 1, ..redis.config("g1") };
    let ledger = Ledger::connect(config).await.unwrap();
    let lease = std::time::Duration::from_secs(10);
    let Submitted::Accepted { start: Some(first), .. } = submit(&ledger, &submission("a", "1")).await else { panic!() };
    assert!(queued(&submit(&ledger, &submission("b", "1")).await));
    assert_eq!(state(&ledger, "b").await.as_str(), "starting", "it has its place, but nobody works on it");
    assert!(ledger.pick_starts(lease, 10).await.unwrap().is_empty());
    // Nobody has begun with it: it is not late, whatever the clock says.
    let generation = state(&ledger, "b").await.generation().unwrap();
    assert!(!ledger.begin_drain(&uid("b"), generation, DrainReason::StartTimedOut, None).await.unwrap());
    ledger.ready(&uid("a"), first.generation, None, 0).await.unwrap();
    let picked: Vec<StartJob> = ledger.pick_starts(lease, 10).await.unwrap();
    assert_eq!(picked.iter().map(|j| &j.uid).collect::<Vec<_>>(), [&uid("b")]);
}

#[tokio::test]
async fn places_of_cold_units_are_given_to_who_waits_and_no_others() {
    let redis = Redis::start().await;
    let ledger = capped(&redis, 2, 2).await;
    let mut raw = redis.raw().await;
    let (ann, bob) = (owner("ann").key(), owner("bob").key());
    let mut place = async |key: &str, uid: &UnitId| {
        redis::cmd("ZADD").arg(key).arg("+inf").arg(uid.as_str()).exec_async(&mut raw).await.unwrap();
    };
    make_live(&ledger, &submission("busy", "1")).await;
    // A unit that is no more, and one that is cold, as a restored or mended Redis may have them.
    let cold = make_live(&ledger, &submission("cold", "1")).await.0;
    ledger
        .begin_drain(&cold, state(&ledger, "cold").await.generation().unwrap(), DrainReason::Failed, None)
        .await
        .unwrap();
    ledger.cancel(&ledger.turns(&cold, None, 1, 1 << 20).await.unwrap().0[0].turn).await.unwrap();
    exited(&ledger, "cold").await;
    let never = uid("never");
    place("live", &never).await;
    place(&format!("live:{ann}"), &cold).await;
    let newcomer = submission("new", "1");
    assert!(queued(&submit(&ledger, &newcomer).await));
    // Bob's has a place of its owner's, and waits for one of all: that is as it should be.
    let bobs = Submission { owner: owner("bob"), ..submission("theirs", "1") };
    submit(&ledger, &bobs).await;
    let held: Vec<String> = redis::cmd("ZRANGE")
        .arg(format!("live:{bob}"))
        .arg(0)
        .arg(-1)
        .query_async(&mut redis.raw().await)
        .await
        .unwrap();
    assert_eq!(held, [UnitId::of(&owner("bob"), &bobs.name).to_string()]);

    let mut vacated = ledger.tend_places(100).await.unwrap();
    vacated.sort_by(|a, b| a.of.cmp(&b.of));
    let vacated: Vec<_> = vacated.iter().map(|v| (&v.uid, v.of.as_str())).collect();
    assert_eq!(vacated, [(&cold, "owner cap"), (&never, "total cap")]);
    let waits = async |turn: &TurnId| ledger.turn(turn).await.unwrap().unwrap().queued_reason;
    // One place of all was free; who stood longest in a line has it.
    let starting = [
        state(&ledger, "new").await,
        ledger.unit(&UnitId::of(&owner("bob"), &bobs.name)).await.unwrap().unwrap().state,
    ];
    assert_eq!(starting.iter().filter(|s| s.as_str() == "starting").count(), 1, "{starting:?}");
    assert!(waits(&newcomer.turn).await.is_none() || waits(&bobs.turn).await.is_none());
    assert_eq!(ledger.tend_places(100).await.unwrap(), []);
}

const UNITS: usize = 6;
const PER_OWNER: usize = 2;
const TOTAL: usize = 3;

#[derive(Debug, Clone)]
enum Op {
    /// Of its own workspace, or of one that its owner's units share.
    Submit {
        shared: bool,
    },
    Step,
    Crash,
    Stop,
    StartFailed,
    Cancel,
    Erase,
}

fn ops() -> impl Strategy<Value = Vec<(usize, Op)>> {
    let op = prop_oneof![
        6 => prop::bool::weighted(0.3).prop_map(|shared| Op::Submit { shared }),
        8 => Just(Op::Step),
        1 => Just(Op::Crash),
        1 => Just(Op::Stop),
        1 => Just(Op::StartFailed),
        1 => Just(Op::Cancel),
        1 => Just(Op::Erase),
    ];
    prop::collection::vec((0..UNITS, op), 1..60)
}

struct History {
    ledger: Ledger,
    case: usize,
    turns: Vec<(usize, TurnId)>,
}

impl History {
    fn owner(&self, unit: usize) -> Owner {
        owner(if unit.is_multiple_of(2) { "ann" } else { "bob" })
    }

    fn name(&self, unit: usize) -> UnitName {
        UnitName::parse(format!("c{}u{unit}", self.case)).unwrap()
    }

    fn uid(&self, unit: usize) -> UnitId {
        UnitId::of(&self.owner(unit), &self.name(unit))
    }

    /// Never more than the caps; and while somebody waits for room nobody is idle beyond those whose end is on its way.
    async fn holds(&self) {
        let (mut warm, mut idle, mut draining, mut waiting) = ([0; 2], [0; 2], [0; 2], [0; 2]);
        let mut for_total = 0;
        for unit in 0..UNITS {
            let Some(record) = self.ledger.unit(&self.uid(unit)).await.unwrap() else { continue };
            let of = unit % 2;
            warm[of] += usize::from(record.state != UnitState::Cold);
            idle[of] += usize::from(record.idle_since_ms.is_some());
            draining[of] += usize::from(matches!(record.state, UnitState::Draining { .. }));
            waiting[of] += usize::from(record.waits_for.as_deref() == Some("owner cap"));
            for_total += usize::from(record.waits_for.as_deref() == Some("total cap"));
        }
        assert!(warm.iter().all(|n| *n <= PER_OWNER) && warm[0] + warm[1] <= TOTAL, "{warm:?} have a workload");
        for of in 0..2 {
            assert!(
                waiting[of] <= draining[of] || idle[of] == 0,
                "{waiting:?} wait, {draining:?} drain, {idle:?} are idle"
            );
        }
        assert!(for_total <= draining[0] + draining[1] || idle == [0; 2], "{for_total} wait, {idle:?} are idle");
    }

    async fn apply(&mut self, unit: usize, op: Op) {
        let (ledger, uid) = (self.ledger.clone(), self.uid(unit));
        let generation = ledger.unit(&uid).await.unwrap().and_then(|u| u.state.generation());
        match (op, generation) {
            (Op::Submit { shared }, _) => {
                let mut s = submission(self.name(unit).as_str(), "p");
                s.owner = self.owner(unit);
                s.name = self.name(unit);
                let workspace = if shared { format!("c{}o{}", self.case, unit % 2) } else { s.name.to_string() };
                s.shape.workspaces = vec![rw(&workspace)];
                if let Submitted::Accepted { .. } = submit(&ledger, &s).await {
                    self.turns.push((unit, s.turn));
                }
            }
            (Op::Step, _) => drop(step(&ledger, &uid).await),
            (Op::Crash, Some(generation)) => {
                ledger.begin_drain(&uid, generation, DrainReason::Failed, None).await.unwrap();
            }
            (Op::StartFailed, Some(generation)) => {
                ledger.start_failed(&uid, generation, "why", false).await.unwrap();
            }
            (Op::Stop, _) => drop(ledger.drain_unit(&uid).await.unwrap()),
            (Op::Cancel, _) => {
                if let Some((_, turn)) = self.turns.iter().rev().find(|(u, _)| *u == unit) {
                    ledger.cancel(turn).await.unwrap();
                }
            }
            (Op::Erase, _) => drop(ledger.erase(&uid, true).await.unwrap()),
            (Op::Crash | Op::StartFailed, None) => {}
        }
        self.holds().await;
    }

    async fn run(mut self, redis: &Redis, ops: Vec<(usize, Op)>) {
        for (unit, op) in ops {
            self.apply(unit, op).await;
        }
        // Good workers that nobody ends for idleness: whoever waits must be made room for.
        for round in 0.. {
            let mut moved = false;
            for unit in 0..UNITS {
                moved |= step(&self.ledger, &self.uid(unit)).await;
                self.holds().await;
            }
            if !moved {
                break;
            }
            assert!(round < 2_000, "it never comes to rest");
        }
        for (_, turn) in &self.turns {
            let record = self.ledger.turn(turn).await.unwrap().unwrap();
            assert!(record.status.is_settled(), "waits for ever: {record:?}");
        }
        for unit in 0..UNITS {
            self.ledger.drain_unit(&self.uid(unit)).await.unwrap();
            while step(&self.ledger, &self.uid(unit)).await {}
        }
        // Nothing of it is left where places, lines and starts are counted.
        let mut raw = redis.raw().await;
        let left: Vec<String> = redis::cmd("KEYS").arg("*").query_async(&mut raw).await.unwrap();
        let counts = ["live", "room", "queued", "starts", "starting", "drains", "deadlines"];
        let left: Vec<_> = left.iter().filter(|k| counts.contains(&k.split(':').next().unwrap())).collect();
        assert!(left.is_empty(), "{left:?}");
    }
}

/// Each case has the room to itself.
async fn clear(redis: &Redis) {
    redis::cmd("FLUSHALL").exec_async(&mut redis.raw().await).await.unwrap();
}

#[test]
fn the_caps_hold_and_nobody_waits_for_ever() {
    let runtime = tokio::runtime::Runtime::new().unwrap();
    let redis = runtime.block_on(Redis::start());
    let ledger = runtime.block_on(capped(&redis, PER_OWNER as u64, TOTAL as u64));
    let mut runner = TestRunner::new(Config { cases: 64, failure_persistence: None, ..Config::default() });
    let case = std::cell::Cell::new(0);
    runner
        .run(&ops(), |ops| {
            case.set(case.get() + 1);
            runtime.block_on(clear(&redis));
            let history = History { ledger: ledger.clone(), case: case.get(), turns: Vec::new() };
            runtime.block_on(history.run(&redis, ops));
            Ok(())
        })
        .unwrap();
}
