//! Images that are not there, and images with nothing in them.

use serde_json::json;
use tests::stack::{Backend, Options, Stack};

use crate::support::gone;

fn profile(image: &str) -> String {
    format!("[profiles.default]\nimage = \"{image}\"\nrunner = \"echo\"\nmax_starts = 1\n")
}

#[tokio::test]
async fn an_image_that_does_not_exist_is_told_in_the_engines_own_words() {
    let image = "localhost:1/rekindle/no-such-image:none";
    let stack = Stack::start(Options::new(Backend::Docker).settings(&profile(image))).await;
    let api = stack.api("ann");
    let answer = api.invoke("demo", "hello").await;
    let problem = answer.json();
    assert_eq!(problem["reason"], "start_failed", "{problem:#}");
    assert_eq!(problem["source"], "platform");
    let detail = problem["detail"].as_str().unwrap();
    assert!(detail.contains(image), "{detail}");
    gone(&stack, &api, "demo").await;
    let turns = api.get("/v1/units/demo/turns").await.expect(200).json();
    assert_eq!(turns["turns"][0]["status"], "failed", "{turns:#}");
}

#[tokio::test]
async fn an_image_without_a_shell_runs_a_unit() {
    let stack = Stack::start(Options::new(Backend::Docker).settings(&profile("rekindle/test-noshell:latest"))).await;
    let api = stack.api("ann");
    let answer = api.post("/v1/units/demo/invoke", &json!({"prompt": "hello"})).await.expect(200).json();
    assert_eq!(answer["reply"], "hello");
}
