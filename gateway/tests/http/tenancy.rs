//! Owners and their names are kept apart, whatever they look like.

use contract::is_uid_shaped;
use http::Request;
use serde_json::{Value, json};

use crate::world::{Answer, World, post, token, world};

async fn submit(world: &World, sub: &str, path: &str, body: Value) -> Answer {
    let mut request = post(path, sub, &body);
    request.headers_mut().insert("prefer", "respond-async".parse().unwrap());
    world.call(request).await
}

#[tokio::test]
async fn two_owners_with_the_same_names_never_meet() {
    let world = world().await;
    let path = "/v1/units/demo/invoke";
    let ann = submit(&world, "ann", path, json!({"prompt": "ann's"})).await.json();
    let bob = submit(&world, "bob", path, json!({"prompt": "bob's"})).await.json();
    assert_ne!(ann["uid"], bob["uid"]);
    assert_eq!((&ann["unit"], &bob["unit"]), (&json!("demo"), &json!("demo")));

    // Nobody's turn, unit or stream exists for the other one, by whatever name.
    let turn = ann["turn_url"].as_str().unwrap();
    assert_eq!(world.get(turn, "ann").await.json()["prompt"], "ann's");
    world.get(turn, "bob").await.problem(404, "not-found");
    let uid = ann["uid"].as_str().unwrap();
    for rest in ["", "/turns", "/events"] {
        world.get(&format!("/v1/units/{uid}{rest}"), "bob").await.problem(404, "not-found");
    }
    let into = format!("/v1/units/{uid}/invoke");
    submit(&world, "bob", &into, json!({"prompt": "x"})).await.problem(404, "not-found");
    for (method, rest) in [("POST", "/stop"), ("DELETE", "")] {
        let path = format!("/v1/units/{uid}{rest}");
        let request = crate::world::request(method, &path, "bob").body(axum::body::Body::empty()).unwrap();
        world.call(request).await.problem(404, "not-found");
    }
    let cancel = post(&format!("{turn}/cancel"), "bob", &json!({}));
    world.call(cancel).await.problem(404, "not-found");
    assert_eq!(world.get(turn, "ann").await.json()["status"], "queued");
    let listed = world.get("/v1/units", "bob").await.json();
    assert_eq!(listed["units"].as_array().unwrap().len(), 1);
    assert_eq!(listed["units"][0]["uid"], bob["uid"]);
}

#[tokio::test]
async fn a_workspace_is_its_first_owners() {
    let world = world().await;
    let body = json!({"prompt": "x", "workspaces": [{"id": "shared", "mode": "ro"}]});
    assert_eq!(submit(&world, "ann", "/v1/units/a/invoke", body.clone()).await.status, 202);
    let refused = submit(&world, "bob", "/v1/units/b/invoke", body.clone()).await.problem(404, "not-found");
    assert_eq!(refused["pointer"], "/workspaces/0/id");
    assert_eq!(submit(&world, "ann", "/v1/units/c/invoke", body).await.status, 202);

    // One in the form of a uid is that unit's own.
    let ann = submit(&world, "ann", "/v1/units/own/invoke", json!({"prompt": "x"})).await.json();
    let body = json!({"prompt": "x", "workspaces": [{"id": ann["uid"], "mode": "ro"}]});
    submit(&world, "bob", "/v1/units/b/invoke", body).await.problem(404, "not-found");
    // Not even before that unit exists.
    let unborn =
        contract::UnitId::of(&contract::Owner::parse("ann").unwrap(), &contract::UnitName::parse("later").unwrap());
    let body = json!({"prompt": "x", "workspaces": [{"id": unborn, "mode": "rw"}]});
    submit(&world, "bob", "/v1/units/b/invoke", body).await.problem(404, "not-found");
}

#[tokio::test]
async fn an_owner_may_look_like_a_path() {
    let world = world().await;
    let odd = "a|b/../c@d";
    let got = submit(&world, odd, "/v1/units/demo/invoke", json!({"prompt": "x"})).await.json();
    assert!(is_uid_shaped(got["uid"].as_str().unwrap()), "{got}");
    let unit = world.get("/v1/units/demo", odd).await.json();
    assert_eq!((&unit["owner"], &unit["name"], &unit["uid"]), (&json!(odd), &json!("demo"), &got["uid"]));
    // By its full name and its uid too.
    for name in [unit["full_name"].as_str().unwrap(), unit["uid"].as_str().unwrap()] {
        assert_eq!(world.get(&format!("/v1/units/{name}"), odd).await.json()["uid"], got["uid"]);
        let again = submit(&world, odd, &format!("/v1/units/{name}/invoke"), json!({"prompt": "y"})).await.json();
        assert_eq!(again["uid"], got["uid"]);
    }
    let turns = world.get("/v1/units/demo/turns", odd).await.json();
    let threads: Vec<_> = turns["turns"].as_array().unwrap().iter().map(|t| t["thread"].as_str().unwrap()).collect();
    assert_eq!(threads, ["demo", "demo", "demo"]);
}

#[tokio::test]
async fn an_invoke_is_a_dispatch_of_the_same_unit() {
    let world = world().await;
    let invoked = submit(&world, "ann", "/v1/units/demo/invoke", json!({"prompt": "x"})).await.json();
    let envelope = json!({
        "identity": {"subject": "ann", "launcher": "user:ann"}, "runner": "echo",
        "workspaces": [{"id": invoked["uid"], "mode": "rw"}], "trigger": "message",
        "context": {"session": "demo"}, "start": {"entrypoint": {"inline": "y"}},
    });
    let dispatched = submit(&world, "ann", "/v1/dispatch", envelope).await.json();
    assert_eq!(dispatched["uid"], invoked["uid"], "{dispatched}");
}

#[tokio::test]
async fn only_who_may_impersonate_names_another_subject() {
    let world = world().await;
    let envelope = json!({
        "identity": {"subject": "ann", "launcher": "integration:bot"}, "runner": "echo",
        "workspaces": [{"id": "w", "mode": "rw"}], "trigger": "event",
        "start": {"entrypoint": {"inline": "y"}},
    });
    let refused = submit(&world, "bot", "/v1/dispatch", envelope.clone()).await.problem(403, "forbidden");
    assert_eq!(refused["pointer"], "/identity/subject");
    let request = Request::post("/v1/dispatch")
        .header("authorization", format!("Bearer {}", token("bot", 60, "units:impersonate")))
        .header("content-type", "application/json")
        .header("prefer", "respond-async")
        .body(envelope.to_string().into())
        .unwrap();
    let accepted = world.call(request).await;
    assert_eq!(accepted.status, 202, "{}", accepted.text);
    let unit = accepted.json()["unit"].as_str().unwrap().to_owned();
    assert!(unit.starts_with("agent-ann-event-"), "{unit}");
    // It is the subject's.
    assert_eq!(world.get(&format!("/v1/units/{unit}"), "ann").await.json()["owner"], "ann");
    world.get(&format!("/v1/units/{unit}"), "bot").await.problem(404, "not-found");
}
