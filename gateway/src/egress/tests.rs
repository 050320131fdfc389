//! The proxy as a sandbox meets it: plain bytes in, over a real ledger and real loopback servers.

use std::collections::VecDeque;
use std::net::IpAddr;
use std::sync::{Arc, Mutex};

use contract::{Generation, TurnId};
use futures_util::StreamExt;
use ledger::{Entry, Settle, StreamId, Taken};
use serde_json::Value;
use settings::Settings;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream, UnixStream};
use tokio::task::{JoinHandle, JoinSet};
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;

use super::{Egress, EgressError, Names};
use crate::worker_port::testing::{SOON, World, claims, in_an_hour, uid};

/// A generation in a turn, and a gateway with these settings.
struct Place {
    world: World,
    egress: Arc<Egress>,
    generation: Generation,
    turn: TurnId,
}

fn settings(toml: &str) -> Settings {
    Settings::from_text(std::path::Path::new("/etc/rekindle.toml"), toml, std::iter::empty()).unwrap()
}

impl Place {
    async fn new(toml: &str, answers: &[&[&str]]) -> Self {
        let world = World::new().await;
        let (start, turn) = world.submit_cold("out").await;
        let generation = start.generation;
        world.ledger.ready(&uid("demo"), generation, None, 1).await.unwrap();
        let taken = world.ledger.take(&uid("demo"), generation, 1, None).await.unwrap();
        assert!(matches!(taken, Taken::Turn(_)), "{taken:?}");
        let mut egress = Egress::new(&settings(toml)).unwrap();
        let parse = |answer: &&[&str]| answer.iter().map(|ip| ip.parse::<IpAddr>().unwrap()).collect();
        egress.dialer.names = Names::Scripted(Mutex::new(answers.iter().map(parse).collect::<VecDeque<_>>()));
        Self { world, egress: Arc::new(egress), generation, turn }
    }

    fn connect(&self) -> Client {
        let (io, far) = UnixStream::pair().unwrap();
        let (egress, ledger) = (self.egress.clone(), self.world.ledger.clone());
        let claims = claims(&uid("demo"), self.generation, in_an_hour());
        let serving = tokio::spawn(async move { egress.serve(&ledger, &claims, far, CancellationToken::new()).await });
        Client { io, serving }
    }

    /// Sends a request on a connection of its own; its answer to the end.
    async fn ask(&self, request: &str) -> String {
        let mut client = self.connect();
        let head = request.strip_suffix("\r\n\r\n").expect("a whole head");
        client.send(&format!("{head}\r\nConnection: close\r\n\r\n")).await;
        client.rest().await
    }

    async fn settle(&self) {
        let done = r#"{"type":"done","ok":true,"reply":""}"#;
        let settle = Settle { ok: true, reason: None, done_json: done, seq: None, cache: None };
        self.world.ledger.settle(&uid("demo"), self.generation, &self.turn, settle).await.unwrap();
    }

    /// Host and setting of every refusal that the turn was told.
    async fn denied(&self) -> Vec<(String, String)> {
        self.settle().await;
        let fanout = self.world.ledger.fanout();
        let cancel = CancellationToken::new();
        let running = tokio::spawn(fanout.clone().run(cancel.clone()));
        let mut subscription =
            fanout.subscribe(&uid("demo"), StreamId::ZERO, &ledger::Share::new(1 << 20)).await.unwrap();
        let mut denied = Vec::new();
        loop {
            let entry = timeout(SOON, subscription.next()).await.expect("the turn's end").unwrap();
            let Entry::Event { json, .. } = entry else { continue };
            let event: Value = serde_json::from_str(&json).unwrap();
            let text = |field: &str| event[field].as_str().unwrap_or_default().to_owned();
            match event["type"].as_str().unwrap() {
                "egress-denied" => {
                    assert_eq!(event["turn_id"], self.turn.as_str());
                    denied.push((text("host"), text("setting")));
                }
                "turn-complete" => break,
                _ => {}
            }
        }
        cancel.cancel();
        running.await.unwrap();
        denied
    }
}

struct Client {
    io: UnixStream,
    serving: JoinHandle<()>,
}

impl Client {
    async fn send(&mut self, text: &str) {
        // It may have been answered, and closed, before it was read to its end.
        let _ = self.io.write_all(text.as_bytes()).await;
    }

    async fn head(&mut self) -> String {
        let mut head = Vec::new();
        while !head.ends_with(b"\r\n\r\n") {
            head.push(timeout(SOON, self.io.read_u8()).await.expect("an answer").expect("a whole head"));
        }
        String::from_utf8(head).unwrap()
    }

    async fn rest(&mut self) -> String {
        let mut all = Vec::new();
        // An answer before all of the request was read may come with a reset.
        let _ = timeout(SOON, self.io.read_to_end(&mut all)).await.expect("the end");
        let _ = self.io.shutdown().await;
        timeout(SOON, &mut self.serving).await.expect("it ends").unwrap();
        String::from_utf8(all).unwrap()
    }
}

/// A server on loopback that answers each line with itself, and counts its connections.
async fn echo() -> (u16, Arc<Mutex<u32>>, JoinSet<()>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    let count = Arc::new(Mutex::new(0));
    let mut tasks = JoinSet::new();
    let counted = count.clone();
    tasks.spawn(async move {
        let mut connections = JoinSet::new();
        while let Ok((mut stream, _)) = listener.accept().await {
            *counted.lock().unwrap() += 1;
            connections.spawn(async move {
                let (mut read, mut write) = stream.split();
                let _ = tokio::io::copy(&mut read, &mut write).await;
            });
        }
    });
    (port, count, tasks)
}

fn allowing(port: u16, more: &str) -> String {
    format!(
        "[gateway]\negress_allow_private = [\"127.0.0.1:{port}\"]\n[profiles.default]\n\
         egress = [\"allowed.example\", \"echo.example:{port}\", \"*.below.example:{port}\", \"127.0.0.1:{port}\"]\n{more}"
    )
}

#[tokio::test]
async fn hostile_requests_open_nothing() {
    let (port, count, _server) = echo().await;
    // No answer is scripted: a name that is looked up would be a panic.
    let place = Place::new(&allowing(port, ""), &[]).await;
    let long = format!("{}.allowed.example", "a".repeat(60_000));
    for (line, status) in [
        ("CONNECT user@allowed.example:443", 400),
        ("CONNECT allowed.example:443@other.example:443", 400),
        ("CONNECT allowed.example", 400),
        ("CONNECT allowed.example:", 400),
        ("CONNECT allowed.example:0", 400),
        ("CONNECT allowed.example:65536", 400),
        ("CONNECT allowed.example:+443", 400),
        ("CONNECT allowed.example:0443", 400),
        ("CONNECT allowed.example:443 other.example:443", 400),
        ("CONNECT allowed.example:443:443", 400),
        ("CONNECT http://allowed.example:443/", 400),
        ("CONNECT /", 400),
        ("CONNECT allowed.example:443/", 400),
        ("CONNECT allowed.example%2e:443", 400),
        ("CONNECT allowed.example\0:443", 400),
        ("CONNECT [::1%25lo]:443", 400),
        ("CONNECT ::1:443", 400),
        ("CONNECT 0x7f000001:443", 400),
        ("CONNECT 2130706433:443", 400),
        ("CONNECT 127.1:443", 400),
        ("CONNECT 0177.0.0.1:443", 400),
        ("CONNECT 127.0.0.1.:444", 403),
        ("CONNECT other.example:443", 403),
        ("CONNECT allowed.example:80", 403),
        ("CONNECT below.example:443", 403),
        ("CONNECT notallowed.example:443", 403),
        ("CONNECT 169.254.169.254:80", 403),
        ("CONNECT [::ffff:169.254.169.254]:80", 403),
        ("CONNECT [::1]:443", 403),
        ("CONNECT 0.0.0.0:443", 403),
        ("GET http://user@allowed.example/", 400),
        ("GET http://allowed.example:443@other.example/", 400),
        ("GET https://allowed.example/", 400),
        ("GET ftp://allowed.example/", 400),
        ("GET http://other.example/", 403),
        ("GET http://169.254.169.254/latest/meta-data/", 403),
        ("POST http://allowed.example/", 405),
        ("DELETE http://allowed.example/", 405),
    ] {
        // What `Host` says opens nothing.
        let answer = place.ask(&format!("{line} HTTP/1.1\r\nHost: allowed.example\r\n\r\n")).await;
        assert!(answer.starts_with(&format!("HTTP/1.1 {status} ")), "{line}: {answer}");
    }
    let answer = place.ask(&format!("CONNECT {long}:443 HTTP/1.1\r\n\r\n")).await;
    assert!(answer.starts_with("HTTP/1.1 4"), "{answer}");
    let huge = format!("CONNECT allowed.example:443 HTTP/1.1\r\nX: {}\r\n\r\n", "x".repeat(1 << 20));
    let answer = place.ask(&huge).await;
    assert!(answer.starts_with("HTTP/1.1 4"), "{answer}");
    assert_eq!(*count.lock().unwrap(), 0);
}

#[tokio::test]
async fn a_refusal_says_what_would_allow_it_and_is_told_in_the_turn() {
    let place = Place::new("[profiles.default]\negress = [\"a.example\"]\n", &[&["10.0.0.1"]]).await;
    for _ in 0..2 {
        let answer = place.ask("CONNECT b.example:443 HTTP/1.1\r\n\r\n").await;
        assert!(answer.contains("profiles.default.egress = [\"a.example\", \"b.example\"]"), "{answer}");
    }
    place.ask("GET http://b.example/x HTTP/1.1\r\n\r\n").await;
    let answer = place.ask("CONNECT a.example:443 HTTP/1.1\r\n\r\n").await;
    assert!(answer.starts_with("HTTP/1.1 403") && answer.contains("private"), "{answer}");
    let want = [
        ("b.example", "profiles.default.egress = [\"a.example\", \"b.example\"]"),
        ("b.example:80", "profiles.default.egress = [\"a.example\", \"b.example:80\"]"),
        ("a.example", "gateway.egress_allow_private = [\"10.0.0.1:443\"]"),
    ];
    assert_eq!(place.denied().await, want.map(|(host, setting)| (host.to_owned(), setting.to_owned())));
}

#[tokio::test]
async fn a_name_is_resolved_once_and_connected_to_as_it_was_judged() {
    let (port, count, _server) = echo().await;
    // Public enough the first time, another address the second: as names of a rebinding server do.
    let answers: [&[&str]; 5] = [
        &["127.0.0.1"],
        &["127.0.0.2"],
        &["10.0.0.1", "169.254.169.254", "::1", "::ffff:10.0.0.1"],
        &["10.0.0.1", "127.0.0.1"],
        &[],
    ];
    let place = Place::new(&allowing(port, ""), &answers).await;
    let connect = format!("CONNECT echo.example:{port} HTTP/1.1\r\n\r\n");
    for status in [200, 403, 403, 200, 502] {
        let mut client = place.connect();
        client.send(&connect).await;
        let head = client.head().await;
        assert!(head.starts_with(&format!("HTTP/1.1 {status} ")), "{head}");
        if status == 200 {
            client.send("hello").await;
            let mut answer = [0; 5];
            client.io.read_exact(&mut answer).await.unwrap();
            assert_eq!(&answer, b"hello");
        }
    }
    assert_eq!(*count.lock().unwrap(), 2);
}

#[tokio::test]
async fn a_tunnel_carries_both_ways_and_ends_with_either_side() {
    let (port, _, server) = echo().await;
    let place = Place::new(&allowing(port, ""), &[&["127.0.0.1"], &["127.0.0.1"]]).await;
    let mut client = place.connect();
    // What comes with the request belongs to the tunnel.
    client.send(&format!("CONNECT a.below.example:{port} HTTP/1.1\r\nHost: x\r\n\r\nearly ")).await;
    assert!(client.head().await.starts_with("HTTP/1.1 200"));
    client.send("late").await;
    client.io.shutdown().await.unwrap();
    assert_eq!(client.rest().await, "early late");

    let mut client = place.connect();
    client.send(&format!("CONNECT a.below.example:{port} HTTP/1.1\r\n\r\n")).await;
    assert!(client.head().await.starts_with("HTTP/1.1 200"));
    drop(server);
    assert_eq!(client.rest().await, "");
}

#[tokio::test]
async fn tunnels_are_bounded_in_number_time_and_bytes_and_end_with_their_turn() {
    let (port, _, _server) = echo().await;
    let bounds = "[egress]\nconnections_per_unit = 2\nidle_sec = 1\nconnection_mb = 1\nturn_mb = 2\n";
    let place = Place::new(&allowing(port, bounds), &[]).await;
    let connect = format!("CONNECT 127.0.0.1:{port} HTTP/1.1\r\n\r\n");
    let tunnel = async || {
        let mut client = place.connect();
        client.send(&connect).await;
        assert!(client.head().await.starts_with("HTTP/1.1 200"));
        client
    };
    let (mut one, mut two) = (tunnel().await, tunnel().await);
    let answer = place.ask(&connect).await;
    assert!(answer.starts_with("HTTP/1.1 503 ") && answer.contains("retry-after: 1"), "{answer}");
    assert_eq!(one.rest().await, "", "idle");
    assert_eq!(two.rest().await, "", "idle");

    // An echo crosses twice: half of the bound is all that may be sent.
    let mut client = tunnel().await;
    let (mut read, mut write) = client.io.split();
    let flood = vec![0; 2 << 20];
    let mut got = Vec::new();
    let (_, read) = tokio::join!(write.write_all(&flood), timeout(SOON, read.read_to_end(&mut got)));
    assert!(read.is_ok() && got.len() < 1 << 20, "{}", got.len());
    let mut client = tunnel().await;
    let (mut read, mut write) = client.io.split();
    let (_, read) = tokio::join!(write.write_all(&flood), timeout(SOON, read.read_to_end(&mut got)));
    assert!(read.is_ok());
    let answer = place.ask(&connect).await;
    assert!(answer.starts_with("HTTP/1.1 403 ") && answer.contains("egress.turn_mb"), "{answer}");
    assert!(place.denied().await.is_empty(), "no line of the profile would allow more");

    let place = Place::new(&allowing(port, ""), &[]).await;
    let mut client = place.connect();
    client.send(&connect).await;
    assert!(client.head().await.starts_with("HTTP/1.1 200"));
    place.settle().await;
    assert_eq!(client.rest().await, "", "the turn is over");
}

#[tokio::test]
async fn requests_for_http_addresses_are_passed_on_and_hops_are_not() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    let server = tokio::spawn(async move {
        let mut heads = Vec::new();
        for answer in [
            "HTTP/1.1 200 OK\r\ncontent-length: 5\r\nconnection: keep-alive, x-hop\r\nx-hop: 1\r\n\r\nhello",
            "HTTP/1.1 302 Found\r\nlocation: http://169.254.169.254/\r\ncontent-length: 0\r\n\r\n",
            "HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n2\r\nab\r\n0\r\n\r\n",
            "HTTP/1.1 200 OK\r\ncontent-length: 7\r\n\r\n",
        ] {
            let (mut stream, _): (TcpStream, _) = listener.accept().await.unwrap();
            let mut head = Vec::new();
            while !head.ends_with(b"\r\n\r\n") {
                head.push(stream.read_u8().await.unwrap());
            }
            stream.write_all(answer.as_bytes()).await.unwrap();
            heads.push(String::from_utf8(head).unwrap().to_lowercase());
        }
        heads
    });
    let place =
        Place::new(&allowing(port, ""), &[&["127.0.0.1"], &["127.0.0.1"], &["127.0.0.1"], &["127.0.0.1"]]).await;
    let mut client = place.connect();
    let asked = [
        (
            "GET",
            "/x?y=1",
            "Host: other.example\r\nAuthorization: Bearer mine\r\nProxy-Authorization: Basic x\r\nConnection: x-odd\r\nX-Odd: 1\r\n",
        ),
        ("GET", "/again", "Content-Length: 0\r\n"),
        ("GET", "", "Accept: */*\r\n"),
    ];
    for (n, (method, path, headers)) in asked.into_iter().enumerate() {
        client.send(&format!("{method} http://echo.example:{port}{path} HTTP/1.1\r\n{headers}\r\n")).await;
        let head = client.head().await.to_lowercase();
        match n {
            0 => {
                assert!(head.starts_with("http/1.1 200") && !head.contains("x-hop"), "{head}");
                let mut body = [0; 5];
                client.io.read_exact(&mut body).await.unwrap();
                assert_eq!(&body, b"hello");
            }
            1 => assert!(
                head.starts_with("http/1.1 302") && head.contains("169.254.169.254"),
                "it is not followed: {head}"
            ),
            _ => {
                assert!(head.contains("transfer-encoding: chunked"), "{head}");
                let mut body = [0; 12];
                client.io.read_exact(&mut body).await.unwrap();
                assert_eq!(&body, b"2\r\nab\r\n0\r\n\r\n");
            }
        }
    }
    client.io.shutdown().await.unwrap();
    client.rest().await;
    let answer = place.ask(&format!("HEAD http://echo.example:{port}/ HTTP/1.1\r\n\r\n")).await;
    assert!(answer.to_lowercase().contains("content-length: 7"), "{answer}");
    let heads = server.await.unwrap();
    assert!(heads[0].starts_with("get /x?y=1 http/1.1\r\n"), "{}", heads[0]);
    assert!(heads[0].contains(&format!("host: echo.example:{port}\r\n")) && !heads[0].contains("other.example"));
    assert!(
        heads[0].contains("authorization: bearer mine") && !heads[0].contains("basic") && !heads[0].contains("odd")
    );
    assert!(heads[2].starts_with("get / http/1.1\r\n"));
    assert!(heads[3].starts_with("head / http/1.1\r\n"));
}

#[tokio::test]
async fn presets_stand_for_hosts_and_one_that_stands_for_none_names_its_setting() {
    let (port, _, _server) = echo().await;
    let written = format!(
        "[gateway]\negress_allow_private = [\"127.0.0.1:{port}\"]\n[egress_presets]\nmine = [\"127.0.0.1:{port}\"]\n\
         [profiles.default]\negress = [\"preset:mine\"]\n"
    );
    let place = Place::new(&written, &[]).await;
    let mut client = place.connect();
    client.send(&format!("CONNECT 127.0.0.1:{port} HTTP/1.1\r\n\r\n")).await;
    assert!(client.head().await.starts_with("HTTP/1.1 200"));

    let mut place = Place::new("[profiles.default]\negress = [\"preset:cargo\"]\n", &[]).await;
    Arc::get_mut(&mut place.egress).unwrap().presets.forget_environment();
    let answer = place.ask("CONNECT crates.example:443 HTTP/1.1\r\n\r\n").await;
    assert!(answer.starts_with("HTTP/1.1 403"), "{answer}");
    let want = ("crates.example".to_owned(), "egress_presets.cargo = [\"crates.example\"]".to_owned());
    assert_eq!(place.denied().await, [want]);
}

#[test]
fn presets_that_cannot_work_are_errors_at_the_start() {
    let unknown = Egress::new(&settings("[profiles.p]\negress = [\"preset:nmp\"]\n")).unwrap_err();
    assert!(unknown.to_string().contains("profiles.p.egress names preset:nmp"), "{unknown}");
    let nested = settings("[egress_presets]\na = [\"preset:npm\"]\n");
    assert!(matches!(Egress::new(&nested), Err(EgressError::NestedPreset(name)) if name == "a"));
}
