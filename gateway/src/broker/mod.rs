//! The credential-injecting proxy: what a sandbox's agent CLI takes for the model API.
//!
//! It knows three things that the sandbox does not: where the API is, the key, and that nothing else may be reached. Bytes,
//! status and the API's own headers pass untouched and streamed, in both directions; redirects are the client's to read,
//! never followed, so that a key is shown only to the configured host.

mod headers;
mod provider;
mod refusal;
mod route;
#[cfg(test)]
mod tests;

use std::convert::Infallible;
use std::time::Duration;

use bytes::Bytes;
use contract::DispatchClaims;
use http::{Request, Response};
use http_body_util::BodyExt;
use http_body_util::combinators::BoxBody;
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper_rustls::{HttpsConnector, HttpsConnectorBuilder};
use hyper_util::client::legacy::Client;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio_util::sync::CancellationToken;

use provider::Anthropic;
use refusal::{Kind, Refusal};

/// Time for a TCP and TLS connection to the API.
const CONNECT_TIME: Duration = Duration::from_secs(15);
/// Time for a request's headers to be complete.
const HEADER_TIME: Duration = Duration::from_secs(60);
/// Bytes of a request's headers.
const HEADER_BYTES: usize = 64 << 10;
/// Idle connections to the API that are kept.
const IDLE_CONNECTIONS: usize = 32;

type Body = BoxBody<Bytes, hyper::Error>;

/// Why there is no broker.
#[derive(Debug, thiserror::Error)]
pub enum BrokerError {
    /// `base_url` cannot be used.
    #[error("broker.{provider}.base_url `{url}` is not an http:// or https:// URL without query")]
    BaseUrl {
        /// Which provider.
        provider: &'static str,
        /// What stands there.
        url: String,
    },
}

/// The proxy, with its pool of connections to the model APIs.
pub struct Broker {
    anthropic: Option<Anthropic>,
    client: Client<HttpsConnector<HttpConnector>, Incoming>,
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
    /// [`BrokerError::BaseUrl`].
    pub fn new(settings: &settings::Broker) -> Result<Self, BrokerError> {
        let anthropic = settings.anthropic.as_ref().map(Anthropic::new).transpose()?;
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
        Ok(Self { anthropic, client })
    }

    /// Serves one worker's HTTP connection to its end. When the worker closes its side, what runs for it is dropped, and
    /// with it the connection to the API. After `stop` the running request is finished and no other taken.
    pub async fn serve_http<S>(&self, claims: &DispatchClaims, io: S, stop: CancellationToken)
    where
        S: AsyncRead + AsyncWrite + Unpin + Send,
    {
        let service = service_fn(|request| async move {
            Ok::<_, Infallible>(match self.forward(request).await {
                Ok(response) => response,
                Err(refusal) => {
                    let why = refusal.message.as_str();
                    tracing::info!(uid = %claims.unit, generation = %claims.generation, why, "the broker refused");
                    refusal.into_response()
                }
            })
        });
        let connection = hyper::server::conn::http1::Builder::new()
            .timer(TokioTimer::new())
            .header_read_timeout(HEADER_TIME)
            .max_buf_size(HEADER_BYTES)
            .serve_connection(TokioIo::new(io), service);
        tokio::pin!(connection);
        let ended = tokio::select! {
            ended = connection.as_mut() => ended,
            () = stop.cancelled() => {
                connection.as_mut().graceful_shutdown();
                connection.await
            }
        };
        if let Err(error) = ended {
            tracing::debug!(uid = %claims.unit, %error, "a worker's model connection ended early");
        }
    }

    async fn forward(&self, request: Request<Incoming>) -> Result<Response<Body>, Refusal> {
        let (mut head, body) = request.into_parts();
        let route = route::parse(&head.method, &head.uri)?;
        let provider = self.anthropic.as_ref().ok_or_else(|| Refusal::no_key(provider::HOW_TO_CONFIGURE))?;
        head.uri = provider.uri(&route)?;
        head.version = http::Version::HTTP_11;
        head.extensions = http::Extensions::new();
        headers::clean_request(&mut head.headers);
        provider.add_key(&mut head.headers).await?;
        let answer = self.client.request(Request::from_parts(head, body)).await.map_err(|error| {
            let cause = std::error::Error::source(&error).map(ToString::to_string);
            tracing::warn!(%error, cause, host = provider.host(), "the model API does not answer");
            Refusal::new(Kind::Unreachable, format!("rekindle: the model API at {} does not answer", provider.host()))
        })?;
        let (mut head, body) = answer.into_parts();
        headers::clean_response(&mut head.headers);
        head.extensions = http::Extensions::new();
        Ok(Response::from_parts(head, body.boxed()))
    }
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
