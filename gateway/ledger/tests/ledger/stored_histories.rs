//! Random histories: what an owner has stored is counted exactly, and an erased owner leaves nothing.

use std::collections::BTreeMap;
use std::time::Duration;

use contract::{Owner, UnitId, WorkspaceId};
use ledger::{Config, EraseWorkspace, Idempotency, Ledger, Settle};
use proptest::prelude::*;
use proptest::test_runner::{Config as Cases, TestRunner};

use crate::recount::*;
use crate::sharing::step;
use crate::support::*;

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
