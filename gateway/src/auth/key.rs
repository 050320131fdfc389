//! A key that verifies callers' tokens, for one algorithm.

use std::path::Path;

use anyhow::{Context, ensure};
use jsonwebtoken::{Algorithm, DecodingKey};
use settings::{CallerKey, KeyAlgorithm, read_secret};

/// Below this a HS256 secret can be guessed (RFC 7518 §3.2).
const SECRET_MIN_BYTES: usize = 32;

/// A key with its one algorithm.
pub struct Key {
    /// What it is for, whatever a token says.
    pub algorithm: KeyAlgorithm,
    /// `kid` of its tokens; none: any.
    pub kid: Option<String>,
    /// The key itself.
    pub key: DecodingKey,
}

impl std::fmt::Debug for Key {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Key").field("algorithm", &self.algorithm).field("kid", &self.kid).finish_non_exhaustive()
    }
}

impl Key {
    /// From its file.
    ///
    /// # Errors
    /// When it cannot be read, is for another algorithm, is a private key, or a secret that can be guessed.
    pub fn read(settings: &CallerKey) -> anyhow::Result<Self> {
        let key = decoding_key(settings.algorithm, &settings.file)
            .with_context(|| format!("use {} for {:?}", settings.file.display(), settings.algorithm))?;
        Ok(Self { algorithm: settings.algorithm, kid: settings.kid.clone(), key })
    }

    /// Whether a token with this header may be its.
    pub fn fits(&self, algorithm: KeyAlgorithm, kid: Option<&str>) -> bool {
        let same = match (&self.kid, kid) {
            (Some(own), Some(named)) => own == named,
            _ => true,
        };
        self.algorithm == algorithm && same
    }
}

fn decoding_key(algorithm: KeyAlgorithm, file: &Path) -> anyhow::Result<DecodingKey> {
    let text = read_secret(file)?;
    if algorithm == KeyAlgorithm::HS256 {
        ensure!(!text.contains("-----BEGIN"), "it is a key in PEM, and HS256 takes a secret that nobody else has");
        ensure!(
            text.len() >= SECRET_MIN_BYTES,
            "it holds {} bytes; a secret of fewer than {SECRET_MIN_BYTES} can be guessed",
            text.len()
        );
        return Ok(DecodingKey::from_secret(text.as_bytes()));
    }
    // Whoever only verifies has no use for it, and it would let this process sign.
    ensure!(!text.contains("PRIVATE KEY"), "it is a private key; give the public one");
    let pem = text.as_bytes();
    let key = match algorithm {
        KeyAlgorithm::RS256 => DecodingKey::from_rsa_pem(pem),
        KeyAlgorithm::ES256 => DecodingKey::from_ec_pem(pem),
        KeyAlgorithm::EdDSA | KeyAlgorithm::HS256 => DecodingKey::from_ed_pem(pem),
    };
    key.context("read it as a public key in PEM")
}

/// As the JWT library calls it.
pub fn algorithm(of: KeyAlgorithm) -> Algorithm {
    match of {
        KeyAlgorithm::HS256 => Algorithm::HS256,
        KeyAlgorithm::RS256 => Algorithm::RS256,
        KeyAlgorithm::ES256 => Algorithm::ES256,
        KeyAlgorithm::EdDSA => Algorithm::EdDSA,
    }
}

/// A token's `alg`, where a key can be for it.
pub fn known_algorithm(named: Algorithm) -> Option<KeyAlgorithm> {
    use KeyAlgorithm::{ES256, EdDSA, HS256, RS256};
    [HS256, RS256, ES256, EdDSA].into_iter().find(|of| algorithm(*of) == named)
}
