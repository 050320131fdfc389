//! Random histories: the scripts and the pure machine always agree, and nothing accepted is lost or settled twice. Their owner
//! has one place, for which another unit rivals.

use std::collections::BTreeMap;

use contract::{Generation, StopReason, TurnId, UnitId};
use ledger::{DrainReason, Event, Ledger, Ready, StartFailed, Submitted, Taken, TurnStatus, UnitState};
use proptest::prelude::*;
use proptest::test_runner::{Config, TestRunner};

use crate::sharing::step;
use crate::support::{uid as uid_of, *};

/// What happens; `stale` acts for the generation before the current one.
#[derive(Debug, Clone)]
enum Op {
    Submit {
        other_shape: bool,
    },
    Ready {
        stale: bool,
    },
    Take {
        stale: bool,
    },
    Emit {
        stale: bool,
    },
    Settle {
        stale: bool,
        ok: bool,
    },
    Drain {
        stale: bool,
        reason: DrainReason,
    },
    StartFailed {
        retry: bool,
    },
    Restart,
    Exited {
        stale: bool,
    },
    Cancel {
        newest: bool,
    },
    Idle,
    /// The other unit gets a turn, or does what its state calls for.
    Rival,
}

fn ops() -> impl Strategy<Value = Vec<Op>> {
    let stale = prop::bool::weighted(0.1);
    let reason = prop::sample::select(DrainReason::ALL.to_vec());
    let op = prop_oneof![
        4 => any::<bool>().prop_map(|b| Op::Submit { other_shape: b }),
        4 => stale.prop_map(|stale| Op::Ready { stale }),
        4 => stale.prop_map(|stale| Op::Take { stale }),
        2 => stale.prop_map(|stale| Op::Emit { stale }),
        4 => (stale, any::<bool>()).prop_map(|(stale, ok)| Op::Settle { stale, ok }),
        2 => (stale, reason).prop_map(|(stale, reason)| Op::Drain { stale, reason }),
        1 => any::<bool>().prop_map(|retry| Op::StartFailed { retry }),
        1 => Just(Op::Restart),
        4 => stale.prop_map(|stale| Op::Exited { stale }),
        1 => any::<bool>().prop_map(|newest| Op::Cancel { newest }),
        1 => Just(Op::Idle),
        3 => Just(Op::Rival),
    ];
    prop::collection::vec(op, 1..40)
}

struct History {
    ledger: Ledger,
    name: String,
    uid: UnitId,
    rival: String,
    state: UnitState,
    /// Generations ever seen, ascending.
    generations: Vec<Generation>,
    turns: Vec<TurnId>,
}

impl History {
    async fn observed(&self) -> UnitState {
        self.ledger.unit(&self.uid).await.unwrap().map_or(UnitState::Cold, |u| u.state)
    }

    fn generation(&self, stale: bool) -> Generation {
        let current = self.generations.last().copied().unwrap_or(Generation(1));
        if stale { Generation(current.0 - 1) } else { current }
    }

    /// The change must be a path that the machine permits, and of at most the steps that one script may make.
    fn follow(&mut self, to: UnitState, event: Option<Event>, happened: bool) {
        let from = self.state;
        match event {
            Some(event) if happened => {
                let stepped =
                    from.step(event).unwrap_or_else(|e| panic!("the script did what the machine rejects: {e}"));
                // Becoming ready may end at once: when what waits now has another shape, or nothing waits but the rival.
                let mut drained = [DrainReason::OtherShape, DrainReason::Preempted].into_iter().map(|reason| {
                    let generation = stepped.generation()?;
                    stepped.step(Event::Drain { generation, reason }).ok()
                });
                assert!(to == stepped || drained.any(|d| d == Some(to)), "{from:?} {event:?} {to:?}");
            }
            Some(event) => {
                assert_eq!(from, to, "refused, and yet changed");
                assert!(
                    from.step(event).is_err() || matches!(event, Event::Drain { .. }),
                    "{from:?} refused {event:?}"
                );
            }
            None if from != to => {
                // What submit, take, settle and cancel may do by themselves, and what the rival's place is about.
                let event = match to {
                    UnitState::Starting { generation } => Event::Start { generation },
                    UnitState::Draining {
                        generation,
                        reason: reason @ (DrainReason::OtherShape | DrainReason::Preempted),
                    } => Event::Drain { generation, reason },
                    other => panic!("{from:?} became {other:?}"),
                };
                assert_eq!(from.step(event), Ok(to));
            }
            None => {}
        }
        self.state = to;
        if let Some(generation) = to.generation() {
            let last = self.generations.last().copied().unwrap_or_default();
            assert!(generation >= last, "generations never go back");
            if generation > last {
                self.generations.push(generation);
            }
        }
    }

    async fn apply(&mut self, op: Op) {
        let (ledger, uid) = (self.ledger.clone(), self.uid.clone());
        let (mut event, mut happened) = (None, false);
        match op {
            Op::Submit { other_shape } => {
                let mut s = submission(&self.name, "p");
                // Its time is over as soon as it is delivered.
                s.timeout_sec = 0;
                s.shape.tools = if other_shape { vec!["Bash".into()] } else { vec![] };
                assert!(matches!(ledger.submit(&s).await.unwrap(), Submitted::Accepted { .. }));
                self.turns.push(s.turn);
            }
            Op::Ready { stale } => {
                let generation = self.generation(stale);
                let was_live = matches!(self.state, UnitState::Live { generation: g } if g == generation);
                happened = ledger.ready(&uid, generation, None, 0).await.unwrap() == Ready::Live && !was_live;
                event = (!was_live).then_some(Event::Ready { generation });
            }
            Op::Take { stale } => {
                let taken = ledger.take(&uid, self.generation(stale), 1, None).await.unwrap();
                let may = !stale && matches!(self.state, UnitState::Live { .. });
                assert!(may || !matches!(taken, Taken::Turn(_)), "given out in {:?}", self.state);
            }
            Op::Emit { stale } => {
                if let Some(unit) = ledger.unit(&uid).await.unwrap() {
                    let turn = unit.taken.unwrap_or_else(turn_id);
                    emit(&ledger, &uid, self.generation(stale), &turn, 1).await;
                }
            }
            Op::Settle { stale, ok } => {
                if let Some(turn) = ledger.unit(&uid).await.unwrap().and_then(|u| u.taken) {
                    let settle = if ok { well() } else { badly() };
                    ledger.settle(&uid, self.generation(stale), &turn, settle).await.unwrap();
                }
            }
            Op::Drain { stale, reason } => {
                let generation = self.generation(stale);
                happened = ledger.begin_drain(&uid, generation, reason, None).await.unwrap();
                event = Some(Event::Drain { generation, reason });
            }
            Op::StartFailed { retry } => {
                let generation = self.generation(false);
                happened = ledger.start_failed(&uid, generation, "why", retry).await.unwrap() != StartFailed::Over;
                let reason = DrainReason::StartFailed;
                // A live unit is not drained by it.
                event = (happened || self.state == UnitState::Cold).then_some(Event::Drain { generation, reason });
            }
            Op::Restart => {
                let generation = self.generation(false);
                if let Some(job) = ledger.restart(&uid, generation, generation).await.unwrap() {
                    happened = true;
                    event = Some(Event::Restart { generation, next: job.generation });
                }
            }
            Op::Exited { stale } => {
                let generation = self.generation(stale);
                happened = ledger.exited(&uid, generation, exit(StopReason::Failed)).await.unwrap();
                let next = if happened { self.observed().await.generation() } else { None };
                event = Some(Event::Exited { generation, next });
            }
            Op::Cancel { newest } => {
                let turn = if newest { self.turns.last() } else { self.turns.first() };
                if let Some(turn) = turn {
                    ledger.cancel(turn).await.unwrap();
                }
            }
            Op::Idle => {
                assert!(!ledger.begin_idle_drain(&uid, self.generation(false)).await.unwrap(), "idle for a minute?")
            }
            Op::Rival => {
                let rival = ledger.unit(&uid_of(&self.rival)).await.unwrap();
                if rival.is_none_or(|u| u.state == UnitState::Cold && u.waiting == 0) {
                    let s = submission(&self.rival, "p");
                    assert!(matches!(ledger.submit(&s).await.unwrap(), Submitted::Accepted { .. }));
                    self.turns.push(s.turn);
                } else {
                    step(&ledger, &uid_of(&self.rival)).await;
                }
            }
        }
        let to = self.observed().await;
        self.follow(to, event, happened);
    }

    /// Plays well-behaved workers and a reaper until nothing waits.
    async fn finish(&mut self) {
        let rival = uid_of(&self.rival);
        for _ in 0..400 {
            let moved = step(&self.ledger, &rival).await;
            match self.observed().await {
                UnitState::Cold if moved => {}
                UnitState::Cold => return,
                UnitState::Starting { generation } => {
                    self.ledger.ready(&self.uid, generation, None, 0).await.unwrap();
                }
                UnitState::Live { generation } => match self.ledger.take(&self.uid, generation, 1, None).await.unwrap()
                {
                    Taken::Turn(turn) => {
                        self.ledger.settle(&self.uid, generation, &turn.turn_id, well()).await.unwrap();
                    }
                    Taken::Cancel(turn) => {
                        self.ledger.settle(&self.uid, generation, &turn, badly()).await.unwrap();
                    }
                    Taken::Nothing => match self.ledger.unit(&self.uid).await.unwrap().unwrap().taken {
                        Some(turn) => {
                            self.ledger.settle(&self.uid, generation, &turn, well()).await.unwrap();
                        }
                        None => {
                            self.ledger.drain_unit(&self.uid).await.unwrap();
                        }
                    },
                    Taken::Stop | Taken::Over => {}
                },
                UnitState::Draining { generation, .. } => {
                    self.ledger.exited(&self.uid, generation, exit(StopReason::Stopped)).await.unwrap();
                }
            }
        }
        panic!("it never comes to rest: {:?}", self.ledger.unit(&self.uid).await);
    }
}

async fn history(redis: &Redis, name: String, ops: Vec<Op>) {
    let margin = std::time::Duration::ZERO;
    let config = ledger::Config { turn_margin: margin, live_per_owner: 1, ..redis.config("g1") };
    let ledger = Ledger::connect(config).await.unwrap();
    let (uid, rival) = (uid(&name), format!("{name}rival"));
    let mut history = History { ledger, name, uid, rival, state: UnitState::Cold, generations: vec![], turns: vec![] };
    for op in ops {
        history.apply(op).await;
    }
    history.finish().await;
    let mut ends: BTreeMap<String, usize> = BTreeMap::new();
    let rivals = uid_of(&history.rival);
    // The next case has the place to itself.
    history.ledger.drain_unit(&rivals).await.unwrap();
    while step(&history.ledger, &rivals).await {}
    let told = [events(redis, &history.uid).await, events(redis, &rivals).await];
    for event in told.iter().flatten() {
        if event["type"] == "turn-complete" || (event["type"] == "turn-failed" && event["final"] == true) {
            *ends.entry(event["turn_id"].as_str().unwrap().to_owned()).or_default() += 1;
        }
    }
    for turn in &history.turns {
        let record = history.ledger.turn(turn).await.unwrap().unwrap();
        assert!(matches!(record.status, TurnStatus::Completed | TurnStatus::Failed), "{record:?}");
        assert_eq!(ends.get(turn.as_str()), Some(&1), "{turn} ended {ends:?}");
    }
}

#[test]
fn the_scripts_and_the_machine_agree() {
    let runtime = tokio::runtime::Runtime::new().unwrap();
    let redis = runtime.block_on(Redis::start());
    let mut runner = TestRunner::new(Config { cases: 64, failure_persistence: None, ..Config::default() });
    let case = std::cell::Cell::new(0);
    runner
        .run(&ops(), |ops| {
            case.set(case.get() + 1);
            let name = format!("unit{}", case.get());
            runtime.block_on(history(&redis, name, ops));
            Ok(())
        })
        .unwrap();
}
