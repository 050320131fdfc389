//! Keys and tokens of these tests.

use std::path::PathBuf;

use aws_lc_rs::encoding::AsDer;
use aws_lc_rs::rand::SystemRandom;
use aws_lc_rs::rsa::KeySize;
use aws_lc_rs::signature::{ECDSA_P256_SHA256_FIXED_SIGNING, EcdsaKeyPair, Ed25519KeyPair, KeyPair, RsaKeyPair};
use http::{HeaderMap, HeaderValue, header};
use jsonwebtoken::jwk::Jwk;
use jsonwebtoken::{Algorithm, EncodingKey, Header, encode};
use serde_json::{Value, json};
use settings::{Auth, CallerKey, KeyAlgorithm};
use tempfile::TempDir;

use crate::auth::{AuthError, Authenticator, Caller};

pub const SECRET: &str = "a secret that is long enough for HS256";

/// A key pair in PEM.
pub struct Pair {
    pub algorithm: Algorithm,
    pub public: String,
    pub private: String,
}

fn pem(label: &str, der: &[u8]) -> String {
    format!("-----BEGIN {label}-----\n{}\n-----END {label}-----\n", data_encoding::BASE64.encode(der))
}

fn pair(algorithm: Algorithm, public: &[u8], private: &[u8]) -> Pair {
    Pair { algorithm, public: pem("PUBLIC KEY", public), private: pem("PRIVATE KEY", private) }
}

pub fn rsa() -> Pair {
    let key = RsaKeyPair::generate(KeySize::Rsa2048).unwrap();
    let private: aws_lc_rs::encoding::Pkcs8V1Der<'_> = key.as_der().unwrap();
    pair(Algorithm::RS256, key.public_key().as_der().unwrap().as_ref(), private.as_ref())
}

pub fn ec() -> Pair {
    let document = EcdsaKeyPair::generate_pkcs8(&ECDSA_P256_SHA256_FIXED_SIGNING, &SystemRandom::new()).unwrap();
    let key = EcdsaKeyPair::from_pkcs8(&ECDSA_P256_SHA256_FIXED_SIGNING, document.as_ref()).unwrap();
    pair(Algorithm::ES256, key.public_key().as_der().unwrap().as_ref(), document.as_ref())
}

pub fn ed() -> Pair {
    let key = Ed25519KeyPair::generate().unwrap();
    let private: aws_lc_rs::encoding::Pkcs8V1Der<'_> = key.as_der().unwrap();
    pair(Algorithm::EdDSA, key.public_key().as_der().unwrap().as_ref(), private.as_ref())
}

impl Pair {
    fn encoding(&self) -> EncodingKey {
        let pem = self.private.as_bytes();
        match self.algorithm {
            Algorithm::RS256 => EncodingKey::from_rsa_pem(pem),
            Algorithm::ES256 => EncodingKey::from_ec_pem(pem),
            _ => EncodingKey::from_ed_pem(pem),
        }
        .unwrap()
    }

    /// As it is published.
    pub fn jwk(&self, kid: &str) -> Value {
        let mut jwk = serde_json::to_value(Jwk::from_encoding_key(&self.encoding(), self.algorithm).unwrap()).unwrap();
        jwk["kid"] = kid.into();
        jwk["use"] = "sig".into();
        jwk
    }

    pub fn sign(&self, kid: Option<&str>, claims: &Value) -> String {
        let header = Header { kid: kid.map(Into::into), ..Header::new(self.algorithm) };
        encode(&header, claims, &self.encoding()).unwrap()
    }
}

pub fn now() -> i64 {
    jiff::Timestamp::now().as_second()
}

pub fn claims() -> Value {
    json!({ "sub": "ann", "exp": now() + 60, "scope": "units:invoke" })
}

/// Signed with the shared secret and this header.
pub fn signed(header: &Header, secret: &str, claims: &Value) -> String {
    encode(header, claims, &EncodingKey::from_secret(secret.as_bytes())).unwrap()
}

/// A token of any header, signed by the shared secret as if it said HS256.
pub fn forged(header: &Value, claims: &Value) -> String {
    let part = |value: &Value| data_encoding::BASE64URL_NOPAD.encode(value.to_string().as_bytes());
    let message = format!("{}.{}", part(header), part(claims));
    let key = aws_lc_rs::hmac::Key::new(aws_lc_rs::hmac::HMAC_SHA256, SECRET.as_bytes());
    let tag = aws_lc_rs::hmac::sign(&key, message.as_bytes());
    format!("{message}.{}", data_encoding::BASE64URL_NOPAD.encode(tag.as_ref()))
}

/// Key files, and an authenticator that reads them.
pub struct Keys {
    folder: TempDir,
    pub auth: Auth,
}

impl Keys {
    /// With the shared secret alone.
    pub fn new() -> Self {
        let folder = TempDir::new().unwrap();
        let mut keys = Self { folder, auth: Auth::default() };
        keys.auth.jwt_secret_file = keys.file(SECRET);
        keys
    }

    pub fn file(&self, text: &str) -> PathBuf {
        let path = self.folder.path().join(std::fs::read_dir(self.folder.path()).unwrap().count().to_string());
        std::fs::write(&path, text).unwrap();
        path
    }

    #[must_use]
    pub fn with(mut self, algorithm: KeyAlgorithm, text: &str, kid: Option<&str>) -> Self {
        let file = self.file(text);
        self.auth.keys.push(CallerKey { algorithm, file, kid: kid.map(Into::into) });
        self
    }

    pub fn authenticator(&self) -> Authenticator {
        Authenticator::new(&self.auth).unwrap_or_else(|e| panic!("{e:#}"))
    }

    pub async fn check(&self, token: &str) -> Result<Caller, AuthError> {
        check(&self.authenticator(), token).await
    }
}

pub async fn check(authenticator: &Authenticator, token: &str) -> Result<Caller, AuthError> {
    let value = HeaderValue::try_from(format!("Bearer {token}")).unwrap();
    let headers: HeaderMap = [(header::AUTHORIZATION, value)].into_iter().collect();
    authenticator.caller(&headers, None, true).await
}
