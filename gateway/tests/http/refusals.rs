//! Hostile and mistaken calls: each gets a problem document that says what to do, and nothing is kept of it.

use axum::body::Body;
use http::Request;
use serde_json::{Value, json};

use crate::world::{Answer, World, post, request, token, world, world_with};

const INVOKE: &str = "/v1/units/demo/invoke";

fn envelope() -> Value {
    json!({
        "identity": {"subject": "ann", "launcher": "user:ann"},
        "runner": "echo",
        "workspaces": [{"id": "w", "mode": "rw"}],
        "trigger": "message",
        "start": {"entrypoint": {"inline": "hi"}},
    })
}

async fn dispatch(world: &World, change: impl FnOnce(&mut Value)) -> Answer {
    let mut body = envelope();
    change(&mut body);
    world.call(post("/v1/dispatch", "ann", &body)).await
}

async fn invoke(world: &World, body: Value) -> Answer {
    world.call(post(INVOKE, "ann", &body)).await
}

#[tokio::test]
async fn documents_are_refused_with_the_offenders_pointer() {
    let mut world = world().await;
    let pointer = |answer: Answer| answer.problem(400, "invalid-document")["pointer"].as_str().unwrap().to_owned();
    assert_eq!(pointer(dispatch(&world, |d| d["extra"] = json!(1)).await), "/extra");
    assert_eq!(pointer(dispatch(&world, |d| drop(d.as_object_mut().unwrap().remove("start"))).await), "");
    assert_eq!(pointer(dispatch(&world, |d| d["start"]["session"] = json!({"ref": "s"})).await), "/start");
    assert_eq!(pointer(dispatch(&world, |d| d["workspaces"] = json!([])).await), "/workspaces");
    assert_eq!(pointer(dispatch(&world, |d| d["workspaces"][0]["id"] = json!("../x")).await), "/workspaces/0/id");
    assert_eq!(pointer(dispatch(&world, |d| d["workspaces"][0]["id"] = json!("a\0")).await), "/workspaces/0/id");
    assert_eq!(
        pointer(dispatch(&world, |d| d["workspaces"][0]["id"] = json!("x".repeat(300))).await),
        "/workspaces/0/id"
    );
    assert_eq!(pointer(dispatch(&world, |d| d["identity"]["token"] = json!("t")).await), "/identity/token");
    let path = |path: &'static str| move |d: &mut Value| d["start"] = json!({"entrypoint": {"path": path}});
    assert_eq!(pointer(dispatch(&world, path("../secret")).await), "/start/entrypoint/path");
    assert_eq!(pointer(dispatch(&world, path("/etc/passwd")).await), "/start/entrypoint/path");
    assert_eq!(pointer(dispatch(&world, |d| d["tools"] = json!(["--x"])).await), "/tools/0");
    assert_eq!(pointer(invoke(&world, json!({"prompt": ""})).await), "/prompt");
    assert_eq!(pointer(invoke(&world, json!({"prompt": "x", "extra": 1})).await), "/extra");
    assert_eq!(pointer(invoke(&world, json!({"prompt": "x", "workspaces": []})).await), "/workspaces");
    assert_eq!(
        pointer(invoke(&world, json!({"prompt": "x", "options": {"max_turns": 0}})).await),
        "/options/max_turns"
    );
    world.jobs.try_recv().expect_err("nothing was submitted");
}

#[tokio::test]
async fn what_is_not_json_is_told_apart() {
    let world = world().await;
    let body = |kind: &str, text: &'static str| {
        request("POST", INVOKE, "ann").header("content-type", kind).body(Body::from(text)).unwrap()
    };
    world.call(body("application/json", "{\"prompt\":")).await.problem(400, "malformed-json");
    world.call(body("application/json", "")).await.problem(400, "malformed-json");
    world.call(body("application/json; charset=utf-8", "[]")).await.problem(400, "invalid-document");
    world.call(body("application/x-www-form-urlencoded", "{}")).await.problem(415, "unsupported-media-type");
    let bare = request("POST", INVOKE, "ann").body(Body::from("{}")).unwrap();
    world.call(bare).await.problem(415, "unsupported-media-type");
}

#[tokio::test]
async fn sizes_are_bounded() {
    let world = world().await;
    let long = |bytes: usize| json!({"prompt": "x".repeat(bytes)});
    let problem = invoke(&world, long((1 << 10) + 1)).await.problem(413, "too-large");
    assert_eq!(problem["pointer"], "/prompt");
    invoke(&world, long(65 << 10)).await.problem(413, "too-large");
    // Without an announced length as well.
    let chunks = (0..9).map(|_| Ok::<_, std::io::Error>(vec![b' '; 8 << 10]));
    let body = Body::from_stream(futures_util::stream::iter(chunks));
    let streamed = request("POST", INVOKE, "ann").header("content-type", "application/json").body(body).unwrap();
    world.call(streamed).await.problem(413, "too-large");
}

#[tokio::test]
async fn a_prompt_may_have_one_mebibyte() {
    let defaults = settings::Limits::default();
    let world = world_with(|s| s.limits = defaults.clone()).await;
    let send = async |bytes: usize| {
        let mut request = post(INVOKE, "ann", &json!({"prompt": "x".repeat(bytes)}));
        request.headers_mut().insert("prefer", "respond-async".parse().unwrap());
        world.call(request).await
    };
    assert_eq!(send(1 << 20).await.status, 202);
    send((1 << 20) + 1).await.problem(413, "too-large");
}

#[tokio::test]
async fn names_in_paths_cannot_be_paths() {
    let world = world().await;
    let long = "x".repeat(300);
    for name in ["..%2Fx", "..%2f..%2fetc", "a%00", "%00", long.as_str(), ".hidden", "%C3%A4", "%ff", "a%20b"] {
        for (method, rest) in [("POST", "/invoke"), ("GET", ""), ("GET", "/events"), ("DELETE", ""), ("POST", "/stop")]
        {
            let path = format!("/v1/units/{name}{rest}");
            let request = request(method, &path, "ann").header("content-type", "application/json");
            let request = request.body(Body::from(r#"{"prompt":"x"}"#)).unwrap();
            world.call(request).await.problem(400, "invalid-parameter");
        }
    }
    world.get("/v1/turns/..%2Fx", "ann").await.problem(400, "invalid-parameter");
}

#[tokio::test]
async fn unknown_profiles_and_runners_are_named() {
    let world = world().await;
    invoke(&world, json!({"prompt": "x", "profile": "big"})).await.problem(422, "unknown-profile");
    invoke(&world, json!({"prompt": "x", "runner": "emacs"})).await.problem(422, "unknown-runner");
    let exec = invoke(&world, json!({"prompt": "x", "runner": "exec"})).await.problem(422, "unknown-runner");
    assert!(exec["detail"].as_str().unwrap().contains("runner_command"), "{exec}");
    dispatch(&world, |d| d["runner"] = json!("emacs")).await.problem(422, "unknown-runner");
}

#[tokio::test]
async fn callers_must_show_a_good_token() {
    let world = world().await;
    let with = |authorization: Option<String>| {
        let request = Request::builder().uri("/v1/units");
        let request = authorization.into_iter().fold(request, |r, a| r.header("authorization", a));
        request.body(Body::empty()).unwrap()
    };
    let absent = world.call(with(None)).await;
    absent.problem(401, "unauthenticated");
    assert_eq!(absent.headers["www-authenticate"], r#"Bearer realm="rekindle""#);
    let expired = world.call(with(Some(format!("Bearer {}", token("ann", -60, ""))))).await;
    assert!(expired.problem(401, "unauthenticated")["detail"].as_str().unwrap().contains("expired"));
    assert!(expired.headers["www-authenticate"].to_str().unwrap().contains("invalid_token"));
    let forged = token("ann", 60, "").replace('.', ".x");
    world.call(with(Some(format!("Bearer {forged}")))).await.problem(401, "unauthenticated");
    assert_eq!(world.call(with(Some(format!("bearer {}", token("ann", 60, ""))))).await.status, 200);
}

#[tokio::test]
async fn unknown_routes_and_methods_are_problems_too() {
    let world = world().await;
    world.get("/v2/units", "ann").await.problem(404, "not-found");
    world.get("/v1/units/../x/invoke", "ann").await.problem(404, "not-found");
    let wrong = world.call(request("PUT", "/v1/units/demo", "ann").body(Body::empty()).unwrap()).await;
    wrong.problem(405, "method-not-allowed");
    let allow = wrong.headers["allow"].to_str().unwrap();
    assert!(allow.contains("GET") && allow.contains("DELETE"), "{allow}");
    world.get("/v1/units?limit=0", "ann").await.problem(400, "invalid-parameter");
    world.get("/v1/units?page=2", "ann").await.problem(400, "invalid-parameter");
    let events = "/v1/units/demo/events?from=yesterday";
    world.get(events, "ann").await.problem(400, "invalid-parameter");
}

#[tokio::test]
async fn an_idempotency_key_stands_for_one_request() {
    let world = world().await;
    let send = async |key: &str, path: &str, prompt: &str| {
        let mut request = post(path, "ann", &json!({ "prompt": prompt }));
        request.headers_mut().insert("idempotency-key", key.parse().unwrap());
        request.headers_mut().insert("prefer", "respond-async".parse().unwrap());
        world.call(request).await
    };
    let first = send("k1", INVOKE, "one").await.json();
    assert_eq!(send("k1", INVOKE, "one").await.json()["turn_id"], first["turn_id"]);
    send("k1", INVOKE, "two").await.problem(422, "idempotency-mismatch");
    send("k1", "/v1/units/other/invoke", "one").await.problem(422, "idempotency-mismatch");
    send(&"k".repeat(256), INVOKE, "one").await.problem(400, "invalid-parameter");
    send("a b", INVOKE, "one").await.problem(400, "invalid-parameter");
    assert_eq!(world.get("/v1/units/demo/turns", "ann").await.json()["turns"].as_array().unwrap().len(), 1);
}

#[tokio::test]
async fn a_full_queue_asks_for_patience() {
    let world = world_with(|s| s.limits.queued_turns_per_unit = 2).await;
    let send = async || {
        let mut request = post(INVOKE, "ann", &json!({"prompt": "x"}));
        request.headers_mut().insert("prefer", "respond-async".parse().unwrap());
        world.call(request).await
    };
    let mut last = send().await;
    for _ in 0..4 {
        last = send().await;
    }
    last.problem(429, "too-many");
    assert!(last.headers["retry-after"].to_str().unwrap().parse::<u64>().unwrap() >= 1);
}

#[tokio::test]
async fn without_redis_there_is_a_503_that_says_so() {
    let folder = tempfile::TempDir::new().unwrap();
    let (app, _jobs) = gateway::app::App::new(crate::world::settings(folder.path())).unwrap();
    let router = gateway::http::router(app);
    let call = async |request| {
        let response = tower::ServiceExt::oneshot(router.clone(), request).await.unwrap();
        crate::world::read(response).await
    };
    let refused = call(post(INVOKE, "ann", &json!({"prompt": "x"}))).await;
    refused.problem(503, "unavailable");
    assert_eq!(refused.headers["retry-after"], "1");
    let ready = call(Request::get("/readyz").body(Body::empty()).unwrap()).await.problem(503, "unavailable");
    assert_eq!((&ready["ledger"]["ok"], &ready["runtime"]["ok"]), (&json!(false), &json!(false)));
    let alive = call(Request::get("/healthz").body(Body::empty()).unwrap()).await;
    assert_eq!(alive.status, 200);
}
