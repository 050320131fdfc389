//! One round of work: everything that callers do, after which only the resident unit is left.

use std::time::Duration;

use serde_json::json;
use tests::api::Api;
use tests::stack::Stack;
use tests::{eventually, sse::Events};

use crate::support::{MINUTE, find};

/// Who does it.
pub(super) struct Work {
    api: Api,
    /// The workload that stays warm from the first round to the last.
    pub resident: String,
}

impl Work {
    /// Starts the resident unit.
    pub(super) async fn begin(stack: &Stack) -> Self {
        let api = stack.api("ann");
        api.invoke("resident", "echo hello").await.expect(200);
        let unit = api.get("/v1/units/resident").await.expect(200).json();
        Self { api, resident: format!("{}-{}", unit["uid"].as_str().expect("a uid"), unit["generation"]) }
    }

    /// Cold, warm, cancelled, left, stopped, started again, erased; with a reader that comes and goes.
    pub(super) async fn round(&self) {
        tokio::join!(self.resident_turns(), self.committed_and_stopped(), self.cancelled(), self.left());
    }

    async fn resident_turns(&self) {
        let mut reader = self.api.events("resident", Some("0")).await;
        for _ in 0..3 {
            let answer = self.api.invoke("resident", "echo again").await.expect(200);
            assert_eq!(answer.header("rekindle-start"), "warm");
        }
        reader.until("turn-complete", MINUTE).await;
        // It goes in the middle of a stream that does not end.
        drop(reader);
    }

    async fn committed_and_stopped(&self) {
        let turn = "date +%s%N > now; echo written";
        assert_eq!(self.api.invoke("commits", turn).await.expect(200).header("rekindle-start"), "cold");
        self.api.invoke("commits", turn).await.expect(200);
        self.api.post_with("/v1/units/commits/stop", &[("prefer", "wait=30")], &json!({})).await.expect(200);
        assert_eq!(self.api.invoke("commits", turn).await.expect(200).header("rekindle-start"), "cold");
        self.erase("commits").await;
    }

    async fn cancelled(&self) {
        let mut events = self.begin_turn("cancelled", "echo begun; sleep 600").await;
        let begun = events.until("message-delta", MINUTE).await;
        let turn = find(&begun, "turn-accepted").data["turn_id"].as_str().expect("a turn").to_owned();
        assert!(self.api.post(&format!("/v1/turns/{turn}/cancel"), &json!({})).await.status.is_success());
        events.until("turn-failed", MINUTE).await;
        self.api.invoke("cancelled", "echo still warm").await.expect(200);
        self.erase("cancelled").await;
    }

    async fn left(&self) {
        let mut events = self.begin_turn("left", "echo begun; sleep 0.3; echo done").await;
        events.until("message-delta", MINUTE).await;
        drop(events);
        self.api.events("left", Some("0")).await.until("turn-complete", MINUTE).await;
        self.erase("left").await;
    }

    async fn begin_turn(&self, unit: &str, prompt: &str) -> Events {
        self.api.invoke_streaming(unit, &json!({ "prompt": prompt })).await
    }

    async fn erase(&self, unit: &str) {
        let path = format!("/v1/units/{unit}");
        assert!(self.api.delete(&path).await.status.is_success(), "erase {unit}");
        eventually("the unit is erased", Duration::from_secs(60), || async {
            (self.api.get(&path).await.status.as_u16() == 404).then_some(())
        })
        .await;
    }
}
