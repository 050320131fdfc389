//! An owner's rate, counted over all gateways.

use std::time::Duration;

use ledger::{Leave, Paced, Rate};

use crate::support::{Redis, owner};

#[tokio::test]
async fn gateways_share_an_owners_burst() {
    let redis = Redis::start().await;
    let (here, there) = (redis.ledger("g1").await, redis.ledger("g2").await);
    // So slow that nothing comes back while this runs.
    let rate = Rate { per_sec: 1, burst: 20 };
    let ann = owner("ann");
    assert_eq!(here.leave(Paced::Calls, &ann, rate, 12).await.unwrap(), Leave::For(12));
    let Leave::For(rest) = there.leave(Paced::Calls, &ann, rate, 12).await.unwrap() else { panic!("nothing is left") };
    assert!((8..=10).contains(&rest), "{rest}");
    let mut more = 0;
    let wait = loop {
        match here.leave(Paced::Calls, &ann, rate, 1).await.unwrap() {
            Leave::For(n) => more += n,
            Leave::After(wait) => break wait,
        }
        assert!(more < 10, "it never ends");
    };
    assert!(wait <= Duration::from_secs(1) && wait > Duration::ZERO, "{wait:?}");
    assert_eq!(there.leave(Paced::Calls, &owner("bob"), rate, 1).await.unwrap(), Leave::For(1));
    assert_eq!(there.leave(Paced::ModelRequests, &ann, rate, 1).await.unwrap(), Leave::For(1), "counted by themselves");
}

/// A body of a mebibyte passes as a whole or not at all, and the next one waits for it.
#[tokio::test]
async fn what_passes_as_a_whole_holds_up_what_comes_later() {
    let redis = Redis::start().await;
    let (here, there) = (redis.ledger("g1").await, redis.ledger("g2").await);
    let (ann, rate) = (owner("ann"), Rate { per_sec: 10, burst: 20 });
    assert_eq!(here.leave_whole(Paced::Bulk, &ann, rate, 1_000).await.unwrap(), Leave::For(1_000));
    let Leave::After(wait) = there.leave_whole(Paced::Bulk, &ann, rate, 1).await.unwrap() else { panic!("it passed") };
    assert!((90..=98).contains(&wait.as_secs()), "{wait:?}");
    assert_eq!(there.leave_whole(Paced::Bulk, &owner("bob"), rate, 1_000).await.unwrap(), Leave::For(1_000));
}

#[tokio::test]
async fn leave_comes_back_at_the_rate() {
    let redis = Redis::start().await;
    let ledger = redis.ledger("g").await;
    let (ann, rate) = (owner("ann"), Rate { per_sec: 1000, burst: 1 });
    assert_eq!(ledger.leave(Paced::Calls, &ann, rate, 5).await.unwrap(), Leave::For(1));
    tokio::time::timeout(Duration::from_secs(10), async {
        while ledger.leave(Paced::Calls, &ann, rate, 1).await.unwrap() != Leave::For(1) {}
    })
    .await
    .expect("no leave came back");
    // What is kept of an owner goes by itself.
    let mut raw = redis.raw().await;
    let key = format!("rate:{}", ann.key());
    let ttl: i64 = redis::cmd("PTTL").arg(&key).query_async(&mut raw).await.unwrap();
    assert!(ttl <= 10, "{ttl}");
}
