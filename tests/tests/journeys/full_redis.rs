//! A Redis that has no memory left or takes no writes: callers are told so and may come back, and what was accepted is kept.

use std::time::Duration;

use serde_json::{Value, json};
use tests::eventually;
use tests::stack::{Backend, Options, Stack};
use tokio::time::{Instant, timeout};

use crate::support::{MINUTE, exec_profile};

/// Waits for a file, then says something.
const STEPS: &str = "while [ ! -e go ]; do sleep 0.05; done; echo done";

#[tokio::test]
async fn a_full_or_read_only_redis_is_told_and_nothing_accepted_is_lost() {
    let stack = Stack::start(Options::new(Backend::Process).settings(&exec_profile(STEPS, ""))).await;
    let api = stack.api("ann");
    let asynchronous = [("prefer", "respond-async")];
    for (round, (broken, mended)) in [
        (["CONFIG", "SET", "maxmemory", "1mb"].as_slice(), ["CONFIG", "SET", "maxmemory", "0"].as_slice()),
        (["REPLICAOF", "127.0.0.1", "1"].as_slice(), ["REPLICAOF", "NO", "ONE"].as_slice()),
    ]
    .into_iter()
    .enumerate()
    {
        let unit = format!("unit-{round}");
        let path = format!("/v1/units/{unit}/invoke");
        let accepted = api.post_with(&path, &asynchronous, &json!({"prompt": "go"})).await.expect(202).json();
        let turn_url = accepted["turn_url"].as_str().unwrap().to_owned();
        eventually("the turn runs", MINUTE, || async {
            (api.get(&turn_url).await.expect(200).json()["status"] == "running").then_some(())
        })
        .await;
        let ok = stack.redis.command(broken).await.unwrap();
        assert!(ok.starts_with("+OK"), "{broken:?}: {ok}");

        // New work is refused at once, with when to come back; what is known is still told.
        for prefer in [None, Some(("prefer", "respond-async"))] {
            let begun = Instant::now();
            let headers: Vec<_> = prefer.into_iter().collect();
            let refused = api.post_with(&path, &headers, &json!({"prompt": "more"})).await.expect(503);
            assert!(begun.elapsed() < Duration::from_secs(8), "a call hung for {:?}", begun.elapsed());
            assert!(refused.header("retry-after").parse::<u64>().is_ok_and(|s| s > 0), "{}", refused.text());
            assert_eq!(refused.json()["source"], "platform");
        }
        assert_eq!(api.get(&turn_url).await.expect(200).json()["status"], "running");
        // The turn ends meanwhile; its worker repeats that until it is heard.
        let uid = accepted["uid"].as_str().unwrap();
        std::fs::write(stack.workspace(uid).join("go"), "").unwrap();
        let ok = stack.redis.command(mended).await.unwrap();
        assert!(ok.starts_with("+OK"), "{mended:?}: {ok}");

        let turn: Value = eventually("the turn is settled", MINUTE, || async {
            Some(api.get(&turn_url).await.expect(200).json()).filter(|turn| turn["settled_at"].is_string())
        })
        .await;
        assert_eq!((turn["status"].as_str(), turn["attempt"].as_u64()), (Some("completed"), Some(1)), "{turn:#}");
        // What was refused was not accepted in secret.
        let turns = api.get(&format!("/v1/units/{unit}/turns")).await.expect(200).json();
        assert_eq!(turns["turns"].as_array().map(Vec::len), Some(1), "{turns:#}");
        timeout(MINUTE, api.invoke(&unit, "again")).await.expect("it is served again").expect(200);
    }
}
