//! What callers get wrong, over real HTTP: each gets a problem document that says what to do, and nothing happens.

use bytes::Bytes;
use hyper::Method;
use serde_json::{Value, json};
use tests::api::Api;
use tests::http::Answer;
use tests::keys::caller_token_until;
use tests::stack::{Backend, Options, Stack};

#[track_caller]
fn problem(answer: Answer, status: u16, code: &str, pointer: Option<&str>) {
    assert_eq!(answer.header("content-type"), "application/problem+json", "{}", answer.text());
    let problem = answer.expect(status).json();
    assert_eq!(problem["type"], format!("urn:rekindle:error:{code}"), "{problem:#}");
    assert_eq!(problem["source"], "platform");
    assert!(!problem["detail"].as_str().unwrap().is_empty());
    if let Some(pointer) = pointer {
        assert_eq!(problem["pointer"], pointer, "{problem:#}");
    }
}

fn dispatch() -> Value {
    json!({
        "identity": {"subject": "ann", "launcher": "user:ann"}, "runner": "echo",
        "workspaces": [{"id": "w", "mode": "rw"}], "trigger": "message", "start": {"entrypoint": {"inline": "hi"}},
    })
}

#[tokio::test]
async fn mistakes_are_told_and_do_nothing() {
    let stack = Stack::start(Options::new(Backend::Process)).await;
    let api = stack.api("ann");
    let json_headers = [("content-type", "application/json")];
    let invoke = "/v1/units/demo/invoke";
    let raw = |body: &'static str| api.send(Method::POST, invoke, &json_headers, Bytes::from(body));

    problem(raw("{\"prompt\":").await.unwrap(), 400, "malformed-json", None);
    problem(api.post(invoke, &json!({"prompt": "x", "extra": 1})).await, 400, "invalid-document", Some("/extra"));
    problem(api.post(invoke, &json!({})).await, 400, "invalid-document", Some(""));
    problem(api.post(invoke, &json!({"prompt": ""})).await, 400, "invalid-document", Some("/prompt"));
    problem(api.post(invoke, &json!({"prompt": "x", "runner": "gpt"})).await, 422, "unknown-runner", None);
    problem(api.post(invoke, &json!({"prompt": "x", "profile": "big"})).await, 422, "unknown-profile", None);
    problem(
        api.post(invoke, &json!({"prompt": "x", "workspaces": []})).await,
        400,
        "invalid-document",
        Some("/workspaces"),
    );
    let at = |id: &str| json!({"prompt": "x", "workspaces": [{"id": id, "mode": "rw"}]});
    for id in ["../etc", "a\0b", "", &"a".repeat(300)] {
        problem(api.post(invoke, &at(id)).await, 400, "invalid-document", Some("/workspaces/0/id"));
    }
    let long = "a".repeat(300);
    for unit in ["..%2Fetc", "a%00b", "%2e%2e", long.as_str()] {
        let answer = api.post(&format!("/v1/units/{unit}/invoke"), &json!({"prompt": "x"})).await;
        problem(answer, 400, "invalid-parameter", None);
    }
    let large = Bytes::from(json!({"prompt": "x".repeat(5 << 20)}).to_string());
    problem(api.send(Method::POST, invoke, &json_headers, large).await.unwrap(), 413, "too-large", None);
    let long = api.post(invoke, &json!({"prompt": "x".repeat((1 << 20) + 1)})).await;
    problem(long, 413, "too-large", Some("/prompt"));
    let text = api.send(Method::POST, invoke, &[("content-type", "text/plain")], "{}".into()).await.unwrap();
    problem(text, 415, "unsupported-media-type", None);
    problem(api.get("/v1/nothing").await, 404, "not-found", None);
    problem(api.get("/v1/units/absent").await, 404, "not-found", None);
    problem(api.get(invoke).await, 405, "method-not-allowed", None);

    let change = |change: fn(&mut Value)| {
        let mut body = dispatch();
        change(&mut body);
        body
    };
    let send = |body: Value| async { api.post("/v1/dispatch", &{ body }).await };
    let both = |d: &mut Value| d["start"]["session"] = json!({"ref": "s"});
    problem(send(change(both)).await, 400, "invalid-document", Some("/start"));
    let none = |d: &mut Value| drop(d.as_object_mut().unwrap().remove("start"));
    problem(send(change(none)).await, 400, "invalid-document", Some(""));
    problem(send(change(|d| d["workspaces"] = json!([]))).await, 400, "invalid-document", Some("/workspaces"));
    problem(send(change(|d| d["trigger"] = json!("cron"))).await, 400, "invalid-document", Some("/trigger"));
    problem(send(change(|d| d["runner"] = json!("gpt"))).await, 422, "unknown-runner", None);
    problem(send(change(|d| d["identity"]["subject"] = json!("bob"))).await, 403, "forbidden", None);

    // None of that made a unit, a turn or a workload.
    assert_eq!(api.get("/v1/units").await.expect(200).json()["units"], json!([]));
    assert_eq!(stack.workloads().await, Vec::<Value>::new());
    // And a good one of each kind is taken, the largest prompt included.
    assert_eq!(send(dispatch()).await.expect(200).json()["reply"], "hi");
    let largest = "x".repeat(1 << 20);
    let mut stream = api.invoke_streaming("demo", &json!({ "prompt": largest })).await;
    let events = stream.until("turn-complete", crate::support::MINUTE).await;
    let said: usize = events
        .iter()
        .filter(|e| e.kind() == "message-delta")
        .filter_map(|e| e.data["text"].as_str())
        .map(str::len)
        .sum();
    assert_eq!(said, 1 << 20, "all of it is streamed");
    let done = &crate::support::find(&events, "done").data;
    assert_eq!(done["reply"].as_str().map(str::len), Some(256 << 10), "the reply itself is bounded");
    assert!(done["detail"].as_str().unwrap().contains("cut"), "and says so: {}", done["detail"]);
}

#[tokio::test]
async fn only_a_valid_token_opens_the_door() {
    let stack = Stack::start(Options::new(Backend::Process)).await;
    let now = jiff::Timestamp::now().as_second();
    let expired = caller_token_until(&stack.secrets().jwt, "ann", now - 60);
    let forged = caller_token_until("another secret that is long enough", "ann", now + 3600);
    for token in ["", "nonsense", expired.as_str(), forged.as_str()] {
        let answer = Api::new(&stack.address, token).invoke("demo", "x").await;
        assert!(answer.header("www-authenticate").starts_with("Bearer"), "{token}");
        problem(answer, 401, "unauthenticated", None);
    }
}

#[tokio::test]
async fn owners_do_not_meet() {
    let stack = Stack::start(Options::new(Backend::Process)).await;
    let (ann, odd) = (stack.api("ann"), stack.api("a|b/../c@d"));
    assert_eq!(ann.invoke("demo", "from ann").await.expect(200).json()["reply"], "from ann");
    assert_eq!(odd.invoke("demo", "from odd").await.expect(200).json()["reply"], "from odd");
    let (a, b) = (crate::support::uid(&ann, "demo").await, crate::support::uid(&odd, "demo").await);
    assert_ne!(a, b);
    for api in [&ann, &odd] {
        let turns = api.get("/v1/units/demo/turns").await.expect(200).json();
        assert_eq!(turns["turns"].as_array().unwrap().len(), 1);
        assert_eq!(api.get("/v1/units").await.expect(200).json()["units"].as_array().unwrap().len(), 1);
    }
    // The other one's unit by its uid, its turn, its workspace: not there.
    let turn = ann.get("/v1/units/demo/turns").await.json()["turns"][0]["turn_id"].as_str().unwrap().to_owned();
    for path in [format!("/v1/units/{a}"), format!("/v1/turns/{turn}"), format!("/v1/units/{a}/events")] {
        problem(odd.get(&path).await, 404, "not-found", None);
    }
    problem(odd.post(&format!("/v1/units/{a}/stop"), &json!({})).await, 404, "not-found", None);
    problem(odd.delete(&format!("/v1/units/{a}")).await, 404, "not-found", None);
    let own = json!({"prompt": "x", "workspaces": [{"id": a, "mode": "ro"}]});
    problem(odd.post("/v1/units/spy/invoke", &own).await, 404, "not-found", None);
    let shared = json!({"prompt": "x", "workspaces": [{"id": "shared", "mode": "rw"}]});
    ann.post("/v1/units/first/invoke", &shared).await.expect(200);
    problem(odd.post("/v1/units/first/invoke", &shared).await, 404, "not-found", None);
}

#[tokio::test]
async fn an_erased_unit_is_gone_with_its_folder() {
    let stack = Stack::start(Options::new(Backend::Process)).await;
    let api = stack.api("ann");
    api.invoke("demo", "hello").await.expect(200);
    let uid = crate::support::uid(&api, "demo").await;
    assert!(stack.state(&uid).exists());
    let answer = api.delete("/v1/units/demo").await;
    assert!(answer.status.is_success(), "{}", answer.text());
    problem(api.get("/v1/units/demo").await, 404, "not-found", None);
    assert!(!stack.state(&uid).exists() && !stack.workspace(&uid).exists());
    assert_eq!(stack.workloads().await, Vec::<Value>::new());
    assert_eq!(api.invoke("demo", "anew").await.expect(200).header("rekindle-start"), "cold");
    assert_eq!(api.get("/v1/units/demo/turns").await.json()["turns"].as_array().unwrap().len(), 1);
}
