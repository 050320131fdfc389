//! The client against a small facade that breaks off where it hurts.

use std::collections::BTreeMap;
use std::path::Path;

use contract::{EventBody, TurnId};
use serde_json::Value as Json;
use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader};
use tokio::net::{UnixListener, UnixStream};
use tokio::time::timeout;

use super::*;
use crate::settings::Settings;

const SOON: Duration = Duration::from_secs(10);
const TURN: &str = "01JZ3Y7QK8W9V6X5T4S3R2Q1P0";

/// One connection as the gateway sees it: commands in, raw answers out.
struct Peer(BufReader<UnixStream>);

impl Peer {
    async fn accept(listener: &UnixListener) -> Self {
        Self(BufReader::new(timeout(SOON, listener.accept()).await.unwrap().unwrap().0))
    }

    async fn line(&mut self) -> Option<String> {
        let mut line = String::new();
        let n = timeout(SOON, self.0.read_line(&mut line)).await.unwrap().unwrap();
        (n > 0).then(|| line.trim_end().to_owned())
    }

    async fn command(&mut self) -> Option<Vec<String>> {
        let count: usize = self.line().await?.strip_prefix('*').unwrap().parse().unwrap();
        let mut words = Vec::new();
        for _ in 0..count {
            let len: usize = self.line().await?.strip_prefix('$').unwrap().parse().unwrap();
            let mut word = vec![0; len + 2];
            self.0.read_exact(&mut word).await.unwrap();
            words.push(String::from_utf8(word[..len].to_vec()).unwrap());
        }
        Some(words)
    }

    async fn expect(&mut self, first_words: &[&str]) -> Vec<String> {
        let words = self.command().await.expect("the worker closed");
        assert_eq!(words[..first_words.len()], *first_words);
        words
    }

    async fn answer(&mut self, raw: &str) {
        self.0.write_all(raw.as_bytes()).await.unwrap();
    }

    async fn event(&mut self) -> Json {
        let words = self.expect(&["XADD", "out", "*", "event"]).await;
        serde_json::from_str(&words[4]).unwrap()
    }

    async fn authorised(listener: &UnixListener) -> Self {
        let mut peer = Self::accept(listener).await;
        peer.expect(&["AUTH", "rekindle", "n0nce"]).await;
        peer.answer("+OK\r\n").await;
        peer
    }
}

fn settings(dir: &Path) -> Settings {
    let vars = BTreeMap::from([
        ("REKINDLE_UNIT", "uaaaaaaaaaaaaaaaaaaaaaaaaa".to_owned()),
        ("REKINDLE_GENERATION", "7".into()),
        ("REKINDLE_IN", "in".into()),
        ("REKINDLE_OUT", "out".into()),
        ("REDIS_URL", format!("redis+unix://{}/redis.sock", dir.display())),
        ("REKINDLE_GATEWAY_URL", format!("unix://{}/gateway.sock", dir.display())),
        ("REKINDLE_WORKSPACES", r#"[{"id":"w","mode":"rw","path":"/w"}]"#.into()),
        ("REKINDLE_STATE", "/s".into()),
        ("REKINDLE_ORPHAN_SEC", "5".into()),
    ]);
    Settings::read(&|name| vars.get(name).cloned()).unwrap()
}

struct Claimed {
    _dir: tempfile::TempDir,
    listener: UnixListener,
    peer: Peer,
    link: Link,
}

async fn claimed() -> Claimed {
    let dir = tempfile::tempdir().unwrap();
    let listener = UnixListener::bind(dir.path().join("redis.sock")).unwrap();
    let settings = settings(dir.path());
    let gateway = async {
        let mut peer = Peer::accept(&listener).await;
        peer.expect(&["CLIENT", "CLAIM", "12"]).await;
        peer.answer("$5\r\nn0nce\r\n").await;
        peer
    };
    let (peer, link) = tokio::join!(gateway, Link::claim(&settings, || 12));
    Claimed { _dir: dir, listener, peer, link: link.unwrap() }
}

fn delta(text: &str) -> EventBody {
    EventBody::MessageDelta { text: text.into() }
}

fn turn() -> TurnId {
    TurnId::parse(TURN).unwrap()
}

fn entry(json: &str) -> String {
    format!("*1\r\n*2\r\n$2\r\nin\r\n*1\r\n*2\r\n$3\r\n1-0\r\n*2\r\n$4\r\nturn\r\n${}\r\n{json}\r\n", json.len())
}

#[tokio::test]
async fn reads_on_the_claiming_connection_and_shows_the_nonce_on_the_next() {
    let Claimed { listener, mut peer, link, _dir } = claimed().await;
    let mut running = link.run();
    let reading = tokio::spawn(running.reader);
    let read = ["XREADGROUP", "GROUP", "rekindle", "7", "COUNT", "1", "BLOCK", "20000", "STREAMS", "in", ">"];
    peer.expect(&read).await;
    peer.answer(&entry(&format!(r#"{{"type":"cancel","turn_id":"{TURN}"}}"#))).await;
    assert!(matches!(running.deliveries.recv().await, Some(Delivery::Cancel(_))));
    peer.expect(&read).await;
    peer.answer("*-1\r\n").await;
    peer.expect(&read).await;
    drop(peer);

    let mut peer = Peer::authorised(&listener).await;
    peer.expect(&read).await;
    peer.answer(&entry(r#"{"type":"stop"}"#)).await;
    assert!(matches!(running.deliveries.recv().await, Some(Delivery::Stop)));
    peer.expect(&read).await;
    peer.answer("-FENCED generation 8 is current\r\n").await;
    assert_eq!(
        timeout(SOON, reading).await.unwrap().unwrap(),
        LinkEnd::Fenced("FENCED generation 8 is current".into())
    );
}

#[tokio::test]
async fn unanswered_events_are_sent_again_in_order_with_the_same_numbers() {
    let Claimed { listener, link, _dir, peer: _reading } = claimed().await;
    let running = link.run();
    let events = running.events.clone();
    let writing = tokio::spawn(running.writer);
    events.emit(&turn(), delta("one")).await;
    let mut peer = Peer::authorised(&listener).await;
    assert_eq!(peer.event().await["seq"], 1);
    // What comes while a batch is under way waits, and texts are joined.
    events.emit(&turn(), delta("two")).await;
    events.emit(&turn(), delta("three")).await;
    events.emit(&turn(), EventBody::ThinkingDelta { text: "hm".into() }).await;
    drop(peer);

    let mut peer = Peer::authorised(&listener).await;
    let again = peer.event().await;
    assert_eq!((&again["seq"], &again["text"], &again["turn_id"]), (&1.into(), &"one".into(), &TURN.into()));
    peer.answer("$3\r\n1-0\r\n").await;
    let joined = peer.event().await;
    assert_eq!((&joined["seq"], &joined["text"]), (&2.into(), &"twothree".into()));
    // The ledger does not answer: the same event is offered again, and nothing overtakes it.
    peer.answer("-TRYAGAIN the ledger does not answer; repeat the command\r\n").await;
    drop(peer);
    let mut peer = Peer::authorised(&listener).await;
    assert_eq!(peer.event().await, joined);
    peer.answer("$3\r\n2-0\r\n").await;
    let thinking = peer.event().await;
    assert_eq!((&thinking["seq"], &thinking["type"]), (&3.into(), &"thinking-delta".into()));
    let flush = tokio::spawn(async move { events.flush().await });
    peer.answer("$3\r\n3-0\r\n").await;
    timeout(SOON, flush).await.unwrap().unwrap();
    writing.abort();
}

#[tokio::test]
async fn stale_events_are_dropped_and_told_and_a_fence_ends_the_link() {
    let Claimed { listener, link, _dir, peer: _reading } = claimed().await;
    let mut running = link.run();
    let writing = tokio::spawn(running.writer);
    running.events.emit(&turn(), delta("late")).await;
    let mut peer = Peer::authorised(&listener).await;
    peer.event().await;
    peer.answer("-STALE not the taken turn\r\n").await;
    assert!(matches!(running.deliveries.recv().await, Some(Delivery::Stale(stale)) if stale == turn()));
    running.events.emit(&turn(), delta("later")).await;
    peer.event().await;
    peer.answer("-FENCED over\r\n").await;
    assert_eq!(timeout(SOON, writing).await.unwrap().unwrap(), LinkEnd::Fenced("FENCED over".into()));
    timeout(SOON, running.events.flush()).await.expect("a link that is over holds nobody up");
}

#[tokio::test]
async fn a_refused_event_is_left_out_but_the_end_of_a_turn_is_said_with_less() {
    let Claimed { listener, link, _dir, peer: _reading } = claimed().await;
    let running = link.run();
    let writing = tokio::spawn(running.writer);
    running.events.emit(&turn(), delta("odd")).await;
    let mut peer = Peer::authorised(&listener).await;
    peer.event().await;
    peer.answer("-ERR an event of type `message-delta` is not to my liking\r\n").await;
    let done = EventBody::Done {
        ok: true,
        reply: "r".repeat(100_000),
        output: Some(1.into()),
        session_id: Some("s".into()),
        usage: Default::default(),
        detail: None,
        reason: None,
        cache: None,
    };
    running.events.emit(&turn(), done).await;
    assert_eq!(peer.event().await["reply"].as_str().unwrap().len(), 100_000);
    peer.answer("-ERR the event has 100200 bytes; at most 10000 are taken\r\n").await;
    let cut = peer.event().await;
    assert!(cut["reply"].as_str().unwrap().len() < 5_000 && cut["output"].is_null());
    assert_eq!((&cut["ok"], &cut["sessionId"], &cut["seq"]), (&true.into(), &"s".into(), &2.into()));
    assert!(cut["detail"].as_str().unwrap().contains("at most 10000"), "{cut}");
    // What is left of it always fits.
    peer.answer(&format!("-ERR the event has {} bytes; at most 1000 are taken\r\n", "9".repeat(2_000))).await;
    let bare = peer.event().await;
    assert_eq!((&bare["ok"], &bare["reply"], &bare["seq"]), (&true.into(), &"".into(), &2.into()));
    assert!(bare["sessionId"].is_null() && bare.to_string().len() < 1_000, "{bare}");
    assert!(bare["detail"].as_str().unwrap().contains("the gateway refused it twice"), "{bare}");
    peer.answer("-ERR no\r\n").await;
    running.events.emit(&turn(), delta("next")).await;
    assert_eq!(peer.event().await["text"], "next", "and one that does not is given up");
    writing.abort();
}

#[tokio::test]
async fn a_generation_that_somebody_else_claimed_is_not_ours() {
    let dir = tempfile::tempdir().unwrap();
    let listener = UnixListener::bind(dir.path().join("redis.sock")).unwrap();
    let gateway = async {
        // The first try breaks off, the second is answered.
        drop(Peer::accept(&listener).await);
        let mut peer = Peer::accept(&listener).await;
        peer.expect(&["CLIENT", "CLAIM"]).await;
        peer.answer("-NOPERM generation is claimed\r\n").await;
        peer
    };
    let settings = settings(dir.path());
    let (_peer, refused) = tokio::join!(gateway, Link::claim(&settings, || 1));
    assert_eq!(refused.unwrap_err(), LinkEnd::Fenced("NOPERM generation is claimed".into()));
}

#[tokio::test]
async fn a_worker_that_reaches_no_gateway_gives_up() {
    let dir = tempfile::tempdir().unwrap();
    let orphan_after = Duration::from_millis(250);
    let settings = Settings { orphan_after, ..settings(dir.path()) };
    let orphaned = timeout(SOON, Link::claim(&settings, || 1)).await.unwrap().unwrap_err();
    assert_eq!(orphaned, LinkEnd::Orphaned(orphan_after));
}
