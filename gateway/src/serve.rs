//! One gateway from its start to its end: what runs, in which order it begins, and in which it ends.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context;
use ledger::{Ledger, StartJob};
use settings::Settings;
use tokio::net::TcpListener;
use tokio::sync::mpsc;
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep, timeout, timeout_at};
use tokio_util::sync::CancellationToken;
use tokio_util::task::AbortOnDropHandle;

use crate::app::App;
use crate::broker::Broker;
use crate::dispatcher::Dispatcher;
use crate::edge;
use crate::egress::Egress;
use crate::http::problem::chain;
use crate::tokens::DispatchTokens;
use crate::worker_port::{Listener, WorkerPort};
use crate::{http, mailbox};

const RETRY: Duration = Duration::from_millis(250);
const RETRY_MAX: Duration = Duration::from_secs(2);
/// For last words after the drain.
const LAST_WORDS: Duration = Duration::from_secs(1);

/// A gateway whose sockets are bound.
pub struct Gateway {
    app: App,
    jobs: mpsc::Receiver<StartJob>,
    http: TcpListener,
    worker_port: Listener,
    tokens: Arc<DispatchTokens>,
    broker: Arc<Broker>,
    egress: Arc<Egress>,
    address: SocketAddr,
}

impl Gateway {
    /// Reads keys and binds both ports, so that a second gateway in its place is told at once. Redis and the runtime need
    /// not be there yet.
    ///
    /// # Errors
    /// A key that cannot be read, an address that cannot be bound.
    pub async fn bind(settings: Settings) -> anyhow::Result<Self> {
        let tokens = DispatchTokens::from_pem_files(
            &settings.gateway.dispatch_key_file,
            &settings.gateway.dispatch_other_key_files,
        );
        let tokens = Arc::new(tokens.context("read gateway.dispatch_key_file")?);
        let broker = Arc::new(Broker::new(&settings)?);
        let egress = Arc::new(Egress::new(&settings)?);
        let listen = &settings.gateway.listen;
        let http = TcpListener::bind(listen).await.with_context(|| format!("bind gateway.listen {listen}"))?;
        let worker_port = Listener::bind(&settings.gateway.worker_port).await.context("bind gateway.worker_port")?;
        let address = http.local_addr().context("read the bound address")?;
        let (app, jobs) = App::new(settings)?;
        Ok(Self { app, jobs, http, worker_port, tokens, broker, egress, address })
    }

    /// Where callers reach it; the real port where port 0 was asked for.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Serves until `stop`, then drains: accepts nothing, lets open calls end for `gateway.drain_sec`, ends the rest.
    ///
    /// # Errors
    /// A ledger that can never work as it is configured.
    pub async fn run(self, stop: CancellationToken) -> anyhow::Result<()> {
        let Self { app, jobs, http, worker_port, tokens, broker, egress, address } = self;
        tracing::info!(%address, "listening");
        let closing = app.closing.clone();
        let mut server = std::pin::pin!(edge::serve(http, http::router(app.clone()), &app.settings.edge, closing));

        let behind = CancellationToken::new();
        let parts = Behind {
            callback_url: callback_url(&app.settings, address),
            app: app.clone(),
            jobs,
            worker_port,
            tokens,
            broker,
            egress,
        };
        let mut running = AbortOnDropHandle::new(tokio::spawn(parts.run(behind.clone())));
        tokio::select! {
            ended = &mut running => {
                ended.context("run the gateway's tasks")??;
                anyhow::bail!("the gateway's tasks ended by themselves");
            }
            () = &mut server => anyhow::bail!("the HTTP server ended by itself"),
            () = stop.cancelled() => {}
        }

        let drain = Duration::from_secs(app.settings.gateway.drain_sec);
        let deadline = Instant::now() + drain;
        tracing::info!(seconds = drain.as_secs(), "draining");
        app.closing.cancel();
        app.tasks.close();
        // Workers are still served meanwhile: the turns that callers wait for are theirs to end.
        if timeout_at(deadline, &mut server).await.is_err() {
            app.ended.cancel();
            let _ = timeout(LAST_WORDS, &mut server).await;
        }
        let _ = timeout(LAST_WORDS, app.tasks.wait()).await;
        behind.cancel();
        match timeout_at(deadline.max(Instant::now()) + LAST_WORDS, running).await {
            Ok(ended) => ended.context("run the gateway's tasks")?,
            Err(_) => {
                tracing::warn!("some worker connections were cut");
                Ok(())
            }
        }
    }
}

/// `gateway.url`, else as the runtime on this machine reaches it.
fn callback_url(settings: &Settings, address: SocketAddr) -> String {
    let base = settings.gateway.url.clone().unwrap_or_else(|| {
        let host = match address.ip() {
            ip if ip.is_unspecified() && ip.is_ipv6() => "[::1]".into(),
            ip if ip.is_unspecified() => "127.0.0.1".into(),
            std::net::IpAddr::V6(ip) => format!("[{ip}]"),
            std::net::IpAddr::V4(ip) => ip.to_string(),
        };
        format!("http://{host}:{}", address.port())
    });
    format!("{}/internal/runtime-events", base.trim_end_matches('/'))
}

/// Everything that is not HTTP for callers.
struct Behind {
    app: App,
    jobs: mpsc::Receiver<StartJob>,
    worker_port: Listener,
    tokens: Arc<DispatchTokens>,
    broker: Arc<Broker>,
    egress: Arc<Egress>,
    callback_url: String,
}

impl Behind {
    async fn run(self, cancel: CancellationToken) -> anyhow::Result<()> {
        let mut tasks = JoinSet::new();
        tasks.spawn(runtime_answers(self.app.clone(), cancel.clone()));
        let opening = Ledger::open(&self.app.settings);
        let Some(ledger) = cancel.run_until_cancelled(opening).await.transpose().context("open the ledger")? else {
            return Ok(());
        };
        let fanout = ledger.fanout();
        tasks.spawn(mailbox::pump(self.app.clone(), fanout.mail(), cancel.clone()));
        tasks.spawn(fanout.clone().run(cancel.clone()));
        self.app.connected(ledger.clone(), fanout);
        let models = self.app.metrics.models();
        self.broker.connected(ledger.clone(), &self.app.settings, models);
        let broker = self.broker.clone();
        let port = WorkerPort {
            ledger: ledger.clone(),
            tokens: self.tokens.clone(),
            links: self.app.links.clone(),
            broker: self.broker,
            egress: self.egress,
            limits: self.app.settings.limits.clone(),
            drain: Duration::from_secs(self.app.settings.gateway.drain_sec),
            deliveries: self.app.metrics.deliveries(),
        };
        tasks.spawn(port.serve(self.worker_port, cancel.clone()));
        let dispatcher = Dispatcher { app: self.app, ledger, tokens: self.tokens, callback_url: self.callback_url };
        tasks.spawn(dispatcher.run(self.jobs, cancel.clone()));
        while let Some(ended) = tasks.join_next().await {
            ended.context("one of the gateway's tasks failed")?;
        }
        broker.settled().await;
        Ok(())
    }
}

/// Says once when the runtime is not there, and when it is. Nothing waits for it but starts.
async fn runtime_answers(app: App, cancel: CancellationToken) {
    let url = &app.settings.runtime.url;
    let mut wait = RETRY;
    loop {
        let Some(health) = cancel.run_until_cancelled(app.runtime.health()).await else {
            return;
        };
        match health {
            Ok(_) => {
                tracing::info!(url, "the runtime answers");
                // Until the end, so that the others are not taken for ended.
                return cancel.cancelled().await;
            }
            Err(error) if wait == RETRY => {
                tracing::warn!(url, error = chain(&error), "the runtime does not answer yet; starts wait for it");
            }
            Err(_) => {}
        }
        if cancel.run_until_cancelled(sleep(wait)).await.is_none() {
            return;
        }
        wait = (wait * 2).min(RETRY_MAX);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn callbacks_go_where_the_runtime_reaches_the_gateway() {
        let url = |address: &str| callback_url(&Settings::default(), address.parse().unwrap());
        assert_eq!(url("0.0.0.0:7600"), "http://127.0.0.1:7600/internal/runtime-events");
        assert_eq!(url("[::]:1"), "http://[::1]:1/internal/runtime-events");
        assert_eq!(url("10.0.0.1:1"), "http://10.0.0.1:1/internal/runtime-events");
        let mut settings = Settings::default();
        settings.gateway.url = Some("https://gw.example/".into());
        assert_eq!(callback_url(&settings, "0.0.0.0:1".parse().unwrap()), "https://gw.example/internal/runtime-events");
    }
}
