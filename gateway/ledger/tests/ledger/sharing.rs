//! Random histories of units that share workspaces: never two writers, and nobody waits for ever.

use std::collections::BTreeSet;

use contract::{StopReason, TurnId, UnitId, WorkspaceId};
use ledger::{DrainReason, Ledger, Submitted, Taken, UnitState};
use proptest::prelude::*;
use proptest::test_runner::{Config, TestRunner};

use crate::support::*;

const UNITS: usize = 3;
const WORKSPACES: [&str; 3] = ["x", "y", "z"];

#[derive(Debug, Clone)]
enum Op {
    /// Bits of the workspaces.
    Submit(usize),
    /// One step of a good worker and runtime.
    Step,
    Crash,
    Stop,
    Cancel,
}

fn ops() -> impl Strategy<Value = Vec<(usize, Op)>> {
    let op = prop_oneof![
        4 => (1usize..8).prop_map(Op::Submit),
        8 => Just(Op::Step),
        1 => Just(Op::Crash),
        1 => Just(Op::Stop),
        1 => Just(Op::Cancel),
    ];
    prop::collection::vec((0..UNITS, op), 1..40)
}

fn name(case: usize, unit: usize) -> String {
    format!("c{case}u{unit}")
}

/// Does what the unit's state calls for; `false` when nothing does.
pub async fn step(ledger: &Ledger, uid: &UnitId) -> bool {
    let Some(unit) = ledger.unit(uid).await.unwrap() else { return false };
    match unit.state {
        UnitState::Cold => {
            assert!(unit.waiting == 0 || unit.waits_for.is_some(), "forgotten: {unit:?}");
            false
        }
        UnitState::Starting { generation } => {
            ledger.ready(uid, generation, None, 0).await.unwrap();
            true
        }
        UnitState::Live { generation } => match ledger.take(uid, generation, 1, None).await.unwrap() {
            Taken::Turn(turn) => {
                emit(ledger, uid, generation, &turn.turn_id, 1).await;
                true
            }
            Taken::Cancel(turn) => {
                ledger.settle(uid, generation, &turn, badly()).await.unwrap();
                true
            }
            Taken::Nothing => match unit.taken {
                Some(turn) => {
                    ledger.settle(uid, generation, &turn, well()).await.unwrap();
                    true
                }
                None => false,
            },
            Taken::Stop | Taken::Over => true,
        },
        UnitState::Draining { generation, .. } => {
            ledger.exited(uid, generation, exit(StopReason::Stopped)).await.unwrap();
            true
        }
    }
}

/// No workspace is with two units that have, or may have, a workload.
async fn one_writer_each(ledger: &Ledger, case: usize) {
    let mut held: BTreeSet<WorkspaceId> = BTreeSet::new();
    for unit in 0..UNITS {
        if let Some(unit) = ledger.unit(&uid(&name(case, unit))).await.unwrap()
            && unit.state != UnitState::Cold
        {
            for workspace in unit.workspaces {
                assert!(held.insert(workspace.id.clone()), "two writers of {}", workspace.id);
            }
        }
    }
}

async fn history(ledger: &Ledger, case: usize, ops: Vec<(usize, Op)>) {
    let mut turns: Vec<(usize, TurnId)> = Vec::new();
    for (unit, op) in ops {
        let name = name(case, unit);
        let current = ledger.unit(&uid(&name)).await.unwrap().and_then(|u| u.state.generation());
        match op {
            Op::Submit(bits) => {
                let mut s = submission(&name, "p");
                let chosen = WORKSPACES.iter().enumerate().filter(|(i, _)| bits & (1 << i) != 0);
                s.shape.workspaces = chosen.map(|(_, w)| rw(&format!("c{case}{w}"))).collect();
                assert!(matches!(submit(ledger, &s).await, Submitted::Accepted { .. }));
                turns.push((unit, s.turn));
            }
            Op::Step => {
                step(ledger, &uid(&name)).await;
            }
            Op::Crash => {
                if let Some(generation) = current {
                    ledger.begin_drain(&uid(&name), generation, DrainReason::Failed, None).await.unwrap();
                }
            }
            Op::Stop => {
                ledger.drain_unit(&uid(&name)).await.unwrap();
            }
            Op::Cancel => {
                if let Some((_, turn)) = turns.iter().rev().find(|(u, _)| *u == unit) {
                    ledger.cancel(turn).await.unwrap();
                }
            }
        }
        one_writer_each(ledger, case).await;
    }
    // Good workers from here on: everything settles, whoever waits for whom.
    for round in 0.. {
        let mut moved = false;
        for unit in 0..UNITS {
            moved |= step(ledger, &uid(&name(case, unit))).await;
            one_writer_each(ledger, case).await;
        }
        if !moved {
            break;
        }
        assert!(round < 2_000, "it never comes to rest");
    }
    for (_, turn) in &turns {
        let record = ledger.turn(turn).await.unwrap().unwrap();
        assert!(record.status.is_settled(), "waits for ever: {record:?}");
    }
}

#[test]
fn workspaces_have_one_writer_and_everybody_gets_a_turn() {
    let runtime = tokio::runtime::Runtime::new().unwrap();
    let redis = runtime.block_on(Redis::start());
    let ledger = runtime.block_on(redis.ledger("g1"));
    let mut runner = TestRunner::new(Config { cases: 64, failure_persistence: None, ..Config::default() });
    let case = std::cell::Cell::new(0);
    runner
        .run(&ops(), |ops| {
            case.set(case.get() + 1);
            runtime.block_on(history(&ledger, case.get(), ops));
            Ok(())
        })
        .unwrap();
}

/// Units that were woken in the order of the workspaces' names, and preempted before their first turn, once took turns at
/// starting for ever.
#[tokio::test]
async fn three_units_with_overlapping_workspaces_come_to_rest() {
    let redis = Redis::start().await;
    let ledger = redis.ledger("g1").await;
    let ops = [(0, 5), (1, 6), (2, 7), (0, 5)].map(|(unit, bits)| (unit, Op::Submit(bits)));
    history(&ledger, 1, ops.to_vec()).await;
}
