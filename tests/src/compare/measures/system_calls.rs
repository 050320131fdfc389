//! System calls of a warm turn, of all processes that it goes through, counted by the kernel's own tracer.

use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Duration;

use ::tests::api::{Api, Session};
use ::tests::sandbox::Part;
use ::tests::stack::{Backend, Stack};
use ::tests::{eventually, paths, proc};
use anyhow::Context as _;
use rustix::process::{Pid, Signal, kill_process};
use tokio::process::{Child, Command};
use tokio::time::{Instant, sleep};

use super::{Measure, Rounds};
use crate::deployment::{self, LIMIT};
use crate::figure::Figure;

const TURNS: usize = 20;

const FIGURES: &[&str] = &["calls-turn", "calls-gateway", "calls-redis", "calls-runtime", "calls-worker"];

pub const MEASURE: Measure = Measure {
    name: "system-calls",
    what: "system calls of a warm turn of echo, by process, without what those do while nobody calls",
    figures: FIGURES,
    run: |rounds| Box::pin(run(rounds)),
};

async fn run(rounds: Rounds) -> anyhow::Result<Vec<Figure>> {
    let stack = deployment::start(deployment::options(Backend::Process)).await;
    let api = stack.api("ann");
    let mut session = api.session().await?;
    turns(&mut session).await?;
    let pids = processes(&stack, &api).await;
    let mut parts = pids.map(|_| Vec::new());
    for _ in 0..rounds.of(7, 1) {
        let begun = Instant::now();
        let busy = Tracers::attach(stack.home(), &pids).await?;
        turns(&mut session).await?;
        let took = begun.elapsed();
        let busy = busy.count().await?;
        // The same processes for as long with nobody calling; that much is no turn's.
        let idle = Tracers::attach(stack.home(), &pids).await?;
        sleep(took).await;
        let idle = idle.count().await?;
        for ((calls, busy), idle) in parts.iter_mut().zip(busy).zip(idle) {
            calls.push((busy - idle) / TURNS as f64);
        }
    }
    let sum = |round| parts.iter().map(|part: &Vec<f64>| part[round]).sum();
    let all = (0..parts[0].len()).map(sum).collect();
    let mut figures = vec![Figure::alone("calls-turn", all)];
    figures.extend(FIGURES[1..].iter().zip(parts).map(|(name, calls)| Figure::alone(name, calls)));
    Ok(figures)
}

async fn turns(session: &mut Session) -> anyhow::Result<()> {
    for _ in 0..TURNS {
        session.invoke("traced", "hi").await?.expect(200);
    }
    Ok(())
}

/// In the order of the figures; the relay is a part of the runtime.
async fn processes(stack: &Stack, api: &Api) -> [u32; 4] {
    let worker = deployment::pid(stack, api, "traced", Part::Worker).await;
    [stack.gateway.pid(), stack.redis.pid(), stack.runtime.pid(), worker]
}

/// An `strace -c` on each process, with all of its threads.
struct Tracers(Vec<(Child, PathBuf)>);

impl Tracers {
    async fn attach(folder: &Path, pids: &[u32]) -> anyhow::Result<Self> {
        let mut tracers = Vec::new();
        for pid in pids {
            let summary = folder.join(format!("calls-{pid}"));
            let mut command = Command::from(paths::command(paths::tool("strace", "strace")));
            command.args(["-c", "-f", "-o"]).arg(&summary).args(["-p", &pid.to_string()]);
            command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::piped()).kill_on_drop(true);
            tracers.push((command.spawn().context("start strace")?, summary));
        }
        for (pid, (tracer, _)) in pids.iter().zip(&mut tracers) {
            eventually("strace has all threads, or has ended", LIMIT, || {
                let done = tracer.try_wait().is_ok_and(|ended| ended.is_some()) || proc::traced(*pid).unwrap_or(true);
                async move { done.then_some(()) }
            })
            .await;
        }
        Ok(Self(tracers))
    }

    /// Detaches, and tells the calls of each process.
    async fn count(self) -> anyhow::Result<Vec<f64>> {
        let mut counts = Vec::new();
        for (tracer, summary) in self.0 {
            let pid = tracer.id().and_then(|id| Pid::from_raw(i32::try_from(id).ok()?));
            if let Some(pid) = pid {
                kill_process(pid, Signal::INT).context("end strace")?;
            }
            let output = tokio::time::timeout(Duration::from_secs(30), tracer.wait_with_output()).await??;
            let text = std::fs::read_to_string(&summary).unwrap_or_default();
            let total = total(&text);
            counts.push(total.with_context(|| format!("strace: {}", String::from_utf8_lossy(&output.stderr)))?);
        }
        Ok(counts)
    }
}

/// The calls in the last line of a summary: `100.00 0.012 5 2345 12 total`. A process that did nothing has an empty one.
fn total(summary: &str) -> Option<f64> {
    match summary.lines().find(|line| line.ends_with(" total")) {
        Some(line) => line.split_ascii_whitespace().nth(3)?.parse().ok(),
        None => summary.trim().is_empty().then_some(0.0),
    }
}

#[cfg(test)]
mod tests {
    use super::total;

    #[test]
    fn the_sum_of_a_summary_is_found() {
        let text = "% time     seconds  usecs/call     calls    errors syscall\n------ ----------- ----------- --------- --------- ----------------\n\
                    100.00    0.000017           1        11           read\n------ ----------- ----------- --------- --------- ----------------\n\
                    100.00    0.000017           1        12         1 total\n";
        assert_eq!(total(text), Some(12.0));
        assert_eq!(total(""), Some(0.0));
        assert_eq!(total("strace: attach: Operation not permitted\n"), None);
    }
}
