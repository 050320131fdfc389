//! From a credential to a caller.

use std::collections::HashMap;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use anyhow::{Context, ensure};
use axum::extract::FromRequestParts;
use contract::{ErrorCode, Owner};
use http::HeaderMap;
use http::request::Parts;
use ledger::{ApiKeyId, Ledger};
use settings::{Auth, CallerKey, KeyAlgorithm};
use tokio::time::Instant;

use super::api_key;
use super::credential::Credential;
use super::error::AuthError;
use super::jwks::Jwks;
use super::jwt::{Head, Rules};
use super::key::Key;
use super::scope::{Scope, Scopes};
use crate::app::App;
use crate::http::problem::Failure;

/// API keys that are remembered as good ones.
const GOOD_KEYS: usize = 1024;
/// For so long.
const GOOD_FOR: Duration = Duration::from_secs(600);

/// The authenticated principal of a request.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Caller {
    /// Its `sub`: what units and workspaces belong to.
    pub owner: Owner,
    /// What it may do.
    pub scopes: Scopes,
    /// The API key that it came with; none for a token.
    pub key: Option<ApiKeyId>,
}

impl Caller {
    /// Whether its credential allows this.
    pub fn may(&self, scope: Scope) -> bool {
        self.scopes.has(scope)
    }

    /// Whether the things of this owner exist for the caller.
    pub fn may_see(&self, owner: &Owner) -> bool {
        self.owner == *owner || self.may(Scope::Impersonate)
    }
}

impl FromRequestParts<App> for Caller {
    type Rejection = Failure;

    /// The one that the guard of the route let in. A route without one has no callers.
    async fn from_request_parts(parts: &mut Parts, _app: &App) -> Result<Self, Failure> {
        parts.extensions.get::<Self>().cloned().ok_or_else(|| {
            tracing::error!(path = parts.uri.path(), "a route for callers has no guard");
            Failure::new(ErrorCode::Internal, "a bug in the gateway; its log has the details")
        })
    }
}

/// Checks callers' credentials.
#[derive(Debug)]
pub struct Authenticator {
    keys: Vec<Key>,
    jwks: Option<Jwks>,
    rules: Rules,
    /// Not to let them in, which the ledger alone does, but to ask it for them when strangers are not asked for.
    good: Mutex<HashMap<ApiKeyId, Instant>>,
}

impl Authenticator {
    /// Reads the keys; what is published is fetched when it is needed.
    ///
    /// # Errors
    /// A key that cannot be read or used, or none at all.
    pub fn new(auth: &Auth) -> anyhow::Result<Self> {
        let mut keys = Vec::new();
        if !auth.jwt_secret_file.as_os_str().is_empty() {
            let secret = CallerKey { algorithm: KeyAlgorithm::HS256, file: auth.jwt_secret_file.clone(), kid: None };
            keys.push(Key::read(&secret).context("read auth.jwt_secret_file")?);
        }
        for key in &auth.keys {
            keys.push(Key::read(key).context("read auth.keys")?);
        }
        let jwks = auth.jwks.as_ref().map(Jwks::new).transpose().context("use auth.jwks")?;
        // What is published signs tokens for others too.
        let named = auth.issuer.is_some() && auth.audience.is_some();
        ensure!(jwks.is_none() || named, "auth.jwks needs auth.issuer and auth.audience: its keys sign for others too");
        ensure!(!keys.is_empty() || jwks.is_some(), "nobody can call: auth has no key");
        Ok(Self { keys, jwks, rules: Rules::new(auth), good: Mutex::default() })
    }

    /// The caller of a request with these headers. API keys that were not seen before are asked for only if `curious`.
    ///
    /// # Errors
    /// [`AuthError`], which says what is wrong with the credential.
    pub async fn caller(
        &self,
        headers: &HeaderMap,
        ledger: Option<&Ledger>,
        curious: bool,
    ) -> Result<Caller, AuthError> {
        match Credential::of(headers)? {
            Credential::Jwt(token) => {
                let (owner, scopes) = self.token(token).await?;
                Ok(Caller { owner, scopes, key: None })
            }
            Credential::ApiKey(key) => self.api_key(key, ledger.ok_or(AuthError::NoLedger)?, curious).await,
        }
    }

    async fn token(&self, token: &str) -> Result<(Owner, Scopes), AuthError> {
        let head = Head::of(token)?;
        let own = self.rules.verify(token, &head, &self.keys);
        let not_ours = matches!(own, Err(AuthError::UnknownKey | AuthError::WrongSignature));
        match &self.jwks {
            Some(jwks) if not_ours && jwks.is_for(head.algorithm) => {
                let published = jwks.keys(head.kid.as_deref()).await?;
                self.rules.verify(token, &head, &published.keys)
            }
            _ if own == Err(AuthError::UnknownKey) && !self.keys.iter().any(|k| k.algorithm == head.algorithm) => {
                Err(AuthError::WrongAlgorithm)
            }
            _ => own,
        }
    }

    async fn api_key(&self, key: &str, ledger: &Ledger, curious: bool) -> Result<Caller, AuthError> {
        let hash = api_key::hash(key)?;
        let id = ApiKeyId::of(&hash);
        if !curious && !self.is_good(&id) {
            return Err(AuthError::TooMany);
        }
        let used = ledger.use_key(&hash).await.map_err(|error| {
            tracing::warn!(%error, "an API key cannot be looked up");
            AuthError::NoLedger
        })?;
        let used = used.ok_or(AuthError::UnknownApiKey)?;
        self.note(id.clone());
        Ok(Caller { owner: used.owner, scopes: Scopes::parse(&used.scopes), key: Some(id) })
    }

    fn is_good(&self, id: &ApiKeyId) -> bool {
        let good = self.good.lock().unwrap_or_else(PoisonError::into_inner);
        good.get(id).is_some_and(|at| at.elapsed() < GOOD_FOR)
    }

    fn note(&self, id: ApiKeyId) {
        let mut good = self.good.lock().unwrap_or_else(PoisonError::into_inner);
        if good.len() >= GOOD_KEYS && !good.contains_key(&id) {
            good.retain(|_, at| at.elapsed() < GOOD_FOR);
        }
        if good.len() < GOOD_KEYS || good.contains_key(&id) {
            good.insert(id, Instant::now());
        }
    }
}
