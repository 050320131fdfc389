//! API keys of the caller: made, listed, revoked. A key is shown once, in the answer that makes it.

use std::time::Duration;

use axum::Json;
use axum::extract::{Path, State};
use axum::response::IntoResponse;
use contract::ErrorCode;
use http::{StatusCode, header};
use ledger::{ApiKey, ApiKeyId, KeyMade, NewApiKey};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::body::JsonBody;
use super::problem::{Answer, Failure};
use super::views::time;
use crate::app::App;
use crate::auth::{Caller, Scope, Scopes, api_key};

const NAME_MAX_BYTES: usize = 64;
/// A hundred years: longer is a slip.
const TTL_MAX_SEC: u64 = 3_153_600_000;

/// A key to make.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct NewKey {
    /// For people: 1 to 64 bytes.
    name: String,
    /// What it allows: some of what the caller's own token does. `units:invoke` and `units:read`, if not given.
    #[serde(default)]
    scopes: Option<Vec<Scope>>,
    /// Seconds that it is good for; until it is revoked, if not given.
    #[serde(default)]
    expires_in_sec: Option<u64>,
}

/// A key that was just made.
#[derive(Debug, Serialize, JsonSchema)]
pub struct MadeKey {
    /// The key itself, which nobody can show again.
    key: String,
    #[serde(flatten)]
    view: KeyView,
}

/// A key.
#[derive(Debug, Serialize, JsonSchema)]
pub struct KeyView {
    /// Its name in routes.
    id: String,
    /// Its name for people.
    name: String,
    /// What it allows.
    scopes: Vec<Scope>,
    /// Since when (RFC 3339).
    created_at: Option<String>,
    /// Until when; null: until it is revoked.
    expires_at: Option<String>,
    /// When it was used last, to a minute; null: never.
    last_used_at: Option<String>,
}

/// The caller's keys.
#[derive(Debug, Serialize, JsonSchema)]
pub struct KeyList {
    /// The oldest first.
    keys: Vec<KeyView>,
}

impl From<ApiKey> for KeyView {
    fn from(key: ApiKey) -> Self {
        Self {
            id: key.id.to_string(),
            name: key.name,
            scopes: Scopes::parse(&key.scopes).iter().collect(),
            created_at: time(key.created_ms),
            expires_at: key.expires_ms.and_then(time),
            last_used_at: key.used_ms.and_then(time),
        }
    }
}

/// `POST /v1/keys`.
pub async fn make(State(app): State<App>, caller: Caller, body: JsonBody) -> Answer {
    if caller.key.is_some() {
        let detail = "a caller that came with an API key cannot make another; use a token";
        return Err(Failure::new(ErrorCode::Forbidden, detail));
    }
    let asked: NewKey = body.parse()?;
    name(&asked.name)?;
    let scopes = scopes(&caller, asked.scopes)?;
    if asked.expires_in_sec.is_some_and(|sec| !(1..=TTL_MAX_SEC).contains(&sec)) {
        return Err(Failure::invalid("/expires_in_sec", format!("must be 1 to {TTL_MAX_SEC}")));
    }
    let key = api_key::generate();
    let hash = api_key::hash(&key)?;
    let most = app.settings.limits.keys_per_owner;
    let ttl = asked.expires_in_sec.map(Duration::from_secs);
    let text = scopes.text();
    let new = NewApiKey { hash, owner: &caller.owner, name: &asked.name, scopes: &text, ttl, most };
    let made = match app.ledger()?.make_key(&new).await? {
        KeyMade::Made { id, created_ms, expires_ms } => {
            let key = ApiKey { id, name: asked.name, scopes: text, created_ms, expires_ms, used_ms: None };
            KeyView::from(key)
        }
        KeyMade::Full => {
            let detail = format!("you have {most} API keys, which is all that you may have; revoke one first");
            return Err(Failure::new(ErrorCode::Conflict, detail));
        }
    };
    let location = format!("/v1/keys/{}", made.id);
    let headers = [(header::LOCATION, location), (header::CACHE_CONTROL, "no-store".into())];
    Ok((StatusCode::CREATED, headers, Json(MadeKey { key, view: made })).into_response())
}

fn name(name: &str) -> Result<(), Failure> {
    if name.trim().is_empty() || name.len() > NAME_MAX_BYTES || name.chars().any(char::is_control) {
        let detail = format!("must be 1 to {NAME_MAX_BYTES} bytes without control characters");
        return Err(Failure::invalid("/name", detail));
    }
    Ok(())
}

/// Never more than the caller's own.
fn scopes(caller: &Caller, asked: Option<Vec<Scope>>) -> Result<Scopes, Failure> {
    let Some(asked) = asked else {
        let usual: Scopes = [Scope::Invoke, Scope::Read].into_iter().collect();
        return Ok(usual.and(caller.scopes));
    };
    if let Some(at) = asked.iter().position(|scope| !caller.may(*scope)) {
        let detail = format!("your own token has not the scope `{}`", asked[at].as_str());
        return Err(Failure::new(ErrorCode::Forbidden, detail).at(&format!("/scopes/{at}")));
    }
    if asked.is_empty() {
        return Err(Failure::invalid("/scopes", "a key that allows nothing is of no use"));
    }
    Ok(asked.into_iter().collect())
}

/// `GET /v1/keys`.
pub async fn list(State(app): State<App>, caller: Caller) -> Answer {
    let keys = app.ledger()?.api_keys(&caller.owner).await?;
    Ok(Json(KeyList { keys: keys.into_iter().map(KeyView::from).collect() }).into_response())
}

/// `DELETE /v1/keys/{id}`: it is refused from now on, by every gateway. A key can end itself and no other: whoever found one
/// must not lock its owner out.
pub async fn revoke(State(app): State<App>, caller: Caller, Path(id): Path<String>) -> Answer {
    let id: ApiKeyId =
        id.parse().map_err(|e| Failure::new(ErrorCode::InvalidParameter, format!("the key in the path: {e}")))?;
    if caller.key.as_ref().is_some_and(|own| *own != id) {
        let detail = "a caller that came with an API key can revoke that one only; use a token";
        return Err(Failure::new(ErrorCode::Forbidden, detail));
    }
    match app.ledger()?.revoke_key(&caller.owner, &id).await? {
        true => Ok(StatusCode::NO_CONTENT.into_response()),
        false => Err(Failure::not_found("API key")),
    }
}
