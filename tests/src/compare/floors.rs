//! What Rekindle stands beside: the least that each path could cost, taken on the same machine in the same rounds.

use std::path::{Path, PathBuf};
use std::process::Stdio;

use anyhow::Context as _;
use axum::Router;
use axum::routing::post;
use serde_json::Value;
use tests::paths;
use tests::redis::{self, bulk_strings};
use tokio::io::{AsyncBufReadExt as _, AsyncReadExt as _, BufReader};
use tokio::process::{Child, Command};

/// Streams of the round trip.
const THERE: &str = "compare:there";
const BACK: &str = "compare:back";

/// What this program is as the other process of a floor.
#[derive(Debug, Clone)]
pub enum Part {
    /// Answers entries of one stream on another, in the Redis behind this socket.
    Peer(PathBuf),
    /// Answers HTTP.
    Handler,
}

impl std::str::FromStr for Part {
    type Err = std::convert::Infallible;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        Ok(if text == "handler" { Self::Handler } else { Self::Peer(text.into()) })
    }
}

impl Part {
    /// Says on a line that it is ready, and where; then serves until it is killed.
    ///
    /// # Errors
    /// When Redis breaks the connection or no port can be had.
    pub async fn run(self) -> anyhow::Result<()> {
        match self {
            Self::Peer(socket) => {
                let (mut reader, mut writer) = (connect(&socket).await?, connect(&socket).await?);
                let mut last = "0-0".to_owned();
                println!("ready");
                loop {
                    last = next(&mut reader, THERE, &last).await?;
                    write(&mut writer, BACK).await?;
                }
            }
            Self::Handler => {
                let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await?;
                println!("{}", listener.local_addr()?);
                let answer = async |axum::Json(body): axum::Json<Value>| axum::Json(body);
                Ok(axum::serve(listener, Router::new().fallback(post(answer))).await?)
            }
        }
    }
}

/// A child of this program's own, and what it said on its first line.
async fn other_process(part: &str) -> anyhow::Result<(Child, String)> {
    let mut command = Command::from(paths::command(std::env::current_exe()?));
    command.args(["--floor", part]).stdin(Stdio::null()).stdout(Stdio::piped()).kill_on_drop(true);
    let mut child = command.spawn().context("start the other process of a floor")?;
    let mut lines = BufReader::new(child.stdout.take().context("its output")?).lines();
    let said = lines.next_line().await?.context("the other process of a floor says nothing")?;
    Ok((child, said))
}

/// A round trip through a Redis stream each way, between this process and another one.
pub struct StreamRoundTrip {
    reader: redis::Connection,
    writer: redis::Connection,
    last: String,
    _peer: Child,
}

impl StreamRoundTrip {
    /// In the Redis behind this socket, with whatever durability that has.
    ///
    /// # Errors
    /// When it or the other process cannot be had.
    pub async fn over(socket: &Path) -> anyhow::Result<Self> {
        let (reader, mut writer) = (connect(socket).await?, connect(socket).await?);
        writer.command(&["DEL", THERE, BACK]).await?;
        let (peer, _) = other_process(&socket.display().to_string()).await?;
        Ok(Self { reader, writer, last: "0-0".into(), _peer: peer })
    }

    /// Once there and back.
    ///
    /// # Errors
    /// When Redis breaks the connection or nothing comes back.
    pub async fn run(&mut self) -> anyhow::Result<()> {
        write(&mut self.writer, THERE).await?;
        self.last = next(&mut self.reader, BACK, &self.last).await?;
        Ok(())
    }
}

async fn connect(socket: &Path) -> anyhow::Result<redis::Connection> {
    redis::Connection::open(socket).await.context("reach Redis")
}

async fn write(connection: &mut redis::Connection, stream: &str) -> anyhow::Result<()> {
    let answer = connection.command(&["XADD", stream, "*", "event", "turn-accepted"]).await?;
    anyhow::ensure!(answer.starts_with('$'), "XADD: {answer}");
    Ok(())
}

/// The id of the entry after `last`.
async fn next(connection: &mut redis::Connection, stream: &str, last: &str) -> anyhow::Result<String> {
    // The other process may be idle for as long as the rest of a round takes.
    let answer = connection.command(&["XREAD", "BLOCK", "60000", "STREAMS", stream, last]).await?;
    let texts = bulk_strings(&answer);
    Ok((*texts.get(1).with_context(|| format!("XREAD: {answer}"))?).to_owned())
}

/// A bare handler in a process of its own, which answers every request with its body.
pub struct BareHandler {
    /// `host:port`
    pub address: String,
    _server: Child,
}

impl BareHandler {
    /// Starts it.
    ///
    /// # Errors
    /// When the other process cannot be had.
    pub async fn start() -> anyhow::Result<Self> {
        let (server, address) = other_process("handler").await?;
        Ok(Self { address, _server: server })
    }
}

/// `docker run --network none` of an image, from its start to the first byte of its output. Its end is to be waited for.
///
/// # Errors
/// When it prints nothing.
pub async fn docker_run(image: &str) -> anyhow::Result<Child> {
    let mut command = Command::from(paths::command(paths::tool("docker", "docker.io")));
    command.args(["run", "--rm", "--network", "none", image, "echo", "hi"]);
    let mut run = command.stdin(Stdio::null()).stdout(Stdio::piped()).kill_on_drop(true).spawn()?;
    let mut first = [0];
    let read = run.stdout.as_mut().context("its output")?.read(&mut first).await?;
    anyhow::ensure!(read == 1 && first == *b"h", "docker run {image} printed nothing");
    Ok(run)
}
