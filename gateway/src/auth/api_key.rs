//! The form of API keys: `rk_`, 32 characters with 160 random bits, and 6 that check the rest.
//!
//! So a slip of the hand is told from a key that was revoked without asking the ledger, and a scanner for secrets finds keys
//! by `rk_[a-z2-7]{38}` and knows by the check that it found one.

use rand::Rng;
use sha2::{Digest, Sha256};

use super::error::AuthError;

const PREFIX: &str = "rk_";
const RANDOM: usize = 32;
const CHECK: usize = 6;

/// Whether it is meant to be one.
pub fn looks_like_one(text: &str) -> bool {
    text.starts_with(PREFIX)
}

/// A new key; what this returns is the only place where it is written.
pub fn generate() -> String {
    let bits: [u8; 20] = rand::rng().random();
    let random = data_encoding::BASE32_NOPAD.encode(&bits).to_ascii_lowercase();
    let check = check(&random);
    format!("{PREFIX}{random}{check}")
}

/// SHA-256 of a key, which is all that is kept of it. It needs no salt and no slow hash: there are 2^160 keys to try.
///
/// # Errors
/// [`AuthError::MistypedKey`].
pub fn hash(key: &str) -> Result<[u8; 32], AuthError> {
    let rest = key.strip_prefix(PREFIX).filter(|rest| rest.len() == RANDOM + CHECK && rest.is_ascii());
    let (random, given) = rest.ok_or(AuthError::MistypedKey)?.split_at(RANDOM);
    if check(random) != given {
        return Err(AuthError::MistypedKey);
    }
    Ok(Sha256::digest(key).into())
}

fn check(random: &str) -> String {
    let digest = Sha256::digest(format!("{PREFIX}{random}"));
    let mut text = data_encoding::BASE32_NOPAD.encode(&digest).to_ascii_lowercase();
    text.truncate(CHECK);
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_are_long_different_and_checked() {
        let key = generate();
        assert_eq!(key.len(), 41);
        assert!(key[3..].chars().all(|c| matches!(c, 'a'..='z' | '2'..='7')), "{key}");
        assert_ne!(hash(&key).unwrap(), hash(&generate()).unwrap());
        for at in 3..key.len() {
            let mut typo = key.clone().into_bytes();
            typo[at] = if typo[at] == b'a' { b'b' } else { b'a' };
            assert_eq!(hash(&String::from_utf8(typo).unwrap()), Err(AuthError::MistypedKey), "{at}");
        }
        for bad in ["rk_", &key[..40], &format!("{key}a"), &key.to_uppercase(), "rk_ü"] {
            assert_eq!(hash(bad), Err(AuthError::MistypedKey), "{bad}");
        }
    }
}
