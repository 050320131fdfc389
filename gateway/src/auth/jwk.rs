//! A published key set (RFC 7517), taken apart by somebody who trusts its place and not every word in it.

use anyhow::{Context, ensure};
use jsonwebtoken::DecodingKey;
use jsonwebtoken::jwk::{AlgorithmParameters, EllipticCurve, Jwk, KeyOperations, PublicKeyUse};
use serde_json::Value;
use settings::KeyAlgorithm;

use super::key::{Key, algorithm};

/// Keys that one set may have.
const KEYS_MAX: usize = 64;
const KID_MAX_BYTES: usize = 256;
/// Members that only private and symmetric keys have (RFC 7518 §6).
const PRIVATE: [&str; 8] = ["d", "p", "q", "dp", "dq", "qi", "oth", "k"];
/// RS256 with less can be broken (RFC 7518 §3.3); base64url of 256 bytes has this many characters.
const MODULUS_MIN_CHARS: usize = 342;

/// The keys of a set that can be used: public, for signatures, and for one of these algorithms. Others are left out.
///
/// # Errors
/// When it is no key set, or has too many keys.
pub fn keys(document: &[u8], wanted: &[KeyAlgorithm]) -> anyhow::Result<Vec<Key>> {
    let mut document: Value = serde_json::from_slice(document).context("read the key set as JSON")?;
    let Value::Array(listed) = document["keys"].take() else { anyhow::bail!("it has no list of `keys`") };
    ensure!(listed.len() <= KEYS_MAX, "it has {} keys; at most {KEYS_MAX} are read", listed.len());
    let mut keys = Vec::new();
    for one in listed {
        match key(one) {
            Ok(key) if wanted.contains(&key.algorithm) => keys.push(key),
            Ok(_) => {}
            Err(why) => tracing::debug!(why = format!("{why:#}"), "a key of the set cannot be used"),
        }
    }
    Ok(keys)
}

fn key(one: Value) -> anyhow::Result<Key> {
    let private = PRIVATE.into_iter().find(|member| one.get(*member).is_some());
    ensure!(private.is_none(), "it has `{}`: it is no public key", private.unwrap_or_default());
    let jwk: Jwk = serde_json::from_value(one).context("read the key")?;
    let common = &jwk.common;
    ensure!(matches!(common.public_key_use, None | Some(PublicKeyUse::Signature)), "it is not for signatures");
    let operations = common.key_operations.as_ref();
    ensure!(operations.is_none_or(|all| all.contains(&KeyOperations::Verify)), "it is not for verifying");
    let of = match &jwk.algorithm {
        AlgorithmParameters::RSA(rsa) => {
            ensure!(rsa.n.len() >= MODULUS_MIN_CHARS, "its modulus has fewer than 2048 bits");
            KeyAlgorithm::RS256
        }
        AlgorithmParameters::EllipticCurve(ec) if ec.curve == EllipticCurve::P256 => KeyAlgorithm::ES256,
        AlgorithmParameters::OctetKeyPair(pair) if pair.curve == EllipticCurve::Ed25519 => KeyAlgorithm::EdDSA,
        _ => anyhow::bail!("no algorithm here is for it"),
    };
    if let Some(named) = &common.key_algorithm {
        let named = named.to_string();
        ensure!(named.parse().ok() == Some(algorithm(of)), "it is for {named}");
    }
    let kid = common.key_id.clone();
    ensure!(kid.as_ref().is_none_or(|kid| kid.len() <= KID_MAX_BYTES), "its `kid` is too long");
    Ok(Key { algorithm: of, kid, key: DecodingKey::from_jwk(&jwk).context("use the key")? })
}
