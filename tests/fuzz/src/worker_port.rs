//! What comes through a relay: the preamble, and commands with events in them.

#[allow(dead_code, reason = "a part of it is used here")]
#[path = "../../../gateway/src/worker_port/command.rs"]
mod command;
#[allow(dead_code, reason = "a part of it is used here")]
#[path = "../../../gateway/src/worker_port/event.rs"]
mod event;
#[path = "../../../gateway/src/worker_port/preamble.rs"]
mod preamble;
#[allow(dead_code, reason = "a part of it is used here")]
#[path = "../../../gateway/src/worker_port/reply.rs"]
mod reply;
#[allow(dead_code, reason = "a part of it is used here")]
#[path = "../../../gateway/src/worker_port/request.rs"]
mod request;

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll};

use bytes::{Bytes, BytesMut};
use contract::Generation;
use serde_json::Value;
use tokio::io::{AsyncRead, ReadBuf};

use self::command::{Broken, Command, Commands};
use self::preamble::{Kind, PreambleError};
use self::reply::{Reply, Version};
use crate::{block_on, in_parts, same};

/// A connection that gives so many bytes at a time.
struct Wire<'a> {
    rest: &'a [u8],
    at_once: usize,
}

impl AsyncRead for Wire<'_> {
    fn poll_read(mut self: Pin<&mut Self>, _: &mut Context<'_>, out: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let (now, later) = self.rest.split_at(self.rest.len().min(self.at_once).min(out.remaining()));
        out.put_slice(now);
        self.rest = later;
        Poll::Ready(Ok(()))
    }
}

/// The line is the same however it comes; every byte behind it is kept; a bad one is given up within its bound.
pub fn check_preamble(data: &[u8]) {
    let Some((&at_once, line)) = data.split_first() else {
        return;
    };
    let read = |at_once| {
        let mut wire = Wire { rest: line, at_once };
        (block_on(preamble::read(&mut wire)), wire.rest)
    };
    let (whole, unread) = read(usize::MAX);
    let (parts, unread_parts) = read(usize::from(at_once) + 1);
    match (whole, parts) {
        (Ok(whole), Ok(parts)) => {
            let kind = if whole.kind == Kind::Redis { "redis" } else { "http" };
            let again = [format!("REKINDLE/1 {kind} {}\n", whole.token).as_bytes(), &whole.behind, unread].concat();
            assert_eq!(again, line, "nothing is lost and nothing else is taken");
            assert!(again.len() - whole.behind.len() - unread.len() <= 4096, "the bound of the line");
            assert_eq!((whole.kind, &whole.token), (parts.kind, &parts.token));
            assert_eq!([&parts.behind, unread_parts].concat(), [&whole.behind, unread].concat());
        }
        (Err(whole), Err(parts)) => {
            assert_eq!(whole.to_string(), parts.to_string());
            assert!(matches!(whole, PreambleError::Ended | PreambleError::TooLong | PreambleError::Malformed));
            assert!(line.len() - unread.len() <= 3 * 4096, "it is given up early");
        }
        (whole, parts) => panic!("{whole:?} at once, {parts:?} in parts"),
    }
}

/// Most bytes of a command, and of an event, in these tests.
const MOST: usize = 4096;
const MOST_EVENT: usize = 2048;

/// Commands are the same however their bytes come; the buffer keeps to its bound; what they ask for is theirs to ask.
pub fn check_facade(data: &[u8]) {
    let Some((whole, parts)) = in_parts(data) else {
        return;
    };
    let (commands, broken) = play([whole].into_iter());
    assert_eq!((&commands, &broken), (&play(parts.clone()).0, &play(parts).1));
    if let Some(broken) = broken {
        one_line(&Reply::error(format!("ERR {broken}")));
    }
    for command in &commands {
        let shown = command.shown();
        assert!(shown.chars().count() <= 64 * 3 && !shown.chars().any(char::is_control), "{shown:?}");
        match command.name().as_str() {
            "XADD" => match request::add(command.args(), b"out") {
                Ok(json) => check_event(json),
                Err(reply) => one_line(&reply),
            },
            name @ ("XREADGROUP" | "XREAD") => check_read(command.args(), name == "XREADGROUP"),
            _ => {}
        }
    }
}

fn play<'a>(parts: impl Iterator<Item = &'a [u8]>) -> (Vec<Command>, Option<Broken>) {
    let mut commands = Commands::new(BytesMut::new(), MOST);
    let mut taken = Vec::new();
    for part in parts {
        commands.space().extend_from_slice(part);
        loop {
            match commands.next() {
                Ok(Some(command)) => {
                    assert!(command.args().len() < 128);
                    assert!(command.args().iter().map(Bytes::len).sum::<usize>() <= MOST);
                    taken.push(command);
                }
                Ok(None) => break,
                Err(broken) => return (taken, Some(broken)),
            }
        }
        let waiting = commands.space().len();
        assert!(waiting < MOST + 32, "{waiting} bytes wait for the rest of a command");
    }
    (taken, None)
}

fn check_read(args: &[Bytes], grouped: bool) {
    match request::read(args, grouped, b"in") {
        Ok(read) => {
            let [.., word, key, _] = args else { panic!("a read without a stream: {args:?}") };
            assert!(word.eq_ignore_ascii_case(b"STREAMS") && key == "in", "it reads its own stream: {args:?}");
            assert!(grouped || !read.history);
        }
        Err(reply) => one_line(&reply),
    }
}

/// What is written to a stream says what the worker said, by the contract, of this generation and nothing of the platform's.
fn check_event(json: &[u8]) {
    let said = match event::parse(json, Generation(9), MOST_EVENT) {
        Ok(said) => said,
        Err(error) => return one_line(&Reply::error(format!("ERR {error}"))),
    };
    assert!(json.len() <= MOST_EVENT);
    assert!(said.json.len() <= 8 * json.len() + 512, "{} bytes became {}", json.len(), said.json.len());
    let value: Value = serde_json::from_str(&said.json).expect("what is written is JSON");
    assert_eq!((value["generation"].as_u64(), value["type"].as_str()), (Some(9), Some(said.kind.as_str())));
    assert_eq!(value.get("turn_id").and_then(Value::as_str), said.turn.as_ref().map(contract::TurnId::as_str));
    assert_eq!(value.get("seq").and_then(Value::as_u64), said.seq);
    assert_ne!(said.seq, Some(0));
    assert_eq!(said.done.is_some(), said.kind == "done");
    for platforms in ["worker-ready", "turn-complete", "turn-failed", "queued", "worker-exit", "gap", "egress-denied"] {
        assert_ne!(said.kind, platforms);
    }
    if said.kind == "done" {
        assert!(value.get("reason").is_none() && value.get("cache").is_none(), "{value}");
    }
    // A number may be longer in the form in which it is written.
    let again = event::parse(said.json.as_bytes(), Generation(9), usize::MAX).expect("what was written is an event");
    let again: Value = serde_json::from_str(&again.json).expect("so is that");
    assert!(same(&again, &value), "{value}\n{again}");
}

/// An answer stays in its line, in both versions.
fn one_line(reply: &Reply) {
    for version in [Version::Two, Version::Three] {
        let mut out = BytesMut::new();
        reply.clone().encode(version, &mut out).expect("an answer can be written");
        assert_eq!(out.iter().filter(|b| matches!(b, b'\r' | b'\n')).count(), 2, "{out:?}");
        assert!(out.starts_with(b"-") && out.ends_with(b"\r\n") && out.len() <= 4 * 512 + 3, "{out:?}");
    }
}
