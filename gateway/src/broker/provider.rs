//! A provider's address and key.

use std::path::PathBuf;

use http::uri::{Authority, PathAndQuery, Scheme};
use http::{HeaderMap, HeaderValue, Uri, header};

use super::BrokerError;
use super::refusal::{Kind, Refusal};
use super::route::Route;

/// Told when nothing is configured.
pub(super) const HOW_TO_CONFIGURE: &str = "rekindle: no model provider is configured. Add to rekindle.toml: \
     [broker.anthropic] with base_url = \"https://api.anthropic.com\" and api_key_file = \"secrets/anthropic_api_key\", \
     put the key into that file, and start the gateway again";

/// Tokens of a subscription begin so; they go into another header than keys.
const OAUTH_PREFIX: &str = "sk-ant-oat";

/// The Messages API.
pub(super) struct Anthropic {
    scheme: Scheme,
    authority: Authority,
    /// Path of the base URL, without a slash at its end.
    prefix: String,
    key_file: Option<PathBuf>,
    /// From the environment, read once.
    key: Option<String>,
    key_env: Option<String>,
}

impl Anthropic {
    pub(super) fn new(settings: &settings::Provider) -> Result<Self, BrokerError> {
        let wrong = || BrokerError::BaseUrl { provider: "anthropic", url: settings.base_url.clone() };
        let uri: Uri = settings.base_url.parse().map_err(|_| wrong())?;
        let scheme = uri.scheme().cloned().ok_or_else(wrong)?;
        let authority = uri.authority().cloned().ok_or_else(wrong)?;
        let known = scheme == Scheme::HTTP || scheme == Scheme::HTTPS;
        if !known || uri.query().is_some() || authority.as_str().contains('@') {
            return Err(wrong());
        }
        let loopback = matches!(authority.host(), "localhost" | "[::1]") || authority.host().starts_with("127.");
        if scheme == Scheme::HTTP && !loopback {
            tracing::warn!(
                url = settings.base_url,
                "broker.anthropic.base_url is http://: the key crosses the network in clear"
            );
        }
        let key_env = settings.api_key_env.clone();
        let key = key_env.as_ref().and_then(|name| std::env::var(name).ok());
        Ok(Self {
            prefix: uri.path().trim_end_matches('/').into(),
            scheme,
            authority,
            key_file: settings.api_key_file.clone(),
            key: key.map(|k| k.trim().to_owned()).filter(|k| !k.is_empty()),
            key_env,
        })
    }

    /// Host and port, for messages.
    pub(super) fn host(&self) -> &str {
        self.authority.as_str()
    }

    /// The route's address at the provider.
    pub(super) fn uri(&self, route: &Route) -> Result<Uri, Refusal> {
        let query = route.query.as_ref().map(|q| format!("?{q}"));
        let path = format!("{}{}{}", self.prefix, route.path, query.unwrap_or_default());
        let not_a_path = |_| Refusal::new(Kind::NotFound, "rekindle: the path and query are not legal");
        let path = PathAndQuery::try_from(path).map_err(not_a_path)?;
        Uri::builder()
            .scheme(self.scheme.clone())
            .authority(self.authority.clone())
            .path_and_query(path)
            .build()
            .map_err(|_| Refusal::new(Kind::NotFound, "rekindle: the path and query are not legal"))
    }

    /// Puts the key where the provider expects it. The file is read for every request, so that a key that comes later, or is
    /// changed, works without a restart.
    pub(super) async fn add_key(&self, headers: &mut HeaderMap) -> Result<(), Refusal> {
        let key = match &self.key_file {
            Some(path) => match tokio::fs::read_to_string(path).await {
                Ok(text) => Some(text.trim().to_owned()).filter(|key| !key.is_empty()),
                Err(error) => {
                    tracing::warn!(%error, path = %path.display(), "cannot read the model key");
                    None
                }
            },
            None => None,
        };
        let Some(key) = key.or_else(|| self.key.clone()) else {
            return Err(Refusal::no_key(self.how_to_give_a_key()));
        };
        let oauth = key.starts_with(OAUTH_PREFIX);
        let value = if oauth { format!("Bearer {key}") } else { key };
        let Ok(mut value) = HeaderValue::try_from(value) else {
            return Err(Refusal::no_key(
                "rekindle: the model key holds characters that no key has; look at its file (broker.anthropic.api_key_file)",
            ));
        };
        value.set_sensitive(true);
        let name = match oauth {
            true => header::AUTHORIZATION,
            false => header::HeaderName::from_static("x-api-key"),
        };
        headers.insert(name, value);
        Ok(())
    }

    /// Names files and variables by their base name only: whoever reads it may be inside a sandbox.
    fn how_to_give_a_key(&self) -> String {
        let file = self
            .key_file
            .as_ref()
            .and_then(|p| p.file_name())
            .map(|name| format!("put it into the gateway's file `{}`", name.to_string_lossy()));
        let variable = self.key_env.as_ref().map(|name| format!("start the gateway with {name} set"));
        let ways: Vec<_> = file.into_iter().chain(variable).collect();
        if ways.is_empty() {
            return format!("rekindle: there is no model key. {HOW_TO_CONFIGURE}");
        }
        format!("rekindle: there is no model key; {}", ways.join(", or "))
    }
}
