//! The secret that a worker gets when it claims its generation.
//!
//! The ledger keeps its SHA-256, so that any gateway can check it and none can tell it.

use data_encoding::HEXLOWER;
use sha2::{Digest, Sha256};

/// A new nonce: 32 random bytes in hex.
pub(super) fn new() -> String {
    HEXLOWER.encode(&rand::random::<[u8; 32]>())
}

/// What the ledger keeps of it.
pub(super) fn hash(nonce: &[u8]) -> String {
    HEXLOWER.encode(&Sha256::digest(nonce))
}

/// Whether a nonce is the one of this hash, in a time that does not depend on where they differ.
pub(super) fn matches(nonce: &[u8], kept: &str) -> bool {
    aws_lc_rs::constant_time::verify_slices_are_equal(hash(nonce).as_bytes(), kept.as_bytes()).is_ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_nonce_itself_matches() {
        let nonce = new();
        assert_eq!(nonce.len(), 64);
        assert_ne!(nonce, new());
        let kept = hash(nonce.as_bytes());
        assert!(matches(nonce.as_bytes(), &kept));
        assert!(!matches(kept.as_bytes(), &kept));
        assert!(!matches(b"", &kept));
        assert!(!matches(nonce.as_bytes(), ""));
    }
}
