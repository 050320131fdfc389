//! What an owner may leave in the ledger, and that the count of it is exact.

use std::collections::BTreeMap;
use std::time::Duration;

use contract::{Owner, UnitId, WorkspaceId};
use ledger::{
    Config, Erase, EraseWorkspace, Granting, Idempotency, Ledger, Settle, StoredBound, Submission, Submitted, Taken,
    UnitState,
};
use proptest::prelude::*;
use proptest::test_runner::{Config as Cases, TestRunner};
use redis::aio::MultiplexedConnection;

use crate::sharing::step;
use crate::support::*;

/// As in `lua/lib.lua`.
const TURN: i64 = 2048;
const UNIT: i64 = 4096;
const NAME: i64 = 512;
const EVENT: i64 = 64;
const ENDING: i64 = 16_384;
/// Fields of a turn that are counted; a turn that is not settled is counted as it came.
const AS_IT_CAME: [&str; 13] = [
    "prompt",
    "prompt_path",
    "thread",
    "session",
    "launcher",
    "options",
    "shape",
    "rw",
    "policy",
    "traceparent",
    "idem",
    "names",
    "foreign",
];
const AS_IT_ENDED: [&str; 3] = ["result", "detail", "commits"];

type Hash = BTreeMap<String, String>;

async fn keys_like(raw: &mut MultiplexedConnection, pattern: &str) -> Vec<String> {
    redis::cmd("KEYS").arg(pattern).query_async(raw).await.unwrap()
}

async fn hash(raw: &mut MultiplexedConnection, key: &str) -> Hash {
    redis::cmd("HGETALL").arg(key).query_async(raw).await.unwrap()
}

async fn length(raw: &mut MultiplexedConnection, command: &str, key: &str) -> i64 {
    redis::cmd(command).arg(key).query_async(raw).await.unwrap()
}

/// What everybody has stored, counted from everything that Redis has; checked on the way: what each record says of itself.
async fn recount(redis: &Redis) -> BTreeMap<String, i64> {
    let mut raw = redis.raw().await;
    let mut stored = BTreeMap::<String, i64>::new();
    let (mut open, mut open_in) = (0, BTreeMap::<String, i64>::new());
    for key in keys_like(&mut raw, "turn:*").await {
        let turn = hash(&mut raw, &key).await;
        let size = |names: &[&str]| names.iter().filter_map(|n| turn.get(*n)).map(|t| t.len() as i64).sum::<i64>();
        let settled = turn.contains_key("settled_ms");
        let bytes = TURN + size(&AS_IT_CAME) + if settled { size(&AS_IT_ENDED) } else { ENDING };
        assert_eq!(turn["stored"], bytes.to_string(), "{key}: {turn:?}");
        let unit = hash(&mut raw, &format!("unit:{}", turn["uid"])).await;
        *stored.entry(unit["owner_key"].clone()).or_default() += bytes;
        if !settled {
            open += 1;
            for name in turn["names"].split_whitespace() {
                *open_in.entry(name.to_owned()).or_default() += 1;
            }
        }
        let idem = turn.get("idem").filter(|key| !key.is_empty());
        if let Some(idem) = idem {
            assert_eq!(length(&mut raw, "EXISTS", idem).await, 1, "{idem} is as long as its turn");
        }
    }
    for key in keys_like(&mut raw, "unit:*").await.into_iter().filter(|key| key.matches(':').count() == 1) {
        let unit = hash(&mut raw, &key).await;
        let out: redis::streams::StreamRangeReply =
            redis::cmd("XRANGE").arg(format!("{key}:out")).arg("-").arg("+").query_async(&mut raw).await.unwrap();
        let bytes: usize = out.ids.iter().map(|entry| entry.get::<String>("event").unwrap().len()).sum();
        assert_eq!(unit.get("out_bytes").map_or("0", String::as_str), bytes.to_string(), "{key}");
        let of_owner = stored.entry(unit["owner_key"].clone()).or_default();
        *of_owner += UNIT + bytes as i64 + EVENT * out.ids.len() as i64;
    }
    for key in keys_like(&mut raw, "ws:*").await.into_iter().filter(|key| key.matches(':').count() == 1) {
        let workspace = hash(&mut raw, &key).await;
        let owner_key = owner(&workspace["owner"]).key();
        let id = &key["ws:".len()..];
        let named: i64 = redis::cmd("SISMEMBER")
            .arg(format!("owner:{owner_key}:workspaces"))
            .arg(id)
            .query_async(&mut raw)
            .await
            .unwrap();
        let grants = length(&mut raw, "HLEN", &format!("{key}:grants")).await;
        *stored.entry(owner_key).or_default() += NAME * (named + grants);
        let counted = workspace.get("open").map_or(0, |n| n.parse().unwrap());
        assert_eq!(counted, open_in.get(id).copied().unwrap_or(0), "turns that name {id}");
    }
    let counted: Option<i64> = redis::cmd("GET").arg("open").query_async(&mut raw).await.unwrap();
    assert_eq!(counted.unwrap_or(0), open, "turns that are not settled");
    stored.retain(|_, bytes| *bytes != 0);
    stored
}

async fn counted(redis: &Redis) -> BTreeMap<String, i64> {
    let mut raw = redis.raw().await;
    let mut stored = BTreeMap::new();
    for key in keys_like(&mut raw, "stored:*").await {
        stored.insert(key["stored:".len()..].to_owned(), length(&mut raw, "GET", &key).await);
    }
    stored
}

async fn assert_exact(redis: &Redis, after: &str) {
    assert_eq!(counted(redis).await, recount(redis).await, "{after}");
}

fn of(owner_name: &str, unit: &str, prompt: &str) -> Submission {
    Submission { owner: owner(owner_name), ..submission(unit, prompt) }
}

/// Of a unit's own workspace alone.
fn plain(owner_name: &str, unit: &str, prompt: &str) -> Submission {
    let mut s = of(owner_name, unit, prompt);
    s.shape.workspaces =
        vec![contract::WorkspaceAt { id: UnitId::of(&s.owner, &s.name).own_workspace(), mode: contract::Mode::Rw }];
    s
}

async fn erase(ledger: &Ledger, uid: &UnitId) {
    for _ in 0..10 {
        match ledger.erase(uid, false).await.unwrap() {
            Erase::Begun { .. } => return ledger.forget(uid).await.unwrap(),
            Erase::Unknown => return,
            Erase::Draining => {
                let state = ledger.unit(uid).await.unwrap().unwrap().state;
                if let UnitState::Draining { generation, .. } = state {
                    ledger.exited(uid, generation, exit(contract::StopReason::Stopped)).await.unwrap();
                }
            }
        }
    }
    panic!("{uid} cannot be erased");
}

#[tokio::test]
async fn the_units_of_an_owner_are_bounded_until_one_is_erased() {
    let redis = Redis::start().await;
    let ledger = Ledger::connect(Config { units_per_owner: 3, ..redis.config("g1") }).await.unwrap();
    for n in 0..3 {
        assert!(matches!(submit(&ledger, &plain("ann", &format!("u{n}"), "x")).await, Submitted::Accepted { .. }));
    }
    let full = Submitted::Stored(StoredBound::Units(3));
    assert_eq!(submit(&ledger, &plain("ann", "u3", "x")).await, full);
    assert!(
        matches!(submit(&ledger, &plain("ann", "u0", "more")).await, Submitted::Accepted { .. }),
        "it has this one"
    );
    assert!(matches!(submit(&ledger, &plain("ben", "u3", "x")).await, Submitted::Accepted { .. }), "another owner");
    assert_exact(&redis, "refusals").await;
    erase(&ledger, &uid("u1")).await;
    assert!(matches!(submit(&ledger, &plain("ann", "u3", "x")).await, Submitted::Accepted { .. }));
    assert_exact(&redis, "an erasure").await;
}

#[tokio::test]
async fn the_workspaces_that_an_owner_names_are_bounded_until_one_is_erased() {
    let redis = Redis::start().await;
    let ledger = Ledger::connect(Config { workspaces_per_owner: 2, ..redis.config("g1") }).await.unwrap();
    let naming = |unit: &str, names: &[&str]| {
        let mut s = submission(unit, "x");
        s.shape.workspaces = names.iter().map(|name| rw(name)).collect();
        s
    };
    let w = |name: &str| WorkspaceId::parse(name).unwrap();
    let (ann, ben) = (owner("ann"), owner("ben"));
    let first = naming("one", &["a"]);
    let (one, generation) = make_live(&ledger, &first).await;
    let full = Submitted::Stored(StoredBound::Workspaces(2));
    assert_eq!(submit(&ledger, &naming("two", &["a", "b", "c"])).await, full, "none of them is taken");
    assert_eq!(ledger.workspace_owner(&w("b")).await.unwrap(), None);
    assert!(matches!(submit(&ledger, &naming("two", &["b"])).await, Submitted::Accepted { .. }));
    assert_eq!(submit(&ledger, &naming("three", &["c"])).await, full);
    assert_eq!(ledger.grant(&w("a"), &ann, &ben, contract::Mode::Ro, 10).await.unwrap(), Granting::Done);
    let mut names = ledger.workspaces(&ann).await.unwrap();
    names.sort_by(|a, b| a.as_str().cmp(b.as_str()));
    assert_eq!(names, [w("a"), w("b")]);
    assert_exact(&redis, "refusals").await;

    assert_eq!(ledger.erase_workspace(&w("a"), &ben).await.unwrap(), EraseWorkspace::Unknown, "it is not his");
    assert_eq!(ledger.erase_workspace(&w("a"), &ann).await.unwrap(), EraseWorkspace::Busy);
    take(&ledger, &one, generation).await;
    settle(&ledger, &one, generation, &first.turn).await;
    assert_eq!(ledger.erase_workspace(&w("a"), &ann).await.unwrap(), EraseWorkspace::Draining, "an idle worker has it");
    let late = naming("one", &["a"]);
    assert_eq!(submit(&ledger, &late).await, Submitted::WorkspaceErasing(w("a")));
    ledger.forget_workspace(&w("b"), &ann).await.unwrap();
    assert_eq!(ledger.workspace_owner(&w("b")).await.unwrap(), Some(ann.clone()), "nobody erases this one");
    ledger.exited(&one, generation, exit(contract::StopReason::Stopped)).await.unwrap();
    assert_eq!(ledger.erase_workspace(&w("a"), &ann).await.unwrap(), EraseWorkspace::Begun);
    ledger.forget_workspace(&w("a"), &ann).await.unwrap();
    assert_eq!(ledger.workspace_owner(&w("a")).await.unwrap(), None);
    assert_exact(&redis, "an erasure").await;
    assert!(matches!(submit(&ledger, &naming("three", &["c"])).await, Submitted::Accepted { .. }));
    assert_eq!(ledger.erase_workspace(&one.own_workspace(), &ann).await.unwrap(), EraseWorkspace::Unknown);
}

#[tokio::test]
async fn the_bytes_of_an_owner_are_bounded_whatever_was_cancelled_meanwhile() {
    let redis = Redis::start().await;
    let config = Config { stored_bytes_per_owner: 8 << 20, detail_ttl: Duration::ZERO, ..redis.config("g1") };
    let ledger = Ledger::connect(config).await.unwrap();
    let big = "x".repeat(1 << 20);
    let mut accepted = 0;
    let refused = loop {
        let turn = plain("ann", "demo", &big);
        match submit(&ledger, &turn).await {
            Submitted::Accepted { .. } => {
                ledger.cancel(&turn.turn).await.unwrap();
                accepted += 1;
            }
            other => break other,
        }
        assert!(accepted < 20, "nothing bounds it");
    };
    assert_eq!((accepted, refused), (7, Submitted::Stored(StoredBound::Bytes(8 << 20))));
    assert!(matches!(submit(&ledger, &plain("ben", "demo", &big)).await, Submitted::Accepted { .. }));
    let used = counted(&redis).await;
    assert!(used.values().all(|bytes| *bytes <= 8 << 20), "{used:?}");
    assert_exact(&redis, "cancelled turns").await;
    // Their time is over: what is left of them is small.
    while ledger.age(10).await.unwrap() > 0 {}
    assert_exact(&redis, "prompts that are over their time").await;
    let turns = ledger.turns(&uid("demo"), None, 10).await.unwrap();
    assert_eq!(turns.iter().map(|t| (t.prompt.len(), t.reason.is_some())).collect::<Vec<_>>(), [(0, true); 7]);
    assert!(matches!(submit(&ledger, &plain("ann", "demo", &big)).await, Submitted::Accepted { .. }));
}

#[tokio::test]
async fn open_turns_are_bounded_in_all() {
    let redis = Redis::start().await;
    let ledger = Ledger::connect(Config { open_turns: 2, ..redis.config("g1") }).await.unwrap();
    let first = plain("ann", "demo", "x");
    submit(&ledger, &first).await;
    submit(&ledger, &plain("ben", "demo", "x")).await;
    assert!(matches!(submit(&ledger, &plain("cid", "demo", "x")).await, Submitted::AllFull { .. }));
    ledger.cancel(&first.turn).await.unwrap();
    assert!(matches!(submit(&ledger, &plain("cid", "demo", "x")).await, Submitted::Accepted { .. }));
    assert_exact(&redis, "three turns").await;
}

#[tokio::test]
async fn grants_are_counted() {
    let redis = Redis::start().await;
    let ledger = Ledger::connect(Config { stored_bytes_per_owner: 30_000, ..redis.config("g1") }).await.unwrap();
    let turn = submission("demo", "x");
    submit(&ledger, &turn).await;
    ledger.cancel(&turn.turn).await.unwrap();
    let (ann, w) = (owner("ann"), WorkspaceId::parse("demo").unwrap());
    let mut granted = 0;
    while ledger.grant(&w, &ann, &owner(&format!("o{granted}")), contract::Mode::Rw, 1000).await.unwrap()
        == Granting::Done
    {
        granted += 1;
        assert!(granted < 100, "nothing bounds them");
    }
    assert_exact(&redis, "grants").await;
    assert_eq!(ledger.revoke_grant(&w, &ann, &owner("o0")).await.unwrap(), Granting::Done);
    assert_eq!(ledger.grant(&w, &ann, &owner("late"), contract::Mode::Rw, 1000).await.unwrap(), Granting::Done);
    assert_exact(&redis, "grants that ended").await;
}

#[tokio::test]
async fn a_result_that_finds_no_room_is_cut_and_events_give_way() {
    let redis = Redis::start().await;
    let most = 1 << 20;
    let ledger = Ledger::connect(Config { stored_bytes_per_owner: most, ..redis.config("g1") }).await.unwrap();
    let (uid, generation) = make_idle(&ledger, "demo").await;
    let long = "x".repeat(400_000);
    for n in 0..4 {
        let turn = submission("demo", &n.to_string());
        submit(&ledger, &turn).await;
        for seq in 1..=10 {
            let json = delta(&turn.turn, seq, &long[..100_000]);
            let emit = ledger::Emit {
                turn: Some(&turn.turn),
                seq: Some(seq),
                kind: "message-delta",
                json: &json,
                splice_turn: false,
            };
            assert!(matches!(ledger.emit(&uid, generation, emit).await.unwrap(), ledger::Emitted::Written { .. }));
        }
        let done = serde_json::json!({"type": "done", "ok": true, "reply": long, "sessionId": "s"}).to_string();
        let settled = Settle { done_json: &done, ..well() };
        assert!(matches!(
            ledger.settle(&uid, generation, &turn.turn, settled).await.unwrap(),
            ledger::Settled::Written { .. }
        ));
        let result = ledger.turn(&turn.turn).await.unwrap().unwrap().result.unwrap();
        let reply = result["reply"].as_str().unwrap();
        let whole = n < 2;
        assert_eq!((reply.len() == long.len(), result["detail"].is_string()), (whole, !whole), "{n}");
        assert!(long.starts_with(reply) && !reply.is_empty() && result["sessionId"] == "s");
        let used = counted(&redis).await;
        assert!(used.values().all(|bytes| *bytes <= most as i64), "{used:?}");
        assert_exact(&redis, "an end").await;
    }
    assert_eq!(ledger.take(&uid, generation, 1).await.unwrap(), Taken::Nothing);
}

#[tokio::test]
async fn what_is_over_its_time_goes_and_what_is_not_settled_stays() {
    let redis = Redis::start().await;
    let config = Config { detail_ttl: Duration::ZERO, ..redis.config("g1") };
    let ledger = Ledger::connect(config.clone()).await.unwrap();
    let _fanout = run_fanout(&ledger);
    let (uid, generation) = make_idle(&ledger, "demo").await;
    let from = ledger.fanout().end(&uid).await.unwrap();
    let mut running = submission("demo", "runs");
    running.idempotency = Some(Idempotency { key: "k".into(), body_hash: "b".into() });
    submit(&ledger, &running).await;
    emit(&ledger, &uid, generation, &running.turn, 1).await;
    submit(&ledger, &submission("demo", "waits")).await;
    while ledger.age(1).await.unwrap() > 0 {}
    // The first turn's prompt and events are gone, and readers from before are told; what is not settled has all.
    let kept = events(&redis, &uid).await;
    assert_eq!(types(&kept), ["message-delta", "queued"]);
    let mut reader = ledger.fanout().subscribe(&uid, ledger::StreamId::ZERO).await.unwrap();
    assert_eq!(next(&mut reader).await, Some(ledger::Entry::Gap { from: ledger::StreamId::ZERO }));
    assert_eq!(next_seq(&mut reader).await.1, 1);
    let turns = ledger.turns(&uid, None, 10).await.unwrap();
    assert_eq!(turns.iter().map(|t| t.prompt.as_str()).collect::<Vec<_>>(), ["waits", "runs", ""]);
    assert_eq!(turns[2].result.as_ref().unwrap()["reply"], "yes");
    assert_exact(&redis, "some age").await;

    // All of it ends: the stream is empty, nobody who begins now is told of a gap, and the records go last.
    settle(&ledger, &uid, generation, &running.turn).await;
    let waits = turns[0].turn.clone();
    settle(&ledger, &uid, generation, &waits).await;
    let gone = async {
        while !events(&redis, &uid).await.is_empty() {
            ledger.age(10).await.unwrap();
        }
    };
    tokio::time::timeout(Duration::from_secs(20), gone).await.expect("events stay for ever");
    let end = ledger.fanout().end(&uid).await.unwrap();
    assert!(end > from);
    let fresh = submission("demo", "fresh");
    let Submitted::Accepted { after, .. } = submit(&ledger, &fresh).await else { panic!() };
    assert_eq!(after, end);
    let mut reader = ledger.fanout().subscribe(&uid, after).await.unwrap();
    emit(&ledger, &uid, generation, &fresh.turn, 1).await;
    assert_eq!(next_seq(&mut reader).await.1, 1, "no gap");
    let late = Ledger::connect(Config { turn_ttl: Duration::ZERO, ..config }).await.unwrap();
    settle(&late, &uid, generation, &fresh.turn).await;
    while late.age(10).await.unwrap() > 0 {}
    assert_eq!(ledger.turn(&fresh.turn).await.unwrap(), None);
    assert_eq!(ledger.turns(&uid, None, 10).await.unwrap().len(), 3);
    assert_exact(&redis, "all age").await;
}

#[derive(Debug, Clone)]
enum Op {
    Submit { size: usize, workspace: usize, idem: bool },
    Step,
    Emit { size: usize },
    Settle { size: usize, late: bool },
    Cancel { newest: bool },
    Crash,
    Erase,
    EraseWorkspace(usize),
    Grant { revoke: bool },
    Age,
}

fn ops() -> impl Strategy<Value = Vec<(usize, Op)>> {
    let size = || prop_oneof![0usize..100, 0usize..30_000];
    let op = prop_oneof![
        5 => (size(), 0usize..4, any::<bool>()).prop_map(|(size, workspace, idem)| Op::Submit { size, workspace, idem }),
        8 => Just(Op::Step),
        3 => size().prop_map(|size| Op::Emit { size }),
        4 => (size(), any::<bool>()).prop_map(|(size, late)| Op::Settle { size, late }),
        2 => any::<bool>().prop_map(|newest| Op::Cancel { newest }),
        1 => Just(Op::Crash),
        1 => Just(Op::Erase),
        1 => (0usize..3).prop_map(Op::EraseWorkspace),
        1 => any::<bool>().prop_map(|revoke| Op::Grant { revoke }),
        2 => Just(Op::Age),
    ];
    prop::collection::vec((0usize..3, op), 1..40)
}

struct History {
    ledger: Ledger,
    /// Whose settled turns are over their time at once.
    late: Ledger,
    owner: Owner,
    case: usize,
    turns: Vec<contract::TurnId>,
}

impl History {
    fn uid(&self, unit: usize) -> UnitId {
        UnitId::of(&self.owner, &contract::UnitName::parse(format!("u{unit}")).unwrap())
    }

    fn workspace(&self, n: usize) -> WorkspaceId {
        WorkspaceId::parse(format!("c{}w{n}", self.case)).unwrap()
    }

    async fn apply(&mut self, unit: usize, op: &Op) {
        let (ledger, uid) = (self.ledger.clone(), self.uid(unit));
        let state = ledger.unit(&uid).await.unwrap();
        let generation = state.as_ref().and_then(|u| u.state.generation()).unwrap_or(contract::Generation(1));
        let taken = state.and_then(|u| u.taken);
        match *op {
            Op::Submit { size, workspace, idem } => {
                let mut s = plain(self.owner.as_str(), &format!("u{unit}"), &"p".repeat(size));
                if workspace < 3 {
                    s.shape.workspaces = vec![rw(self.workspace(workspace).as_str())];
                }
                s.idempotency = idem.then(|| Idempotency { key: s.turn.to_string(), body_hash: "b".into() });
                self.turns.push(s.turn.clone());
                submit(&ledger, &s).await;
            }
            Op::Step => {
                step(&ledger, &uid).await;
            }
            Op::Emit { size } => {
                if let Some(turn) = taken {
                    let json = delta(&turn, 1, &"e".repeat(size));
                    let kind = if size % 2 == 0 { "commit" } else { "message-delta" };
                    let emit = ledger::Emit { turn: Some(&turn), seq: None, kind, json: &json, splice_turn: false };
                    ledger.emit(&uid, generation, emit).await.unwrap();
                }
            }
            Op::Settle { size, late } => {
                if let Some(turn) = taken {
                    let done = serde_json::json!({"type": "done", "ok": true, "reply": "r".repeat(size)}).to_string();
                    let on = if late { &self.late } else { &ledger };
                    on.settle(&uid, generation, &turn, Settle { done_json: &done, ..well() }).await.unwrap();
                }
            }
            Op::Cancel { newest } => {
                let turn = if newest { self.turns.last() } else { self.turns.first() };
                if let Some(turn) = turn {
                    ledger.cancel(turn).await.unwrap();
                }
            }
            Op::Crash => {
                let failed = ledger::DrainReason::Failed;
                if ledger.begin_drain(&uid, generation, failed, None).await.unwrap() {
                    ledger.exited(&uid, generation, exit(contract::StopReason::Failed)).await.unwrap();
                }
            }
            Op::Erase => erase(&ledger, &uid).await,
            Op::EraseWorkspace(n) => {
                let id = self.workspace(n);
                if ledger.erase_workspace(&id, &self.owner).await.unwrap() == EraseWorkspace::Begun {
                    ledger.forget_workspace(&id, &self.owner).await.unwrap();
                }
            }
            Op::Grant { revoke } => {
                let (id, to) = (self.workspace(unit), owner("somebody"));
                if revoke {
                    ledger.revoke_grant(&id, &self.owner, &to).await.unwrap();
                } else {
                    ledger.grant(&id, &self.owner, &to, contract::Mode::Rw, 10).await.unwrap();
                }
            }
            Op::Age => {
                self.late.age(5).await.unwrap();
            }
        }
    }
}

async fn history(redis: &Redis, case: usize, ops: Vec<(usize, Op)>) {
    let config = Config { stored_bytes_per_owner: 200_000, out_entries: 10, ..redis.config("g1") };
    let over = Config { detail_ttl: Duration::ZERO, turn_ttl: Duration::ZERO, ..config.clone() };
    let (ledger, late) = (Ledger::connect(config).await.unwrap(), Ledger::connect(over).await.unwrap());
    let owner = owner(&format!("owner{case}"));
    let mut history = History { ledger, late, owner, case, turns: vec![] };
    for (unit, op) in &ops {
        history.apply(*unit, op).await;
        assert_exact(redis, &format!("{op:?}")).await;
    }
    // Erased, it leaves nothing.
    for unit in 0..3 {
        erase(&history.ledger, &history.uid(unit)).await;
    }
    for n in 0..3 {
        history.apply(0, &Op::EraseWorkspace(n)).await;
    }
    assert_eq!(counted(redis).await, BTreeMap::new());
    let mut raw = redis.raw().await;
    for pattern in ["turn:*", "unit:*", "ws:*", "idem:*", "ages"] {
        assert_eq!(keys_like(&mut raw, pattern).await, Vec::<String>::new());
    }
}

#[test]
fn the_count_is_exact_over_random_histories() {
    let runtime = tokio::runtime::Runtime::new().unwrap();
    let redis = runtime.block_on(Redis::start());
    let mut runner = TestRunner::new(Cases { cases: 48, failure_persistence: None, ..Cases::default() });
    let case = std::cell::Cell::new(0);
    runner
        .run(&ops(), |ops| {
            case.set(case.get() + 1);
            runtime.block_on(history(&redis, case.get(), ops));
            Ok(())
        })
        .unwrap();
}
