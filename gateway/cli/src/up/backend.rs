//! What will run units here, and what that isolates.

use std::path::Path;
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
        .args(["--unshare-all", "--unshare-user", "--new-session", "--die-with-parent"])
        .args(["--ro-bind", "/", "/", "--proc", "/proc", "--dev", "/dev", "true"])
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

/// Whether cgroups can be made here that hold the memory and the number of processes of a sandbox.
///
/// # Errors
/// What cannot be held.
pub fn cgroups_work(root: &Path) -> Result<(), String> {
    let writable = |path: &Path| rustix::fs::access(path, rustix::fs::Access::WRITE_OK).is_ok();
    let unified =
        [root.to_owned(), root.join("unified")].into_iter().find(|top| top.join("cgroup.controllers").exists());
    let lacks = |controller: &&str| {
        let alone = root.join(controller);
        let in_unified = unified.as_ref().is_some_and(|top| {
            let all = std::fs::read_to_string(top.join("cgroup.controllers")).unwrap_or_default();
            writable(top) && all.split_ascii_whitespace().any(|one| one == *controller)
        });
        !(in_unified || (alone.join("tasks").exists() && writable(&alone)))
    };
    let missing: Vec<_> = ["memory", "pids"].into_iter().filter(lacks).collect();
    if missing.is_empty() { Ok(()) } else { Err(format!("none can be made here for {}", missing.join(" and "))) }
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

    #[test]
    fn limits_by_cgroup_need_both_controllers_in_either_version() {
        let root = tempfile::tempdir().unwrap();
        assert_eq!(cgroups_work(root.path()).unwrap_err(), "none can be made here for memory and pids");
        std::fs::create_dir_all(root.path().join("memory")).unwrap();
        std::fs::write(root.path().join("memory/tasks"), "").unwrap();
        assert_eq!(cgroups_work(root.path()).unwrap_err(), "none can be made here for pids");
        std::fs::write(root.path().join("cgroup.controllers"), "cpu memory pids\n").unwrap();
        cgroups_work(root.path()).unwrap();
    }

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
