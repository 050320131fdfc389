//! Secrets of a test deployment, new for each, and marked so that a search of a sandbox would find any that leaked.

use std::io::Read as _;
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::Path;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde_json::json;

/// What every secret that is a text begins with.
pub const MARK: &str = "rekindle-secret-mark-";

/// A marked secret that nobody else has.
pub fn secret() -> String {
    let bytes = random();
    let hex: String = bytes.iter().map(|b| format!("{b:02x}")).collect();
    format!("{MARK}{hex}")
}

/// An Ed25519 private key as PKCS#8 (RFC 8410) in PEM.
pub fn ed25519_pem() -> String {
    let mut der = vec![0x30, 0x2e, 0x02, 0x01, 0x00, 0x30, 0x05, 0x06, 0x03, 0x2b, 0x65, 0x70, 0x04, 0x22, 0x04, 0x20];
    der.extend(random());
    format!("-----BEGIN PRIVATE KEY-----\n{}\n-----END PRIVATE KEY-----\n", STANDARD.encode(der))
}

/// A caller's token, valid for an hour.
///
/// # Panics
/// When the secret cannot sign, which no text does.
pub fn caller_token(secret: &str, sub: &str) -> String {
    caller_token_until(secret, sub, jiff::Timestamp::now().as_second() + 3600)
}

/// A caller's token that ends at a time in seconds since 1970, which may be past.
///
/// # Panics
/// As [`caller_token`].
pub fn caller_token_until(secret: &str, sub: &str, exp: i64) -> String {
    let header = jsonwebtoken::Header::new(jsonwebtoken::Algorithm::HS256);
    let claims = json!({ "sub": sub, "iat": exp - 3600, "exp": exp, "scope": "units:invoke units:read" });
    let key = jsonwebtoken::EncodingKey::from_secret(secret.as_bytes());
    jsonwebtoken::encode(&header, &claims, &key).expect("sign a token")
}

/// Writes a file that only its owner may read.
///
/// # Panics
/// When it cannot be written.
pub fn write_private(path: &Path, text: &str) {
    use std::io::Write as _;
    let mut file = std::fs::OpenOptions::new()
        .write(true)
        .create(true)
        .truncate(true)
        .mode(0o600)
        .open(path)
        .unwrap_or_else(|e| panic!("write {}: {e}", path.display()));
    file.write_all(text.as_bytes()).expect("write a secret");
}

fn random() -> [u8; 32] {
    let mut bytes = [0; 32];
    let mut source = std::fs::File::open("/dev/urandom").expect("open /dev/urandom");
    source.read_exact(&mut bytes).expect("read /dev/urandom");
    bytes
}
