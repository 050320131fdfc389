//! What an owner may leave in the ledger, as callers hear it.

use axum::body::Body;
use contract::WorkspaceId;
use serde_json::json;

use crate::starts::Runtime;
use crate::world::{post, request, world_with};

fn delete(path: &str) -> http::Request<Body> {
    request("DELETE", path, "ann").body(Body::empty()).unwrap()
}

fn call(unit: &str, workspace: &str) -> http::Request<Body> {
    let body = json!({"prompt": "p", "workspaces": [{"id": workspace, "mode": "rw"}]});
    let mut request = post(&format!("/v1/units/{unit}/invoke"), "ann", &body);
    request.headers_mut().insert("prefer", "respond-async".parse().unwrap());
    request
}

#[tokio::test]
async fn whoever_has_all_that_it_may_is_told_what_to_delete_and_is_served_then() {
    let world = world_with(|settings| {
        settings.limits.units_per_owner = 2;
        settings.limits.workspaces_per_owner = 1;
    })
    .await;
    let runtime = Runtime::default();
    let _serving = runtime.serve(&world);
    assert_eq!(world.call(call("one", "w1")).await.status, 202);
    let refused = world.call(call("two", "w2")).await.problem(507, "stored-too-much");
    let detail = refused["detail"].as_str().unwrap();
    assert!(
        detail.contains("limits.workspaces_per_owner") && detail.contains("DELETE /v1/workspaces/{id}"),
        "{detail}"
    );
    assert_eq!(world.get("/v1/workspaces", "ann").await.json(), json!({"workspaces": ["w1"]}));
    assert_eq!(world.get("/v1/workspaces", "ben").await.json(), json!({"workspaces": []}));

    // A turn names it; then a worker mounts it; then it goes, folder first.
    world.call(delete("/v1/workspaces/w1")).await.problem(409, "conflict");
    let turns = world.get("/v1/units/one/turns", "ann").await.json();
    let turn = turns["turns"][0]["turn_id"].as_str().unwrap().to_owned();
    assert_eq!(world.call(post(&format!("/v1/turns/{turn}/cancel"), "ann", &json!({}))).await.status, 200);
    let mut soon = delete("/v1/workspaces/w1");
    soon.headers_mut().insert("prefer", "wait=0".parse().unwrap());
    world.call(soon).await.problem(409, "conflict");
    assert!(runtime.0.lock().unwrap().trashed.is_empty(), "nothing is trashed while a worker may live");
    let unit = world.ledger.units(&contract::Owner::parse("ann").unwrap(), None, 10).await.unwrap().0.remove(0);
    let exit = ledger::Exit { reason: contract::StopReason::Stopped, exit_code: Some(0), detail: None };
    assert!(world.ledger.exited(&unit.uid, unit.state.generation().unwrap(), exit).await.unwrap());
    assert_eq!(world.call(delete("/v1/workspaces/w1")).await.status, 204);
    assert_eq!(runtime.0.lock().unwrap().trashed, ["w1"]);
    world.call(delete("/v1/workspaces/w1")).await.problem(404, "not-found");
    assert_eq!(world.ledger.workspace_owner(&WorkspaceId::parse("w1").unwrap()).await.unwrap(), None);
    assert_eq!(world.call(call("two", "w2")).await.status, 202);

    let refused = world.call(call("three", "w2")).await.problem(507, "stored-too-much");
    let detail = refused["detail"].as_str().unwrap();
    assert!(detail.contains("limits.units_per_owner") && detail.contains("DELETE /v1/units/{unit}"), "{detail}");
    assert_eq!(world.call(delete("/v1/units/one")).await.status, 204);
    assert_eq!(world.call(call("three", "w2")).await.status, 202);
}
