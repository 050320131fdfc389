//! Dispatch tokens: what a relay shows at the worker port for its generation.
//!
//! EdDSA and nothing else, by our own key. A good signature is only half of the check: whoever verifies one asks the
//! ledger whether the generation is still the current one.

use std::path::{Path, PathBuf};

use aws_lc_rs::signature::{Ed25519KeyPair, KeyPair};
use contract::{DISPATCH_AUDIENCE, DispatchClaims};
use jsonwebtoken::{Algorithm, DecodingKey, EncodingKey, Header, Validation};

/// Clocks of gateways may differ by this much.
const LEEWAY_SEC: u64 = 5;

/// Why there is no key, or a token is not good.
#[derive(Debug, thiserror::Error)]
pub enum TokenError {
    /// The key file cannot be read. Nothing else will work: say so at the start.
    #[error("cannot read the dispatch key {path}; make one with `openssl genpkey -algorithm ed25519 -out {path}`")]
    Unreadable {
        /// The file.
        path: PathBuf,
        /// What the system said.
        source: std::io::Error,
    },
    /// The key file holds something else than an Ed25519 private key.
    #[error("{path} is not an Ed25519 private key (PKCS#8, PEM)")]
    NotAKey {
        /// The file.
        path: PathBuf,
    },
    /// The claims could not be signed.
    #[error("cannot sign a dispatch token")]
    Sign(#[source] jsonwebtoken::errors::Error),
    /// The token is forged, expired, or meant for something else.
    #[error("the dispatch token is not valid")]
    Invalid(#[source] jsonwebtoken::errors::Error),
}

/// Signs dispatch tokens and checks them.
#[derive(Clone)]
pub struct DispatchTokens {
    private: EncodingKey,
    public: DecodingKey,
    validation: Validation,
}

impl std::fmt::Debug for DispatchTokens {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("DispatchTokens").finish_non_exhaustive()
    }
}

impl DispatchTokens {
    /// Reads the private key (PKCS#8, PEM); the public one is derived from it.
    ///
    /// # Errors
    /// [`TokenError::Unreadable`] or [`TokenError::NotAKey`], both with the file's name.
    pub fn from_pem_file(path: &Path) -> Result<Self, TokenError> {
        let pem = std::fs::read(path).map_err(|source| TokenError::Unreadable { path: path.into(), source })?;
        Self::from_pem(&pem).ok_or_else(|| TokenError::NotAKey { path: path.into() })
    }

    fn from_pem(pem: &[u8]) -> Option<Self> {
        let private = EncodingKey::from_ed_pem(pem).ok()?;
        let pair = Ed25519KeyPair::from_pkcs8(private.as_bytes()).ok()?;
        let public = DecodingKey::from_ed_der(pair.public_key().as_ref());
        let mut validation = Validation::new(Algorithm::EdDSA);
        validation.leeway = LEEWAY_SEC;
        validation.set_audience(&[DISPATCH_AUDIENCE]);
        validation.set_required_spec_claims(&["exp", "aud", "sub"]);
        Some(Self { private, public, validation })
    }

    /// Signs claims.
    ///
    /// # Errors
    /// [`TokenError::Sign`], which a checked key does not give.
    pub fn mint(&self, claims: &DispatchClaims) -> Result<String, TokenError> {
        jsonwebtoken::encode(&Header::new(Algorithm::EdDSA), claims, &self.private).map_err(TokenError::Sign)
    }

    /// Checks signature, algorithm, audience and expiry, and gives the claims.
    ///
    /// # Errors
    /// [`TokenError::Invalid`]; it never quotes the token.
    pub fn verify(&self, token: &str) -> Result<DispatchClaims, TokenError> {
        jsonwebtoken::decode::<DispatchClaims>(token, &self.public, &self.validation)
            .map(|data| data.claims)
            .map_err(TokenError::Invalid)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::worker_port::testing;
    use contract::Generation;

    fn claims(exp: u64) -> DispatchClaims {
        testing::claims(&testing::uid("tokens"), Generation(7), exp)
    }

    #[test]
    fn a_token_says_what_was_put_in() {
        let tokens = testing::tokens();
        let claims = claims(testing::in_an_hour());
        let token = tokens.mint(&claims).unwrap();
        assert_eq!(tokens.verify(&token).unwrap(), claims);
        assert!(token.len() < 3500, "fits a preamble with room");
    }

    #[test]
    fn a_key_in_the_newer_form_does_as_well() {
        let random = aws_lc_rs::rand::SystemRandom::new();
        let der = Ed25519KeyPair::generate_pkcs8(&random).unwrap();
        let text = data_encoding::BASE64.encode(der.as_ref());
        let pem = format!("-----BEGIN PRIVATE KEY-----\n{text}\n-----END PRIVATE KEY-----\n");
        let tokens = DispatchTokens::from_pem(pem.as_bytes()).unwrap();
        let token = tokens.mint(&claims(testing::in_an_hour())).unwrap();
        assert!(tokens.verify(&token).is_ok());
    }

    #[test]
    fn an_expired_forged_or_foreign_token_is_refused() {
        let tokens = testing::tokens();
        let expired = tokens.mint(&claims(testing::in_an_hour() - 3610)).unwrap();
        assert!(tokens.verify(&expired).is_err());

        let other = testing::tokens();
        let forged = other.mint(&claims(testing::in_an_hour())).unwrap();
        assert!(tokens.verify(&forged).is_err());

        let mut foreign = claims(testing::in_an_hour());
        foreign.aud = "somebody-else".into();
        assert!(tokens.verify(&tokens.mint(&foreign).unwrap()).is_err());

        // The oldest trick: another algorithm, here HMAC keyed with the public key.
        let hmac = jsonwebtoken::encode(
            &Header::new(Algorithm::HS256),
            &claims(testing::in_an_hour()),
            &EncodingKey::from_secret(tokens.public.try_get_as_bytes().unwrap()),
        )
        .unwrap();
        assert!(tokens.verify(&hmac).is_err());
        let unsigned = format!("eyJhbGciOiJub25lIn0.{}.", expired.split('.').nth(1).unwrap());
        assert!(tokens.verify(&unsigned).is_err());
        assert!(tokens.verify("").is_err());
    }

    #[test]
    fn a_key_file_that_is_none_is_named() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("key.pem");
        let missing = DispatchTokens::from_pem_file(&path).unwrap_err().to_string();
        assert!(missing.contains("key.pem") && missing.contains("openssl"));
        std::fs::write(&path, "hello").unwrap();
        assert!(matches!(DispatchTokens::from_pem_file(&path), Err(TokenError::NotAKey { .. })));
    }
}
