//! A private Redis on a Unix socket, as durable as the one of `rekindle up`, that can crash, hang and come back.

use std::path::{Path, PathBuf};
use std::time::Duration;

use rustix::process::Signal;
use serde_json::Value;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

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
        let mut stream = tokio::net::UnixStream::connect(&self.socket).await?;
        let mut request = format!("*{}\r\n", words.len());
        for word in words {
            request.push_str(&format!("${}\r\n{word}\r\n", word.len()));
        }
        request.push_str("*1\r\n$4\r\nQUIT\r\n");
        stream.write_all(request.as_bytes()).await?;
        // The server closes after QUIT, whose own answer is cut off.
        let mut answer = String::new();
        stream.read_to_string(&mut answer).await?;
        Ok(answer.strip_suffix("+OK\r\n").unwrap_or(&answer).to_owned())
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

/// All texts of a RESP2 answer, in order, whatever arrays they lie in.
fn bulk_strings(mut answer: &str) -> Vec<&str> {
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
