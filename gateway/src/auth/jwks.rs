//! An identity provider's keys: fetched when they are needed, again when they are old or a token names one that is not among
//! them, and kept when that fails.

use std::sync::{Arc, PoisonError, RwLock};
use std::time::Duration;

use anyhow::{Context, bail, ensure};
use bytes::Bytes;
use http::uri::Scheme;
use http::{Request, StatusCode, Uri, header};
use http_body_util::{BodyExt, Empty, Limited};
use hyper_rustls::{HttpsConnector, HttpsConnectorBuilder};
use hyper_util::client::legacy::Client;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::TokioExecutor;
use settings::KeyAlgorithm;
use tokio::sync::Mutex;
use tokio::time::{Instant, timeout};

use super::error::AuthError;
use super::jwk;
use super::key::Key;

/// The whole answer must be there by then.
const FETCH_TIME: Duration = Duration::from_secs(5);
const DOCUMENT_MAX_BYTES: usize = 256 << 10;
/// Between two fetches before their time, however many tokens name keys that nobody has, and after one that failed.
const PAUSE: Duration = Duration::from_secs(30);
/// The same while there are no keys at all.
const FIRST_PAUSE: Duration = Duration::from_secs(2);

/// A key set that is published somewhere.
pub struct Jwks {
    url: Uri,
    algorithms: Vec<KeyAlgorithm>,
    max_age: Duration,
    client: Client<HttpsConnector<HttpConnector>, Empty<Bytes>>,
    known: RwLock<Arc<KeySet>>,
    /// When it was last tried to fetch them. Held while that is done: one fetch at a time.
    tried: Mutex<Option<Instant>>,
}

/// The keys as they were last fetched.
#[derive(Debug, Default)]
pub struct KeySet {
    /// They themselves.
    pub keys: Vec<Key>,
    fetched: Option<Instant>,
}

impl KeySet {
    fn is_good_for(&self, kid: Option<&str>, max_age: Duration) -> bool {
        let fresh = self.fetched.is_some_and(|at| at.elapsed() < max_age);
        fresh && kid.is_none_or(|kid| self.keys.iter().any(|key| key.kid.as_deref() == Some(kid)))
    }
}

impl std::fmt::Debug for Jwks {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Jwks").field("url", &self.url).finish_non_exhaustive()
    }
}

impl Jwks {
    /// Nothing is fetched yet.
    ///
    /// # Errors
    /// A URL or algorithms that cannot be used.
    pub fn new(settings: &settings::Jwks) -> anyhow::Result<Self> {
        ensure!(!settings.algorithms.contains(&KeyAlgorithm::HS256), "HS256 is not for published keys");
        ensure!(!settings.algorithms.is_empty(), "no algorithm is left");
        let url = checked(&settings.url)?;
        let mut tcp = HttpConnector::new();
        tcp.enforce_http(false);
        tcp.set_connect_timeout(Some(FETCH_TIME));
        let provider = rustls::crypto::aws_lc_rs::default_provider();
        let tls = HttpsConnectorBuilder::new();
        // The system's roots are read only where they are needed.
        let tls = match url.scheme() == Some(&Scheme::HTTPS) {
            true => tls.with_provider_and_native_roots(provider).context("read the system's root certificates")?,
            false => tls.with_provider_and_webpki_roots(provider)?,
        };
        let connector = tls.https_or_http().enable_http1().wrap_connector(tcp);
        Ok(Self {
            url,
            algorithms: settings.algorithms.clone(),
            max_age: Duration::from_secs(settings.max_age_sec.max(1)),
            // A fetch is rare: no connection is kept for the next.
            client: Client::builder(TokioExecutor::new()).pool_max_idle_per_host(0).build(connector),
            known: RwLock::default(),
            tried: Mutex::default(),
        })
    }

    /// Whether its keys may be for this algorithm.
    pub fn is_for(&self, algorithm: KeyAlgorithm) -> bool {
        self.algorithms.contains(&algorithm)
    }

    /// The keys, fetched first where the present ones are too old or have not the one that a token names.
    ///
    /// # Errors
    /// [`AuthError::NoKeys`] when they were never fetched.
    pub async fn keys(&self, kid: Option<&str>) -> Result<Arc<KeySet>, AuthError> {
        let known = self.known();
        if known.is_good_for(kid, self.max_age) {
            return Ok(known);
        }
        let mut tried = self.tried.lock().await;
        let known = self.known();
        let pause = match known.fetched {
            None => FIRST_PAUSE,
            Some(at) if at.elapsed() >= self.max_age => PAUSE.min(self.max_age),
            Some(_) => PAUSE,
        };
        let too_soon = tried.is_some_and(|at| at.elapsed() < pause);
        if !too_soon && !known.is_good_for(kid, self.max_age) {
            *tried = Some(Instant::now());
            match self.fetch().await {
                Ok(keys) => {
                    let set = Arc::new(KeySet { keys, fetched: Some(Instant::now()) });
                    *self.known.write().unwrap_or_else(PoisonError::into_inner) = set;
                }
                Err(why) => {
                    tracing::warn!(url = %self.url, why = format!("{why:#}"), "cannot fetch auth.jwks; the old keys stay");
                }
            }
        }
        let known = self.known();
        if known.fetched.is_some() { Ok(known) } else { Err(AuthError::NoKeys) }
    }

    fn known(&self) -> Arc<KeySet> {
        self.known.read().unwrap_or_else(PoisonError::into_inner).clone()
    }

    async fn fetch(&self) -> anyhow::Result<Vec<Key>> {
        let request = Request::get(self.url.clone()).header(header::ACCEPT, "application/json");
        let request = request.body(Empty::new()).context("ask for it")?;
        let document = timeout(FETCH_TIME, async {
            let response = self.client.request(request).await.context("reach it")?;
            // A redirect as well: keys come from where they were said to be.
            ensure!(response.status() == StatusCode::OK, "it answers {}", response.status());
            let body = Limited::new(response.into_body(), DOCUMENT_MAX_BYTES).collect().await;
            let body = body.map_err(|e| anyhow::anyhow!(e)).context("read its answer")?;
            Ok(body.to_bytes())
        });
        jwk::keys(&document.await.context("wait for it")??, &self.algorithms)
    }
}

/// `https`, or `http` to this machine: whoever is on the way could give keys of its own.
fn checked(url: &str) -> anyhow::Result<Uri> {
    let uri: Uri = url.parse().with_context(|| format!("read `{url}` as a URL"))?;
    let Some(authority) = uri.authority() else { bail!("`{url}` has no host") };
    ensure!(!authority.as_str().contains('@'), "a URL with a name or a password is not taken");
    let host = authority.host();
    let loopback = match host.trim_start_matches('[').trim_end_matches(']').parse::<std::net::IpAddr>() {
        Ok(ip) => ip.is_loopback(),
        Err(_) => host == "localhost",
    };
    match uri.scheme_str() {
        Some("https") => Ok(uri),
        Some("http") if loopback => Ok(uri),
        _ => bail!("`{url}` must be https:// (http:// only on loopback)"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_come_by_https_or_from_this_machine() {
        for good in ["https://id.example/k", "http://127.0.0.1:1/k", "http://[::1]/k", "http://localhost:3/k"] {
            assert!(checked(good).is_ok(), "{good}");
        }
        for bad in ["http://id.example/k", "http://127.0.0.1.id.example/", "ftp://x/", "/k", "https://a:b@x/", "x"] {
            assert!(checked(bad).is_err(), "{bad}");
        }
    }
}
