//! A provider's address, key and bounds.

use std::path::PathBuf;
use std::time::Duration;

use contract::UnitId;
use http::header::{self, HeaderMap, HeaderName, HeaderValue};
use http::uri::{Authority, PathAndQuery, Scheme};
use http::{Method, Uri};
use settings::Api;

use super::BrokerError;
use super::asked::Allowed;
use super::headers;
use super::refusal::{Kind, Refusal};
use super::route::{Route, Routes};

/// Told when nothing is configured.
const HOW_TO_CONFIGURE: &str = "base_url = \"https://…\" and api_key_file = \"secrets/…_api_key\", \
     put the key into that file, and start the gateway again";

/// Tokens of a subscription begin so; they go into another header than keys.
const OAUTH_PREFIX: &str = "sk-ant-oat";

const BETA: HeaderName = HeaderName::from_static("anthropic-beta");

/// Where a key goes.
#[derive(Debug)]
enum Auth {
    /// `x-api-key`, or `authorization` for a token of a subscription.
    ByKey,
    Bearer,
    Header(HeaderName),
}

/// A configured provider.
pub(super) struct Provider {
    pub(super) name: String,
    pub(super) api: Api,
    /// Most bytes of a request's body.
    pub(super) request_bytes: u64,
    /// Most time without a byte.
    pub(super) silence: Duration,
    /// Most time of a request with its answer.
    pub(super) whole: Duration,
    scheme: Scheme,
    authority: Authority,
    /// Path of the base URL, without a slash at its end.
    prefix: String,
    routes: Routes,
    auth: Auth,
    key_file: Option<PathBuf>,
    /// From the environment, read once.
    key: Option<String>,
    key_env: Option<String>,
    /// What requests may have it do beside answering.
    pub(super) allowed: Allowed,
    passed: Vec<HeaderName>,
    put: Vec<(HeaderName, HeaderValue)>,
}

impl Provider {
    pub(super) fn new(name: &str, settings: &settings::Provider) -> Result<Self, BrokerError> {
        let wrong_url = || BrokerError::BaseUrl { provider: name.into(), url: settings.base_url.clone() };
        let wrong = |setting, why: String| BrokerError::Setting { provider: name.into(), setting, why };
        let uri: Uri = settings.base_url.parse().map_err(|_| wrong_url())?;
        let scheme = uri.scheme().cloned().ok_or_else(wrong_url)?;
        let authority = uri.authority().cloned().ok_or_else(wrong_url)?;
        let known = scheme == Scheme::HTTP || scheme == Scheme::HTTPS;
        if !known || uri.query().is_some() || authority.as_str().contains('@') {
            return Err(wrong_url());
        }
        warn_if_clear(name, &scheme, &authority);
        let api = match (settings.api, name) {
            (Some(api), _) => api,
            (None, "anthropic") => Api::Anthropic,
            (None, "openai") => Api::OpenAi,
            (None, _) => return Err(wrong("api", "is missing: it is `anthropic` or `openai`".into())),
        };
        let auth = match (settings.auth.as_deref(), api) {
            (None, Api::Anthropic) => Auth::ByKey,
            (None, Api::OpenAi) | (Some("bearer"), _) => Auth::Bearer,
            (Some(other), _) => Auth::Header(header_name(other).map_err(|why| wrong("auth", why))?),
        };
        let routes = Routes::new(api, &settings.paths, &settings.query);
        let not_a_path = |text| wrong("paths", format!("has `{text}`, which is not like `POST /v1/messages`"));
        let mut passed = Vec::new();
        for text in &settings.pass_headers {
            let header = header_name(text).map_err(|why| wrong("pass_headers", why))?;
            if !headers::may_pass(&header) {
                return Err(wrong("pass_headers", format!("names `{text}`, which clients have no say in")));
            }
            passed.push(header);
        }
        let is_word = |w: &str| !w.is_empty() && w.bytes().all(|b| b.is_ascii_alphanumeric() || b"-._".contains(&b));
        if let Some(other) = settings.allow.iter().find(|word| !is_word(word)) {
            return Err(wrong("allow", format!("has `{other}`, which is not like `web_search`")));
        }
        let mut put = Vec::new();
        for (text, value) in &settings.headers {
            let value =
                value.parse().map_err(|_| wrong("headers", format!("has a value for `{text}` that is none")))?;
            put.push((header_name(text).map_err(|why| wrong("headers", why))?, value));
        }
        let key_env = settings.api_key_env.clone();
        let key = key_env.as_ref().and_then(|name| std::env::var(name).ok());
        Ok(Self {
            name: name.into(),
            api,
            request_bytes: settings.request_mb.max(1).saturating_mul(1 << 20),
            silence: Duration::from_secs(settings.silence_sec.max(1)),
            whole: Duration::from_secs(settings.request_sec.max(1)),
            prefix: uri.path().trim_end_matches('/').into(),
            scheme,
            authority,
            routes: routes.map_err(not_a_path)?,
            auth,
            key_file: settings.api_key_file.clone(),
            key: key.map(|k| k.trim().to_owned()).filter(|k| !k.is_empty()),
            key_env,
            allowed: Allowed(settings.allow.clone()),
            passed,
            put,
        })
    }

    /// Host and port, for messages.
    pub(super) fn host(&self) -> &str {
        self.authority.as_str()
    }

    /// What is served of it.
    pub(super) fn route(&self, method: &Method, path: &str, query: Option<&str>) -> Result<Route, Refusal> {
        self.routes.find(method, path, query)
    }

    /// The route's address at the provider.
    pub(super) fn uri(&self, route: &Route) -> Result<Uri, Refusal> {
        let query = route.query.as_ref().map(|q| format!("?{q}"));
        let path = format!("{}{}{}", self.prefix, route.path, query.unwrap_or_default());
        let not_a_path = || Refusal::new(Kind::NotFound, "rekindle: the path and query are not legal");
        let path = PathAndQuery::try_from(path).map_err(|_| not_a_path())?;
        Uri::builder()
            .scheme(self.scheme.clone())
            .authority(self.authority.clone())
            .path_and_query(path)
            .build()
            .map_err(|_| not_a_path())
    }

    /// Leaves of the headers of a unit's client what the provider shall see, and adds the settings' own and the key, which it
    /// returns.
    pub(super) async fn dress(&self, headers: &mut HeaderMap, unit: &UnitId) -> Result<String, Refusal> {
        headers::clean_request(headers, &self.passed, unit);
        for (name, value) in &self.put {
            match headers.get(name).filter(|_| *name == BETA) {
                Some(clients) => {
                    let both = [clients.as_bytes(), b",", value.as_bytes()].concat();
                    headers.insert(BETA, HeaderValue::from_bytes(&both).unwrap_or_else(|_| value.clone()));
                }
                None => drop(headers.insert(name, value.clone())),
            }
        }
        let key = self.key().await?;
        let oauth = matches!(self.auth, Auth::ByKey) && key.starts_with(OAUTH_PREFIX);
        let (name, text) = match &self.auth {
            Auth::Header(name) => (name.clone(), key.clone()),
            Auth::ByKey if !oauth => (HeaderName::from_static("x-api-key"), key.clone()),
            Auth::ByKey | Auth::Bearer => (header::AUTHORIZATION, format!("Bearer {key}")),
        };
        let Ok(mut value) = HeaderValue::try_from(text) else {
            let name = &self.name;
            let message =
                format!("rekindle: the model key holds characters that no key has (broker.{name}.api_key_file)");
            return Err(Refusal::no_key(message));
        };
        value.set_sensitive(true);
        headers.insert(name, value);
        Ok(key)
    }

    /// The file is read for every request, so that a key that comes later, or is changed, works without a restart.
    async fn key(&self) -> Result<String, Refusal> {
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
        key.or_else(|| self.key.clone()).ok_or_else(|| Refusal::no_key(self.how_to_give_a_key()))
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
            return how_to_configure("there is no model key", &self.name);
        }
        format!("rekindle: there is no model key; {}", ways.join(", or "))
    }
}

/// What to do where a provider, or its key, is not configured.
pub(super) fn how_to_configure(what: &str, name: &str) -> String {
    format!("rekindle: {what}. Add to rekindle.toml: [broker.{name}] with {HOW_TO_CONFIGURE}")
}

fn header_name(text: &str) -> Result<HeaderName, String> {
    text.to_ascii_lowercase().parse().map_err(|_| format!("names `{text}`, which is no header"))
}

fn warn_if_clear(name: &str, scheme: &Scheme, authority: &Authority) {
    let loopback = matches!(authority.host(), "localhost" | "[::1]") || authority.host().starts_with("127.");
    if *scheme == Scheme::HTTP && !loopback {
        tracing::warn!("broker.{name}.base_url is http://: the key crosses the network in clear");
    }
}
