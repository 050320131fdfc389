//! Secrets that a deployment makes for itself when it first runs.

use std::fs::{OpenOptions, Permissions};
use std::io::Write;
use std::os::unix::fs::{OpenOptionsExt, PermissionsExt};
use std::path::Path;

use anyhow::Context;
use aws_lc_rs::encoding::AsDer;
use aws_lc_rs::encoding::PublicKeyX509Der;
use aws_lc_rs::signature::{Ed25519KeyPair, KeyPair};
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use rand::RngCore;

/// 32 random bytes in hex.
pub fn random_hex() -> String {
    let mut bytes = [0; 32];
    rand::rng().fill_bytes(&mut bytes);
    bytes.iter().map(|b| format!("{b:02x}")).collect()
}

/// An Ed25519 key as PKCS#8 PEM (RFC 8410).
///
/// # Errors
/// When the system has no randomness.
pub fn ed25519_pem() -> anyhow::Result<String> {
    let pair = Ed25519KeyPair::generate().ok().context("generate an Ed25519 key")?;
    let der = AsDer::<aws_lc_rs::encoding::Pkcs8V1Der<'_>>::as_der(&pair).ok().context("encode the Ed25519 key")?;
    Ok(pem("PRIVATE KEY", der.as_ref()))
}

/// The public half of such a key, as PEM (RFC 8410): what proves a signature and makes none.
///
/// # Errors
/// When the text is no Ed25519 private key.
pub fn ed25519_public_pem(private: &str) -> anyhow::Result<String> {
    let text: String = private.lines().filter(|line| !line.starts_with("-----")).map(str::trim).collect();
    let der = STANDARD.decode(text).context("decode the Ed25519 key")?;
    let pair = Ed25519KeyPair::from_pkcs8(&der).ok().context("read the Ed25519 key")?;
    let public: PublicKeyX509Der<'_> = pair.public_key().as_der().ok().context("encode the Ed25519 public key")?;
    Ok(pem("PUBLIC KEY", public.as_ref()))
}

fn pem(label: &str, der: &[u8]) -> String {
    let text = STANDARD.encode(der);
    let mut pem = format!("-----BEGIN {label}-----\n");
    for line in text.as_bytes().chunks(64) {
        pem.extend(line.iter().map(|b| char::from(*b)));
        pem.push('\n');
    }
    pem + &format!("-----END {label}-----\n")
}

/// Makes the file with what `make` gives, unless there is one. Either way only its owner can read it afterwards.
///
/// # Errors
/// When it cannot be written; a file that was there is unchanged and none is there in part.
pub fn keep(path: &Path, make: impl FnOnce() -> anyhow::Result<String>) -> anyhow::Result<()> {
    if path.exists() {
        let private = Permissions::from_mode(0o600);
        return std::fs::set_permissions(path, private).with_context(|| format!("make {} private", path.display()));
    }
    write(path, &make()?)
}

/// Replaces a file in one step with one that only its owner can read.
///
/// # Errors
/// When it cannot be written; the file is then as it was.
pub fn write(path: &Path, text: &str) -> anyhow::Result<()> {
    let context = || format!("write {}", path.display());
    let draft = path.with_extension("new");
    let mut options = OpenOptions::new();
    let mut file = options.write(true).create(true).truncate(true).mode(0o600).open(&draft).with_context(context)?;
    file.set_permissions(Permissions::from_mode(0o600)).with_context(context)?;
    file.write_all(text.as_bytes()).and_then(|()| file.sync_all()).with_context(context)?;
    std::fs::rename(&draft, path).with_context(context)
}

#[cfg(test)]
mod tests {
    use jsonwebtoken::{Algorithm, EncodingKey, Header};

    use super::*;

    #[test]
    fn the_dispatch_key_is_one_that_signs() {
        let key = EncodingKey::from_ed_pem(ed25519_pem().unwrap().as_bytes()).unwrap();
        let claims = serde_json::json!({"sub": "x"});
        let token = jsonwebtoken::encode(&Header::new(Algorithm::EdDSA), &claims, &key).unwrap();
        assert_eq!(token.split('.').count(), 3);
        assert_ne!(ed25519_pem().unwrap(), ed25519_pem().unwrap());
    }

    #[test]
    fn its_public_half_verifies() {
        let private = ed25519_pem().unwrap();
        let key = EncodingKey::from_ed_pem(private.as_bytes()).unwrap();
        let claims = serde_json::json!({"exp": u32::MAX});
        let token = jsonwebtoken::encode(&Header::new(Algorithm::EdDSA), &claims, &key).unwrap();
        let verify = |pem: &str| {
            let key = jsonwebtoken::DecodingKey::from_ed_pem(pem.as_bytes()).unwrap();
            jsonwebtoken::decode::<serde_json::Value>(&token, &key, &jsonwebtoken::Validation::new(Algorithm::EdDSA))
        };
        assert_eq!(verify(&ed25519_public_pem(&private).unwrap()).unwrap().claims, claims);
        assert!(verify(&ed25519_public_pem(&ed25519_pem().unwrap()).unwrap()).is_err());
        assert!(ed25519_public_pem("hello").is_err());
    }

    #[test]
    fn secrets_are_made_once_and_private() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("secret");
        keep(&path, || Ok(random_hex())).unwrap();
        let first = std::fs::read_to_string(&path).unwrap();
        assert_eq!(first.len(), 64);
        std::fs::set_permissions(&path, Permissions::from_mode(0o644)).unwrap();
        keep(&path, || anyhow::bail!("not again")).unwrap();
        assert_eq!(std::fs::read_to_string(&path).unwrap(), first);
        assert_eq!(path.metadata().unwrap().permissions().mode() & 0o777, 0o600);
        assert!(keep(&folder.path().join("other"), || anyhow::bail!("no")).is_err());
        assert!(!folder.path().join("other").exists());
    }
}
