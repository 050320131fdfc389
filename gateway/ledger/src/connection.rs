//! The one multiplexed connection for scripts, and connections of their own for blocking reads.

use std::sync::Arc;
use std::time::Duration;

use redis::aio::{ConnectionManager, ConnectionManagerConfig, MultiplexedConnection};
use redis::{AsyncConnectionConfig, Client, Cmd, IntoConnectionInfo, Pipeline, Value};
use tokio::time::timeout;

use crate::config::Config;
use crate::error::{LedgerError, Result};
use crate::fanout::Fanout;
use crate::script::{self, Header, Script};

/// Nothing here waits for Redis longer than this.
pub(crate) const BOUND: Duration = Duration::from_secs(2);

/// Of Redis' `maxmemory`, what one owner may have stored: one in so many.
const OWNERS_PART: u64 = 4;

/// The ledger. Cheap to clone; all clones share one connection, which reconnects by itself.
#[derive(Clone)]
pub struct Ledger(pub(crate) Arc<Inner>);

pub(crate) struct Inner {
    pub(crate) config: Config,
    header: Header,
    client: Client,
    scripts: ConnectionManager,
    /// For answers whose size a caller chooses: nothing else waits behind them.
    bulk: ConnectionManager,
    /// Of its own where replicas are waited for: `WAIT` would hold up everybody else's commands.
    submits: Option<ConnectionManager>,
    pub(crate) fanout: Fanout,
}

impl std::fmt::Debug for Ledger {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Ledger").field("gateway", &self.0.config.gateway).finish_non_exhaustive()
    }
}

fn client(config: &Config) -> Result<Client> {
    let wrong = |source| LedgerError::Misconfigured {
        why: "redis.url must be redis://host:port/db or redis+unix:///path".into(),
        source: Some(source),
    };
    let mut info = config.url.as_str().into_connection_info().map_err(wrong)?;
    if let Some(password) = &config.password {
        let settings = info.redis_settings().clone().set_password(password);
        info = info.set_redis_settings(settings);
    }
    Client::open(info).map_err(wrong)
}

async fn manager(client: &Client) -> Result<ConnectionManager> {
    // No retries inside: while Redis is gone, each call makes one attempt and says so at once.
    let config = ConnectionManagerConfig::new()
        .set_number_of_retries(0)
        .set_connection_timeout(Some(BOUND))
        .set_response_timeout(Some(BOUND));
    let connecting = ConnectionManager::new_with_config(client.clone(), config);
    Ok(timeout(BOUND, connecting).await.map_err(|_| LedgerError::timed_out())??)
}

/// Looks at what Redis may have in memory. One that evicts keys when it is full loses what was accepted. One that an owner may
/// fill alone takes nothing from the others then: an owner has [`OWNERS_PART`] of it at the most, whatever the settings say.
async fn fit_into_memory(redis: &mut ConnectionManager, config: &mut Config) -> Result<()> {
    let info: String = redis::cmd("INFO").arg("memory").query_async(redis).await?;
    let says = |name: &str| info.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(':'));
    let policy = says("maxmemory_policy").unwrap_or("noeviction");
    if policy != "noeviction" {
        tracing::warn!(policy, "Redis may evict what was accepted; set its maxmemory-policy to noeviction");
    }
    let memory = says("maxmemory").and_then(|bytes| bytes.parse::<u64>().ok()).filter(|bytes| *bytes > 0);
    let Some(part) = memory.map(|bytes| bytes / OWNERS_PART) else { return Ok(()) };
    if config.stored_bytes_per_owner > part {
        tracing::info!(
            bytes = part,
            "an owner may store a quarter of Redis' maxmemory, which is less than limits.stored_mb_per_owner"
        );
        config.stored_bytes_per_owner = part;
    }
    Ok(())
}

impl Ledger {
    /// Connects and loads the scripts.
    ///
    /// # Errors
    /// [`LedgerError::Unavailable`] within two seconds when Redis does not answer, [`LedgerError::Misconfigured`] when the
    /// address or the password is wrong.
    pub async fn connect(mut config: Config) -> Result<Self> {
        let client = client(&config)?;
        let mut scripts = manager(&client).await?;
        fit_into_memory(&mut scripts, &mut config).await?;
        let bulk = manager(&client).await?;
        let submits = if config.wait_replicas > 0 { Some(manager(&client).await?) } else { None };
        let header = Header::new(&config);
        let fanout = Fanout::new(client.clone(), scripts.clone(), bulk.clone(), config.gateway.clone(), header.clone());
        let ledger = Self(Arc::new(Inner { config, header, client, scripts, bulk, submits, fanout }));
        // So that not even the first call of each script needs a second round trip.
        let mut load = redis::pipe();
        for script in script::ALL {
            load.cmd("SCRIPT").arg("LOAD").arg(script.source()).ignore();
        }
        match ledger.pipeline(&load).await {
            Ok(_) => Ok(ledger),
            Err(LedgerError::Refused(source)) => Err(LedgerError::Misconfigured {
                why: "Redis does not take scripts with flags; it must be Redis 7.0 or newer, or Valkey".into(),
                source: Some(source),
            }),
            Err(error) => Err(error),
        }
    }

    /// Whether Redis answers.
    ///
    /// # Errors
    /// [`LedgerError::Unavailable`] within two seconds.
    pub async fn ping(&self) -> Result<()> {
        self.command(&redis::cmd("PING")).await.map(drop)
    }

    /// All streams that have listeners, this process' mailbox and the start nudges, over one connection. Every call returns
    /// a handle to the same one.
    pub fn fanout(&self) -> Fanout {
        self.0.fanout.clone()
    }

    pub(crate) async fn command(&self, command: &Cmd) -> Result<Value> {
        send(&self.0.scripts, command).await
    }

    /// One round trip; not a transaction.
    pub(crate) async fn pipeline(&self, pipeline: &Pipeline) -> Result<Vec<Value>> {
        send_pipeline(&self.0.scripts, pipeline).await
    }

    /// As [`Self::command`], for what may be large.
    pub(crate) async fn bulk_command(&self, command: &Cmd) -> Result<Value> {
        send(&self.0.bulk, command).await
    }

    /// As [`Self::pipeline`], for what may be large.
    pub(crate) async fn bulk_pipeline(&self, pipeline: &Pipeline) -> Result<Vec<Value>> {
        send_pipeline(&self.0.bulk, pipeline).await
    }

    pub(crate) async fn run(&self, script: &Script, args: &[&[u8]]) -> Result<Value> {
        run_on(&self.0.scripts, &self.0.header, script, args).await
    }

    /// A script whose answer may be large.
    pub(crate) async fn run_bulk(&self, script: &Script, args: &[&[u8]]) -> Result<Value> {
        run_on(&self.0.bulk, &self.0.header, script, args).await
    }

    /// A script of a running turn, or the form of it that adds as little as it can while Redis is full.
    pub(crate) async fn run_or_lean(&self, script: &Script, lean: &Script, args: &[&[u8]]) -> Result<Value> {
        match self.run(script, args).await {
            Err(LedgerError::Full(_)) => self.run(lean, args).await,
            other => other,
        }
    }

    /// A script whose effect must be on `wait_replicas` replicas before the answer counts; still one round trip.
    pub(crate) async fn run_replicated(&self, script: &Script, args: &[&[u8]]) -> Result<Value> {
        let replicas = self.0.config.wait_replicas;
        let Some(on) = &self.0.submits else { return self.run(script, args).await };
        let both = |command: Cmd| {
            let mut pipe = redis::pipe();
            pipe.add_command(command).cmd("WAIT").arg(replicas).arg(1000);
            pipe
        };
        let header = &self.0.header;
        let mut replies = send_raw(on, &both(script.by_hash(header, args))).await?;
        if matches!(&replies[..], [reply, _] if reply.clone().extract_error().is_err_and(|e| is_noscript(&e))) {
            replies = send_raw(on, &both(script.by_source(header, args))).await?;
        }
        let mut replies = replies.into_iter();
        let reply = replies.next().unwrap_or_default().extract_error()?;
        match replies.next() {
            Some(Value::Int(n)) if n >= i64::from(replicas) => Ok(reply),
            got => {
                Err(LedgerError::Unavailable { why: format!("{got:?} of {replicas} replicas have it"), source: None })
            }
        }
    }

    /// A connection for blocking reads. It has no response bound of its own.
    pub(crate) async fn blocking(&self) -> Result<MultiplexedConnection> {
        blocking(&self.0.client).await
    }
}

pub(crate) async fn blocking(client: &Client) -> Result<MultiplexedConnection> {
    let config = AsyncConnectionConfig::new().set_connection_timeout(Some(BOUND)).set_response_timeout(None);
    let connecting = client.get_multiplexed_async_connection_with_config(&config);
    Ok(timeout(BOUND, connecting).await.map_err(|_| LedgerError::timed_out())??)
}

pub(crate) async fn run_on(on: &ConnectionManager, header: &Header, script: &Script, args: &[&[u8]]) -> Result<Value> {
    match send(on, &script.by_hash(header, args)).await {
        // Redis was restarted since the scripts were loaded.
        Err(LedgerError::Refused(e)) if is_noscript(&e) => send(on, &script.by_source(header, args)).await,
        other => other,
    }
}

fn is_noscript(error: &redis::RedisError) -> bool {
    error.kind() == redis::ErrorKind::Server(redis::ServerErrorKind::NoScript)
}

/// One command. A connection that turns out to be dead is tried once more on a new one: everything sent here may be repeated.
pub(crate) async fn send(on: &ConnectionManager, command: &Cmd) -> Result<Value> {
    let attempts = async {
        let mut on = on.clone();
        match on.send_packed_command(command).await {
            Err(e) if e.is_unrecoverable_error() => on.send_packed_command(command).await,
            other => other,
        }
    };
    let value = timeout(BOUND, attempts).await.map_err(|_| LedgerError::timed_out())??;
    Ok(value.extract_error()?)
}

/// A pipeline whose replies may be errors one by one.
async fn send_raw(on: &ConnectionManager, pipeline: &Pipeline) -> Result<Vec<Value>> {
    let attempts = async {
        let mut on = on.clone();
        match on.send_packed_commands(pipeline, 0, pipeline.len()).await {
            Err(e) if e.is_unrecoverable_error() => on.send_packed_commands(pipeline, 0, pipeline.len()).await,
            other => other,
        }
    };
    Ok(timeout(BOUND, attempts).await.map_err(|_| LedgerError::timed_out())??)
}

pub(crate) async fn send_pipeline(on: &ConnectionManager, pipeline: &Pipeline) -> Result<Vec<Value>> {
    let attempts = async {
        let mut on = on.clone();
        match pipeline.query_async::<Vec<Value>>(&mut on).await {
            Err(e) if e.is_unrecoverable_error() => pipeline.query_async(&mut on).await,
            other => other,
        }
    };
    Ok(timeout(BOUND, attempts).await.map_err(|_| LedgerError::timed_out())??)
}
