//! A private Redis on a Unix socket, as durable as the one of `rekindle up`, that can crash, hang and come back.

use std::path::{Path, PathBuf};
use std::time::Duration;

use rustix::process::Signal;
use serde_json::Value;
use tokio::io::{AsyncBufReadExt as _, AsyncReadExt as _, AsyncWriteExt as _, BufReader};
use tokio::net::UnixStream;

use crate::paths;
use crate::service::Service;

/// The server. It is killed when this is dropped; its files go with the folder it was given.
#[derive(Debug)]
pub struct Redis {
    service: Service,
    socket: PathBuf,
}

impl Redis {
    /// Starts one with its files in `dir` and waits until it answers.
    ///
    /// # Panics
    /// When redis-server is missing or does not come up.
    pub async fn start(dir: &Path) -> Self {
        std::fs::create_dir_all(dir).expect("make a folder for Redis");
        let socket = dir.join("redis.sock");
        let text = |path: &Path| path.to_str().expect("a path in UTF-8").to_owned();
        let arguments = [
            "--port",
            "0",
            "--unixsocket",
            &text(&socket),
            "--unixsocketperm",
            "700",
            "--dir",
            &text(dir),
            "--save",
            "",
            "--appendonly",
            "yes",
            "--appendfsync",
            "always",
            "--daemonize",
            "no",
        ];
        let arguments = arguments.iter().map(|a| (*a).to_owned()).collect();
        let program = paths::tool("redis-server", "redis-server");
        let mut redis = Self { service: Service::new("redis", program, arguments, dir.join("redis.log")), socket };
        redis.restart().await;
        redis
    }

    /// `redis+unix://` URL of database 0.
    pub fn url(&self) -> String {
        format!("redis+unix://{}", self.socket.display())
    }

    /// Its socket.
    pub fn socket(&self) -> &Path {
        &self.socket
    }

    /// Its process id.
    pub fn pid(&self) -> u32 {
        self.service.pid()
    }

    /// Crashes it.
    pub fn kill(&mut self) {
        self.service.kill();
    }

    /// Starts it again on the files it left, and waits until it answers.
    ///
    /// # Panics
    /// When it runs or does not come up.
    pub async fn restart(&mut self) {
        self.service.start();
        let service = &self.service;
        crate::eventually(&format!("Redis answers; its log: {}", service.tail()), Duration::from_secs(20), || async {
            self.command(&["PING"]).await.ok().filter(|a| a == "+PONG\r\n")
        })
        .await;
    }

    /// Makes it hang: connections stay, nothing answers.
    pub fn pause(&self) {
        self.service.signal(Signal::STOP);
    }

    /// Lets it go on after [`Self::pause`].
    pub fn resume(&self) {
        self.service.signal(Signal::CONT);
    }

    /// Sends one command on a connection of its own and returns the raw answer.
    ///
    /// # Errors
    /// When it cannot be reached.
    pub async fn command(&self, words: &[&str]) -> std::io::Result<String> {
        Connection::open(&self.socket).await?.command(words).await
    }

    /// A number that `INFO` tells of it.
    ///
    /// # Errors
    /// When it cannot be reached or tells no such number.
    pub async fn info(&self, field: &str) -> std::io::Result<u64> {
        let text = self.command(&["INFO"]).await?;
        let value = text.lines().find_map(|line| line.strip_prefix(field)?.strip_prefix(':'));
        let number = value.and_then(|value| value.trim().parse().ok());
        number.ok_or_else(|| std::io::Error::other(format!("INFO has no number {field}")))
    }

    /// A unit's events as they lie in its out-stream, the oldest first.
    ///
    /// # Panics
    /// When it cannot be reached or holds something else.
    pub async fn events(&self, uid: &str) -> Vec<Value> {
        let stream = format!("unit:{uid}:out");
        let answer = self.command(&["XRANGE", &stream, "-", "+"]).await.expect("reach Redis");
        // Of each entry's array of texts, that which follows the name of the field.
        let texts = bulk_strings(&answer);
        let fields = texts.windows(2).filter(|pair| pair[0] == "event");
        fields.map(|pair| serde_json::from_str(pair[1]).expect("an event in JSON")).collect()
    }

    /// The end of its log.
    pub fn tail(&self) -> String {
        self.service.tail()
    }
}

/// A connection to a Redis.
#[derive(Debug)]
pub struct Connection(BufReader<UnixStream>);

impl Connection {
    /// Connects to the server on this socket.
    ///
    /// # Errors
    /// When nobody listens there.
    pub async fn open(socket: &Path) -> std::io::Result<Self> {
        Ok(Self(BufReader::new(UnixStream::connect(socket).await?)))
    }

    /// Sends one command and returns the raw answer.
    ///
    /// # Errors
    /// When the connection breaks.
    pub async fn command(&mut self, words: &[&str]) -> std::io::Result<String> {
        let mut request = format!("*{}\r\n", words.len());
        for word in words {
            request.push_str(&format!("${}\r\n{word}\r\n", word.len()));
        }
        self.0.write_all(request.as_bytes()).await?;
        let mut answer = String::new();
        // Values of the answer that are still to come; an array's are counted when its head is there.
        let mut missing = 1_usize;
        while missing > 0 {
            // A line by itself: what is read into is looked at whole each time, and answers have megabytes.
            let mut line = String::new();
            if self.0.read_line(&mut line).await? == 0 {
                return Err(std::io::ErrorKind::UnexpectedEof.into());
            }
            answer.push_str(&line);
            missing -= 1;
            let head = line.trim_end();
            let length = || head[1..].parse::<usize>();
            match head.as_bytes().first() {
                Some(b'*') => missing += length().unwrap_or_default(),
                // A length of -1 is null, and nothing follows.
                Some(b'$') => {
                    let Ok(length) = length() else { continue };
                    let mut bytes = vec![0; length + 2];
                    self.0.read_exact(&mut bytes).await?;
                    answer.push_str(&String::from_utf8_lossy(&bytes));
                }
                _ => {}
            }
        }
        Ok(answer)
    }
}

/// All texts of a RESP2 answer, in order, whatever arrays they lie in.
pub fn bulk_strings(mut answer: &str) -> Vec<&str> {
    let mut found = Vec::new();
    while let Some((line, rest)) = answer.split_once("\r\n") {
        answer = rest;
        if let Some(length) = line.strip_prefix('$').and_then(|l| l.parse::<usize>().ok()) {
            found.push(&rest[..length]);
            answer = &rest[length + 2..];
        }
    }
    found
}
