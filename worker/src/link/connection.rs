//! One connection to the facade.

use std::time::Duration;

use redis::aio::MultiplexedConnection;
use redis::{AsyncConnectionConfig, Cmd, RedisConnectionInfo, RedisError, ServerError, Value};
use tokio::net::UnixStream;
use tokio::task::JoinHandle;

use super::Address;

/// Longest that a command other than a blocking read may take. A gateway that waits for its Redis closes sooner.
const PATIENCE: Duration = Duration::from_secs(30);

/// Why nothing more comes of a connection.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Failed {
    /// It broke, or the gateway cannot answer now: make another one.
    Lost(String),
    /// The generation is over, or is not ours: end.
    Fenced(String),
}

impl From<RedisError> for Failed {
    fn from(error: RedisError) -> Self {
        Self::Lost(error.to_string())
    }
}

/// What an error answer says of the command that it answers.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Verdict {
    /// The generation is over.
    Fenced,
    /// The event is not of the taken turn.
    Stale,
    /// The gateway or its Redis cannot answer now; the same command may be answered later.
    Later,
    /// This is not for this connection to do.
    Refused,
    /// The command itself is not as it has to be, or the platform has failed.
    Wrong,
}

pub(super) fn verdict(error: &ServerError) -> Verdict {
    match error.code() {
        "FENCED" | "WRONGPASS" | "NOAUTH" => Verdict::Fenced,
        "STALE" => Verdict::Stale,
        "NOPERM" | "WRONGTYPE" => Verdict::Refused,
        "ERR" => Verdict::Wrong,
        _ => Verdict::Later,
    }
}

pub(super) fn told(error: &ServerError) -> String {
    format!("{} {}", error.code(), error.details().unwrap_or_default())
}

#[derive(Debug)]
pub(super) struct Connection {
    inner: MultiplexedConnection,
    driver: JoinHandle<()>,
}

impl Drop for Connection {
    fn drop(&mut self) {
        self.driver.abort();
    }
}

impl Connection {
    async fn open(address: &Address) -> Result<Self, Failed> {
        let stream = UnixStream::connect(&address.redis_sock).await.map_err(|error| Failed::Lost(error.to_string()))?;
        let config = AsyncConnectionConfig::new().set_response_timeout(None);
        let info = RedisConnectionInfo::default().set_skip_set_lib_name();
        let (inner, driver) = MultiplexedConnection::new_with_config(&info, stream, config).await?;
        Ok(Self { inner, driver: tokio::spawn(driver) })
    }

    /// The first connection of a generation: claims it and gets the nonce.
    pub async fn claim(address: &Address, boot_ms: u64) -> Result<(Self, String), Failed> {
        let mut connection = Self::open(address).await?;
        let mut claim = Cmd::new();
        claim.arg("CLIENT").arg("CLAIM").arg(boot_ms);
        match connection.one(&claim).await? {
            Value::BulkString(nonce) => match String::from_utf8(nonce) {
                Ok(nonce) if !nonce.is_empty() => Ok((connection, nonce)),
                _ => Err(Failed::Lost("the nonce is unreadable".into())),
            },
            Value::SimpleString(nonce) => Ok((connection, nonce)),
            // Somebody has the nonce, and it is not us: an answer that got lost, or a worker beside this one.
            Value::ServerError(error) => match verdict(&error) {
                Verdict::Later | Verdict::Wrong => Err(Failed::Lost(told(&error))),
                _ => Err(Failed::Fenced(told(&error))),
            },
            other => Err(Failed::Lost(format!("unexpected answer to CLIENT CLAIM: {other:?}"))),
        }
    }

    /// Any later connection: shows the nonce.
    pub async fn authorised(address: &Address, nonce: &str) -> Result<Self, Failed> {
        let mut connection = Self::open(address).await?;
        let mut auth = Cmd::new();
        auth.arg("AUTH").arg("rekindle").arg(nonce);
        match connection.one(&auth).await? {
            Value::Okay => Ok(connection),
            Value::ServerError(error) => match verdict(&error) {
                Verdict::Later | Verdict::Wrong => Err(Failed::Lost(told(&error))),
                _ => Err(Failed::Fenced(told(&error))),
            },
            other => Err(Failed::Lost(format!("unexpected answer to AUTH: {other:?}"))),
        }
    }

    /// Sends a command; an error answer is a [`Value::ServerError`].
    pub async fn one(&mut self, command: &Cmd) -> Result<Value, Failed> {
        self.within(command, PATIENCE).await
    }

    /// [`Connection::one`] for a command that waits.
    pub async fn within(&mut self, command: &Cmd, within: Duration) -> Result<Value, Failed> {
        match tokio::time::timeout(within, self.inner.send_packed_command(command)).await {
            Ok(answer) => Ok(answer?),
            Err(_) => Err(Failed::Lost(format!("no answer within {within:?}"))),
        }
    }
}
