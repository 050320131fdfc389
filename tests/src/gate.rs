//! A Unix socket in front of another one, where a test can hold what goes through, and lead it elsewhere.

use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _};
use tokio::net::{UnixListener, UnixStream};
use tokio::sync::watch;
use tokio::task::{JoinHandle, JoinSet};

/// The socket. Its connections break when it is dropped.
#[derive(Debug)]
pub struct SocketGate {
    path: PathBuf,
    way: watch::Sender<Way>,
    seen: Arc<Mutex<Seen>>,
    task: JoinHandle<()>,
}

#[derive(Debug, Clone)]
struct Way {
    open: bool,
    to: PathBuf,
}

#[derive(Debug, Default)]
struct Seen {
    asked: Vec<u8>,
    answered: Vec<u8>,
}

impl SocketGate {
    /// Listens at `path` and leads to the socket at `to`, which need not be there yet.
    ///
    /// # Panics
    /// When it cannot listen.
    pub fn open(path: &Path, to: &Path) -> Self {
        let listener = UnixListener::bind(path).expect("bind a gate");
        let (way, watched) = watch::channel(Way { open: true, to: to.into() });
        let seen = Arc::<Mutex<Seen>>::default();
        let task = tokio::spawn(serve(listener, watched, seen.clone()));
        Self { path: path.into(), way, seen, task }
    }

    /// Where it listens.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// From now on everything from clients waits in it, as in a network that stalls.
    pub fn hold(&self) {
        self.way.send_modify(|way| way.open = false);
    }

    /// Lets go what was held, and what comes.
    pub fn release(&self) {
        self.way.send_modify(|way| way.open = true);
    }

    /// Leads connections that come from now on to another socket.
    pub fn lead(&self, to: &Path) {
        self.way.send_modify(|way| way.to = to.into());
    }

    /// All that clients have sent so far, held or not.
    pub fn asked(&self) -> String {
        String::from_utf8_lossy(&lock(&self.seen).asked).into_owned()
    }

    /// All that was answered so far.
    pub fn answered(&self) -> String {
        String::from_utf8_lossy(&lock(&self.seen).answered).into_owned()
    }
}

impl Drop for SocketGate {
    fn drop(&mut self) {
        self.task.abort();
    }
}

fn lock(seen: &Mutex<Seen>) -> MutexGuard<'_, Seen> {
    seen.lock().unwrap_or_else(PoisonError::into_inner)
}

async fn serve(listener: UnixListener, way: watch::Receiver<Way>, seen: Arc<Mutex<Seen>>) {
    let mut pipes = JoinSet::new();
    while let Ok((client, _)) = listener.accept().await {
        let to = way.borrow().to.clone();
        // Nobody there: the client sees its connection end.
        let Ok(server) = UnixStream::connect(to).await else { continue };
        let (from_client, to_client) = client.into_split();
        let (from_server, to_server) = server.into_split();
        let (asked, answered) = (seen.clone(), seen.clone());
        pipes.spawn(pipe(from_client, to_server, Some(way.clone()), move |b| lock(&asked).asked.extend_from_slice(b)));
        pipes.spawn(pipe(from_server, to_client, None, move |b| lock(&answered).answered.extend_from_slice(b)));
    }
}

async fn pipe(
    mut from: impl AsyncRead + Unpin,
    mut to: impl AsyncWrite + Unpin,
    mut way: Option<watch::Receiver<Way>>,
    note: impl Fn(&[u8]),
) {
    let mut bytes = vec![0; 16 << 10];
    while let Ok(length @ 1..) = from.read(&mut bytes).await {
        note(&bytes[..length]);
        if let Some(way) = &mut way
            && way.wait_for(|way| way.open).await.is_err()
        {
            return;
        }
        if to.write_all(&bytes[..length]).await.is_err() {
            return;
        }
    }
    // A side that is gone cannot be told.
    let _ = to.shutdown().await;
}
