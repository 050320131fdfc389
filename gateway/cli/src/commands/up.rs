//! `rekindle up`: everything on this machine, as children of this process.

use std::collections::BTreeSet;
use std::io::Write;
use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::time::Duration;

use contract::WorkloadStatus;
use settings::{RuntimeBackend, read_secret};
use tokio::signal::unix::{SignalKind, signal};

use crate::agent_cli::AgentCli;
use crate::deployment::Deployment;
use crate::docker::Engine;
use crate::failure::Failure;
use crate::local_http;
use crate::mint::mint;
use crate::model_key::ModelKey;
use crate::programs;
use crate::secrets;
use crate::target::{ClientFile, Target};
use crate::up::backend::{self, Found};
use crate::up::environment;
use crate::up::folders::{self, Lock};
use crate::up::services::{Programs, Services, say, tell, url};

/// `PATH` of a sandbox that has no other.
const SANDBOX_PATH: &str = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";
const TOKEN_TTL: Duration = Duration::from_secs(30 * 86_400);

#[derive(Debug, clap::Args)]
pub struct Args {
    /// What runs units [default: docker where its engine answers, else process]
    #[arg(long, value_parser = backend_of, value_name = "docker|process")]
    backend: Option<RuntimeBackend>,
    /// Where the gateway listens; port 0 takes a free one [default: 127.0.0.1:7600]
    #[arg(long, value_name = "HOST:PORT")]
    listen: Option<String>,
    /// The settings file [default: ./rekindle.toml, else rekindle.toml in the deployment's folder]
    #[arg(long, value_name = "FILE")]
    config: Option<PathBuf>,
}

fn backend_of(text: &str) -> Result<RuntimeBackend, String> {
    match text {
        "docker" => Ok(RuntimeBackend::Docker),
        "process" => Ok(RuntimeBackend::Process),
        _ => Err("it is docker or process".into()),
    }
}

pub async fn run(args: Args, target: &Target) -> Result<(), Failure> {
    let home = target.home();
    folders::make(&home)?;
    let _lock = Lock::take(&home)?;
    let mut deployment = Deployment::find(home, args.config.as_deref())?;
    deployment.write_example()?;
    folders::make_secrets(&deployment.home)?;
    let plan = plan(&mut deployment, &args).await?;
    let common = environment::common(std::env::vars(), &deployment.passed_on());
    for line in &plan.lines {
        say(line);
    }

    let mut interrupts = signal(SignalKind::interrupt())?;
    let mut terminations = signal(SignalKind::terminate())?;
    // The terminal was closed: children end in order then too.
    let mut hangups = signal(SignalKind::hangup())?;
    let mut services = Services::new();
    let keys = plan.key.variables(&deployment, |name| std::env::var(name).ok());
    let started = tokio::select! {
        started = services.start(&deployment, plan.programs.clone(), &common, keys) => started,
        _ = interrupts.recv() => Err(Failure::Interrupted("interrupted while starting".into())),
        _ = terminations.recv() => Err(Failure::Interrupted("ended while starting".into())),
        _ = hangups.recv() => Err(Failure::Interrupted("the terminal was closed while starting".into())),
    };
    let ended = match started.and_then(|()| announce(&deployment, &plan)) {
        Ok(()) => loop {
            tokio::select! {
                died = services.died() => tell(&died),
                _ = interrupts.recv() => break Ok(()),
                _ = terminations.recv() => break Ok(()),
                _ = hangups.recv() => break Ok(()),
            }
        },
        Err(failure) => Err(failure),
    };
    say("stopping; Ctrl-C again stops at once");
    let stopping = async {
        let left = workers(&deployment).await;
        services.stop().await;
        if left > 0 {
            say(&format!("{left} of the units' workers still run; the next `rekindle up` finds them again"));
        }
    };
    tokio::select! {
        () = stopping => {}
        // The kernel ends the children with us.
        _ = interrupts.recv() => return Err(Failure::Interrupted("stopped at once".into())),
    }
    ended
}

/// How many workloads the runtime has that outlive it; none where it does not say.
async fn workers(deployment: &Deployment) -> usize {
    let runtime = &deployment.settings.runtime;
    let token = read_secret(&runtime.token_file).ok();
    match local_http::get(&runtime.url, "/workloads", token.as_deref()).await {
        Ok((status, body)) if status.is_success() => {
            let all: Vec<WorkloadStatus> = serde_json::from_slice(&body).unwrap_or_default();
            all.iter().filter(|w| w.state.is_alive()).count()
        }
        _ => 0,
    }
}

/// What was found out before anything is started.
struct Plan {
    programs: Programs,
    key: ModelKey,
    lines: Vec<String>,
    /// Runner of the curl line, where it is not the profile's.
    runner: Option<&'static str>,
}

async fn plan(deployment: &mut Deployment, args: &Args) -> Result<Plan, Failure> {
    let programs = find_programs(deployment)?;
    folders::choose_paths(deployment);
    let name = folders::deployment_name(&deployment.home)?;
    deployment.choose("runtime.deployment", name);
    listen(deployment, args.listen.as_deref())?;
    let mut lines = vec![format!("settings  {}", deployment.config.display())];

    let key = ModelKey::find(deployment, |name| std::env::var(name).ok());
    if let Some(section) = key.section() {
        deployment.insist("broker.anthropic", section);
    }
    let found = choose_backend(deployment, args.backend).await;
    if args.backend.is_some() {
        deployment.insist("runtime.backend", word(found.backend));
    } else {
        deployment.choose("runtime.backend", word(found.backend));
    }
    lines.push(format!("backend   {}", found.line));
    let can_run_agent = agent(deployment, found.backend, &mut lines).await;
    deployment.settle()?;
    model(deployment, &key, &mut lines);
    let runner = (key.key.is_none() || !can_run_agent).then_some("echo");
    Ok(Plan { programs, key, lines, runner })
}

fn word(backend: RuntimeBackend) -> &'static str {
    match backend {
        RuntimeBackend::Docker => "docker",
        RuntimeBackend::Process => "process",
    }
}

fn find_programs(deployment: &mut Deployment) -> Result<Programs, Failure> {
    let redis = match deployment.is_given("redis.url") {
        true => None,
        false => Some(programs::find("redis-server").ok_or_else(|| {
            Failure::Unfit(format!(
                "redis-server is not installed: {}\n(or name a Redis of yours: redis.url in {})",
                programs::install_line("redis-server"),
                deployment.config.display()
            ))
        })?),
    };
    let worker = programs::worker_binary()?;
    if !deployment.is_given("runtime.worker_binary") {
        if !worker.is_file() {
            return Err(Failure::Unfit(format!(
                "the static worker binary is missing: {}; `make up` builds it, or name it in REKINDLE_WORKER",
                worker.display()
            )));
        }
        deployment.choose("runtime.worker_binary", text(&worker));
    }
    Ok(Programs {
        redis,
        runtime: programs::sibling("rekindle-runtime")?,
        gateway: programs::sibling("rekindle-gateway")?,
        reaper: programs::sibling("rekindle-reaper")?,
    })
}

fn text(path: &Path) -> String {
    path.to_string_lossy().into_owned()
}

/// Takes the address, and makes sure that it is free.
fn listen(deployment: &mut Deployment, option: Option<&str>) -> Result<(), Failure> {
    let wanted = option.unwrap_or(&deployment.settings.gateway.listen).to_owned();
    let socket = TcpListener::bind(&wanted).map_err(|e| {
        Failure::Refused(match e.kind() {
            std::io::ErrorKind::AddrInUse => {
                format!(
                    "{wanted} is taken by another program; choose another address with --listen (port 0: a free one)"
                )
            }
            _ => format!("cannot listen on {wanted}: {e}; choose another address with --listen"),
        })
    })?;
    let port = socket.local_addr()?.port();
    if let Some((host, "0")) = wanted.rsplit_once(':') {
        deployment.insist("gateway.listen", format!("{host}:{port}"));
    } else if option.is_some() {
        deployment.insist("gateway.listen", wanted);
    }
    deployment.settle()
}

async fn choose_backend(deployment: &Deployment, option: Option<RuntimeBackend>) -> Found {
    let runtime = &deployment.settings.runtime;
    let given = deployment.is_given("runtime.backend").then_some(runtime.backend);
    let engine = Engine::find(runtime.docker_host.as_deref(), |name| std::env::var(name).ok());
    backend::choose(option.or(given), &engine, &runtime.bwrap).await
}

/// Finds the agent CLI: in the image, or on this machine. Whether a turn of it can run.
async fn agent(deployment: &mut Deployment, backend: RuntimeBackend, lines: &mut Vec<String>) -> bool {
    if backend == RuntimeBackend::Docker {
        let Some(profile) = deployment.settings.profile("default") else { return true };
        let engine = Engine::find(deployment.settings.runtime.docker_host.as_deref(), |name| std::env::var(name).ok());
        return match engine.has_image(&profile.image).await {
            Ok(true) => {
                lines.push(format!("image     {}", profile.image));
                true
            }
            _ => {
                lines.push(format!(
                    "image     {} is not there yet; it is pulled at the first call (`worker/image/build` makes the default one)",
                    profile.image
                ));
                false
            }
        };
    }
    let Some(cli) = AgentCli::find() else {
        lines.push("agent     claude is not on PATH; install it: npm install -g @anthropic-ai/claude-code".into());
        return false;
    };
    lines.push(format!("agent     {}", cli.program.display()));
    let names: BTreeSet<String> =
        std::iter::once("default".to_owned()).chain(deployment.settings.profiles.keys().cloned()).collect();
    // A variable cannot spell other names.
    for name in names.iter().filter(|n| n.bytes().all(|c| c.is_ascii_lowercase() || c.is_ascii_digit())) {
        lend(deployment, name, &cli);
    }
    true
}

/// Lets a profile's process sandboxes read and find the agent CLI.
fn lend(deployment: &mut Deployment, name: &str, cli: &AgentCli) {
    let Some(mut profile) = deployment.settings.profile(name) else { return };
    profile.process_paths.extend(cli.folders.iter().cloned());
    profile.process_paths.sort();
    profile.process_paths.dedup();
    let folders: Vec<String> = profile.process_paths.iter().map(|p| text(p)).collect();
    deployment.insist(&format!("profiles.{name}.process_paths"), folders);
    if !cli.path.is_empty() && !profile.env.contains_key("PATH") {
        let path: Vec<String> = cli.path.iter().map(|p| text(p)).chain([SANDBOX_PATH.to_owned()]).collect();
        profile.env.insert("PATH".into(), path.join(":"));
        let env: toml::Table = profile.env.into_iter().map(|(k, v)| (k, v.into())).collect();
        deployment.insist(&format!("profiles.{name}.env"), env);
    }
}

fn model(deployment: &Deployment, key: &ModelKey, lines: &mut Vec<String>) {
    lines.extend(key.problems.iter().map(|p| format!("model     {p}")));
    let model = deployment.settings.profile("default").and_then(|p| p.model);
    let model = model.unwrap_or_else(|| "the agent CLI's default model".into());
    lines.push(match &key.key {
        Some((from, _)) => {
            format!(
                "model     {model} at {} with the key from {from}; `rekindle doctor --model` tries it",
                key.base_url
            )
        }
        None => format!(
            "model     no key for {}: set ANTHROPIC_API_KEY, or put it into {} (0600), and start again",
            key.base_url,
            deployment.home.secrets().join("anthropic_api_key").display()
        ),
    });
}

/// Writes `client.json` and prints what one needs to call a unit.
fn announce(deployment: &Deployment, plan: &Plan) -> Result<(), Failure> {
    let settings = &deployment.settings;
    let url = url(&settings.gateway.listen);
    let token = mint(&settings.auth, "local", TOKEN_TTL, &[])?;
    let file = ClientFile { url: url.clone(), token: token.clone() };
    let json = serde_json::to_string(&file).map_err(|e| Failure::Other(e.into()))?;
    secrets::write(&deployment.home.client_file(), &json)?;
    let text = format!(
        "\nRekindle is up; Ctrl-C stops it, its data stays in {}\n\
         url       {url}\n\
         token     {token}\n\
         \x20         (of `local`, for 30 days; the `rekindle` command finds it by itself)\n\n{}",
        deployment.home.path().display(),
        curl(&url, &token, plan.runner)
    );
    // Nobody may be reading; what was said lies in `client.json` too.
    let _ = writeln!(std::io::stdout(), "{text}");
    Ok(())
}

fn curl(url: &str, token: &str, runner: Option<&str>) -> String {
    let body = match runner {
        Some(runner) => serde_json::json!({"prompt": "hello", "runner": runner}),
        None => serde_json::json!({"prompt": "write notes.md about reaping"}),
    };
    format!(
        "curl -N {url}/v1/units/demo/invoke -H 'Authorization: Bearer {token}' \\\n  \
         -H 'Content-Type: application/json' -H 'Accept: text/event-stream' -d '{body}'"
    )
}

#[cfg(test)]
mod tests {
    use settings::Home;

    use super::*;

    fn deployment(home: &Path, config: &str) -> Deployment {
        let file = home.join("rekindle.toml");
        std::fs::write(&file, config).unwrap();
        Deployment::find(Home::at(home), Some(&file)).unwrap()
    }

    #[test]
    fn a_port_that_is_taken_is_said() {
        let home = tempfile::tempdir().unwrap();
        let taken = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = taken.local_addr().unwrap().to_string();
        let mut d = deployment(home.path(), "");
        let refusal = listen(&mut d, Some(&address)).unwrap_err();
        assert_eq!(refusal.status(), 2);
        assert!(refusal.to_string().contains("--listen"), "{refusal}");
        listen(&mut d, Some("127.0.0.1:0")).unwrap();
        assert!(!d.settings.gateway.listen.ends_with(":0"));
    }

    #[test]
    fn process_sandboxes_can_read_and_find_the_agent_cli() {
        let home = tempfile::tempdir().unwrap();
        let config = "[profiles.default]\nprocess_paths = [\"/opt/b\"]\nenv = { X = \"1\" }\n";
        let mut d = deployment(home.path(), config);
        let path = vec![PathBuf::from("/home/ann/bin")];
        let folders = vec!["/home/ann/bin".into(), "/home/ann/lib/claude".into()];
        lend(&mut d, "default", &AgentCli { program: "/home/ann/bin/claude".into(), folders, path });
        d.settle().unwrap();
        let profile = &d.settings.profiles["default"];
        let expected = ["/home/ann/bin", "/home/ann/lib/claude", "/opt/b"].map(PathBuf::from);
        assert_eq!(profile.process_paths, expected);
        assert_eq!(profile.env["X"], "1");
        assert!(profile.env["PATH"].starts_with("/home/ann/bin:/usr/local/sbin:"));
    }

    #[test]
    fn the_curl_line_uses_echo_where_no_agent_can_run() {
        assert!(curl("http://h:1", "T", Some("echo")).contains(r#"-d '{"prompt":"hello","runner":"echo"}'"#));
        let real = curl("http://h:1", "T", None);
        assert!(real.contains("http://h:1/v1/units/demo/invoke") && !real.contains("echo"), "{real}");
    }
}
