//! Callers of every kind: API keys on two gateways, an identity provider that changes its keys, and owners who share.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use axum::Router;
use axum::extract::State;
use axum::routing::get;
use hyper::Method;
use serde_json::{Value, json};
use tests::api::Api;
use tests::eventually;
use tests::git::git;
use tests::paths;
use tests::stack::{Backend, Options, Stack, ready};
use tokio_util::task::AbortOnDropHandle;

use crate::support::{MINUTE, exec_profile, gone};

/// Runs the prompt as a shell script.
const RUN: &str = "sh -e -s";

/// The command line, as this caller uses it; its stdout.
async fn rekindle(stack: &Stack, token: &str, arguments: &[&str]) -> String {
    let mut command = tokio::process::Command::from(paths::command(paths::program("rekindle")));
    let url = format!("http://{}", stack.address);
    command.args(arguments).env("REKINDLE_URL", url).env("REKINDLE_TOKEN", token).env("HOME", "/nonexistent");
    let output = command.output().await.expect("run rekindle");
    let said = String::from_utf8_lossy(&output.stdout).into_owned();
    assert!(output.status.success(), "{arguments:?}: {said}\n{}", String::from_utf8_lossy(&output.stderr));
    said
}

#[tokio::test]
async fn a_key_is_made_used_and_revoked_on_every_gateway_at_once() {
    let stack = Stack::start(Options::new(Backend::Process)).await;
    let (mut second, address) = stack.another_gateway("second");
    second.start();
    ready(&address).await;
    let token = tests::keys::caller_token(&stack.secrets().jwt, "ann");

    let key = rekindle(&stack, &token, &["key", "create", "chat", "--scope", "units:read", "--ttl", "1h"]).await;
    let key = key.trim();
    assert!(key.starts_with("rk_") && key.len() == 41, "{key}");
    let gateways = [Api::new(&stack.address, key), Api::new(&address, key)];
    for gateway in &gateways {
        gateway.get("/v1/units").await.expect(200);
        let refused = gateway.invoke("demo", "hello").await.expect(403).json();
        assert_eq!(refused["scope"], "units:invoke", "{refused:#}");
    }
    let listed = rekindle(&stack, &token, &["key", "ls", "--json"]).await;
    let listed: Value = serde_json::from_str(listed.trim()).expect("one line of JSON");
    assert_eq!((&listed["name"], &listed["scopes"]), (&json!("chat"), &json!(["units:read"])));
    assert!(listed["last_used_at"].is_string() && listed["expires_at"].is_string(), "{listed:#}");
    let id = listed["id"].as_str().expect("its id");
    assert!(rekindle(&stack, &token, &["key", "ls"]).await.contains(id));

    rekindle(&stack, &token, &["key", "revoke", id]).await;
    for gateway in gateways.iter().rev() {
        gateway.get("/v1/units").await.expect(401);
    }
    // Nowhere is the key itself: not with Redis, not in a log.
    for log in [stack.gateway.log(), second.log()] {
        assert!(!log.contains(&key[3..]), "the key is in a log");
    }
}

/// The identity provider's key set.
async fn published(State(keys): State<Arc<Mutex<Value>>>) -> axum::Json<Value> {
    axum::Json(json!({ "keys": [keys.lock().expect("the keys").clone()] }))
}

/// An identity provider's key, by its name.
struct Signer {
    kid: &'static str,
    key: jsonwebtoken::EncodingKey,
}

impl Signer {
    fn new(kid: &'static str) -> Self {
        let pem = tests::keys::ed25519_pem();
        Self { kid, key: jsonwebtoken::EncodingKey::from_ed_pem(pem.as_bytes()).expect("a key") }
    }

    fn jwk(&self) -> Value {
        let jwk = jsonwebtoken::jwk::Jwk::from_encoding_key(&self.key, jsonwebtoken::Algorithm::EdDSA).expect("a JWK");
        let mut jwk = serde_json::to_value(jwk).expect("its JSON");
        jwk["kid"] = self.kid.into();
        jwk
    }

    fn token(&self) -> String {
        let mut header = jsonwebtoken::Header::new(jsonwebtoken::Algorithm::EdDSA);
        header.kid = Some(self.kid.into());
        let exp = jiff::Timestamp::now().as_second() + 600;
        let claims = json!({
            "sub": "idp|ann", "exp": exp, "iss": "https://id.test", "aud": "rekindle", "scope": "openid units:read",
        });
        jsonwebtoken::encode(&header, &claims, &self.key).expect("a token")
    }
}

#[tokio::test]
async fn an_identity_provider_changes_its_keys() {
    let (old, new) = (Signer::new("2026-a"), Signer::new("2026-b"));
    let keys = Arc::new(Mutex::new(old.jwk()));
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let url = format!("http://{}/keys", listener.local_addr().expect("its address"));
    let router = Router::new().route("/keys", get(published)).with_state(keys.clone());
    let server = AbortOnDropHandle::new(tokio::spawn(async move { axum::serve(listener, router).await }));
    let settings = format!(
        "[auth]\njwt_secret_file = \"\"\nissuer = \"https://id.test\"\naudience = \"rekindle\"\n\
         [auth.jwks]\nurl = \"{url}\"\nalgorithms = [\"EdDSA\"]\nmax_age_sec = 1\n"
    );
    let stack = Stack::start(Options::new(Backend::Process).settings(&settings)).await;
    let status = |token: String| {
        let api = Api::new(&stack.address, token);
        async move { api.get("/v1/units").await.status.as_u16() }
    };
    assert_eq!(status(old.token()).await, 200);
    assert_eq!(status(new.token()).await, 401);
    // The secret that `rekindle token` uses is none of this deployment's keys.
    assert_eq!(status(tests::keys::caller_token(&stack.secrets().jwt, "ann")).await, 401);

    *keys.lock().expect("the keys") = new.jwk();
    eventually("the new key is known", MINUTE, || async { (status(new.token()).await == 200).then_some(()) }).await;
    assert_eq!(status(old.token()).await, 401);
    // The provider is gone: what was fetched last is still good, long after its age.
    drop(server);
    tokio::time::sleep(Duration::from_millis(1_500)).await;
    assert_eq!(status(new.token()).await, 200);
}

#[tokio::test]
async fn owners_share_a_workspace_and_take_it_back() {
    let stack = Stack::start(Options::new(Backend::Process).settings(&exec_profile(RUN, ""))).await;
    let (ann, bob) = (stack.api("ann"), stack.api("b/ob"));
    let token = tests::keys::caller_token(&stack.secrets().jwt, "ann");
    let run = |api: &Api, script: &str, mode: &str| {
        let body = json!({"prompt": script, "workspaces": [{"id": "shared", "mode": mode}]});
        let api = api.clone();
        async move { api.post("/v1/units/u/invoke", &body).await }
    };
    run(&ann, "echo hers > a.txt", "rw").await.expect(200);
    run(&bob, "cat a.txt", "ro").await.expect(404);
    bob.get("/v1/workspaces/shared/files/a.txt").await.expect(404);

    rekindle(&stack, &token, &["grant", "add", "shared", "b/ob"]).await;
    assert!(rekindle(&stack, &token, &["grant", "ls", "shared"]).await.contains("b/ob"));
    assert_eq!(bob.get("/v1/workspaces/shared/files/a.txt").await.expect(200).text(), "hers\n");
    run(&bob, "echo his > b.txt", "rw").await.expect(403);
    let read = run(&bob, "cat a.txt; ! touch b.txt 2>/dev/null", "ro").await.expect(200).json();
    assert!(read["reply"].as_str().is_some_and(|reply| reply.contains("hers")), "{read:#}");

    rekindle(&stack, &token, &["grant", "add", "shared", "b/ob", "--mode", "rw"]).await;
    run(&bob, "echo his > b.txt", "rw").await.expect(200);
    let folder = stack.store().join("workspaces/shared");
    assert_eq!(std::fs::read_to_string(folder.join("b.txt")).expect("what bob wrote"), "his\n");

    // He is in the midst of a turn when she takes it back.
    let body = json!({
        "prompt": "echo half > c.txt; : > a.txt; exec sleep 60", "workspaces": [{"id": "shared", "mode": "rw"}],
    });
    let sent = body.to_string().into();
    let accepted = bob.send(Method::POST, "/v1/units/u/invoke", &[("prefer", "respond-async")], sent).await;
    let accepted = accepted.expect("reach the gateway").expect(202).json();
    eventually("the turn wrote half of it", MINUTE, || async { folder.join("c.txt").exists().then_some(()) }).await;
    rekindle(&stack, &token, &["grant", "revoke", "shared", "b/ob"]).await;
    let turn = eventually("the turn is settled", MINUTE, || async {
        let turn = bob.get(accepted["turn_url"].as_str().expect("its URL")).await.expect(200).json();
        (turn["status"] == "failed").then_some(turn)
    })
    .await;
    assert_eq!(turn["reason"], "workspace_unusable", "{turn:#}");
    gone(&stack, &bob, "u").await;
    run(&bob, "true", "ro").await.expect(404);
    bob.get("/v1/workspaces/shared/files").await.expect(404);

    // Hers again: what he left half done is set aside, what he finished stays.
    run(&ann, "test ! -e c.txt; cat a.txt b.txt > both.txt", "rw").await.expect(200);
    assert_eq!(git(&folder, &["show", "HEAD:both.txt"]).trim(), "hers\nhis");
}
