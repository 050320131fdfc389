//! `[broker]`: model providers, their addresses and keys.

use std::path::PathBuf;

use serde::{Deserialize, Serialize};

/// `[broker]`
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Broker {
    /// The Messages API.
    pub anthropic: Option<Provider>,
}

/// `[broker.<provider>]`
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Provider {
    /// Where its API is, without `/v1`.
    pub base_url: String,
    /// File with the API key.
    pub api_key_file: Option<PathBuf>,
    /// Environment variable (of the gateway) with the API key, when there is no file.
    pub api_key_env: Option<String>,
}
