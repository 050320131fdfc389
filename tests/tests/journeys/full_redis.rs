//! A Redis that has no memory left or takes no writes: callers are told so and may come back, and what was accepted ends.

use std::time::Duration;

use bytes::Bytes;
use hyper::Method;
use serde_json::{Value, json};
use tests::api::Api;
use tests::eventually;
use tests::http::Answer;
use tests::stack::{Backend, Options, Stack};
use tokio::time::{Instant, timeout};

use crate::support::{MINUTE, exec_profile};

/// A prompt that begins with `wait` waits for a file.
const STEPS: &str = "read -r first; case \"$first\" in wait*) while [ ! -e go ]; do sleep 0.05; done;; esac; cat > /dev/null; \
                     echo done";
const MIB: u64 = 1 << 20;
const ASYNC: [(&str, &str); 1] = [("prefer", "respond-async")];

async fn config(stack: &Stack, words: &[&str]) {
    let answer = stack.redis.command(words).await.unwrap();
    assert!(answer.starts_with("+OK"), "{words:?}: {answer}");
}

async fn used_memory(stack: &Stack) -> u64 {
    let info = stack.redis.command(&["INFO", "memory"]).await.unwrap();
    let used = info.lines().find_map(|line| line.strip_prefix("used_memory:"));
    used.and_then(|used| used.trim().parse().ok()).unwrap_or_else(|| panic!("{info}"))
}

/// Accepts a turn of ann's that runs until its workspace has a file `go`: its URL and its unit's uid.
async fn running(api: &Api, unit: &str) -> (String, String) {
    let body = json!({"prompt": "wait\n"});
    let accepted = api.post_with(&format!("/v1/units/{unit}/invoke"), &ASYNC, &body).await.expect(202).json();
    let text = |name: &str| accepted[name].as_str().unwrap().to_owned();
    let (url, uid) = (text("turn_url"), text("uid"));
    eventually("the turn runs", MINUTE, || async {
        (api.get(&url).await.expect(200).json()["status"] == "running").then_some(())
    })
    .await;
    (url, uid)
}

async fn settled(api: &Api, url: &str) -> Value {
    eventually("the turn is settled", MINUTE, || async {
        Some(api.get(url).await.expect(200).json()).filter(|turn| turn["settled_at"].is_string())
    })
    .await
}

fn is_refused(answer: &Answer, code: &str) {
    let document = answer.json();
    assert_eq!(document["type"], format!("urn:rekindle:error:{code}"), "{document:#}");
    assert_eq!(document["source"], "platform");
    if answer.status == 503 {
        assert!(answer.header("retry-after").parse::<u64>().is_ok_and(|s| s > 0), "{document:#}");
    }
}

#[tokio::test]
async fn a_read_only_redis_is_told_and_nothing_accepted_is_lost() {
    let stack = Stack::start(Options::new(Backend::Process).settings(&exec_profile(STEPS, ""))).await;
    let api = stack.api("ann");
    let (turn_url, uid) = running(&api, "demo").await;
    config(&stack, &["REPLICAOF", "127.0.0.1", "1"]).await;

    // New work is refused at once, with when to come back; what is known is still told.
    for headers in [&[][..], &ASYNC] {
        let begun = Instant::now();
        let refused = api.post_with("/v1/units/demo/invoke", headers, &json!({"prompt": "more"})).await.expect(503);
        assert!(begun.elapsed() < Duration::from_secs(8), "a call hung for {:?}", begun.elapsed());
        is_refused(&refused, "unavailable");
    }
    assert_eq!(api.get(&turn_url).await.expect(200).json()["status"], "running");
    // The turn ends meanwhile; its worker repeats that until it is heard.
    std::fs::write(stack.workspace(&uid).join("go"), "").unwrap();
    config(&stack, &["REPLICAOF", "NO", "ONE"]).await;
    let turn = settled(&api, &turn_url).await;
    assert_eq!((turn["status"].as_str(), turn["attempt"].as_u64()), (Some("completed"), Some(1)), "{turn:#}");
    // What was refused was not accepted in secret.
    let turns = api.get("/v1/units/demo/turns").await.expect(200).json();
    assert_eq!(turns["turns"].as_array().map(Vec::len), Some(1), "{turns:#}");
    timeout(MINUTE, api.invoke("demo", "again")).await.expect("it is served again").expect(200);
}

/// One owner's calls with a prompt of a MiB each, every other one cancelled, until one is refused: what was accepted, and the
/// refusal.
async fn fill(api: &Api) -> (Vec<String>, Answer) {
    let mut accepted = Vec::new();
    let prompt = json!({"prompt": format!("p\n{}", "x".repeat((MIB - 2) as usize))});
    loop {
        let answer = api.post_with("/v1/units/demo/invoke", &ASYNC, &prompt).await;
        if answer.status != 202 {
            return (accepted, answer);
        }
        let url = answer.json()["turn_url"].as_str().unwrap().to_owned();
        if accepted.len() % 2 == 1 {
            api.post(&format!("{url}/cancel"), &json!({})).await.expect(200);
        }
        accepted.push(url);
        assert!(accepted.len() < 50, "nothing bounds what one owner leaves");
    }
}

#[tokio::test]
async fn owners_fill_the_ledger_and_it_empties_again() {
    let limits =
        "[limits]\nstored_mb_per_owner = 8\nrequests_per_sec = 10000\nrequest_burst = 20000\nbulk_kib_per_sec = 0\n";
    let settings = exec_profile(STEPS, "") + limits;
    let stack = Stack::start(Options::new(Backend::Process).settings(&settings)).await;
    let ann = stack.api("ann");
    let (turn_url, uid) = running(&ann, "demo").await;
    let before = used_memory(&stack).await;
    let most = before + 24 * MIB;
    config(&stack, &["CONFIG", "SET", "maxmemory-policy", "noeviction"]).await;
    config(&stack, &["CONFIG", "SET", "maxmemory", &most.to_string()]).await;

    // Each owner has its bound, and is told what to delete; together they reach that of Redis.
    let mut owners = Vec::new();
    let mut told = Vec::new();
    for n in 0..8 {
        let api = stack.api(&format!("owner-{n}"));
        let (accepted, refusal) = fill(&api).await;
        told.push(refusal.status.as_u16());
        match refusal.status.as_u16() {
            507 => {
                is_refused(&refusal, "stored-too-much");
                assert!(refusal.text().contains("DELETE /v1/units/{unit}"), "{}", refusal.text());
                assert!(accepted.len() <= 8, "{}", accepted.len());
            }
            503 => is_refused(&refusal, "ledger-full"),
            _ => panic!("{}", refusal.text()),
        }
        owners.push((api, accepted));
        if refusal.status == 503 {
            break;
        }
    }
    assert_eq!((told.first(), told.last()), (Some(&507), Some(&503)), "{told:?}");

    // It is full. What was accepted ends all the same, each turn once; what was refused was not accepted in secret.
    std::fs::write(stack.workspace(&uid).join("go"), "").unwrap();
    let turn = settled(&ann, &turn_url).await;
    assert_eq!((turn["status"].as_str(), turn["reply"].as_str()), (Some("completed"), Some("done\n")), "{turn:#}");
    for (api, accepted) in &owners {
        for url in accepted {
            let turn = settled(api, url).await;
            let as_it_should = turn["status"] == "completed" && turn["attempt"] == 1 || turn["reason"] == "cancelled";
            assert!(as_it_should, "{}", turn["reason"]);
        }
        if !accepted.is_empty() {
            let turns = api.get("/v1/units/demo/turns?limit=50").await.expect(200).json();
            assert_eq!(turns["turns"].as_array().map(Vec::len), Some(accepted.len()));
        }
    }
    let full = used_memory(&stack).await;
    assert!(full <= most + 2 * MIB, "{} MiB more than its bound", (full - most) / MIB);

    // Erased by its owners it is empty, and whoever calls is served.
    for (api, accepted) in &owners {
        if !accepted.is_empty() {
            api.send(Method::DELETE, "/v1/units/demo", &[], Bytes::new()).await.unwrap().expect(204);
        }
    }
    let after = eventually("memory is free again", MINUTE, || async {
        Some(used_memory(&stack).await).filter(|used| *used < before + 4 * MIB)
    })
    .await;
    assert!(after < most);
    let stored = stack.redis.command(&["KEYS", "stored:*"]).await.unwrap();
    assert!(stored.starts_with("*1\r\n"), "only ann has something: {stored}");
    for (api, _) in &owners {
        timeout(MINUTE, api.invoke("demo", "again")).await.expect("it is served again").expect(200);
    }
    assert_eq!(timeout(MINUTE, ann.invoke("demo", "again")).await.expect("it is served again").expect(200).status, 200);
}
