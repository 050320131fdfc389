//! What will run units here, and what that isolates.

use std::process::Stdio;

use settings::RuntimeBackend;
use tokio::process::Command;

use crate::docker::Engine;
use crate::programs;

/// What was found.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Found {
    /// The choice.
    pub backend: RuntimeBackend,
    /// One line: which, and what it isolates.
    pub line: String,
}

/// Takes the named backend, else Docker where its engine answers, else processes.
pub async fn choose(named: Option<RuntimeBackend>, engine: &Engine, bwrap: &str) -> Found {
    let version = match named {
        Some(RuntimeBackend::Process) => None,
        _ => Some(engine.version().await),
    };
    match (named, version) {
        (Some(RuntimeBackend::Docker) | None, Some(Ok(version))) => Found {
            backend: RuntimeBackend::Docker,
            line: format!("docker {version}: every unit in a container of its own, without a network"),
        },
        (Some(RuntimeBackend::Docker), why) => Found {
            backend: RuntimeBackend::Docker,
            line: format!(
                "docker, but {} does not answer{}; starts fail until it does",
                engine.host,
                why.and_then(Result::err).map(|e| format!(" ({e:#})")).unwrap_or_default()
            ),
        },
        _ => Found { backend: RuntimeBackend::Process, line: process_line(bwrap_works(bwrap).await) },
    }
}

/// Whether bubblewrap can make the namespaces that sandboxes need.
///
/// # Errors
/// Why not.
pub async fn bwrap_works(bwrap: &str) -> Result<(), String> {
    if bwrap.is_empty() {
        return Err("switched off in the settings".into());
    }
    let program = programs::find(bwrap).ok_or("not installed")?;
    let mut probe = Command::new(program);
    probe
        .args(["--unshare-user", "--unshare-pid", "--unshare-net", "--ro-bind", "/", "/", "--proc", "/proc", "true"])
        .env_clear()
        .env("PATH", "/usr/local/bin:/usr/bin:/bin")
        .stdin(Stdio::null())
        .kill_on_drop(true);
    let output = probe.output().await.map_err(|e| e.to_string())?;
    match output.status.success() {
        true => Ok(()),
        false => Err(crate::render::first_line(&String::from_utf8_lossy(&output.stderr), 160)),
    }
}

fn process_line(bwrap: Result<(), String>) -> String {
    match bwrap {
        Ok(()) => {
            "processes in bubblewrap: own files, own processes, no network; this machine's kernel and programs".into()
        }
        Err(why) => format!(
            "processes, NOT ISOLATED: what an agent runs can do what you can (bubblewrap: {why}; {})",
            programs::install_line("bubblewrap")
        ),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn without_an_engine_units_are_processes_unless_docker_is_demanded() {
        let folder = tempfile::tempdir().unwrap();
        let engine = Engine { host: format!("unix://{}/docker.sock", folder.path().display()) };
        let found = choose(None, &engine, "").await;
        assert_eq!(found.backend, RuntimeBackend::Process);
        assert!(found.line.contains("NOT ISOLATED"), "{}", found.line);
        let demanded = choose(Some(RuntimeBackend::Docker), &engine, "").await;
        assert_eq!(demanded.backend, RuntimeBackend::Docker);
        assert!(demanded.line.contains("does not answer"), "{}", demanded.line);
    }
}
