//! Dispatch tokens: what a relay shows at the worker port for its generation.
//!
//! EdDSA and nothing else, by our own key. A good signature is only half of the check: whoever verifies one asks the
//! ledger whether the generation is still the current one.

use std::path::{Path, PathBuf};

use aws_lc_rs::signature::{Ed25519KeyPair, KeyPair};
use contract::{DISPATCH_AUDIENCE, DispatchClaims};
use data_encoding::BASE64URL_NOPAD;
use jsonwebtoken::errors::ErrorKind;
use jsonwebtoken::{Algorithm, DecodingKey, EncodingKey, Header, Validation};
use sha2::{Digest, Sha256};

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
    /// The key file holds something else than an Ed25519 key.
    #[error("{path} is not an Ed25519 key in PEM (a private one in PKCS#8; for checking, a public one will do)")]
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

/// Signs dispatch tokens with one key, and checks them with that and with others.
///
/// Keys are changed without downtime in three steps, each on every gateway before the next: the new key joins
/// `dispatch_other_key_files`; it becomes `dispatch_key_file` and the old one takes its place among the others; the old one
/// goes when the last generation that it signed for is over (the longest `max_lifetime_sec`).
#[derive(Clone)]
pub struct DispatchTokens {
    private: EncodingKey,
    header: Header,
    /// By key id.
    public: Vec<(String, DecodingKey)>,
    validation: Validation,
}

impl std::fmt::Debug for DispatchTokens {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("DispatchTokens").finish_non_exhaustive()
    }
}

/// What stands in a public key's DER in front of the key itself (RFC 8410 §4: SEQUENCE, OID 1.3.101.112, BIT STRING).
const SPKI_PREFIX: &[u8] = &[0x30, 0x2a, 0x30, 0x05, 0x06, 0x03, 0x2b, 0x65, 0x70, 0x03, 0x21, 0x00];

impl DispatchTokens {
    /// Reads the private key that signs (PKCS#8, PEM), and keys that only check: private ones, or public ones (SPKI, PEM).
    ///
    /// # Errors
    /// [`TokenError::Unreadable`] or [`TokenError::NotAKey`], both with the file's name.
    pub fn from_pem_files(signs: &Path, others: &[PathBuf]) -> Result<Self, TokenError> {
        let read =
            |path: &Path| std::fs::read(path).map_err(|source| TokenError::Unreadable { path: path.into(), source });
        let mut tokens = Self::from_pem(&read(signs)?).ok_or_else(|| TokenError::NotAKey { path: signs.into() })?;
        for path in others {
            let raw = public_key(&read(path)?).ok_or_else(|| TokenError::NotAKey { path: path.clone() })?;
            tokens.trust(&raw);
        }
        Ok(tokens)
    }

    fn from_pem(pem: &[u8]) -> Option<Self> {
        let private = EncodingKey::from_ed_pem(pem).ok()?;
        let raw = public_key(pem)?;
        let mut validation = Validation::new(Algorithm::EdDSA);
        validation.leeway = LEEWAY_SEC;
        validation.set_audience(&[DISPATCH_AUDIENCE]);
        validation.set_required_spec_claims(&["exp", "aud", "sub"]);
        let mut header = Header::new(Algorithm::EdDSA);
        header.kid = Some(thumbprint(&raw));
        let mut tokens = Self { private, header, public: Vec::new(), validation };
        tokens.trust(&raw);
        Some(tokens)
    }

    fn trust(&mut self, raw: &[u8]) {
        let kid = thumbprint(raw);
        if self.public.iter().all(|(known, _)| *known != kid) {
            self.public.push((kid, DecodingKey::from_ed_der(raw)));
        }
    }

    /// Signs claims.
    ///
    /// # Errors
    /// [`TokenError::Sign`], which a checked key does not give.
    pub fn mint(&self, claims: &DispatchClaims) -> Result<String, TokenError> {
        jsonwebtoken::encode(&self.header, claims, &self.private).map_err(TokenError::Sign)
    }

    /// Checks signature, algorithm, audience and expiry, and gives the claims. The header's `kid` only chooses among the
    /// known keys; nothing else of the header is followed.
    ///
    /// # Errors
    /// [`TokenError::Invalid`]; it never quotes the token.
    pub fn verify(&self, token: &str) -> Result<DispatchClaims, TokenError> {
        let header = jsonwebtoken::decode_header(token).map_err(TokenError::Invalid)?;
        let (_, key) = (self.public.iter())
            .find(|(kid, _)| header.kid.as_ref() == Some(kid))
            .ok_or_else(|| TokenError::Invalid(ErrorKind::InvalidSignature.into()))?;
        jsonwebtoken::decode::<DispatchClaims>(token, key, &self.validation)
            .map(|data| data.claims)
            .map_err(TokenError::Invalid)
    }
}

/// The 32 bytes of the public key in a PEM file: of a private key, or of a public one.
fn public_key(pem: &[u8]) -> Option<Vec<u8>> {
    if let Ok(private) = EncodingKey::from_ed_pem(pem) {
        let pair = Ed25519KeyPair::from_pkcs8(private.as_bytes()).ok()?;
        return Some(pair.public_key().as_ref().to_vec());
    }
    let text = std::str::from_utf8(pem).ok()?;
    let body = text.split_once("-----BEGIN PUBLIC KEY-----")?.1.split_once("-----END PUBLIC KEY-----")?.0;
    let body: String = body.split_whitespace().collect();
    let der = data_encoding::BASE64.decode(body.as_bytes()).ok()?;
    der.strip_prefix(SPKI_PREFIX).filter(|raw| raw.len() == 32).map(<[u8]>::to_vec)
}

/// The key's name, which nobody has to give it: RFC 7638 over the form of RFC 8037.
fn thumbprint(raw: &[u8]) -> String {
    let jwk = format!(r#"{{"crv":"Ed25519","kty":"OKP","x":"{}"}}"#, BASE64URL_NOPAD.encode(raw));
    BASE64URL_NOPAD.encode(&Sha256::digest(jwk.as_bytes()))
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
            &Header { alg: Algorithm::HS256, ..tokens.header.clone() },
            &claims(testing::in_an_hour()),
            &EncodingKey::from_secret(tokens.public[0].1.try_get_as_bytes().unwrap()),
        )
        .unwrap();
        assert!(tokens.verify(&hmac).is_err());
        let unsigned = format!("eyJhbGciOiJub25lIn0.{}.", expired.split('.').nth(1).unwrap());
        assert!(tokens.verify(&unsigned).is_err());
        let nameless =
            jsonwebtoken::encode(&Header::new(Algorithm::EdDSA), &claims(testing::in_an_hour()), &tokens.private);
        assert!(tokens.verify(&nameless.unwrap()).is_err(), "a key is chosen by name, never tried");
        assert!(tokens.verify("").is_err());
    }

    #[test]
    fn a_key_file_that_is_none_is_named() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("key.pem");
        let missing = DispatchTokens::from_pem_files(&path, &[]).unwrap_err().to_string();
        assert!(missing.contains("key.pem") && missing.contains("openssl"));
        std::fs::write(&path, "hello").unwrap();
        assert!(matches!(DispatchTokens::from_pem_files(&path, &[]), Err(TokenError::NotAKey { .. })));
    }

    #[test]
    fn keys_change_while_generations_run() {
        let folder = tempfile::tempdir().unwrap();
        let file = |name: &str, pem: &str| {
            let path = folder.path().join(name);
            std::fs::write(&path, pem).unwrap();
            path
        };
        let (old, new) = (file("old.pem", &testing::key_pem()), file("new.pem", &testing::key_pem()));
        let raw = public_key(&std::fs::read(&old).unwrap()).unwrap();
        let text = data_encoding::BASE64.encode(&[SPKI_PREFIX, &raw].concat());
        let old_public = file("old.pub", &format!("-----BEGIN PUBLIC KEY-----\n{text}\n-----END PUBLIC KEY-----\n"));

        let before = DispatchTokens::from_pem_files(&old, std::slice::from_ref(&new)).unwrap();
        let after = DispatchTokens::from_pem_files(&new, &[old_public]).unwrap();
        let alone = DispatchTokens::from_pem_files(&new, &[]).unwrap();
        let claims = claims(testing::in_an_hour());
        let (by_old, by_new) = (before.mint(&claims).unwrap(), after.mint(&claims).unwrap());
        for tokens in [&before, &after] {
            assert_eq!(tokens.verify(&by_old).unwrap(), claims);
            assert_eq!(tokens.verify(&by_new).unwrap(), claims);
        }
        assert!(alone.verify(&by_old).is_err(), "the old key has gone");
        assert!(alone.verify(&by_new).is_ok());
        let half = file("half.pub", "-----BEGIN PUBLIC KEY-----\nAAAA\n-----END PUBLIC KEY-----\n");
        assert!(matches!(DispatchTokens::from_pem_files(&new, &[half]), Err(TokenError::NotAKey { .. })));
    }
}
