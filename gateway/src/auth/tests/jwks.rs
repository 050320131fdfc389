//! A key set that is published on loopback: fetched, fetched again, kept.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use axum::Router;
use axum::extract::State;
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use serde_json::{Value, json};
use settings::{Jwks, KeyAlgorithm};
use tokio::net::TcpListener;
use tokio_util::task::AbortOnDropHandle;

use super::support::*;
use crate::auth::{AuthError, Authenticator};

/// What is published, and how often it was asked for.
#[derive(Default)]
struct Published {
    body: String,
    status: u16,
    asked: u32,
}

struct Provider {
    published: Arc<Mutex<Published>>,
    url: String,
    _server: AbortOnDropHandle<()>,
}

async fn answer(State(published): State<Arc<Mutex<Published>>>) -> Response {
    let mut published = published.lock().unwrap();
    published.asked += 1;
    let location = [("location", "/keys")];
    (http::StatusCode::from_u16(published.status).unwrap(), location, published.body.clone()).into_response()
}

impl Provider {
    async fn start() -> Self {
        let published = Arc::new(Mutex::new(Published { status: 503, ..Published::default() }));
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}/keys", listener.local_addr().unwrap());
        let router = Router::new().route("/keys", get(answer)).with_state(published.clone());
        let server = tokio::spawn(async move { axum::serve(listener, router).await.unwrap() });
        Self { published, url, _server: AbortOnDropHandle::new(server) }
    }

    fn publish(&self, keys: &[Value]) {
        self.say(200, &json!({ "keys": keys }).to_string());
    }

    fn say(&self, status: u16, body: &str) {
        let mut published = self.published.lock().unwrap();
        (published.status, published.body) = (status, body.into());
    }

    fn asked(&self) -> u32 {
        self.published.lock().unwrap().asked
    }

    fn keys(&self) -> Keys {
        let mut keys = Keys::new();
        keys.auth.jwks = Some(Jwks {
            url: self.url.clone(),
            algorithms: vec![KeyAlgorithm::RS256, KeyAlgorithm::ES256, KeyAlgorithm::EdDSA],
            max_age_sec: 300,
        });
        (keys.auth.issuer, keys.auth.audience) = (Some("idp".into()), Some("here".into()));
        keys
    }
}

fn claims_here() -> Value {
    json!({ "sub": "ann", "exp": now() + 3600, "iss": "idp", "aud": "here" })
}

/// Time that passes for the cache. The clock stands still only here: connections need it to run.
async fn later(seconds: u64) {
    tokio::time::pause();
    tokio::time::advance(Duration::from_secs(seconds)).await;
    tokio::time::resume();
}

#[tokio::test]
async fn keys_of_every_kind_are_fetched_once() {
    let provider = Provider::start().await;
    let pairs = [rsa(), ec(), ed()];
    let named: Vec<_> = pairs.iter().zip(["r", "c", "d"]).collect();
    provider.publish(&named.iter().map(|(pair, kid)| pair.jwk(kid)).collect::<Vec<_>>());
    let authenticator = provider.keys().authenticator();
    for (pair, kid) in &named {
        assert!(check(&authenticator, &pair.sign(Some(kid), &claims_here())).await.is_ok(), "{kid}");
        assert!(check(&authenticator, &pair.sign(None, &claims_here())).await.is_ok(), "{kid}");
    }
    // Another pair's signature under a good name, and the deployment's own tokens.
    assert_eq!(check(&authenticator, &ed().sign(Some("d"), &claims_here())).await, Err(AuthError::WrongSignature));
    let own = signed(&jsonwebtoken::Header::default(), SECRET, &claims_here());
    assert!(check(&authenticator, &own).await.is_ok());
    assert_eq!(provider.asked(), 1);
}

#[tokio::test]
async fn a_key_that_comes_later_is_found_and_one_that_goes_is_gone() {
    let provider = Provider::start().await;
    let (old, new) = (ed(), ed());
    let authenticator = provider.keys().authenticator();
    let with = |pair: &Pair, kid: &str| pair.sign(Some(kid), &claims_here());
    assert_eq!(check(&authenticator, &with(&old, "1")).await, Err(AuthError::NoKeys), "503 is no key set");
    provider.publish(&[old.jwk("1")]);
    assert_eq!(check(&authenticator, &with(&old, "1")).await, Err(AuthError::NoKeys), "not again at once");
    later(3).await;
    assert!(check(&authenticator, &with(&old, "1")).await.is_ok());

    provider.publish(&[new.jwk("2")]);
    // Whoever names keys that nobody has asks for nothing more than twice a minute.
    for _ in 0..20 {
        assert_eq!(check(&authenticator, &with(&new, "2")).await, Err(AuthError::UnknownKey));
    }
    assert_eq!(provider.asked(), 2);
    later(31).await;
    assert!(check(&authenticator, &with(&new, "2")).await.is_ok());
    assert_eq!(check(&authenticator, &with(&old, "1")).await, Err(AuthError::UnknownKey));
    assert_eq!(provider.asked(), 3);

    // By age; and when that fails, the old ones stay.
    for (status, body) in [(500, ""), (302, ""), (200, "no JSON"), (200, "{}"), (200, &" ".repeat(300 << 10))] {
        provider.say(status, body);
        later(301).await;
        let asked = provider.asked();
        assert!(check(&authenticator, &with(&new, "2")).await.is_ok(), "{status}");
        assert_eq!(provider.asked(), asked + 1, "{status}");
    }
}

#[tokio::test]
async fn keys_that_are_not_public_or_not_wanted_are_left_out() {
    let provider = Provider::start().await;
    let (good, other, curve) = (ed(), ed(), ec());
    let mut private = other.jwk("private");
    private["d"] = "AAAA".into();
    let mut encrypts = other.jwk("encrypts");
    encrypts["use"] = "enc".into();
    let mut lies = other.jwk("lies");
    lies["alg"] = "RS256".into();
    let symmetric = json!({"kty": "oct", "k": data_encoding::BASE64URL_NOPAD.encode(SECRET.as_bytes()), "kid": "oct"});
    let unheard = json!({"kty": "XYZ", "kid": "unheard"});
    provider.publish(&[private, encrypts, lies, symmetric, unheard, json!(7), curve.jwk("curve"), good.jwk("good")]);
    let mut keys = provider.keys();
    keys.auth.jwks.as_mut().unwrap().algorithms = vec![KeyAlgorithm::EdDSA];
    let authenticator = keys.authenticator();
    assert!(check(&authenticator, &good.sign(Some("good"), &claims_here())).await.is_ok());
    for kid in ["private", "encrypts", "lies", "oct", "unheard"] {
        let got = check(&authenticator, &other.sign(Some(kid), &claims_here())).await;
        assert_eq!(got, Err(AuthError::UnknownKey), "{kid}");
    }
    let got = check(&authenticator, &curve.sign(Some("curve"), &claims_here())).await;
    assert_eq!(got, Err(AuthError::WrongAlgorithm));
    assert_eq!(provider.asked(), 1);
}

#[tokio::test]
async fn a_set_that_cannot_be_trusted_is_refused_at_the_start() {
    let provider = Provider::start().await;
    let error = |keys: &Keys| format!("{:#}", Authenticator::new(&keys.auth).unwrap_err());
    let mut keys = provider.keys();
    keys.auth.audience = None;
    assert!(error(&keys).contains("auth.audience"), "{}", error(&keys));
    let mut keys = provider.keys();
    keys.auth.jwks.as_mut().unwrap().algorithms.push(KeyAlgorithm::HS256);
    assert!(error(&keys).contains("HS256"));
    let mut keys = provider.keys();
    keys.auth.jwks.as_mut().unwrap().url = "http://keys.example/".into();
    assert!(error(&keys).contains("https"));
}
