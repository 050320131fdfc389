//! API keys: kept as hashes, found by them, gone at once.

use std::time::Duration;

use ledger::{ApiKeyId, KeyMade, KeyUse, Ledger, NewApiKey};

use crate::support::{Redis, owner};

const FIRST: [u8; 32] = [7; 32];
const SECOND: [u8; 32] = [8; 32];

async fn make(ledger: &Ledger, hash: [u8; 32], ttl: Option<Duration>, most: u32) -> KeyMade {
    let ann = owner("ann");
    let new = NewApiKey { hash, owner: &ann, name: "chat", scopes: "units:read", ttl, most };
    ledger.make_key(&new).await.unwrap()
}

#[tokio::test]
async fn a_key_is_good_on_every_gateway_until_it_is_revoked_on_one() {
    let redis = Redis::start().await;
    let (here, there) = (redis.ledger("g1").await, redis.ledger("g2").await);
    let KeyMade::Made { id, created_ms, expires_ms: None } = make(&here, FIRST, None, 2).await else { panic!() };
    assert_eq!(id, ApiKeyId::of(&FIRST));
    let expected = KeyUse { owner: owner("ann"), scopes: "units:read".into() };
    assert_eq!(there.use_key(&FIRST).await.unwrap(), Some(expected));
    assert_eq!(there.use_key(&SECOND).await.unwrap(), None);
    let listed = there.api_keys(&owner("ann")).await.unwrap();
    assert_eq!((listed.len(), &listed[0].id, listed[0].created_ms), (1, &id, created_ms));
    let used = listed[0].used_ms.expect("it was used");
    assert!(used >= created_ms);
    // A second use within the minute writes nothing.
    there.use_key(&FIRST).await.unwrap();
    assert_eq!(here.api_keys(&owner("ann")).await.unwrap()[0].used_ms, Some(used));

    // Somebody else has no such key, whatever its id.
    assert!(!here.revoke_key(&owner("bob"), &id).await.unwrap());
    assert!(here.api_keys(&owner("bob")).await.unwrap().is_empty());
    assert!(here.revoke_key(&owner("ann"), &id).await.unwrap());
    assert_eq!(there.use_key(&FIRST).await.unwrap(), None);
    assert!(!there.revoke_key(&owner("ann"), &id).await.unwrap());
}

#[tokio::test]
async fn the_key_itself_is_nowhere_and_its_number_is_bounded() {
    let redis = Redis::start().await;
    let ledger = redis.ledger("g").await;
    let first = make(&ledger, FIRST, None, 1).await;
    assert_eq!(make(&ledger, FIRST, None, 1).await, first, "asked again, it is the same key");
    assert_eq!(make(&ledger, SECOND, None, 1).await, KeyMade::Full);
    // Two keys whose hashes begin alike: the whole hash decides.
    let mut alike = FIRST;
    alike[31] = 9;
    assert_eq!(ApiKeyId::of(&alike), ApiKeyId::of(&FIRST));
    assert_eq!(ledger.use_key(&alike).await.unwrap(), None);
}

#[tokio::test]
async fn a_key_ends_by_itself() {
    let redis = Redis::start().await;
    let ledger = redis.ledger("g").await;
    let made = make(&ledger, FIRST, Some(Duration::from_secs(60)), 1).await;
    let KeyMade::Made { id, created_ms, expires_ms } = made else { panic!("{made:?}") };
    assert_eq!(expires_ms, Some(created_ms + 60_000));
    // As Redis does when the time has come.
    let mut raw = redis.raw().await;
    let key = format!("apikey:{id}");
    let ttl: i64 = redis::cmd("PTTL").arg(&key).query_async(&mut raw).await.unwrap();
    assert!((1..=60_000).contains(&ttl), "{ttl}");
    let () = redis::cmd("HSET").arg(&key).arg("expires_ms").arg(1).query_async(&mut raw).await.unwrap();
    assert_eq!(ledger.use_key(&FIRST).await.unwrap(), None, "also while Redis has not got round to it");
    let () = redis::cmd("DEL").arg(&key).query_async(&mut raw).await.unwrap();
    let until = format!("apikeys:{}:until", owner("ann").key());
    let () = redis::cmd("ZADD").arg(until).arg("XX").arg(1).arg(id.to_string()).query_async(&mut raw).await.unwrap();
    assert!(ledger.api_keys(&owner("ann")).await.unwrap().is_empty());
    // It does not count any more.
    assert!(matches!(make(&ledger, SECOND, None, 1).await, KeyMade::Made { .. }));
}
