//! `[auth]`: how callers prove who they are.

use std::path::PathBuf;

use serde::{Deserialize, Serialize};

/// `[auth]`
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Auth {
    /// File with the HS256 secret of callers' JWTs.
    pub jwt_secret_file: PathBuf,
    /// `iss` that tokens must have, if set.
    pub issuer: Option<String>,
    /// `aud` that tokens must have, if set.
    pub audience: Option<String>,
}

impl Default for Auth {
    fn default() -> Self {
        Self { jwt_secret_file: "secrets/jwt_hs256".into(), issuer: None, audience: None }
    }
}
