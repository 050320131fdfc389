//! Hostile HTTP against a real deployment. Each case of the table is first said to a naive server, which serves it; then to the
//! gateway, which must refuse it, end the connection, and go on serving others in the memory that it had.

mod cases;
mod h2;
mod naive;
mod two_writes;
mod wire;

use std::fmt::Write as _;
use std::time::Duration;

use futures_util::future::join_all;
use tests::api::Api;
use tests::eventually;
use tests::keys::caller_token;
use tests::stack::{Backend, Options, Stack};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpSocket, TcpStream};
use tokio::time::timeout;

use self::wire::{Heard, Pace, say};
use crate::support::{MINUTE, resident_kib};

/// Short times, so that waiting for their end is short too.
const SETTINGS: &str = "[edge]\nhead_sec = 2\nbody_sec = 1\nbody_bytes_per_sec = 1000\nstall_sec = 3\n\
    connections_per_address = 40\n[limits]\nbody_bytes = 1048576\nrequests_per_sec = 10000\nrequest_burst = 20000\n";
const LEAST_CASES: usize = 80;
/// What the gateway may grow by over the whole table; single cases send as much as 16 MB.
const GROWTH_KIB: u64 = 48 << 10;

#[tokio::test]
async fn hostile_requests_are_refused_and_cost_nothing() {
    let stack = Stack::start(Options::new(Backend::Process).settings(SETTINGS)).await;
    let api = stack.api("ann");
    api.invoke("edge", "hello").await.expect(200);
    let cases = cases::all(&caller_token(&stack.secrets().jwt, "ann"));
    assert!(cases.len() >= LEAST_CASES, "{} cases", cases.len());

    let (open, _server) = naive::start().await;
    let limit = Duration::from_secs(1);
    let naive = join_all(cases.iter().map(|case| say(&open, &case.send, case.pace, limit))).await;
    for (case, heard) in cases.iter().zip(naive) {
        // That it never hangs up counts only where hanging up is what the case is about.
        let heard = Heard { ended: heard.ended || !case.is_slow(), ..heard };
        assert!(case.wrong(&heard).is_some(), "{}: a naive server does as well, so the case shows nothing", case.name);
    }

    let before = resident_kib(stack.gateway.pid());
    let mut outcomes = Vec::new();
    for case in cases.iter().filter(|case| !case.is_slow()) {
        let heard = say(&stack.address, &case.send, case.pace, case.limit).await;
        let serves = api.get("/v1/units").await.status;
        assert_eq!(serves, 200, "after {}", case.name);
        outcomes.push((case, heard));
    }
    let address = &stack.address;
    let (slow, serves) = tokio::join!(
        join_all(
            cases
                .iter()
                .filter(|case| case.is_slow())
                .map(|case| async move { (case, say(address, &case.send, case.pace, case.limit).await) })
        ),
        api.invoke("edge", "meanwhile"),
    );
    assert_eq!(serves.expect(200).json()["reply"], "meanwhile");
    outcomes.extend(slow);
    let grown = resident_kib(stack.gateway.pid()).saturating_sub(before);

    let mut table = String::new();
    let mut wrong = 0;
    for (case, heard) in &outcomes {
        let fault = case.wrong(heard);
        wrong += usize::from(fault.is_some());
        let _ = writeln!(table, "{:<42} {:<10} {}", case.name, said(heard), fault.unwrap_or_else(|| "refused".into()));
    }
    println!("{table}{} cases; the gateway grew by {grown} KiB", outcomes.len());
    assert_eq!(wrong, 0, "of {} cases:\n{table}", outcomes.len());
    assert!(grown < GROWTH_KIB, "the gateway grew by {grown} KiB");
    api.get("/v1/units/edge").await.expect(200);
}

fn said(heard: &Heard) -> String {
    match heard.statuses()[..] {
        [] => "the end".into(),
        ref all => format!("{all:?}"),
    }
}

async fn open_streams(api: &Api) -> u64 {
    let figures = api.get("/metrics").await.expect(200).text();
    let line = figures.lines().find_map(|line| line.strip_prefix("rekindle_gateway_open_streams "));
    line.and_then(|n| n.parse().ok()).expect("a figure of open streams")
}

/// A connection with little room for what comes.
async fn narrow(address: &str) -> TcpStream {
    let socket = TcpSocket::new_v4().expect("a socket");
    socket.set_recv_buffer_size(4096).expect("a small buffer");
    socket.connect(address.parse().expect("an address")).await.expect("connect")
}

/// Whether the peer has ended the connection; what it said before is thrown away.
async fn is_ended(mut socket: TcpStream) -> bool {
    let mut buffer = vec![0; 64 << 10];
    let ended = async { while socket.read(&mut buffer).await.is_ok_and(|n| n > 0) {} };
    timeout(Duration::from_secs(1), ended).await.is_ok()
}

#[tokio::test]
async fn who_takes_nothing_of_an_answer_is_not_waited_for() {
    let stack = Stack::start(Options::new(Backend::Process).settings(SETTINGS)).await;
    let api = stack.api("ann");
    let token = caller_token(&stack.secrets().jwt, "ann");
    // More than the kernel keeps for a peer that reads nothing.
    let prompt = "x".repeat(900_000);
    join_all((0..2).map(|_| api.invoke("long", &prompt))).await.into_iter().for_each(|answer| drop(answer.expect(200)));
    let before = resident_kib(stack.gateway.pid());

    // HTTP/1, its connection full; HTTP/2, its connection open and the window of its answer never opened.
    let bearer = format!("Bearer {token}");
    let (mut stalled, mut alive) = (Vec::new(), Vec::new());
    for _ in 0..4 {
        let mut http1 = narrow(&stack.address).await;
        let line = "GET /v1/units/long/events HTTP/1.1\r\nHost: gateway\r\n";
        http1.write_all(format!("{line}Authorization: {bearer}\r\n\r\n").as_bytes()).await.expect("ask");
        let mut http2 = TcpStream::connect(&stack.address).await.expect("connect");
        let block = h2::get("/v1/units/long/events", &[("authorization", &bearer)]);
        http2.write_all(&[h2::hello(), h2::request(1, &block)].concat()).await.expect("ask");
        stalled.push(http1);
        alive.push(tokio::spawn(h2::stay_alive(http2)));
    }
    eventually("the streams are open", MINUTE, || async { (open_streams(&api).await == 8).then_some(()) }).await;
    // One that reads is served all the while.
    let mut reader = api.events("long", Some("0")).await;
    reader.until("turn-complete", MINUTE).await;
    drop(reader);
    eventually("no stream is left", MINUTE, || async { (open_streams(&api).await == 0).then_some(()) }).await;
    for connection in alive {
        let pongs = timeout(MINUTE, connection).await.expect("it is ended").expect("no panic");
        assert!(pongs > 0, "it was ended though it was alive, for what it did not take");
    }
    for socket in stalled {
        assert!(is_ended(socket).await);
    }
    let grown = resident_kib(stack.gateway.pid()).saturating_sub(before);
    assert!(grown < GROWTH_KIB, "the gateway grew by {grown} KiB");
}

#[tokio::test]
async fn floods_of_one_address_are_bounded_and_leave_room_again() {
    // Silent connections are to be there still when others come.
    let settings = SETTINGS.replace("head_sec = 2", "head_sec = 6");
    let stack = Stack::start(Options::new(Backend::Process).settings(&settings)).await;
    let api = stack.api("ann");
    api.get("/v1/units").await.expect(200);
    let before = resident_kib(stack.gateway.pid());

    // Connections: those above the bound are told, every one, and there is room again when the silent ones were ended.
    let connect = || async { TcpStream::connect(&stack.address).await.expect("connect") };
    let held = join_all((0..40).map(|_| connect())).await;
    for heard in join_all((0..20).map(|_| say(&stack.address, b"", Pace::AtOnce, Duration::from_secs(1)))).await {
        assert_eq!(heard.statuses(), [503], "{}", heard.text());
        assert!(heard.ended && heard.text().contains("application/problem+json"), "{}", heard.text());
    }
    for mut socket in held {
        let mut said = Vec::new();
        let _ = timeout(MINUTE, socket.read_to_end(&mut said)).await.expect("a silent connection is ended");
        // The one before them may have been there still, and one of them too many.
        assert!(said.is_empty() || said.starts_with(b"HTTP/1.1 503 "), "a silent connection was answered");
    }
    eventually("there is room again", MINUTE, || async {
        let answer = api.send(hyper::Method::GET, "/v1/units", &[], bytes::Bytes::new()).await.ok()?;
        answer.status.is_success().then_some(())
    })
    .await;

    // Answers that are never read: pipelined ones of HTTP/1, pings of HTTP/2.
    let asks = "GET /openapi.json HTTP/1.1\r\nHost: gateway\r\n\r\n".repeat(1_000).into_bytes();
    let pings = h2::ping().repeat(1 << 16);
    for (what, hello, bytes) in [("requests", Vec::new(), asks), ("pings", h2::hello(), pings)] {
        let mut socket = narrow(&stack.address).await;
        socket.write_all(&hello).await.expect("begin");
        // The gateway has to stop to read, and then to hang up.
        let sending = async { while socket.write_all(&bytes).await.is_ok() {} };
        let sent = timeout(MINUTE, sending).await;
        assert!(sent.is_ok(), "the gateway goes on with {what}");
    }
    // One header, said once and meant 10,000 times.
    let bomb = say(&stack.address, &h2::header_bomb(), Pace::AtOnce, Duration::from_secs(3)).await;
    assert!(!bomb.text().contains(r#""status":"ok""#), "it was served: {}", bomb.text());

    api.get("/v1/units").await.expect(200);
    let grown = resident_kib(stack.gateway.pid()).saturating_sub(before);
    println!("the gateway grew by {grown} KiB over the floods");
    assert!(grown < GROWTH_KIB, "the gateway grew by {grown} KiB");
}

#[tokio::test]
async fn an_answer_that_comes_before_the_body_is_read_by_its_caller() {
    let stack = Stack::start(Options::new(Backend::Process)).await;
    let token = caller_token(&stack.secrets().jwt, "ann");
    two_writes::are_all_answered(&stack, &token).await;
    two_writes::announce_the_close(&stack, &token).await;
}
