use std::path::PathBuf;

use tempfile::TempDir;
use tokio::io::{AsyncBufReadExt, AsyncReadExt, BufReader};
use tokio::net::TcpListener;
use tokio::task::JoinHandle;
use tokio::time::timeout;

use super::*;

const SOON: Duration = Duration::from_secs(5);

struct Running {
    dir: TempDir,
    cancel: CancellationToken,
    task: JoinHandle<()>,
}

impl Running {
    fn start(port: impl FnOnce(&Path) -> WorkerPort, limits: Limits) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let port = port(dir.path());
        let relay = Relay::listen(dir.path(), "tok.en\n".into(), port, limits).unwrap();
        let cancel = CancellationToken::new();
        let task = tokio::spawn(relay.run(cancel.clone()));
        Self { dir, cancel, task }
    }

    async fn connect(&self, sock: &str) -> UnixStream {
        UnixStream::connect(self.dir.path().join(sock)).await.unwrap()
    }

    async fn end(self) {
        self.cancel.cancel();
        timeout(SOON, self.task).await.unwrap().unwrap();
    }
}

fn unix_port(dir: &Path) -> WorkerPort {
    WorkerPort::Unix(dir.join("worker.sock"))
}

async fn one_line(listener: &UnixListener) -> String {
    let (server, _) = timeout(SOON, listener.accept()).await.unwrap().unwrap();
    let mut line = String::new();
    timeout(SOON, BufReader::new(server).read_line(&mut line)).await.unwrap().unwrap();
    line
}

#[tokio::test]
async fn the_gateway_that_answered_last_is_asked_first_and_the_next_when_it_is_gone() {
    let both = |dir: &Path| {
        let text = format!("unix://{0}/first.sock unix://{0}/second.sock", dir.display());
        let ports = WorkerPort::parse(&text).unwrap();
        assert_eq!(ports.to_string(), text);
        ports
    };
    let relay = Running::start(both, Limits::default());
    let second = UnixListener::bind(relay.dir.path().join("second.sock")).unwrap();
    drop(relay.connect(REDIS_SOCK).await);
    assert_eq!(one_line(&second).await, "REKINDLE/1 redis tok.en\n");
    // The first is there now, and yet the generation stays where it is.
    let first = UnixListener::bind(relay.dir.path().join("first.sock")).unwrap();
    drop(relay.connect(GATEWAY_SOCK).await);
    assert_eq!(one_line(&second).await, "REKINDLE/1 http tok.en\n");
    drop(second);
    drop(relay.connect(REDIS_SOCK).await);
    assert_eq!(one_line(&first).await, "REKINDLE/1 redis tok.en\n");
    relay.end().await;
}

async fn read_all(mut stream: impl AsyncRead + Unpin) -> String {
    let mut text = String::new();
    timeout(SOON, stream.read_to_string(&mut text)).await.unwrap().unwrap();
    text
}

#[tokio::test]
async fn says_who_it_is_then_moves_bytes_and_keeps_half_closes() {
    let relay = Running::start(unix_port, Limits::default());
    let gateway = UnixListener::bind(relay.dir.path().join("worker.sock")).unwrap();
    for (sock, kind) in [(REDIS_SOCK, "redis"), (GATEWAY_SOCK, "http")] {
        let mut client = relay.connect(sock).await;
        let (server, _) = gateway.accept().await.unwrap();
        client.write_all(b"question").await.unwrap();
        client.shutdown().await.unwrap();
        let mut server = BufReader::new(server);
        let mut preamble = String::new();
        server.read_line(&mut preamble).await.unwrap();
        assert_eq!(preamble, format!("REKINDLE/1 {kind} tok.en\n"));
        assert_eq!(read_all(&mut server).await, "question");
        // The client's direction has ended, the gateway's has not.
        server.write_all(b"answer").await.unwrap();
        drop(server);
        assert_eq!(read_all(client).await, "answer");
    }
    relay.end().await;
}

#[tokio::test]
async fn carries_to_tcp() {
    let gateway = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = gateway.local_addr().unwrap();
    let relay = Running::start(|_| WorkerPort::parse(&format!("tcp://{address}")).unwrap(), Limits::default());
    let mut client = relay.connect(GATEWAY_SOCK).await;
    let (mut server, _) = gateway.accept().await.unwrap();
    client.write_all(b"x").await.unwrap();
    let mut got = vec![0; "REKINDLE/1 http tok.en\nx".len()];
    timeout(SOON, server.read_exact(&mut got)).await.unwrap().unwrap();
    assert_eq!(got, b"REKINDLE/1 http tok.en\nx");
    relay.end().await;
    assert_eq!(read_all(client).await, "", "ending the relay closes its connections");
}

#[tokio::test]
async fn closes_the_client_while_there_is_no_gateway() {
    let relay = Running::start(unix_port, Limits::default());
    let client = relay.connect(REDIS_SOCK).await;
    assert_eq!(read_all(client).await, "");
    let gateway = UnixListener::bind(relay.dir.path().join("worker.sock")).unwrap();
    let _client = relay.connect(REDIS_SOCK).await;
    timeout(SOON, gateway.accept()).await.unwrap().unwrap();
    relay.end().await;
}

#[tokio::test]
async fn holds_no_more_connections_than_allowed_and_frees_those_of_clients_that_are_gone() {
    let relay = Running::start(unix_port, Limits { max_connections: 1, ..Limits::default() });
    let gateway = UnixListener::bind(relay.dir.path().join("worker.sock")).unwrap();
    let first = relay.connect(REDIS_SOCK).await;
    let (server, _) = gateway.accept().await.unwrap();
    assert_eq!(read_all(relay.connect(GATEWAY_SOCK).await).await, "", "one too many is closed at once");
    drop(first);
    // The gateway never closes its end, yet it is told, and the slot is free again.
    assert_eq!(read_all(server).await, "REKINDLE/1 redis tok.en\n");
    let _second = relay.connect(REDIS_SOCK).await;
    timeout(SOON, gateway.accept()).await.unwrap().unwrap();
    relay.end().await;
}

#[tokio::test]
async fn replaces_what_an_earlier_relay_left_for_every_uid_to_use() {
    let dir = tempfile::tempdir().unwrap();
    std::fs::write(dir.path().join("redis.new"), "left by a crash").unwrap();
    for _ in 0..2 {
        Relay::listen(dir.path(), "t".into(), unix_port(dir.path()), Limits::default()).unwrap();
    }
    for sock in [REDIS_SOCK, GATEWAY_SOCK] {
        let mode = std::fs::metadata(dir.path().join(sock)).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o666);
    }
    assert_eq!(std::fs::read_dir(dir.path()).unwrap().count(), 2);
}

/// A store may lie deeper than an address of a Unix socket is long.
#[tokio::test]
async fn listens_in_a_folder_whose_path_is_longer_than_a_sockets_address() {
    let dir = tempfile::tempdir().unwrap();
    let deep = dir.path().join("d".repeat(100)).join("e".repeat(100));
    std::fs::create_dir_all(&deep).unwrap();
    let _relay = Relay::listen(&deep, "t".into(), unix_port(dir.path()), Limits::default()).unwrap();
    // As a sandbox reaches it: by a short name of the same folder.
    let short = dir.path().join("s");
    std::os::unix::fs::symlink(&deep, &short).unwrap();
    UnixStream::connect(short.join(REDIS_SOCK)).await.unwrap();
    let absent = Relay::listen(&deep.join("absent"), "t".into(), unix_port(dir.path()), Limits::default());
    assert!(absent.unwrap_err().to_string().contains("absent"), "the error names the folder");
}

#[tokio::test]
async fn refuses_tokens_that_do_not_fit_a_preamble() {
    let dir = tempfile::tempdir().unwrap();
    for token in ["", "a b", "a\nREKINDLE/1 redis other", &"x".repeat(PREAMBLE_MAX_BYTES)] {
        let refused = Relay::listen(dir.path(), token.into(), unix_port(dir.path()), Limits::default());
        assert_eq!(refused.unwrap_err().kind(), io::ErrorKind::InvalidInput);
    }
}

#[test]
fn ports_are_parsed() {
    assert_eq!(WorkerPort::parse("unix:///run/w.sock"), Ok(WorkerPort::Unix(PathBuf::from("/run/w.sock"))));
    assert_eq!(WorkerPort::parse("tcp://[::1]:80"), Ok(WorkerPort::Tcp("[::1]:80".into())));
    for bad in ["", "unix://x", "tcp://h", "tcp://:1", "tcp://h:70000", "tcp://u@h:1", "http://h:1"] {
        let error = WorkerPort::parse(bad).unwrap_err().to_string();
        assert!(error.contains("unix:///path or tcp://host:port"), "{error}");
    }
    assert_eq!(WorkerPort::parse("tcp://h:1").unwrap().to_string(), "tcp://h:1");
}

#[tokio::test]
async fn bytes_beyond_the_pace_wait_and_arrive() {
    let relay = Running::start(unix_port, Limits { bytes_per_sec: 100 << 10, ..Limits::default() });
    let gateway = UnixListener::bind(relay.dir.path().join("worker.sock")).unwrap();
    let mut client = relay.connect(GATEWAY_SOCK).await;
    let (mut server, _) = gateway.accept().await.unwrap();
    let begun = Instant::now();
    // Four seconds' worth may come at once; the rest takes a second.
    let sent = vec![b'x'; 500 << 10];
    let send = async {
        client.write_all(&sent).await.unwrap();
        client.shutdown().await.unwrap();
    };
    let mut got = Vec::new();
    let (_, read) = tokio::join!(send, timeout(2 * SOON, server.read_to_end(&mut got)));
    read.unwrap().unwrap();
    assert!(got.ends_with(&sent), "{} bytes", got.len());
    assert!(begun.elapsed() >= Duration::from_millis(700), "{:?}", begun.elapsed());
    relay.end().await;
}

#[tokio::test]
async fn a_storm_of_connections_does_not_touch_the_one_that_is_there() {
    let limits = Limits { max_connections: 4, connections_per_sec: 1000, ..Limits::default() };
    let relay = Running::start(unix_port, limits);
    let gateway = UnixListener::bind(relay.dir.path().join("worker.sock")).unwrap();
    let mut client = relay.connect(REDIS_SOCK).await;
    let (server, _) = gateway.accept().await.unwrap();
    let mut server = BufReader::new(server);
    server.read_line(&mut String::new()).await.unwrap();
    let mut storm = tokio::task::JoinSet::new();
    for _ in 0..1500 {
        // The kernel's queue is full now and then, which is the storm's own trouble.
        if let Ok(stream) = UnixStream::connect(relay.dir.path().join(GATEWAY_SOCK)).await {
            storm.spawn(read_all(stream));
        }
    }
    client.write_all(b"still here\n").await.unwrap();
    let mut line = String::new();
    timeout(SOON, server.read_line(&mut line)).await.unwrap().unwrap();
    assert_eq!(line, "still here\n");
    // All but those that found a place are closed, unasked.
    let closed = async {
        while storm.len() > 3 {
            assert_eq!(storm.join_next().await.unwrap().unwrap(), "");
        }
    };
    timeout(2 * SOON, closed).await.unwrap();
    relay.end().await;
}
