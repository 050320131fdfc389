//! Around a worker that somebody else wrote: the first process of its sandbox.
//!
//! It opens loopback ports towards the relay's sockets, so that any Redis client works, runs the program, passes signals on,
//! reaps what nobody waits for, and ends as the program ends.

use std::path::PathBuf;
use std::process::{ExitCode, ExitStatus};

use anyhow::{Context, bail};
use rustix::process::{Pid, Signal, kill_process};
use tokio::process::Command;
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::mpsc;
use tokio::task::JoinSet;

use crate::ports::Forward;
use crate::processes::{self, Awaited};
use crate::settings::socket;
use crate::{fence, quiet};

/// Where the sockets are in a sandbox whose variables do not say so.
const SOCK_DIR: &str = "/rekindle/sock";
const REDIS: &str = "redis+unix://";
const GATEWAY: &str = "unix://";

const FORWARDED: [(SignalKind, Signal); 6] = [
    (SignalKind::terminate(), Signal::TERM),
    (SignalKind::interrupt(), Signal::INT),
    (SignalKind::hangup(), Signal::HUP),
    (SignalKind::quit(), Signal::QUIT),
    (SignalKind::user_defined1(), Signal::USR1),
    (SignalKind::user_defined2(), Signal::USR2),
];

/// Runs the program of `REKINDLE_COMMAND` (a JSON array), and ends as it does.
///
/// # Errors
/// When it is no command, or cannot be started.
pub async fn run(command: &str) -> anyhow::Result<ExitCode> {
    let argv: Vec<String> =
        serde_json::from_str(command).context("REKINDLE_COMMAND must be a JSON array of strings")?;
    let Some((program, args)) = argv.split_first() else { bail!("REKINDLE_COMMAND is empty") };
    let own: Vec<(String, String)> = std::env::vars_os()
        .filter_map(|(name, value)| Some((name.into_string().ok()?, value.into_string().ok()?)))
        .collect();
    let (redis_sock, gateway_sock) = sockets(&own);
    let redis = Forward::listen(6379, redis_sock).await.context("no loopback port")?;
    let gateway = Forward::listen(7070, gateway_sock).await.context("no loopback port")?;
    let env = environment(own, redis.port()?, gateway.port()?);
    let mut tasks = JoinSet::new();
    tasks.spawn(redis.run());
    tasks.spawn(gateway.run());
    let mut signals = forwarded(&mut tasks)?;

    let mut command = Command::new(program);
    command.args(args).env_clear().envs(env).kill_on_drop(true);
    // SAFETY: between fork and exec only prctl is called, which is a plain system call and allocates nothing.
    unsafe { command.pre_exec(fence::close) };
    let mut child = command.spawn().with_context(|| format!("cannot run `{program}` of REKINDLE_COMMAND"))?;
    let pid = child.id().and_then(|pid| Pid::from_raw(pid.try_into().ok()?)).context("the program has no id")?;
    let awaited = Awaited::default();
    let _awaited = awaited.add(pid.as_raw_nonzero().get());
    tasks.spawn(async move {
        if let Err(error) = processes::reap_orphans(awaited).await {
            tracing::error!(%error, "orphans are not reaped");
        }
    });
    let status = loop {
        tokio::select! {
            status = child.wait() => break status.context("cannot wait for the program")?,
            Some(signal) = signals.recv() => {
                // It may have ended this moment.
                let _ = kill_process(pid, signal);
            }
        }
    };
    if let Err(restless) = quiet::end_everything_else().await {
        tracing::error!(%restless, "leaving all the same");
    }
    tasks.shutdown().await;
    Ok(exit_code(status))
}

fn forwarded(tasks: &mut JoinSet<()>) -> anyhow::Result<mpsc::Receiver<Signal>> {
    let (sender, receiver) = mpsc::channel(16);
    for (kind, signal_) in FORWARDED {
        let (mut stream, sender) = (signal(kind)?, sender.clone());
        tasks.spawn(async move { while stream.recv().await.is_some() && sender.send(signal_).await.is_ok() {} });
    }
    Ok(receiver)
}

/// The sockets as the runtime's variables tell them; a profile may have given those another meaning.
fn sockets(env: &[(String, String)]) -> (PathBuf, PathBuf) {
    let find = |name: &str, scheme| env.iter().find(|(n, _)| n == name).and_then(|(_, url)| socket(url, scheme));
    let (redis, gateway) = (find("REDIS_URL", REDIS), find("REKINDLE_GATEWAY_URL", GATEWAY));
    let dir = [&redis, &gateway].into_iter().flatten().find_map(|path| path.parent()).unwrap_or(SOCK_DIR.as_ref());
    let (other_redis, other_gateway) = (dir.join(relay::REDIS_SOCK), dir.join(relay::GATEWAY_SOCK));
    (redis.unwrap_or(other_redis), gateway.unwrap_or(other_gateway))
}

/// The program's environment: the sockets' URLs become those of the ports, wherever they are asked for.
fn environment(own: Vec<(String, String)>, redis_port: u16, gateway_port: u16) -> Vec<(String, String)> {
    let redis = format!("redis://127.0.0.1:{redis_port}/0");
    let gateway = format!("http://127.0.0.1:{gateway_port}");
    let said = |(name, value): (String, String)| {
        let value = match name.as_str() {
            "REDIS_URL" if value.starts_with(REDIS) => redis.clone(),
            "REKINDLE_GATEWAY_URL" if value.starts_with(GATEWAY) => gateway.clone(),
            _ => value.replace("${redis_url}", &redis).replace("${gateway_url}", &gateway),
        };
        (name, value)
    };
    own.into_iter().filter(|(name, _)| name != "REKINDLE_COMMAND").map(said).collect()
}

fn exit_code(status: ExitStatus) -> ExitCode {
    use std::os::unix::process::ExitStatusExt as _;
    let code = status.code().or_else(|| Some(128 + status.signal()?)).unwrap_or(1);
    ExitCode::from(u8::try_from(code).unwrap_or(1))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn vars(list: &[(&str, &str)]) -> Vec<(String, String)> {
        list.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect()
    }

    #[test]
    fn urls_become_those_of_the_ports() {
        let own = vars(&[
            ("REKINDLE_COMMAND", "[]"),
            ("REDIS_URL", "redis+unix:///s/redis.sock"),
            ("MY_REDIS", "${redis_url}"),
            ("MY_GATEWAY", "${gateway_url}/broker"),
            ("OTHER", "as it is"),
        ]);
        let want = vars(&[
            ("REDIS_URL", "redis://127.0.0.1:1/0"),
            ("MY_REDIS", "redis://127.0.0.1:1/0"),
            ("MY_GATEWAY", "http://127.0.0.1:2/broker"),
            ("OTHER", "as it is"),
        ]);
        assert_eq!(environment(own, 1, 2), want);
    }

    #[test]
    fn sockets_are_found_even_when_a_profile_took_a_name() {
        let both = |list: &[(&str, &str)]| {
            let (redis, gateway) = sockets(&vars(list));
            (redis.display().to_string(), gateway.display().to_string())
        };
        let host = ("/h/redis.sock".to_owned(), "/h/gateway.sock".to_owned());
        let gateway = ("REKINDLE_GATEWAY_URL", "unix:///h/gateway.sock");
        assert_eq!(both(&[("REDIS_URL", "${redis_url}"), gateway]), host);
        assert_eq!(both(&[("REDIS_URL", "redis+unix:///h/redis.sock")]), host);
        assert_eq!(both(&[]).0, "/rekindle/sock/redis.sock");
    }
}
