//! What models were used for, and budgets.

use contract::{DISPATCH_AUDIENCE, DispatchClaims, Generation, Launcher, TurnId, UnitId};
use ledger::{Admission, Bound, Ledger, Tokens, UsageRow, UsePart, Used};

use crate::support::*;

const KEEP: u32 = 90;
const UNBOUND: [Bound; 3] = [Bound { requests: None, tokens: None, cost_nano: None }; 3];

fn claims(uid: &UnitId, generation: Generation) -> DispatchClaims {
    DispatchClaims {
        sub: owner("ann"),
        launcher: Launcher::user("ann"),
        unit: uid.clone(),
        generation,
        workspaces: vec![],
        scope: "worker".into(),
        aud: DISPATCH_AUDIENCE.into(),
        exp: u64::MAX,
    }
}

fn used(output: u64) -> Used {
    let tokens = Tokens { input: 10, output, cache_read: 3, cache_write_5m: 2, cache_write_1h: 1, reasoning: 4 };
    Used { requests: 1, estimated: 0, tokens, cost_nano: 1_500, unpriced: 0 }
}

async fn add(ledger: &Ledger, uid: &UnitId, request: &str, part: u32, turn: Option<&TurnId>, used: Used) {
    let part = UsePart { request, part, turn, model: "m-1", used };
    ledger.add_use(&owner("ann"), uid, KEEP, part).await.unwrap();
}

async fn busy(ledger: &Ledger, name: &str) -> (UnitId, Generation, TurnId) {
    let submission = submission(name, "first");
    let (uid, generation) = make_live(ledger, &submission).await;
    take(ledger, &uid, generation).await;
    (uid, generation, submission.turn)
}

#[tokio::test]
async fn usage_is_counted_once_per_part_and_expires() {
    let redis = Redis::start().await;
    let ledger = redis.ledger("g1").await;
    let (uid, generation, turn) = busy(&ledger, "demo").await;
    for _ in 0..2 {
        let admitted = ledger.admit_use("r1", &claims(&uid, generation), KEEP, &UNBOUND).await.unwrap();
        assert_eq!(admitted, Admission::Admitted { turn: Some(turn.clone()) });
        add(&ledger, &uid, "r1", 1, Some(&turn), used(5)).await;
    }
    add(&ledger, &uid, "r1", 2, Some(&turn), Used { requests: 0, ..used(6) }).await;
    let day = ledger.today().await.unwrap();
    let sum = {
        let mut sum = used(5);
        sum += Used { requests: 0, ..used(6) };
        sum
    };
    assert_eq!(sum.tokens.output, 11);
    let row = UsageRow { unit: None, model: "m-1".into(), used: sum };
    assert_eq!(ledger.usage(&owner("ann"), day, false).await.unwrap(), vec![row.clone()]);
    let unit = Some((uid.clone(), Some("demo".parse().unwrap())));
    assert_eq!(ledger.usage(&owner("ann"), day, true).await.unwrap(), [UsageRow { unit, ..row }]);
    assert_eq!(ledger.usage_owners(day).await.unwrap(), [owner("ann")]);
    assert_eq!(ledger.usage(&owner("bob"), day, true).await.unwrap(), []);
    assert_eq!(ledger.usage(&owner("ann"), day + 1, false).await.unwrap(), []);

    let mut raw = redis.raw().await;
    let until = i64::try_from((day + u64::from(KEEP) + 1) * 86_400).unwrap();
    for key in [
        ledger::keys::usage_owners(day),
        ledger::keys::usage_of(day, &owner("ann")),
        ledger::keys::usage_of_units(day, &owner("ann")),
    ] {
        let expires: i64 = redis::cmd("EXPIRETIME").arg(&key).query_async(&mut raw).await.unwrap();
        assert_eq!(expires, until, "{key}");
    }
    let left: i64 = redis::cmd("TTL").arg("used:r1").query_async(&mut raw).await.unwrap();
    assert!((1..=300).contains(&left), "only for as long as somebody may repeat it");
}

#[tokio::test]
async fn requests_that_fail_under_ever_new_names_leave_a_bounded_trace() {
    const REQUESTS: usize = 400;
    let redis = Redis::start().await;
    let ledger = redis.ledger("g1").await;
    let (uid, generation, turn) = busy(&ledger, "demo").await;
    let mut raw = redis.raw().await;
    let failed = Used { requests: 1, ..Used::default() };
    for n in 0..REQUESTS {
        let (request, model) = (format!("r{n}"), format!("model-{n}-{}", "x".repeat(90)));
        ledger.admit_use(&request, &claims(&uid, generation), KEEP, &UNBOUND).await.unwrap();
        let part = UsePart { request: &request, part: 1, turn: Some(&turn), model: &model, used: failed };
        ledger.add_use(&owner("ann"), &uid, KEEP, part).await.unwrap();
    }
    let day = ledger.today().await.unwrap();
    for by_unit in [false, true] {
        let rows = ledger.usage(&owner("ann"), day, by_unit).await.unwrap();
        assert_eq!(rows.len(), 101, "a hundred names and the rest");
        assert_eq!(rows.iter().map(|row| row.used.requests).sum::<u64>(), REQUESTS as u64, "nothing is lost");
        let other = rows.iter().find(|row| row.model == "other").unwrap();
        assert_eq!(other.used.requests, REQUESTS as u64 - 100);
    }
    for key in [ledger::keys::usage_of(day, &owner("ann")), ledger::keys::usage_of_units(day, &owner("ann"))] {
        let fields: usize = redis::cmd("HLEN").arg(&key).query_async(&mut raw).await.unwrap();
        assert!(fields <= 110, "{key}: {fields}");
    }
    let marks: Vec<String> = redis::cmd("KEYS").arg("used:*").query_async(&mut raw).await.unwrap();
    assert_eq!(marks.len(), REQUESTS);
    for mark in marks {
        let left: i64 = redis::cmd("TTL").arg(&mark).query_async(&mut raw).await.unwrap();
        assert!((1..=300).contains(&left), "{mark}: {left}");
    }
    // Where a budget is used up, nothing is left at all.
    let none = [Bound { requests: Some(0), ..Bound::default() }, Bound::default(), Bound::default()];
    let refused = ledger.admit_use("refused", &claims(&uid, generation), KEEP, &none).await.unwrap();
    assert!(matches!(refused, Admission::Spent(_)));
    let left: bool = redis::cmd("EXISTS").arg("used:refused").query_async(&mut raw).await.unwrap();
    assert!(!left);
}

#[tokio::test]
async fn budgets_end_what_begins_after_them() {
    let redis = Redis::start().await;
    let ledger = redis.ledger("g1").await;
    let (uid, generation, turn) = busy(&ledger, "demo").await;
    let (other, other_generation, _) = busy(&ledger, "other").await;
    let ask = async |request: &str, uid: &UnitId, generation, budget: usize, bound| {
        let mut bounds = UNBOUND;
        bounds[budget] = bound;
        ledger.admit_use(request, &claims(uid, generation), KEEP, &bounds).await.unwrap()
    };
    let spent = |admission| match admission {
        Admission::Spent(spent) => (spent.budget, spent.kind, spent.used, spent.most),
        other => panic!("not spent: {other:?}"),
    };
    let one = Bound { requests: Some(1), ..Bound::default() };
    assert!(matches!(ask("r1", &uid, generation, 0, one).await, Admission::Admitted { .. }));
    // The request itself may be asked for again; another is one too many, for every unit of the owner.
    assert!(matches!(ask("r1", &uid, generation, 1, Bound::default()).await, Admission::Admitted { .. }));
    let refused = spent(ask("r2", &other, other_generation, 0, one).await);
    assert_eq!(refused, ("owner_day".into(), "requests".into(), 1, 1));
    // What was refused was not counted: the other unit has had none.
    assert!(matches!(ask("r2", &other, other_generation, 1, one).await, Admission::Admitted { .. }));

    add(&ledger, &uid, "r1", 1, Some(&turn), used(5)).await;
    let tokens = |most| Bound { tokens: Some(most), ..Bound::default() };
    let cost = |most| Bound { cost_nano: Some(most), ..Bound::default() };
    assert_eq!(spent(ask("r3", &uid, generation, 1, tokens(21)).await), ("unit_day".into(), "tokens".into(), 21, 21));
    assert_eq!(spent(ask("r3", &uid, generation, 2, cost(1_500)).await), ("turn".into(), "cost".into(), 1_500, 1_500));
    assert!(matches!(ask("r3", &uid, generation, 2, tokens(22)).await, Admission::Admitted { .. }));

    // The next turn has its own; between turns nothing is charged to one, so nothing is let in where they are bounded.
    settle(&ledger, &uid, generation, &turn).await;
    assert_eq!(ask("r4", &uid, generation, 2, tokens(22)).await, Admission::Idle);
    let free = ask("r4", &uid, generation, 0, tokens(1_000)).await;
    assert_eq!(free, Admission::Admitted { turn: None });
    let next = submission("demo", "second");
    submit(&ledger, &next).await;
    assert_eq!(ask("r5", &uid, generation, 2, tokens(1)).await, Admission::Admitted { turn: Some(next.turn) });

    crash(&ledger, &uid, generation).await;
    assert_eq!(ask("r6", &uid, generation, 0, Bound::default()).await, Admission::Over);
}

#[tokio::test]
async fn a_turn_that_is_forgotten_does_not_come_back_as_usage() {
    let redis = Redis::start().await;
    let ledger = redis.ledger("g1").await;
    let (uid, _, turn) = busy(&ledger, "demo").await;
    let mut raw = redis.raw().await;
    let _: i64 = redis::cmd("DEL").arg(ledger::keys::turn(&turn)).query_async(&mut raw).await.unwrap();
    add(&ledger, &uid, "r1", 1, Some(&turn), used(5)).await;
    let there: i64 = redis::cmd("EXISTS").arg(ledger::keys::turn(&turn)).query_async(&mut raw).await.unwrap();
    assert_eq!(there, 0);
}
