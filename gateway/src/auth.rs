//! Who calls: a bearer JWT, HS256 with the deployment's secret.

use axum::extract::FromRequestParts;
use contract::{ErrorCode, Owner};
use http::request::Parts;
use http::{HeaderMap, HeaderValue, header};
use jsonwebtoken::errors::ErrorKind;
use jsonwebtoken::{Algorithm, DecodingKey, Validation};
use serde::Deserialize;

use crate::app::App;
use crate::http::problem::Failure;

/// Scope that lets a caller act for any owner in a dispatch.
pub const IMPERSONATE: &str = "units:impersonate";
/// Scope that shows a caller how many workers every owner has.
pub const ADMIN: &str = "units:admin";
/// Clocks of callers and gateway may differ by this much.
const LEEWAY_SEC: u64 = 5;

/// The authenticated principal of a request.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Caller {
    /// Its `sub`: what units and workspaces belong to.
    pub owner: Owner,
    /// May name another owner as the subject of a dispatch.
    pub may_impersonate: bool,
    /// May see how much all owners use.
    pub may_administer: bool,
}

/// Why a request has no caller.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum AuthError {
    /// No `Authorization` header.
    #[error("send `Authorization: Bearer <token>`; `rekindle token` prints one")]
    Absent,
    /// Another scheme, several headers, or not a JWT.
    #[error("the Authorization header must be `Bearer <JWT>`: {0}")]
    Malformed(String),
    /// `exp` is over.
    #[error("the token has expired; get a new one")]
    Expired,
    /// `nbf` is not yet reached.
    #[error("the token is not valid yet (`nbf`)")]
    NotYet,
    /// Signed with another secret, or altered.
    #[error("the token's signature is wrong: it was not made with this deployment's secret")]
    WrongSignature,
    /// Another algorithm than HS256, `none` included.
    #[error("the token must be signed with HS256")]
    WrongAlgorithm,
    /// `iss` is not the configured one.
    #[error("the token's `iss` is not the one that this deployment trusts")]
    WrongIssuer,
    /// `aud` is not the configured one.
    #[error("the token's `aud` is not this deployment")]
    WrongAudience,
    /// A claim that must be there is not.
    #[error("the token has no `{0}`")]
    Missing(String),
    /// A claim has the wrong form.
    #[error("the token's claims cannot be used: {0}")]
    WrongClaim(String),
}

impl From<AuthError> for Failure {
    /// 401 with the challenge of RFC 6750 §3: without an error code when no token was shown at all.
    fn from(error: AuthError) -> Self {
        let challenge = match &error {
            AuthError::Absent => r#"Bearer realm="rekindle""#.to_owned(),
            other => {
                let text = other.to_string().replace(['"', '\\'], "'");
                let text: String = text.chars().filter(|c| c.is_ascii() && !c.is_ascii_control()).collect();
                format!(r#"Bearer realm="rekindle", error="invalid_token", error_description="{text}""#)
            }
        };
        let failure = Failure::new(ErrorCode::Unauthenticated, error.to_string());
        match HeaderValue::try_from(challenge) {
            Ok(value) => failure.header(header::WWW_AUTHENTICATE, value),
            Err(_) => failure,
        }
    }
}

#[derive(Debug, Deserialize)]
struct Claims {
    sub: Option<String>,
    /// Space-separated (RFC 8693 §4.2).
    #[serde(default)]
    scope: String,
}

/// Checks callers' tokens. The algorithm is fixed: what the token's header says is compared, never followed.
#[derive(Debug)]
pub struct Authenticator {
    key: DecodingKey,
    validation: Validation,
}

impl Authenticator {
    /// With the deployment's secret; `iss` and `aud` are demanded only where they are set.
    pub fn new(secret: &[u8], issuer: Option<&str>, audience: Option<&str>) -> Self {
        let mut validation = Validation::new(Algorithm::HS256);
        validation.leeway = LEEWAY_SEC;
        validation.validate_nbf = true;
        let mut required = vec!["exp", "sub"];
        if let Some(issuer) = issuer {
            validation.set_issuer(&[issuer]);
            required.push("iss");
        }
        match audience {
            Some(audience) => {
                validation.set_audience(&[audience]);
                required.push("aud");
            }
            None => validation.validate_aud = false,
        }
        validation.set_required_spec_claims(&required);
        Self { key: DecodingKey::from_secret(secret), validation }
    }

    /// The caller of a request with these headers.
    ///
    /// # Errors
    /// [`AuthError`], which says what is wrong with the token.
    pub fn caller(&self, headers: &HeaderMap) -> Result<Caller, AuthError> {
        let token = bearer(headers)?;
        let data = jsonwebtoken::decode::<Claims>(token, &self.key, &self.validation).map_err(why)?;
        let sub = data.claims.sub.ok_or_else(|| AuthError::Missing("sub".into()))?;
        let owner = Owner::parse(sub).map_err(|e| AuthError::WrongClaim(format!("`sub`: {e}")))?;
        let has = |scope: &str| data.claims.scope.split(' ').any(|s| s == scope);
        Ok(Caller { owner, may_impersonate: has(IMPERSONATE), may_administer: has(ADMIN) })
    }
}

/// The bearer token of a request.
///
/// # Errors
/// [`AuthError::Absent`] and [`AuthError::Malformed`].
pub fn bearer(headers: &HeaderMap) -> Result<&str, AuthError> {
    let mut given = headers.get_all(header::AUTHORIZATION).iter();
    let value = given.next().ok_or(AuthError::Absent)?;
    if given.next().is_some() {
        return Err(AuthError::Malformed("it is given twice".into()));
    }
    let text = value.to_str().map_err(|_| AuthError::Malformed("it is not ASCII text".into()))?;
    match text.split_once(' ') {
        Some((scheme, token)) if scheme.eq_ignore_ascii_case("bearer") && !token.trim().is_empty() => Ok(token.trim()),
        _ => Err(AuthError::Malformed("the scheme is another or the token is missing".into())),
    }
}

fn why(error: jsonwebtoken::errors::Error) -> AuthError {
    match error.kind() {
        ErrorKind::ExpiredSignature => AuthError::Expired,
        ErrorKind::ImmatureSignature => AuthError::NotYet,
        ErrorKind::InvalidSignature => AuthError::WrongSignature,
        ErrorKind::InvalidAlgorithm | ErrorKind::InvalidAlgorithmName | ErrorKind::UnsupportedAlgorithm => {
            AuthError::WrongAlgorithm
        }
        ErrorKind::InvalidIssuer => AuthError::WrongIssuer,
        ErrorKind::InvalidAudience => AuthError::WrongAudience,
        ErrorKind::MissingRequiredClaim(claim) => AuthError::Missing(claim.clone()),
        ErrorKind::InvalidClaimFormat(claim) => AuthError::WrongClaim(format!("`{claim}` has the wrong type")),
        _ => AuthError::Malformed("it is not a JWT".into()),
    }
}

impl FromRequestParts<App> for Caller {
    type Rejection = Failure;

    async fn from_request_parts(parts: &mut Parts, app: &App) -> Result<Self, Failure> {
        Ok(app.auth.caller(&parts.headers)?)
    }
}

#[cfg(test)]
#[path = "auth_tests.rs"]
mod tests;
