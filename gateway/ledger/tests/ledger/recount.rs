//! What owners have stored, counted from everything that Redis has.

use std::collections::BTreeMap;

use contract::UnitId;
use ledger::{Erase, Ledger, Submission, UnitState};
use redis::aio::MultiplexedConnection;

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

pub async fn keys_like(raw: &mut MultiplexedConnection, pattern: &str) -> Vec<String> {
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

pub async fn counted(redis: &Redis) -> BTreeMap<String, i64> {
    let mut raw = redis.raw().await;
    let mut stored = BTreeMap::new();
    for key in keys_like(&mut raw, "stored:*").await {
        stored.insert(key["stored:".len()..].to_owned(), length(&mut raw, "GET", &key).await);
    }
    stored
}

pub async fn assert_exact(redis: &Redis, after: &str) {
    assert_eq!(counted(redis).await, recount(redis).await, "{after}");
}

fn of(owner_name: &str, unit: &str, prompt: &str) -> Submission {
    Submission { owner: owner(owner_name), ..submission(unit, prompt) }
}

/// Of a unit's own workspace alone.
pub fn plain(owner_name: &str, unit: &str, prompt: &str) -> Submission {
    let mut s = of(owner_name, unit, prompt);
    s.shape.workspaces =
        vec![contract::WorkspaceAt { id: UnitId::of(&s.owner, &s.name).own_workspace(), mode: contract::Mode::Rw }];
    s
}

pub async fn erase(ledger: &Ledger, uid: &UnitId) {
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
