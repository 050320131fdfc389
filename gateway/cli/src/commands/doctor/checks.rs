//! The checks but for the model.

use std::path::Path;
use std::process::Stdio;

use settings::{Isolation, RuntimeBackend, read_secret};
use tokio::process::Command;

use super::Check;
use crate::agent_cli::AgentCli;
use crate::deployment::Deployment;
use crate::docker::Engine;
use crate::failure::Failure;
use crate::local_http;
use crate::programs;
use crate::target::Target;
use crate::up::backend::{bwrap_works, cgroups_work};
use crate::up::folders::Lock;
use crate::up::services::redis_ping;

/// What is on this machine. What is needed follows from what will run units: the settings' word, else Docker if it answers.
///
/// # Errors
/// When this executable's own path is unknown.
pub async fn installed(deployment: &Deployment) -> Result<Vec<Check>, Failure> {
    let settings = &deployment.settings;
    let engine = Engine::find(settings.runtime.docker_host.as_deref(), |name| std::env::var(name).ok());
    let version = engine.version().await;
    let docker = match deployment.is_given("runtime.backend") {
        true => settings.runtime.backend == RuntimeBackend::Docker,
        false => version.is_ok(),
    };
    let mut checks = vec![redis(deployment).await, worker(deployment)?];
    checks.push(match &version {
        Ok(version) => Check::ok("docker", format!("{version} at {}", engine.host)),
        Err(e) => {
            let remedy = "install and start a Docker engine; without one units are processes";
            Check::not("docker", docker, format!("{} does not answer: {e:#}", engine.host), remedy)
        }
    });
    if version.is_ok()
        && let Some(profile) = settings.profile("default")
    {
        checks.push(match engine.has_image(&profile.image).await {
            Ok(true) => Check::ok("agent image", profile.image),
            // A start pulls it, so it is not missing yet.
            _ => Check::not(
                "agent image",
                false,
                format!("{} is not there yet", profile.image),
                "worker/image/build makes the default one",
            ),
        });
    }
    checks.push(match bwrap_works(&settings.runtime.bwrap).await {
        Ok(()) => Check::ok("bubblewrap", "it can make namespaces"),
        Err(why) => {
            let remedy = format!("{}; without it processes are NOT ISOLATED", programs::install_line("bubblewrap"));
            // Needed where a profile says that it will not run without.
            let demanded = settings.profiles.values().any(|p| p.isolation == Isolation::Required);
            Check::not("bubblewrap", !docker && demanded, why, remedy)
        }
    });
    checks.push(match cgroups_work(Path::new("/sys/fs/cgroup")) {
        _ if !settings.runtime.cgroups => {
            Check::not("cgroups", false, "switched off in the settings; limits of processes are setrlimit's", "")
        }
        Ok(()) => Check::ok("cgroups", "memory and processes can be limited"),
        Err(why) => Check::not(
            "cgroups",
            false,
            format!("{why}: a process sandbox has setrlimit's limits, and `oom` is told as `failed`"),
            "run as root, or use docker",
        ),
    });
    checks.push(user_namespaces(|path| std::fs::read_to_string(path).ok()));
    checks.push(match AgentCli::find() {
        Some(cli) => Check::ok("claude", cli.program.display().to_string()),
        None => Check::not(
            "claude",
            false,
            "not on PATH (containers have their own)",
            "npm install -g @anthropic-ai/claude-code",
        ),
    });
    Ok(checks)
}

async fn redis(deployment: &Deployment) -> Check {
    let needed = !deployment.is_given("redis.url");
    let Some(program) = programs::find("redis-server") else {
        return Check::not("redis-server", needed, "not installed", programs::install_line("redis-server"));
    };
    let mut command = Command::new(&program);
    command.arg("--version").env_clear().stdin(Stdio::null()).kill_on_drop(true);
    match command.output().await {
        Ok(output) if output.status.success() => {
            let text = String::from_utf8_lossy(&output.stdout).into_owned();
            let version =
                text.split(' ').find_map(|word| word.strip_prefix("v=")).unwrap_or("of unknown version").to_owned();
            let major = version.split('.').next().and_then(|major| major.parse::<u32>().ok());
            let shown = format!("{version}, {}", program.display());
            match major {
                // Scripts say by flags (Redis 7.0) what may go on while it is full.
                Some(..7) => Check::not("redis-server", needed, shown, "install Redis 7.0 or newer, or Valkey"),
                _ => Check::ok("redis-server", shown),
            }
        }
        _ => Check::not("redis-server", needed, format!("{} does not run", program.display()), "install it anew"),
    }
}

fn worker(deployment: &Deployment) -> Result<Check, Failure> {
    let path = match deployment.is_given("runtime.worker_binary") {
        true => deployment.settings.runtime.worker_binary.clone(),
        false => programs::worker_binary()?,
    };
    let remedy = "`make up` builds it; or name it in REKINDLE_WORKER";
    Ok(match programs::is_static(&path) {
        Ok(true) => Check::ok("worker binary", format!("static, {}", path.display())),
        Ok(false) => {
            let detail = format!("{} needs a dynamic linker, which an image may not have", path.display());
            Check::not("worker binary", true, detail, remedy)
        }
        Err(e) => Check::not("worker binary", true, format!("{e:#}"), remedy),
    })
}

/// Whether somebody who is not root may make user namespaces. `read` gives a file's text.
fn user_namespaces(read: impl Fn(&str) -> Option<String>) -> Check {
    let number = |path: &str| read(path).and_then(|text| text.trim().parse::<u64>().ok());
    let limits = [
        ("/proc/sys/kernel/unprivileged_userns_clone", 0, "sysctl -w kernel.unprivileged_userns_clone=1"),
        ("/proc/sys/user/max_user_namespaces", 0, "sysctl -w user.max_user_namespaces=15000"),
        (
            "/proc/sys/kernel/apparmor_restrict_unprivileged_userns",
            1,
            "sysctl -w kernel.apparmor_restrict_unprivileged_userns=0",
        ),
    ];
    for (path, forbids, remedy) in limits {
        if number(path) == Some(forbids) {
            return Check::not(
                "user namespaces",
                false,
                format!("{path} is {forbids}"),
                format!("{remedy} (only for bubblewrap without root)"),
            );
        }
    }
    Check::ok("user namespaces", "allowed")
}

/// What answers. It has to where a supervisor runs or a gateway was named.
pub async fn answering(deployment: &Deployment, target: &Target) -> Vec<Check> {
    let is_up = Lock::is_held(&deployment.home);
    let mut checks = Vec::new();
    let remedy = if is_up { "see the logs in the deployment's folder" } else { "rekindle up" };
    let needed = is_up || target.url.is_some();
    checks.push(match target.reach() {
        Err(e) => Check::not("gateway", needed, e.to_string(), ""),
        Ok(reach) => match crate::api::Api::new(reach.clone()) {
            Err(e) => Check::not("gateway", needed, e.to_string(), ""),
            Ok(api) => match api.json::<serde_json::Value>(&crate::api::Call::get("/readyz")).await {
                Ok(_) => Check::ok("gateway", format!("ready at {}", reach.url)),
                Err(e) => Check::not("gateway", needed, e.to_string(), remedy),
            },
        },
    });
    let settings = &deployment.settings;
    checks.push(match redis_ping(&settings.redis.url).await {
        Ok(()) => Check::ok("redis", settings.redis.url.clone()),
        Err(e) => Check::not("redis", is_up, format!("{} does not answer: {e:#}", settings.redis.url), remedy),
    });
    let token = read_secret(&settings.runtime.token_file).ok();
    checks.push(match local_http::get(&settings.runtime.url, "/health", token.as_deref()).await {
        Ok((status, _)) if status.is_success() => Check::ok("runtime", settings.runtime.url.clone()),
        Ok((status, body)) => {
            let said = crate::render::first_line(&String::from_utf8_lossy(&body), 200);
            Check::not("runtime", is_up, format!("{} answers {status}: {said}", settings.runtime.url), remedy)
        }
        Err(e) => Check::not("runtime", is_up, format!("{} does not answer: {e:#}", settings.runtime.url), remedy),
    });
    checks
}

#[cfg(test)]
mod tests {
    use super::super::Verdict;
    use super::*;

    #[test]
    fn what_forbids_user_namespaces_is_named() {
        assert_eq!(user_namespaces(|_| None).verdict, Verdict::Ok);
        let ubuntu = user_namespaces(|path| path.contains("apparmor").then(|| "1\n".into()));
        assert_eq!(ubuntu.verdict, Verdict::Optional);
        assert!(ubuntu.remedy.contains("apparmor_restrict_unprivileged_userns=0"));
        let allowed = user_namespaces(|path| (!path.contains("apparmor")).then(|| "1\n".into()));
        assert_eq!(allowed.verdict, Verdict::Ok);
    }
}
