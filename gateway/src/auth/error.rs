//! Why a request has no caller.

use std::time::Duration;

use contract::ErrorCode;
use http::{HeaderValue, header};

use crate::http::problem::Failure;

/// Why a request has no caller.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum AuthError {
    /// No credential.
    #[error("send `Authorization: Bearer <token>`; `rekindle token` prints one")]
    Absent,
    /// Another scheme, several headers, or neither a JWT nor an API key.
    #[error("the credential must be `Authorization: Bearer <JWT or API key>`: {0}")]
    Malformed(String),
    /// `exp` is over.
    #[error("the token has expired; get a new one")]
    Expired,
    /// `nbf` is not yet reached.
    #[error("the token is not valid yet (`nbf`)")]
    NotYet,
    /// Signed with another key, or altered.
    #[error("the token's signature is wrong: it was not made with a key that this deployment trusts")]
    WrongSignature,
    /// No key here is for this algorithm; `none` included.
    #[error("the token is signed with an algorithm that no key of this deployment is for")]
    WrongAlgorithm,
    /// No key here has this `kid`.
    #[error("the token names a key (`kid`) that this deployment does not have")]
    UnknownKey,
    /// `crit` names extensions, and none is understood (RFC 7515 §4.1.11).
    #[error("the token's header has `crit`, which is not understood here")]
    Critical,
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
    /// An API key whose characters do not belong together.
    #[error("the API key is mistyped or cut short: its check characters do not fit")]
    MistypedKey,
    /// An API key that is none, or none any more.
    #[error("the API key is unknown, expired or revoked")]
    UnknownApiKey,
    /// The identity provider's keys were never fetched.
    #[error("the identity provider's keys cannot be fetched; try again")]
    NoKeys,
    /// Too many bad credentials from this address.
    #[error("too many bad credentials came from your address; try again later")]
    TooMany,
    /// The ledger, which knows the API keys, does not answer.
    #[error("API keys cannot be looked up: the ledger (Redis) does not answer; try again")]
    NoLedger,
}

impl AuthError {
    /// Whether somebody showed a credential that is none.
    pub fn is_bad_credential(&self) -> bool {
        !matches!(self, Self::Absent | Self::NoKeys | Self::NoLedger | Self::TooMany)
    }
}

impl From<AuthError> for Failure {
    /// 401 with the challenge of RFC 6750 §3: without an error code when no token was shown at all.
    fn from(error: AuthError) -> Self {
        let text = error.to_string();
        let challenge = match &error {
            AuthError::NoKeys | AuthError::NoLedger => {
                return Self::new(ErrorCode::Unavailable, text).retry_after(Duration::from_secs(2));
            }
            AuthError::TooMany => return Self::new(ErrorCode::TooMany, text).retry_after(Duration::from_secs(60)),
            AuthError::Absent => r#"Bearer realm="rekindle""#.to_owned(),
            _ => {
                let shown = text.replace(['"', '\\'], "'");
                let shown: String = shown.chars().filter(|c| c.is_ascii() && !c.is_ascii_control()).collect();
                format!(r#"Bearer realm="rekindle", error="invalid_token", error_description="{shown}""#)
            }
        };
        let failure = Self::new(ErrorCode::Unauthenticated, text);
        match HeaderValue::try_from(challenge) {
            Ok(value) => failure.header(header::WWW_AUTHENTICATE, value),
            Err(_) => failure,
        }
    }
}
