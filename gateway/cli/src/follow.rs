//! A unit's events over SSE, each exactly once, however often the connection breaks.

use std::collections::VecDeque;
use std::time::Duration;

use http::StatusCode;
use http_body_util::BodyExt;
use hyper::body::Incoming;
use tokio::time::Instant;

use crate::api::{Api, Call, body, problem};
use crate::failure::Failure;
use crate::sse::{Message, Parser};

/// The gateway sends a comment every 15 s; without any byte for this long the connection is dead.
const SILENCE: Duration = Duration::from_secs(45);
/// For how long a broken stream is tried again.
const PATIENCE: Duration = Duration::from_secs(60);
const FIRST_PAUSE: Duration = Duration::from_millis(200);
const LONGEST_PAUSE: Duration = Duration::from_secs(5);

/// Follows events. Dropping a pending [`Self::next`] loses nothing.
#[derive(Debug)]
pub struct Follow {
    api: Api,
    /// Opens the stream as long as no event was seen; an invoke must be safe to repeat by its idempotency key.
    opening: Call,
    /// Path that replays after an id.
    events: String,
    /// Id of the last event that was handed out.
    last: Option<String>,
    /// Set once it is known which turn's events these are.
    turn: Option<String>,
    start: Option<String>,
    body: Option<Incoming>,
    parser: Parser,
    ready: VecDeque<Message>,
    opened: bool,
    /// The stream has an end, and it is the last event that was there when it was opened.
    ends: bool,
    broken_since: Option<Instant>,
    pause: Duration,
}

impl Follow {
    /// Follows what `opening` answers, and then the events of `unit`.
    pub fn new(api: Api, unit: &str, opening: Call, last: Option<String>) -> Self {
        Self {
            api,
            opening: opening.header("accept", "text/event-stream"),
            events: format!("/v1/units/{unit}/events"),
            last,
            turn: None,
            start: None,
            body: None,
            parser: Parser::default(),
            ready: VecDeque::new(),
            opened: false,
            ends: false,
            broken_since: None,
            pause: FIRST_PAUSE,
        }
    }

    /// Reads the events of `unit` that are there now.
    pub fn up_to_now(api: Api, unit: &str, last: Option<String>) -> Self {
        let events = format!("/v1/units/{unit}/events?follow=false");
        Self { events: events.clone(), ends: true, ..Self::new(api, unit, Call::get(events), last) }
    }

    /// Only this turn's events matter; from now on a broken stream is resumed after the last event. Before, an invoke is
    /// repeated with its idempotency key, because nothing but its answer tells which events are its own.
    pub fn of_turn(&mut self, turn: &str) {
        self.turn = Some(turn.into());
    }

    /// How warm the worker is, where the answer's head said so.
    pub fn start(&self) -> Option<&str> {
        self.start.as_deref()
    }

    /// Connects, unless there is a connection.
    ///
    /// # Errors
    /// What the gateway refuses; that it cannot be reached only at first, or after a minute without it.
    pub async fn open(&mut self) -> Result<(), Failure> {
        while self.body.is_none() {
            match self.connect().await {
                Err(Failure::Unreachable(why)) if self.opened => self.wait(&why).await?,
                other => other?,
            }
        }
        Ok(())
    }

    async fn connect(&mut self) -> Result<(), Failure> {
        let call = match &self.last {
            Some(last) if self.turn.is_some() || !self.opening.is_post() => {
                Call::get(&self.events).header("accept", "text/event-stream").header("last-event-id", last)
            }
            _ => self.opening.clone(),
        };
        let response = self.api.send(&call).await?;
        let status = response.status();
        if !status.is_success() {
            let failure = problem(status, &body(response).await?);
            // Mid-stream, being told to come later is not the end.
            return Err(match failure {
                Failure::Refused(why) if self.opened && status == StatusCode::TOO_MANY_REQUESTS => {
                    Failure::Unreachable(why)
                }
                other => other,
            });
        }
        let start = response.headers().get("rekindle-start").and_then(|v| v.to_str().ok());
        self.start = start.map(Into::into);
        self.parser = Parser::default();
        self.body = Some(response.into_body());
        self.opened = true;
        Ok(())
    }

    /// The next event of a stream without end.
    ///
    /// # Errors
    /// As [`Self::open`].
    pub async fn next(&mut self) -> Result<Message, Failure> {
        loop {
            if let Some(message) = self.next_or_end().await? {
                return Ok(message);
            }
        }
    }

    /// The next event; `None` at the end of a stream that has one.
    ///
    /// # Errors
    /// As [`Self::open`].
    pub async fn next_or_end(&mut self) -> Result<Option<Message>, Failure> {
        loop {
            if let Some(message) = self.ready.pop_front() {
                match &message.id {
                    Some(id) if self.last.as_deref().is_some_and(|last| !after(id, last)) => continue,
                    Some(id) => self.last = Some(id.clone()),
                    None => {}
                }
                self.broken_since = None;
                self.pause = FIRST_PAUSE;
                return Ok(Some(message));
            }
            self.open().await?;
            let Some(body) = &mut self.body else { continue };
            let why = match tokio::time::timeout(SILENCE, body.frame()).await {
                Ok(Some(Ok(frame))) => match frame.into_data() {
                    Ok(data) => match self.parser.push(&data) {
                        Ok(messages) => {
                            self.ready.extend(messages);
                            continue;
                        }
                        Err(e) => e.to_string(),
                    },
                    Err(_) => continue,
                },
                Ok(Some(Err(e))) => e.to_string(),
                Ok(None) if self.ends => return Ok(None),
                Ok(None) => "it ended".into(),
                Err(_) => "it went silent".into(),
            };
            self.body = None;
            self.wait(&format!("the event stream broke: {why}")).await?;
        }
    }

    /// Waits before the next attempt.
    async fn wait(&mut self, why: &str) -> Result<(), Failure> {
        let since = *self.broken_since.get_or_insert_with(Instant::now);
        if since.elapsed() > PATIENCE {
            return Err(Failure::Unreachable(format!("{why}; given up after a minute")));
        }
        let pause = self.pause;
        self.pause = (pause * 2).min(LONGEST_PAUSE);
        tokio::time::sleep(pause).await;
        Ok(())
    }
}

/// Whether stream id `a` comes after `b`. Ids that are no stream ids are taken as later.
fn after(a: &str, b: &str) -> bool {
    let parse = |id: &str| -> Option<(u64, u64)> {
        let (ms, seq) = id.split_once('-')?;
        Some((ms.parse().ok()?, seq.parse().ok()?))
    };
    match (parse(a), parse(b)) {
        (Some(a), Some(b)) => a > b,
        _ => a != b,
    }
}

#[cfg(test)]
mod tests {
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    use tokio::net::{TcpListener, TcpStream};

    use super::*;
    use crate::target::Reach;

    #[test]
    fn ids_are_ordered_as_numbers() {
        assert!(after("10-0", "9-5"));
        assert!(after("9-10", "9-9"));
        assert!(!after("9-9", "9-9"));
        assert!(!after("9-9", "10-0"));
    }

    /// Answers one request with `body` and closes; the request's head.
    async fn answer(listener: &TcpListener, status: &str, body: &str) -> String {
        let (mut stream, _): (TcpStream, _) = listener.accept().await.unwrap();
        let mut head = Vec::new();
        while !head.windows(4).any(|w| w == b"\r\n\r\n") {
            head.push(stream.read_u8().await.unwrap());
        }
        let text = format!(
            "HTTP/1.1 {status}\r\ncontent-type: text/event-stream\r\nrekindle-start: cold\r\nconnection: close\r\n\r\n{body}"
        );
        stream.write_all(text.as_bytes()).await.unwrap();
        stream.shutdown().await.unwrap();
        String::from_utf8(head).unwrap()
    }

    async fn follow(listener: &TcpListener, opening: Call) -> Follow {
        let url = format!("http://{}", listener.local_addr().unwrap());
        let api = Api::new(Reach { url, token: Some("secret".into()) }).unwrap();
        Follow::new(api, "demo", opening, None)
    }

    #[tokio::test]
    async fn a_broken_stream_goes_on_without_doubling() {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let opening = Call::post("/v1/units/demo/invoke", &serde_json::json!({})).header("idempotency-key", "k");
        let mut follow = follow(&listener, opening).await;
        let server = async {
            // Breaks before any event: the same call again. Then in the middle of one. Then the gateway is away and
            // repeats an event.
            let mut heads = vec![answer(&listener, "200 OK", ": hello\n\n").await];
            heads.push(answer(&listener, "200 OK", "id: 1-0\ndata: a\n\nid: 2-0\ndata: half").await);
            heads.push(answer(&listener, "503 Service Unavailable", "").await);
            heads.push(answer(&listener, "200 OK", "id: 1-0\ndata: a\n\nid: 2-0\ndata: b\n\n").await);
            heads
        };
        let reader = async {
            let first = follow.next().await.unwrap();
            follow.of_turn("T");
            let second = follow.next().await.unwrap();
            (first.data, second.data)
        };
        let (heads, data) = tokio::join!(server, reader);
        assert_eq!(data, ("a".to_owned(), "b".to_owned()));
        assert_eq!(follow.start(), Some("cold"));
        for head in &heads[..2] {
            assert!(head.starts_with("POST /v1/units/demo/invoke "), "{head}");
            assert!(head.contains("idempotency-key: k"), "{head}");
            assert!(head.contains("authorization: Bearer secret"), "{head}");
        }
        for head in &heads[2..] {
            assert!(head.starts_with("GET /v1/units/demo/events "), "{head}");
            assert!(head.contains("last-event-id: 1-0"), "{head}");
        }
    }

    #[tokio::test]
    async fn what_is_there_now_ends_and_a_break_is_no_end() {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        let api = Api::new(Reach { url, token: None }).unwrap();
        let mut follow = Follow::up_to_now(api, "demo", None);
        let server = async {
            // More was promised than comes: a connection that broke, whatever the stream would have been.
            let (mut stream, _): (TcpStream, _) = listener.accept().await.unwrap();
            let mut head = [0; 1024];
            let _ = stream.read(&mut head).await.unwrap();
            let text =
                "HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\ncontent-length: 999\r\n\r\nid: 1-0\ndata: a\n\n";
            stream.write_all(text.as_bytes()).await.unwrap();
            drop(stream);
            answer(&listener, "200 OK", "id: 2-0\ndata: b\n\n").await
        };
        let reader = async {
            let mut data = Vec::new();
            while let Some(message) = follow.next_or_end().await.unwrap() {
                data.push(message.data);
            }
            data
        };
        let (head, data) = tokio::join!(server, reader);
        assert_eq!(data, ["a", "b"]);
        assert!(
            head.starts_with("GET /v1/units/demo/events?follow=false ") && head.contains("last-event-id: 1-0"),
            "{head}"
        );
    }

    #[tokio::test]
    async fn what_is_refused_or_was_never_there_is_not_tried_again() {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let mut refused = follow(&listener, Call::get("/x")).await;
        let (_, failure) = tokio::join!(answer(&listener, "404 Not Found", ""), refused.next());
        assert_eq!(failure.unwrap_err().status(), 2);
        let mut absent = follow(&listener, Call::get("/x")).await;
        drop(listener);
        assert_eq!(absent.next().await.unwrap_err().status(), 3);
    }
}
