//! `[broker]`: model providers, their addresses and keys.

use std::collections::BTreeMap;
use std::path::PathBuf;

use serde::{Deserialize, Serialize};

/// `[broker]`: providers by the name under which sandboxes reach them, `/broker/<name>/…`.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Broker(pub BTreeMap<String, Provider>);

impl Broker {
    /// The provider of this name.
    pub fn get(&self, name: &str) -> Option<&Provider> {
        self.0.get(name)
    }
}

/// What a provider speaks.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Api {
    /// Anthropic's Messages API.
    Anthropic,
    /// OpenAI's Responses and Chat Completions.
    OpenAi,
}

/// `[broker.<name>]`
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Provider {
    /// Where its API is, without `/v1`.
    pub base_url: String,
    /// What it speaks. `anthropic` and `openai` need not say it.
    pub api: Option<Api>,
    /// Where its key goes: `x-api-key`, `bearer`, or the name of another header. Default: `bearer` for `api = "openai"` and for
    /// subscription tokens, `x-api-key` otherwise.
    pub auth: Option<String>,
    /// File with the API key or OAuth token; read for every request.
    pub api_key_file: Option<PathBuf>,
    /// Environment variable (of the gateway) with the API key, when there is no file.
    pub api_key_env: Option<String>,
    /// What is served instead of the API's own list: `POST /v1/messages`, `GET /v1/models/*`. A star is one segment.
    #[serde(default)]
    pub paths: Vec<String>,
    /// Names of query parameters that are served beside the API's own.
    #[serde(default)]
    pub query: Vec<String>,
    /// Headers of clients that are passed on beside the API's own. Those that hold credentials never are.
    #[serde(default)]
    pub pass_headers: Vec<String>,
    /// What a request may have the provider do beside answering, or refer to: kinds of server-side tools without their version
    /// (`web_search`, `code_interpreter`, `mcp`), `url` for images and files that it fetches, and members and items that name what
    /// lies with it (`previous_response_id`, `conversation`, `prompt`, `store`, `container`, `file_id`, `file_ids`,
    /// `vector_store_ids`, `skills`, `audio`, `item_reference`). A refusal names the word. All units share one account there.
    #[serde(default)]
    pub allow: Vec<String>,
    /// Headers that are put on every request. `anthropic-beta` is added to the client's, others replace it.
    #[serde(default)]
    pub headers: BTreeMap<String, String>,
    /// Most megabytes of a request's body.
    #[serde(default = "request_mb")]
    pub request_mb: u64,
    /// Most seconds without a byte: of a request's body, before an answer, within one.
    #[serde(default = "silence_sec")]
    pub silence_sec: u64,
    /// Most seconds of a request with its answer.
    #[serde(default = "request_sec")]
    pub request_sec: u64,
}

impl Provider {
    /// A provider at this address, with defaults for the rest.
    pub fn at(base_url: impl Into<String>) -> Self {
        Self {
            base_url: base_url.into(),
            request_mb: request_mb(),
            silence_sec: silence_sec(),
            request_sec: request_sec(),
            ..Self::default()
        }
    }
}

fn request_mb() -> u64 {
    64
}

fn silence_sec() -> u64 {
    600
}

fn request_sec() -> u64 {
    3600
}
