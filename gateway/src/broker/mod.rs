//! The credential-injecting proxy: what a sandbox's agent CLI takes for the model API.
//!
//! It knows three things that the sandbox does not: where the API is, the key, and that nothing else may be reached. Bytes pass
//! untouched and streamed, in both directions, and are counted as they pass: what an answer says of its tokens goes to the
//! ledger, and who has used up a budget gets the API's own error for that. Redirects are refused, never followed, so that a key
//! is shown only to the configured host.

mod answer;
mod asked;
mod headers;
mod json;
mod meter;
mod model;
mod prices;
mod provider;
mod refusal;
mod route;
mod scan;
#[cfg(test)]
mod tests;
mod upload;

use std::collections::BTreeMap;
use std::convert::Infallible;
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use bytes::Bytes;
use contract::DispatchClaims;
use http::{Method, Request, Response, StatusCode, header};
use http_body_util::BodyExt;
use http_body_util::combinators::BoxBody;
use hyper::body::{Body as _, Incoming};
use hyper::service::service_fn;
use hyper_rustls::{HttpsConnector, HttpsConnectorBuilder};
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::client::legacy::{Client, Error as ClientError};
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use ledger::Ledger;
use settings::{Api, Settings};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::time::{Instant, sleep_until, timeout};
use tokio_util::sync::CancellationToken;
use tokio_util::task::AbortOnDropHandle;

use crate::metrics::ModelUse;
use answer::Answer;
use asked::Unasked;
pub(crate) use headers::drop_hop_by_hop;
use meter::{Meter, Metered};
use provider::Provider;
use refusal::{Kind, Refusal};
use route::Route;
use upload::{Fault, Upload};

/// Time for a TCP and TLS connection to the API.
const CONNECT_TIME: Duration = Duration::from_secs(15);
/// Time for a request's headers to be complete.
const HEADER_TIME: Duration = Duration::from_secs(60);
/// Bytes of a request's headers.
const HEADER_BYTES: usize = 64 << 10;
/// Idle connections to the API that are kept.
const IDLE_CONNECTIONS: usize = 32;
/// Time that a refused request's body is read, so that its sender is there to hear the refusal.
const LISTEN_TIME: Duration = Duration::from_secs(10);
/// Characters of a provider's name.
const NAME_CHARS: usize = 32;

type BoxError = Box<dyn std::error::Error + Send + Sync>;
type Body = BoxBody<Bytes, BoxError>;

/// Why there is no broker.
#[derive(Debug, thiserror::Error)]
pub enum BrokerError {
    /// `base_url` cannot be used.
    #[error("broker.{provider}.base_url `{url}` is not an http:// or https:// URL without query")]
    BaseUrl {
        /// Which provider.
        provider: String,
        /// What stands there.
        url: String,
    },
    /// Another setting of a provider cannot be used.
    #[error("broker.{provider}.{setting} {why}")]
    Setting {
        /// Which provider.
        provider: String,
        /// Which setting.
        setting: &'static str,
        /// What is wrong with it.
        why: String,
    },
    /// A provider's name would not stand in a path.
    #[error("broker.{0}: a provider's name is up to {NAME_CHARS} small letters, digits, `-` and `_`")]
    Name(String),
    /// A price that is none.
    #[error("prices.\"{0}\" has a price that is not a number from 0 on")]
    Price(String),
    /// Nothing could ever be held against a budget in currency.
    #[error(
        "[budgets] has a `cost`, and no [prices.\"<model>\"] says what models cost; `[prices.\"*\"]` is for all of them"
    )]
    NoPrices,
}

/// The proxy, with its pool of connections to the model APIs.
pub struct Broker {
    providers: BTreeMap<String, Arc<Provider>>,
    client: Client<HttpsConnector<HttpConnector>, Upload>,
    /// There once the ledger was reached.
    meter: OnceLock<Arc<Meter>>,
}

impl std::fmt::Debug for Broker {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Broker").finish_non_exhaustive()
    }
}

impl Broker {
    /// From the settings. A key that is missing is no error here: it may come later, and who calls is told how.
    ///
    /// # Errors
    /// [`BrokerError`], which names the setting.
    pub fn new(settings: &Settings) -> Result<Self, BrokerError> {
        let mut providers = BTreeMap::new();
        for (name, provider) in &settings.broker.0 {
            let plain = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit() || matches!(b, b'-' | b'_');
            if !(1..=NAME_CHARS).contains(&name.len()) || !name.bytes().all(plain) {
                return Err(BrokerError::Name(name.clone()));
            }
            providers.insert(name.clone(), Arc::new(Provider::new(name, provider)?));
        }
        for (model, p) in &settings.prices {
            let prices = [p.input, p.output, p.cache_read, p.cache_write_5m, p.cache_write_1h];
            if !prices.iter().all(|price| price.is_finite() && *price >= 0.0) {
                return Err(BrokerError::Price(model.clone()));
            }
        }
        if settings.budgets.have_cost() && settings.prices.is_empty() {
            return Err(BrokerError::NoPrices);
        }
        let mut tcp = HttpConnector::new();
        tcp.enforce_http(false);
        tcp.set_nodelay(true);
        tcp.set_connect_timeout(Some(CONNECT_TIME));
        tcp.set_keepalive(Some(Duration::from_secs(60)));
        // One connection per running request: over a shared HTTP/2 one, a worker that does not read its stream would hold up
        // the others'.
        let client = Client::builder(TokioExecutor::new())
            .pool_max_idle_per_host(IDLE_CONNECTIONS)
            .pool_timer(TokioTimer::new())
            .pool_idle_timeout(Duration::from_secs(60))
            .build(tls().https_or_http().enable_http1().wrap_connector(tcp));
        Ok(Self { providers, client, meter: OnceLock::new() })
    }

    /// The ledger was reached: from now on requests are counted there, and passed on. A second call changes nothing.
    pub fn connected(&self, ledger: Ledger, settings: &Settings, figures: ModelUse) {
        let _ = self.meter.set(Arc::new(Meter::new(ledger, settings, figures)));
    }

    /// Resolves when all that was used until now is told to the ledger; bounded by how long that is tried.
    pub async fn settled(&self) {
        if let Some(meter) = self.meter.get() {
            meter.settled().await;
        }
    }

    /// Serves one worker's HTTP connection to its end. When the worker closes its side, what runs for it is dropped, and
    /// with it the connection to the API. After `stop` the running request is finished and no other taken.
    pub async fn serve_http<S>(&self, claims: &DispatchClaims, io: S, stop: CancellationToken)
    where
        S: AsyncRead + AsyncWrite + Unpin + Send,
    {
        let cut = CancellationToken::new();
        let service = service_fn(|request| async { Ok::<_, Infallible>(self.answer(claims, request, &cut).await) });
        let connection = hyper::server::conn::http1::Builder::new()
            .timer(TokioTimer::new())
            .header_read_timeout(HEADER_TIME)
            .max_buf_size(HEADER_BYTES)
            .serve_connection(TokioIo::new(io), service);
        tokio::pin!(connection);
        let mut stopping = false;
        let ended = loop {
            tokio::select! {
                ended = connection.as_mut() => break ended,
                () = cut.cancelled() => return tracing::info!(uid = %claims.unit, "a model request took too long"),
                () = stop.cancelled(), if !stopping => {
                    stopping = true;
                    connection.as_mut().graceful_shutdown();
                }
            }
        };
        if let Err(error) = ended {
            tracing::debug!(uid = %claims.unit, %error, "a worker's model connection ended early");
        }
    }

    async fn answer(
        &self,
        claims: &DispatchClaims,
        request: Request<Incoming>,
        cut: &CancellationToken,
    ) -> Response<Body> {
        let name = route::split(request.uri()).map_or("", |(name, _)| name).to_owned();
        let provider = self.providers.get(&name);
        let api = provider.map_or(if name == "openai" { Api::OpenAi } else { Api::Anthropic }, |p| p.api);
        match self.forward(claims, provider, request, cut).await {
            Ok(response) => response,
            Err(refusal) => {
                let why = refusal.message.as_str();
                tracing::info!(uid = %claims.unit, generation = %claims.generation, why, "the broker refused");
                refusal.into_response(api)
            }
        }
    }

    async fn forward(
        &self,
        claims: &DispatchClaims,
        provider: Option<&Arc<Provider>>,
        request: Request<Incoming>,
        cut: &CancellationToken,
    ) -> Result<Response<Body>, Refusal> {
        let (mut head, body) = request.into_parts();
        let opened = async {
            let (provider, route) = self.route(provider, &head)?;
            head.uri = provider.uri(&route)?;
            let length = head.headers.get(header::CONTENT_LENGTH).and_then(|v| v.to_str().ok()?.parse::<u64>().ok());
            if length.is_some_and(|length| length > provider.request_bytes) {
                return Err(Refusal::faulty(provider, &Fault::TooLarge));
            }
            if head.headers.get(header::CONTENT_ENCODING).is_some_and(|coding| coding != "identity") {
                return Err(Refusal::new(Kind::Invalid, "rekindle: a compressed request cannot be metered"));
            }
            // A GET has no body, and a POST has one: it is JSON.
            if body.is_end_stream() == (head.method == Method::POST) {
                return Err(Refusal::faulty(provider, &Fault::Unasked(Unasked::NotJson)));
            }
            let key = provider.dress(&mut head.headers, &claims.unit).await?;
            let meter = self.meter.get().ok_or_else(Refusal::no_ledger)?;
            let metered = meter.admit(claims, provider, route.generates).await;
            let metered = metered.inspect_err(|refusal| meter.refused(&provider.name, refusal))?;
            Ok((provider, key, metered))
        };
        let (provider, key, metered) = match opened.await {
            Ok(opened) => opened,
            Err(refusal) => {
                listen(body, provider.map_or(0, |p| p.request_bytes)).await;
                return Err(refusal);
            }
        };
        head.version = http::Version::HTTP_11;
        head.extensions = http::Extensions::new();
        let upload = Upload::new(body, provider, metered.progress());
        self.send(provider, &key, metered, Request::from_parts(head, upload), cut).await
    }

    fn route<'a>(
        &self,
        provider: Option<&'a Arc<Provider>>,
        head: &http::request::Parts,
    ) -> Result<(&'a Arc<Provider>, Route), Refusal> {
        let Some((name, path)) = route::split(&head.uri) else {
            let shown: String = head.uri.path().chars().take(200).collect();
            let message = format!("rekindle: {} {shown} is not served; there is /broker/<provider>/…", head.method);
            return Err(Refusal::new(Kind::NotFound, message));
        };
        let provider = provider.ok_or_else(|| {
            let plain = name.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'_'));
            let shown = if plain && name.len() <= NAME_CHARS { name } else { "<provider>" };
            Refusal::no_key(provider::how_to_configure("no such model provider is configured", shown))
        })?;
        Ok((provider, provider.route(&head.method, path, head.uri.query())?))
    }

    async fn send(
        &self,
        provider: &Provider,
        key: &str,
        mut metered: Metered,
        request: Request<Upload>,
        cut: &CancellationToken,
    ) -> Result<Response<Body>, Refusal> {
        let deadline = Instant::now() + provider.whole;
        let answer = timeout(provider.silence.min(provider.whole), self.client.request(request)).await;
        let progress = metered.progress();
        let answer = match (answer, progress.fault()) {
            (Ok(Ok(answer)), _) => answer,
            (_, Some(fault)) => return Err(Refusal::faulty(provider, fault)),
            (Ok(Err(error)), None) => return Err(unreachable(provider, &error)),
            (Err(_), None) => {
                let message = format!("rekindle: the model API at {} says nothing", provider.host());
                return Err(Refusal::new(Kind::Slow, message));
            }
        };
        let (mut head, body) = answer.into_parts();
        metered.answered(head.status, &head.headers);
        if head.status.is_redirection() && head.status != StatusCode::NOT_MODIFIED {
            let message = format!(
                "rekindle: the model API at {} sends elsewhere, which is not followed: broker.{}.base_url must be its final address",
                provider.host(),
                provider.name
            );
            return Err(Refusal::new(Kind::Redirect, message));
        }
        headers::clean_response(&mut head.headers, key);
        head.extensions = http::Extensions::new();
        let cut = cut.clone();
        let ends = AbortOnDropHandle::new(tokio::spawn(async move {
            sleep_until(deadline).await;
            cut.cancel();
        }));
        Ok(Response::from_parts(head, Answer::new(body, metered, provider.silence, ends).boxed()))
    }
}

fn unreachable(provider: &Provider, error: &ClientError) -> Refusal {
    let cause = std::error::Error::source(error).map(ToString::to_string);
    tracing::warn!(%error, cause, host = provider.host(), "the model API does not answer");
    Refusal::new(Kind::Unreachable, format!("rekindle: the model API at {} does not answer", provider.host()))
}

/// Reads what a refused request still sends, within bounds.
async fn listen(mut body: Incoming, most: u64) {
    let reading = async {
        let mut read = 0;
        while let Some(Ok(frame)) = body.frame().await {
            read += frame.data_ref().map_or(0, Bytes::len) as u64;
            if read > most {
                return;
            }
        }
    };
    let _ = timeout(LISTEN_TIME, reading).await;
}

/// TLS with the machine's own roots; a machine that has none (a bare container) gets Mozilla's.
fn tls() -> HttpsConnectorBuilder<hyper_rustls::builderstates::WantsSchemes> {
    let provider = rustls::crypto::aws_lc_rs::default_provider;
    let builder = HttpsConnectorBuilder::new();
    let native = builder.with_provider_and_native_roots(provider());
    let bundled = || HttpsConnectorBuilder::new().with_provider_and_webpki_roots(provider());
    native
        .or_else(|error| {
            tracing::warn!(%error, "this machine has no CA certificates; the bundled ones are used");
            bundled()
        })
        .unwrap_or_else(|error| unreachable!("the provider has the default protocol versions: {error}"))
}
