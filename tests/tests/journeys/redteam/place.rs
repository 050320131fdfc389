//! What lies on the host beside the sandboxes and would be worth reaching: all of it the test's own.

use std::os::linux::net::SocketAddrExt as _;
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Stdio};

use serde_json::{Value, json};
use tests::paths;
use tokio::io::{AsyncWrite, AsyncWriteExt as _};
use tokio::net::{TcpListener, UnixListener};
use tokio::task::JoinHandle;
use ulid::Ulid;

use super::program::marked;

/// Services, a process and a file of the host's. They end with the value.
#[derive(Debug)]
pub(crate) struct Place {
    port: u16,
    abstract_name: String,
    process: Process,
    file: PathBuf,
    services: Vec<JoinHandle<()>>,
    /// The name by which another sandbox is known.
    pub(crate) victim: String,
    /// The port that it listens on.
    pub(crate) victim_port: u16,
}

/// A process that only sleeps, with a command line that nobody else has.
#[derive(Debug)]
struct Process {
    name: String,
    child: Child,
}

impl Drop for Process {
    fn drop(&mut self) {
        // It may have been ended by an attempt.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        self.services.iter().for_each(JoinHandle::abort);
    }
}

impl Place {
    /// Makes them, the file in `folder`.
    ///
    /// # Panics
    /// When something cannot be made.
    pub(crate) async fn make(folder: &Path) -> Self {
        let id = Ulid::new().to_string().to_lowercase();
        let tcp = TcpListener::bind(("127.0.0.1", 0)).await.expect("listen on loopback");
        let port = tcp.local_addr().expect("its address").port();
        let abstract_name = format!("red-host-{id}");
        let address = std::os::unix::net::SocketAddr::from_abstract_name(&abstract_name).expect("an abstract name");
        let unix = std::os::unix::net::UnixListener::bind_addr(&address).expect("listen on an abstract socket");
        unix.set_nonblocking(true).expect("no blocking");
        let unix = UnixListener::from_std(unix).expect("a listener");
        let services = vec![
            tokio::spawn(async move {
                while let Ok((client, _)) = tcp.accept().await {
                    greet(client).await;
                }
            }),
            tokio::spawn(async move {
                while let Ok((client, _)) = unix.accept().await {
                    greet(client).await;
                }
            }),
        ];
        let file = folder.join("file-of-the-host");
        std::fs::write(&file, marked("on-the-host")).expect("write a file");
        let name = format!("red-process-{id}");
        let child = paths::command(paths::tool("sleep", "coreutils"))
            .arg0(&name)
            .arg("300")
            .stdin(Stdio::null())
            .spawn()
            .expect("start a process");
        // Free a moment ago is enough: in a sandbox every port is, and without one whoever is faster makes the test fail loudly.
        let free = TcpListener::bind(("127.0.0.1", 0)).await.expect("a free port");
        let victim_port = free.local_addr().expect("its address").port();
        let victim = format!("red-victim-{id}");
        Self { port, abstract_name, process: Process { name, child }, file, services, victim, victim_port }
    }

    /// What an attacker may know of it.
    pub(crate) fn known(&self, home: &Path) -> Value {
        json!({
            "home": home,
            "host_port": self.port,
            "host_abstract": self.abstract_name,
            "host_process": self.process.name,
            "host_file": self.file,
            "victim": self.victim,
            "victim_port": self.victim_port,
        })
    }

    /// Whether the process was ended by somebody.
    pub(crate) fn process_ended(&mut self) -> bool {
        matches!(self.process.child.try_wait(), Ok(Some(_)))
    }
}

async fn greet(mut client: impl AsyncWrite + Unpin) {
    // One that is gone before it is greeted missed it.
    let _ = client.write_all(marked("of-a-service").as_bytes()).await;
}

/// What is known from here and from there.
pub(crate) fn joined(mut known: Value, more: Value) -> Value {
    let (Value::Object(all), Value::Object(more)) = (&mut known, more) else { panic!("only objects are joined") };
    all.extend(more);
    known
}
