//! Tokens: a header that is compared and never followed, a signature, and claims.

use contract::Owner;
use jsonwebtoken::errors::ErrorKind;
use jsonwebtoken::{Validation, decode, decode_header};
use serde::Deserialize;
use settings::{Auth, KeyAlgorithm};

use super::error::AuthError;
use super::key::{Key, algorithm, known_algorithm};
use super::scope::Scopes;

/// No token that anybody issues is larger.
const TOKEN_MAX_BYTES: usize = 8 << 10;

/// What a token's header says. `jku`, `jwk`, `x5u` and `x5c` are not here: nobody brings the key that proves it.
#[derive(Debug, PartialEq, Eq)]
pub struct Head {
    /// The algorithm that it claims.
    pub algorithm: KeyAlgorithm,
    /// The key that it names.
    pub kid: Option<String>,
}

impl Head {
    /// Of a token.
    ///
    /// # Errors
    /// [`AuthError`] when it is none, or one that no key can be for.
    pub fn of(token: &str) -> Result<Self, AuthError> {
        let malformed = || AuthError::Malformed("it is not a JWT".into());
        if token.len() > TOKEN_MAX_BYTES {
            return Err(AuthError::Malformed(format!("it is larger than {TOKEN_MAX_BYTES} bytes")));
        }
        if token.split('.').count() != 3 {
            return Err(malformed());
        }
        let header = decode_header(token).map_err(|error| match error.kind() {
            // `alg` is the one field whose words are known beforehand.
            ErrorKind::Json(why) if why.to_string().contains("variant") => AuthError::WrongAlgorithm,
            ErrorKind::InvalidAlgorithm | ErrorKind::InvalidAlgorithmName | ErrorKind::UnsupportedAlgorithm => {
                AuthError::WrongAlgorithm
            }
            _ => malformed(),
        })?;
        if header.crit.is_some() {
            return Err(AuthError::Critical);
        }
        let algorithm = known_algorithm(header.alg).ok_or(AuthError::WrongAlgorithm)?;
        Ok(Self { algorithm, kid: header.kid })
    }
}

/// What every token must say of itself.
#[derive(Debug)]
pub struct Rules {
    issuer: Option<String>,
    audience: Option<String>,
    skew_sec: u64,
}

#[derive(Debug, Deserialize)]
struct Claims {
    sub: Option<String>,
    #[serde(default)]
    scope: String,
}

impl Rules {
    /// As configured; `iss` and `aud` are demanded only where they are set.
    pub fn new(auth: &Auth) -> Self {
        Self { issuer: auth.issuer.clone(), audience: auth.audience.clone(), skew_sec: auth.clock_skew_sec }
    }

    fn validation(&self, of: KeyAlgorithm) -> Validation {
        let mut validation = Validation::new(algorithm(of));
        validation.leeway = self.skew_sec;
        validation.validate_nbf = true;
        let mut required = vec!["exp", "sub"];
        if let Some(issuer) = &self.issuer {
            validation.set_issuer(&[issuer]);
            required.push("iss");
        }
        match &self.audience {
            Some(audience) => {
                validation.set_audience(&[audience]);
                required.push("aud");
            }
            None => validation.validate_aud = false,
        }
        validation.set_required_spec_claims(&required);
        validation
    }

    /// Whom a token is for and what it allows, if one of these keys signed it.
    ///
    /// # Errors
    /// [`AuthError`]; [`AuthError::UnknownKey`] when none of them is for its header.
    pub fn verify(&self, token: &str, head: &Head, keys: &[Key]) -> Result<(Owner, Scopes), AuthError> {
        let mut error = AuthError::UnknownKey;
        for key in keys.iter().filter(|key| key.fits(head.algorithm, head.kid.as_deref())) {
            match decode::<Claims>(token, &key.key, &self.validation(key.algorithm)) {
                Ok(token) => {
                    let sub = token.claims.sub.ok_or_else(|| AuthError::Missing("sub".into()))?;
                    let owner = Owner::parse(sub).map_err(|e| AuthError::WrongClaim(format!("`sub`: {e}")))?;
                    return Ok((owner, Scopes::parse(&token.claims.scope)));
                }
                Err(why) => match refusal(&why) {
                    AuthError::WrongSignature => error = AuthError::WrongSignature,
                    // The signature was good: no other key can make it better.
                    other => return Err(other),
                },
            }
        }
        Err(error)
    }
}

fn refusal(error: &jsonwebtoken::errors::Error) -> AuthError {
    match error.kind() {
        ErrorKind::ExpiredSignature => AuthError::Expired,
        ErrorKind::ImmatureSignature => AuthError::NotYet,
        ErrorKind::InvalidIssuer => AuthError::WrongIssuer,
        ErrorKind::InvalidAudience => AuthError::WrongAudience,
        ErrorKind::MissingRequiredClaim(claim) => AuthError::Missing(claim.clone()),
        ErrorKind::InvalidClaimFormat(claim) => AuthError::WrongClaim(format!("`{claim}` has the wrong type")),
        ErrorKind::Json(_) | ErrorKind::Utf8(_) => AuthError::WrongClaim("they are not of the right types".into()),
        ErrorKind::Base64(_) | ErrorKind::InvalidToken => AuthError::Malformed("it is not a JWT".into()),
        // A signature of the wrong length, a key that cannot be used: as good as wrong.
        _ => AuthError::WrongSignature,
    }
}
