//! A worker by somebody else, that knows only `REDIS_URL` and two topic names under names of its own, runs unchanged.

use serde_json::json;
use tests::sse::kinds;
use tests::stack::{Backend, Options, Stack};

use crate::support::{MINUTE, find, gone, toml_text};

async fn foreign(backend: Backend) {
    let program = include_str!("../../fixtures/foreign_worker.py");
    let profile = format!(
        "[profiles.default]\nimage = \"rekindle/test-base:latest\"\nidle_timeout_sec = 1\n\
         command = [\"/usr/bin/python3\", \"-c\", {}]\n\
         [profiles.default.env]\nREDIS_URL = \"${{redis_url}}\"\nVEXA_UNIT_IN_TOPIC = \"${{in}}\"\nVEXA_UNIT_OUT_TOPIC = \"${{out}}\"\n",
        toml_text(program)
    );
    let stack = Stack::start(Options::new(backend).settings(&profile)).await;
    let api = stack.api("ann");
    let mut stream = api.invoke_streaming("demo", &json!({"prompt": "abc"})).await;
    let events = stream.until("turn-complete", MINUTE).await;
    let seen: Vec<_> = kinds(&events).into_iter().filter(|k| *k != "queued").collect();
    assert_eq!(seen, ["worker-ready", "message-delta", "done", "turn-complete"], "{events:#?}");
    let turn = &find(&events, "turn-complete").data["turn_id"];
    assert_eq!(find(&events, "message-delta").data["turn_id"], *turn, "the taken turn's id is put in");
    assert_eq!(find(&events, "done").data["reply"], "cba");
    assert_eq!(api.invoke("demo", "xyz").await.expect(200).json()["reply"], "zyx");
    gone(&stack, &api, "demo").await;
}

#[tokio::test]
async fn a_foreign_worker_answers_and_is_reaped_as_a_process() {
    foreign(Backend::Process).await;
}

#[tokio::test]
async fn a_foreign_worker_answers_and_is_reaped_on_docker() {
    foreign(Backend::Docker).await;
}
