//! Who calls, what that allows, how often, and whom a workspace is shared with.

use std::net::SocketAddr;

use axum::body::Body;
use axum::extract::ConnectInfo;
use gateway::auth::api_key;
use http::Request;
use serde_json::{Value, json};

use crate::world::{Answer, World, post, request, token, token_of, world, world_with};

fn with(method: &str, path: &str, credential: &str) -> http::request::Builder {
    Request::builder().method(method).uri(path).header("authorization", format!("Bearer {credential}"))
}

async fn get(world: &World, path: &str, credential: &str) -> Answer {
    world.call(with("GET", path, credential).body(Body::empty()).unwrap()).await
}

async fn submit(world: &World, sub: &str, unit: &str, workspace: &str, mode: &str) -> Answer {
    let body = json!({"prompt": "x", "workspaces": [{"id": workspace, "mode": mode}]});
    let mut request = post(&format!("/v1/units/{unit}/invoke"), sub, &body);
    request.headers_mut().insert("prefer", "respond-async".parse().unwrap());
    world.call(request).await
}

async fn made(world: &World, sub: &str, body: Value) -> Value {
    let answer = world.call(post("/v1/keys", sub, &body)).await;
    assert_eq!(answer.status, 201, "{}", answer.text);
    assert_eq!(answer.headers["cache-control"], "no-store");
    answer.json()
}

#[tokio::test]
async fn every_route_for_callers_demands_its_scope() {
    let world = world().await;
    let document = world.call(Request::get("/openapi.json").body(Body::empty()).unwrap()).await.json();
    let mut guarded = 0;
    for (path, operations) in document["paths"].as_object().unwrap() {
        for (method, operation) in operations.as_object().unwrap() {
            let Some(scope) = operation["security"][0]["caller"][0].as_str() else { continue };
            guarded += 1;
            for status in ["401", "403", "429"] {
                assert!(operation["responses"][status].is_object(), "{method} {path}: {status} is not described");
            }
            let path = path.replace("{turn}", "01ARZ3NDEKTSV4RRFFQ69G5FAV").replace(['{', '}'], "");
            let others: Vec<_> = ["units:invoke", "units:read", "units:admin", "units:impersonate", "triggers:write"]
                .into_iter()
                .filter(|other| *other != scope)
                .collect();
            let method = method.to_uppercase();
            let poor = with(&method, &path, &token_of("ann", 60, &others.join(" "))).body(Body::empty()).unwrap();
            let refused = world.call(poor).await;
            let document = refused.problem(403, "forbidden");
            assert_eq!(document["scope"], scope, "{method} {path}");
            let challenge = refused.headers["www-authenticate"].to_str().unwrap();
            assert!(challenge.contains("insufficient_scope") && challenge.contains(scope), "{challenge}");
            let nobody = Request::builder().method(method.as_str()).uri(&path).body(Body::empty()).unwrap();
            world.call(nobody).await.problem(401, "unauthenticated");
        }
    }
    assert!(guarded >= 20, "{guarded}");
    // A token that names no scope has none.
    get(&world, "/v1/units", &token_of("ann", 60, "")).await.problem(403, "forbidden");
}

#[tokio::test]
async fn a_key_is_shown_once_and_good_until_it_is_revoked() {
    let world = world().await;
    let made = made(&world, "ann", json!({"name": "chat client"})).await;
    let (key, id) = (made["key"].as_str().unwrap(), made["id"].as_str().unwrap());
    assert_eq!(made["scopes"], json!(["units:invoke", "units:read"]));
    assert_eq!((&made["expires_at"], &made["last_used_at"]), (&Value::Null, &Value::Null));

    assert_eq!(get(&world, "/v1/units", key).await.status, 200);
    let by_header = Request::get("/v1/units").header("x-api-key", key).body(Body::empty()).unwrap();
    assert_eq!(world.call(by_header).await.status, 200);
    // What it does is its owner's.
    let mut invoke = post("/v1/units/demo/invoke", "ann", &json!({"prompt": "x"}));
    invoke.headers_mut().insert("authorization", format!("Bearer {key}").parse().unwrap());
    invoke.headers_mut().insert("prefer", "respond-async".parse().unwrap());
    assert_eq!(world.call(invoke).await.status, 202);
    assert_eq!(world.get("/v1/units/demo", "ann").await.json()["owner"], "ann");

    let listed = world.get("/v1/keys", "ann").await;
    assert!(!listed.text.contains(key), "{}", listed.text);
    let listed = listed.json();
    assert_eq!(listed["keys"][0]["id"], id);
    assert!(listed["keys"][0]["last_used_at"].is_string(), "{listed}");
    assert_eq!(world.get("/v1/keys", "bob").await.json()["keys"], json!([]));

    let revoke = |sub: &str| request("DELETE", &format!("/v1/keys/{id}"), sub).body(Body::empty()).unwrap();
    world.call(revoke("bob")).await.problem(404, "not-found");
    assert_eq!(world.call(revoke("ann")).await.status, 204);
    let refused = get(&world, "/v1/units", key).await;
    assert!(refused.problem(401, "unauthenticated")["detail"].as_str().unwrap().contains("revoked"));
    world.call(revoke("ann")).await.problem(404, "not-found");
    let typo = format!("{}a", &key[..key.len() - 1]);
    let typo = if typo == key { format!("{}b", &key[..key.len() - 1]) } else { typo };
    let refused = get(&world, "/v1/units", &typo).await;
    assert!(refused.problem(401, "unauthenticated")["detail"].as_str().unwrap().contains("mistyped"));
    get(&world, "/v1/units", &api_key::generate()).await.problem(401, "unauthenticated");
}

#[tokio::test]
async fn a_key_allows_less_than_its_maker_and_makes_no_other() {
    let world = world_with(|settings| settings.limits.keys_per_owner = 2).await;
    let ask = |scopes: Value| post("/v1/keys", "ann", &json!({"name": "k", "scopes": scopes}));
    let refused = world.call(ask(json!(["units:read", "units:admin"]))).await.problem(403, "forbidden");
    assert_eq!(refused["pointer"], "/scopes/1");
    world.call(ask(json!([]))).await.problem(400, "invalid-document");
    world.call(ask(json!(["everything"]))).await.problem(400, "invalid-document");
    for body in [
        json!({}),
        json!({"name": ""}),
        json!({"name": "x".repeat(65)}),
        json!({"name": "a\nb"}),
        json!({"name": "k", "expires_in_sec": 0}),
        json!({"name": "k", "owner": "bob"}),
    ] {
        assert_eq!(world.call(post("/v1/keys", "ann", &body)).await.status, 400, "{body}");
    }

    let reads = made(&world, "ann", json!({"name": "r", "scopes": ["units:read"], "expires_in_sec": 60})).await;
    assert!(reads["expires_at"].is_string());
    let key = reads["key"].as_str().unwrap();
    get(&world, "/v1/units", key).await.json();
    let stop = with("POST", "/v1/units/demo/stop", key).body(Body::empty()).unwrap();
    assert_eq!(world.call(stop).await.problem(403, "forbidden")["scope"], "units:invoke");

    let full = made(&world, "ann", json!({"name": "f"})).await;
    let mut another = post("/v1/keys", "ann", &json!({"name": "k"}));
    let bearer = format!("Bearer {}", full["key"].as_str().unwrap());
    another.headers_mut().insert("authorization", bearer.parse().unwrap());
    world.call(another).await.problem(403, "forbidden");
    world.call(post("/v1/keys", "ann", &json!({"name": "k"}))).await.problem(409, "conflict");
    // It can end itself, and nothing else.
    let revoke = |id: &Value| {
        let path = format!("/v1/keys/{}", id.as_str().unwrap());
        with("DELETE", &path, full["key"].as_str().unwrap()).body(Body::empty()).unwrap()
    };
    world.call(revoke(&reads["id"])).await.problem(403, "forbidden");
    assert_eq!(world.call(revoke(&full["id"])).await.status, 204);
}

#[tokio::test]
async fn a_workspace_is_shared_by_its_owner_alone() {
    let world = world().await;
    let odd = "b|ob/../c@d é";
    let grants = "/v1/workspaces/shared/grants";
    let to = format!("{grants}/b%7Cob%2F..%2Fc%40d%20%C3%A9");
    let put = |sub: &str, mode: &str| {
        let mut request = post(&to, sub, &json!({"mode": mode}));
        *request.method_mut() = http::Method::PUT;
        request
    };
    // Nobody's yet, and then somebody's: the same words.
    let before = world.call(put("eve", "rw")).await.problem(404, "not-found");
    assert_eq!(submit(&world, "ann", "a", "shared", "rw").await.status, 202);
    assert_eq!(world.call(put("eve", "rw")).await.problem(404, "not-found"), before);
    assert_eq!(world.get(grants, "eve").await.problem(404, "not-found"), before);
    submit(&world, odd, "b", "shared", "ro").await.problem(404, "not-found");

    assert_eq!(world.call(put("ann", "ro")).await.status, 204);
    assert_eq!(world.get(grants, "ann").await.json(), json!({"grants": [{"owner": odd, "mode": "ro"}]}));
    let refused = submit(&world, odd, "b", "shared", "rw").await.problem(403, "forbidden");
    assert_eq!(refused["pointer"], "/workspaces/0/mode");
    assert_eq!(submit(&world, odd, "b", "shared", "ro").await.status, 202);
    // Reading goes as far as the runtime, which is not there.
    world.get("/v1/workspaces/shared/files", odd).await.problem(503, "unavailable");
    world.get("/v1/workspaces/shared/files", "eve").await.problem(404, "not-found");
    world.get(grants, odd).await.problem(404, "not-found");

    let delete = |sub: &str| request("DELETE", &to, sub).body(Body::empty()).unwrap();
    world.call(delete(odd)).await.problem(404, "not-found");
    assert_eq!(world.call(delete("ann")).await.status, 204);
    world.call(delete("ann")).await.problem(404, "not-found");
    submit(&world, odd, "b2", "shared", "ro").await.problem(404, "not-found");
    let own = request("PUT", &format!("{grants}/ann"), "ann").header("content-type", "application/json");
    world.call(own.body(r#"{"mode":"ro"}"#.into()).unwrap()).await.problem(400, "invalid-parameter");
}

#[tokio::test]
async fn what_is_large_has_a_rate_of_its_own() {
    let world = world_with(|settings| {
        (settings.limits.bulk_kib_per_sec, settings.limits.bulk_burst_kib) = (1, 16);
        (settings.limits.body_bytes, settings.limits.prompt_bytes) = (1 << 20, 1 << 20);
    })
    .await;
    let post = |sub: &str, bytes: usize| {
        let body = serde_json::json!({ "prompt": "p".repeat(bytes) }).to_string();
        let post = request("POST", "/v1/units/u/invoke", sub).header("content-type", "application/json");
        post.header("prefer", "respond-async").body(Body::from(body)).unwrap()
    };
    assert_eq!(world.call(post("ann", 300 << 10)).await.status, 202);
    for _ in 0..2 {
        let refused = world.call(post("ann", 300 << 10)).await;
        let problem = refused.problem(429, "too-many");
        assert!(problem["detail"].as_str().unwrap().contains("bulk_kib_per_sec"), "{problem}");
        assert!(refused.headers["retry-after"].to_str().unwrap().parse::<u64>().unwrap() >= 200);
    }
    // A list is an answer that may be large: it waits as well.
    world.get("/v1/units", "ann").await.problem(429, "too-many");
    assert_eq!(world.call(post("ann", 10 << 10)).await.status, 202);
    assert_eq!(world.call(post("bob", 300 << 10)).await.status, 202);
}

#[tokio::test]
async fn an_owner_has_a_rate_and_a_number_of_open_calls() {
    let world = world_with(|settings| {
        (settings.limits.requests_per_sec, settings.limits.request_burst) = (1, 5);
        settings.limits.open_calls_per_owner = 1;
    })
    .await;
    let units = |sub: &str| request("GET", "/v1/units", sub).body(Body::empty()).unwrap();
    // An answer that is not read to its end is an open call.
    let open = world.open(units("ann")).await;
    assert_eq!(open.status(), 200);
    let refused = world.call(units("ann")).await;
    assert!(refused.problem(429, "too-many")["detail"].as_str().unwrap().contains("open"));
    assert_eq!(world.call(units("bob")).await.status, 200);
    drop(open);

    let mut served = 0;
    let refused = loop {
        let answer = world.call(units("ann")).await;
        if answer.status != 200 {
            break answer;
        }
        served += 1;
        assert!(served < 30, "it never ends");
    };
    refused.problem(429, "too-many");
    assert_eq!(refused.headers["retry-after"], "1");
    assert!(served >= 4, "{served}");
    assert_eq!(world.call(units("bob")).await.status, 200);
}

#[tokio::test]
async fn bad_credentials_from_one_address_are_answered_without_a_look() {
    let world = world_with(|settings| settings.auth.failures_per_min = 3).await;
    let key = made(&world, "ann", json!({"name": "k"})).await["key"].as_str().unwrap().to_owned();
    let from = |address: &str, credential: &str| {
        let mut request = with("GET", "/v1/units", credential).body(Body::empty()).unwrap();
        request.extensions_mut().insert(ConnectInfo(format!("{address}:1").parse::<SocketAddr>().unwrap()));
        request
    };
    assert_eq!(world.call(from("192.0.2.1", &key)).await.status, 200);
    for _ in 0..3 {
        world.call(from("192.0.2.1", &api_key::generate())).await.problem(401, "unauthenticated");
    }
    let refused = world.call(from("192.0.2.1", &api_key::generate())).await;
    refused.problem(429, "too-many");
    assert!(refused.headers.contains_key("retry-after"));
    world.call(from("192.0.2.1", "x.y.z")).await.problem(429, "too-many");
    // Who came with a good one comes through from there, and from elsewhere anybody.
    assert_eq!(world.call(from("192.0.2.1", &key)).await.status, 200);
    assert_eq!(world.call(from("192.0.2.1", &token("ann", 60, ""))).await.status, 200);
    world.call(from("192.0.2.2", &api_key::generate())).await.problem(401, "unauthenticated");
}
