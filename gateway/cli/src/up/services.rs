//! The services of one machine: what each is run with, the order in which they come and go.

use std::io::Write;
use std::path::PathBuf;
use std::time::Duration;

use anyhow::{Context, bail};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpStream, UnixStream};
use tokio::sync::mpsc;
use tokio::task::JoinHandle;
use tokio::time::{Instant, sleep};
use tokio_util::sync::CancellationToken;

use super::child::{Died, Kept, Spec, tail};
use super::environment::Environment;
use super::memory;
use super::reserve::Reserve;
use crate::deployment::Deployment;
use crate::failure::Failure;
use crate::local_http;
use crate::render::printable;

/// A service that dies this often before all is ready is not going to come up.
const MOST_DEATHS: u32 = 4;
/// Redis may read a large file first; it says so.
const REDIS_WITHIN: Duration = Duration::from_secs(300);
const READY_WITHIN: Duration = Duration::from_secs(90);
const LOOK_EVERY: Duration = Duration::from_millis(50);

/// Programs of the services.
#[derive(Debug, Clone)]
pub struct Programs {
    /// None where the settings name another Redis.
    pub redis: Option<PathBuf>,
    /// `rekindle-runtime`.
    pub runtime: PathBuf,
    /// `rekindle-gateway`.
    pub gateway: PathBuf,
    /// `rekindle-reaper`.
    pub reaper: PathBuf,
}

/// The running services, in the order in which they were started.
#[derive(Debug)]
pub struct Services {
    kept: Vec<Kept>,
    deaths: mpsc::Receiver<Died>,
    told: mpsc::Sender<Died>,
    /// Looks after the disk that is kept for Redis.
    reserve: Option<(CancellationToken, JoinHandle<()>)>,
}

impl Services {
    /// None yet.
    pub fn new() -> Self {
        let (told, deaths) = mpsc::channel(16);
        Self { kept: Vec::new(), deaths, told, reserve: None }
    }

    /// The next death.
    pub async fn died(&mut self) -> Died {
        match self.deaths.recv().await {
            Some(died) => died,
            // Not reached: a sender is kept here.
            None => std::future::pending().await,
        }
    }

    /// Starts everything and waits until the gateway is ready.
    ///
    /// # Errors
    /// Why it is not; what was started still runs and is to be stopped.
    pub async fn start(
        &mut self,
        deployment: &Deployment,
        programs: Programs,
        common: &Environment,
        keys: Vec<(String, String)>,
    ) -> Result<(), Failure> {
        let settings = &deployment.settings;
        let logs = deployment.home.logs();
        let service = |name: &'static str, program, seconds| Spec {
            name,
            program,
            args: vec!["--config".into(), deployment.config.display().to_string()],
            environment: common.clone(),
            log: logs.join(format!("{name}.log")),
            stop_within: Duration::from_secs(seconds),
        };
        if let Some(program) = programs.redis {
            let socket = deployment.home.run().join("redis.sock");
            wait_for_predecessor(&socket).await?;
            self.reserve_disk(&deployment.home.redis(), settings.redis.reserve_mb);
            let max_memory_mb = settings.redis.max_memory_mb.unwrap_or_else(memory::quarter_mb);
            let args = redis_args(&deployment.home.redis(), &socket, max_memory_mb);
            let environment = common.iter().filter(|(k, _)| !k.starts_with("REKINDLE_"));
            let environment = environment.map(|(k, v)| (k.clone(), v.clone())).collect();
            let spec = Spec { args, environment, ..service("redis", program, 15) };
            self.kept.push(Kept::start(spec, self.told.clone()));
            self.until("redis-server", REDIS_WITHIN, || redis_ping(&settings.redis.url)).await?;
        }
        let runtime = service("runtime", programs.runtime, settings.runtime.stop_grace_sec + 10);
        let mut gateway = service("gateway", programs.gateway, settings.gateway.drain_sec + 10);
        gateway.environment.extend(keys);
        let reaper = service("reaper", programs.reaper, 15);
        for spec in [runtime, gateway, reaper] {
            self.kept.push(Kept::start(spec, self.told.clone()));
        }
        let url = url(&settings.gateway.listen);
        self.until("the gateway", READY_WITHIN, || ready(&url)).await
    }

    /// Without a reserve Redis runs as well; that there is none is said.
    fn reserve_disk(&mut self, folder: &std::path::Path, size_mb: u64) {
        match Reserve::open(folder, size_mb) {
            Ok(_) if size_mb == 0 => {}
            Ok(reserve) => {
                let cancel = CancellationToken::new();
                self.reserve = Some((cancel.clone(), tokio::spawn(reserve.keep(cancel))));
            }
            Err(e) => say(&format!("no disk can be kept for the ledger in {}: {e}", folder.display())),
        }
    }

    /// Waits for `probe`, and tells of deaths meanwhile.
    async fn until<F: Future<Output = anyhow::Result<()>>>(
        &mut self,
        what: &str,
        within: Duration,
        probe: impl Fn() -> F,
    ) -> Result<(), Failure> {
        let began = Instant::now();
        let mut deaths = 0;
        let mut said = Duration::from_secs(5);
        loop {
            let failed = tokio::select! {
                died = self.died() => {
                    deaths += 1;
                    tell(&died);
                    if deaths >= MOST_DEATHS {
                        return Err(Failure::Unfit(format!(
                            "{} does not come up; the end of {}:\n{}",
                            died.name, died.log.display(), tail(&died.log, 12)
                        )));
                    }
                    continue;
                }
                probed = probe() => match probed {
                    Ok(()) => return Ok(()),
                    Err(e) => e,
                },
            };
            if began.elapsed() > within {
                return Err(Failure::Unfit(format!("{what} is not ready after {} s: {failed:#}", within.as_secs())));
            }
            if began.elapsed() > said {
                say(&format!("  still waiting for {what}: {failed:#}"));
                said += Duration::from_secs(10);
            }
            sleep(LOOK_EVERY).await;
        }
    }

    /// Stops everything: who is asked first goes first, Redis last.
    pub async fn stop(mut self) {
        const ORDER: [&str; 4] = ["gateway", "reaper", "runtime", "redis"];
        self.deaths.close();
        for name in ORDER {
            while let Some(i) = self.kept.iter().position(|k| k.name == name) {
                if let Some(said) = self.kept.swap_remove(i).stop().await {
                    say(&format!("  {said}"));
                }
            }
        }
        if let Some((cancel, task)) = self.reserve {
            cancel.cancel();
            if let Err(e) = task.await {
                say(&format!("  the ledger's reserve: {e}"));
            }
        }
    }
}

/// Says it on stderr. That the terminal may be gone must not end the supervisor in the middle.
pub fn say(text: &str) {
    let _ = writeln!(std::io::stderr(), "{}", printable(text));
}

/// Says that a child died and that it comes back.
pub fn tell(died: &Died) {
    let last = tail(&died.log, 1);
    say(&format!(
        "{} {}; again in {} ms; {}{}{}",
        died.name,
        died.how,
        died.again_in.as_millis(),
        died.log.display(),
        if last.is_empty() { "" } else { " ends with: " },
        crate::render::first_line(&last, 300)
    ));
}

/// A URL by which this machine reaches an address that is listened on.
pub fn url(listen: &str) -> String {
    let (host, port) = listen.rsplit_once(':').unwrap_or((listen, "80"));
    let host = match host {
        "0.0.0.0" | "" => "127.0.0.1",
        "[::]" => "[::1]",
        host => host,
    };
    format!("http://{host}:{port}")
}

/// Nothing acknowledged may be lost by a plain kill: every write is synced before it is answered, nothing is evicted. At
/// `maxmemory` what begins something is refused.
fn redis_args(folder: &std::path::Path, socket: &std::path::Path, max_memory_mb: u64) -> Vec<String> {
    let folder = folder.display().to_string();
    let socket = socket.display().to_string();
    let max_memory = format!("{max_memory_mb}mb");
    let pairs = [
        ("--port", "0"),
        ("--unixsocket", &socket),
        ("--unixsocketperm", "700"),
        ("--dir", &folder),
        ("--appendonly", "yes"),
        ("--appendfsync", "always"),
        ("--save", ""),
        ("--maxmemory", &max_memory),
        ("--maxmemory-policy", "noeviction"),
        ("--daemonize", "no"),
    ];
    pairs.iter().flat_map(|(k, v)| [(*k).to_owned(), (*v).to_owned()]).collect()
}

async fn ready(url: &str) -> anyhow::Result<()> {
    let (status, body) = local_http::get(url, "/readyz", None).await?;
    if !status.is_success() {
        let text = String::from_utf8_lossy(&body);
        bail!("{url}/readyz answers {status} {}", crate::render::first_line(&text, 300));
    }
    Ok(())
}

/// A supervisor that was killed takes its Redis with it; for a moment that one may still answer. Two servers on one folder
/// would damage each other's files.
async fn wait_for_predecessor(socket: &std::path::Path) -> Result<(), Failure> {
    let began = Instant::now();
    while UnixStream::connect(socket).await.is_ok() {
        if began.elapsed() > Duration::from_secs(10) {
            return Err(Failure::Refused(format!(
                "a redis-server that is not ours answers at {}; end it first",
                socket.display()
            )));
        }
        sleep(LOOK_EVERY).await;
    }
    Ok(())
}

/// `PING` over a connection of its own.
///
/// # Errors
/// Redis' own words, or why there are none. A demand for a password counts as an answer.
pub async fn redis_ping(url: &str) -> anyhow::Result<()> {
    let answer = tokio::time::timeout(Duration::from_secs(3), ping(url));
    let answer = answer.await.context("no answer within 3 s")??;
    if answer.starts_with("+PONG") || answer.starts_with("-NOAUTH") {
        return Ok(());
    }
    bail!("redis says {}", answer.trim_start_matches('-').trim())
}

async fn ping(url: &str) -> anyhow::Result<String> {
    async fn exchange(mut stream: impl tokio::io::AsyncRead + tokio::io::AsyncWrite + Unpin) -> anyhow::Result<String> {
        stream.write_all(b"*1\r\n$4\r\nPING\r\n").await?;
        let mut line = Vec::new();
        while !line.ends_with(b"\n") && line.len() < 4096 {
            line.push(stream.read_u8().await.context("the connection was closed")?);
        }
        Ok(String::from_utf8_lossy(&line).into_owned())
    }
    if let Some(path) = url.strip_prefix("redis+unix://").or_else(|| url.strip_prefix("unix://")) {
        let path = path.split('?').next().unwrap_or(path);
        return exchange(UnixStream::connect(path).await.with_context(|| format!("connect to {path}"))?).await;
    }
    let Some(rest) = url.strip_prefix("redis://") else { bail!("{url} is not looked at from here") };
    let rest = rest.rsplit_once('@').map_or(rest, |(_, r)| r);
    let address = rest.split(['/', '?']).next().unwrap_or(rest);
    let address = if address.rsplit(']').next().is_some_and(|r| r.contains(':')) {
        address.into()
    } else {
        format!("{address}:6379")
    };
    exchange(TcpStream::connect(&address).await.with_context(|| format!("connect to {address}"))?).await
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_become_urls_of_this_machine() {
        assert_eq!(url("127.0.0.1:7600"), "http://127.0.0.1:7600");
        assert_eq!(url("0.0.0.0:80"), "http://127.0.0.1:80");
        assert_eq!(url("[::]:1"), "http://[::1]:1");
        assert_eq!(url("localhost:2"), "http://localhost:2");
    }

    #[tokio::test]
    async fn a_private_redis_answers_on_its_socket_alone_and_keeps_what_it_acknowledged() {
        let program = crate::programs::find("redis-server");
        let program =
            program.unwrap_or_else(|| panic!("needs redis-server: {}", crate::programs::install_line("redis-server")));
        let folder = tempfile::tempdir().unwrap();
        let socket = folder.path().join("r.sock");
        let address = format!("redis+unix://{}", socket.display());
        for round in 0..2 {
            let spec = Spec {
                name: "redis",
                program: program.clone(),
                args: redis_args(folder.path(), &socket, 64),
                environment: Environment::new(),
                log: folder.path().join("log"),
                stop_within: Duration::from_secs(10),
            };
            let mut services = Services::new();
            services.kept.push(Kept::start(spec, services.told.clone()));
            services.until("redis", Duration::from_secs(20), || redis_ping(&address)).await.unwrap();
            let mut stream = UnixStream::connect(&socket).await.unwrap();
            let command: &[u8] = if round == 0 { b"SET k kept\r\n" } else { b"GET k\r\n" };
            stream.write_all(command).await.unwrap();
            let mut answer = vec![0; if round == 0 { 5 } else { 10 }];
            stream.read_exact(&mut answer).await.unwrap();
            assert_eq!(answer, if round == 0 { &b"+OK\r\n"[..] } else { b"$4\r\nkept\r\n" });
            services.stop().await;
            assert!(redis_ping(&address).await.is_err());
        }
    }

    #[tokio::test]
    async fn what_dies_again_and_again_ends_the_wait_with_its_last_words() {
        let folder = tempfile::tempdir().unwrap();
        let spec = Spec {
            name: "gateway",
            program: "/bin/sh".into(),
            args: vec!["-c".into(), "echo rekindle.toml: line 3: unknown field; exit 1".into()],
            environment: Environment::new(),
            log: folder.path().join("gateway.log"),
            stop_within: Duration::from_secs(1),
        };
        let mut services = Services::new();
        services.kept.push(Kept::start(spec, services.told.clone()));
        let never = || async { anyhow::bail!("not yet") };
        let failure = services.until("the gateway", Duration::from_secs(60), never).await.unwrap_err();
        assert!(failure.to_string().contains("line 3: unknown field"), "{failure}");
        services.stop().await;
    }
}
