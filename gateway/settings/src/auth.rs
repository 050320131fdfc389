//! `[auth]`: how callers prove who they are.

use std::path::PathBuf;

use serde::{Deserialize, Deserializer, Serialize, de};

/// `[auth]`
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Auth {
    /// File with the HS256 secret of callers' JWTs, which `rekindle token` signs with; empty for none.
    pub jwt_secret_file: PathBuf,
    /// More keys of callers' JWTs: the next one beside the present one while they are exchanged, or an identity provider's.
    pub keys: Vec<CallerKey>,
    /// An identity provider's published keys.
    pub jwks: Option<Jwks>,
    /// `iss` that tokens must have, if set.
    pub issuer: Option<String>,
    /// `aud` that tokens must have, if set.
    pub audience: Option<String>,
    /// Seconds by which clocks may differ when `exp` and `nbf` are looked at; at most 60.
    #[serde(deserialize_with = "at_most_a_minute")]
    pub clock_skew_sec: u64,
    /// Bad credentials from one address in a minute before more of them are answered without a look; 0 for no bound.
    pub failures_per_min: u32,
}

/// `[[auth.keys]]`
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct CallerKey {
    /// The one algorithm that it verifies.
    pub algorithm: KeyAlgorithm,
    /// The secret of HS256, else the public key in PEM.
    pub file: PathBuf,
    /// `kid` of the tokens that it verifies; without it, those of any or none.
    pub kid: Option<String>,
}

/// `[auth.jwks]`
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Jwks {
    /// Where the key set is: `https://…`, or `http://` on loopback.
    pub url: String,
    /// Keys for other algorithms are left out. HS256 is none of them.
    #[serde(default = "public_algorithms")]
    pub algorithms: Vec<KeyAlgorithm>,
    /// Seconds after which the set is fetched again.
    #[serde(default = "five_minutes")]
    pub max_age_sec: u64,
}

/// What a key is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum KeyAlgorithm {
    /// HMAC with SHA-256.
    HS256,
    /// RSASSA-PKCS1-v1_5 with SHA-256.
    RS256,
    /// ECDSA on P-256 with SHA-256.
    ES256,
    /// Ed25519.
    EdDSA,
}

impl Default for Auth {
    fn default() -> Self {
        Self {
            jwt_secret_file: "secrets/jwt_hs256".into(),
            keys: Vec::new(),
            jwks: None,
            issuer: None,
            audience: None,
            clock_skew_sec: 5,
            failures_per_min: 60,
        }
    }
}

fn public_algorithms() -> Vec<KeyAlgorithm> {
    vec![KeyAlgorithm::RS256, KeyAlgorithm::ES256, KeyAlgorithm::EdDSA]
}

fn five_minutes() -> u64 {
    300
}

fn at_most_a_minute<'de, D: Deserializer<'de>>(deserializer: D) -> Result<u64, D::Error> {
    match u64::deserialize(deserializer)? {
        skew @ 0..=60 => Ok(skew),
        skew => Err(de::Error::custom(format!("clock_skew_sec is {skew}; it must be at most 60"))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_and_a_key_set_are_read() {
        let auth: Auth = toml::from_str(
            "clock_skew_sec = 60\n[[keys]]\nalgorithm = \"EdDSA\"\nfile = \"a.pem\"\nkid = \"1\"\n\
             [jwks]\nurl = \"https://id.example/jwks\"\n",
        )
        .unwrap();
        assert_eq!(auth.keys[0].algorithm, KeyAlgorithm::EdDSA);
        assert_eq!(auth.jwks.unwrap().max_age_sec, 300);
        assert!(toml::from_str::<Auth>("clock_skew_sec = 61").unwrap_err().to_string().contains("at most 60"));
        assert!(toml::from_str::<Auth>("[[keys]]\nalgorithm = \"none\"\nfile = \"x\"").is_err());
        assert!(toml::from_str::<Auth>("[[keys]]\nalgorithm = \"HS256\"").is_err());
    }
}
