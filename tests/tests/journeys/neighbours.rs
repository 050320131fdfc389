//! A noisy neighbour: whatever one owner does, another one's turns go well, and nothing of the platform grows with it.

use std::time::Duration;

use tests::api::Api;
use tests::noise::{self, Noise};
use tests::service::Service;
use tests::stack::{Backend, Options, Stack};
use tokio::time::Instant;

/// How long the noise goes on.
const NOISE: Duration = Duration::from_secs(60);
/// What a process of the platform may grow by meanwhile.
const GROWTH_MIB: u64 = 64;
/// What Redis may have.
const REDIS_MIB: u64 = 256;

#[tokio::test]
async fn a_quiet_owner_does_not_notice_a_noisy_one() {
    // The limits as they are by themselves.
    let settings = format!("[limits]\n{}", noise::profiles());
    let mut stack = Stack::prepare(&Options::new(Backend::Process).settings(&settings)).await;
    let bound = format!("{REDIS_MIB}mb");
    stack.redis.command(&["CONFIG", "SET", "maxmemory", &bound]).await.expect("bound Redis");
    stack.launch().await;
    let (noisy, quiet) = (stack.api("mallory"), stack.api("bob"));
    for _ in 0..20 {
        turn(&quiet).await;
    }
    let services = [&stack.gateway, &stack.runtime, &stack.reaper];
    let before = services.map(|service| peak_mib(service, true));

    let noise = Noise::begin(&noisy, NOISE).await;
    let begun = Instant::now();
    let mut turns = 0;
    while begun.elapsed() < NOISE {
        turn(&quiet).await;
        turns += 1;
    }
    let heard = noise.end().await;

    // It was noise: all of it was tried, most of it was answered, and refusals were those that say what to do.
    for name in ["lists", "readers", "cancels", "disk", "worker"] {
        let answers = &heard[name];
        let refused = answers.keys().filter(|status| !matches!(status, 200..300 | 429 | 502 | 503 | 507));
        assert_eq!(refused.count(), 0, "{heard:?}");
    }
    assert!(heard["lists"].contains_key(&200) && heard["readers"].contains_key(&200), "{heard:?}");
    println!("{turns} turns in {NOISE:?}; {heard:?}");
    for (service, before) in services.into_iter().zip(before) {
        let grown = peak_mib(service, false).saturating_sub(before);
        assert!(grown <= GROWTH_MIB, "{} grew by {grown} MiB from {before}; {heard:?}", service.name);
    }
    let peak = redis_peak_mib(&stack).await;
    // What ends, settles or tells may go a little beyond.
    assert!(peak <= REDIS_MIB + REDIS_MIB / 8, "Redis had {peak} MiB; {heard:?}");
}

async fn turn(api: &Api) {
    let answer = api.invoke("quiet", "hello").await.expect(200);
    assert_eq!(answer.json()["reply"], "hello");
}

/// Resident MiB at the most since the peak was forgotten (proc(5), `clear_refs`).
fn peak_mib(service: &Service, forget: bool) -> u64 {
    let at = |file: &str| format!("/proc/{}/{file}", service.pid());
    if forget {
        std::fs::write(at("clear_refs"), "5").expect("forget the peak");
    }
    let status = std::fs::read_to_string(at("status")).expect("a status");
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:")).expect("a peak");
    line.trim().trim_end_matches(" kB").parse::<u64>().expect("a number") >> 10
}

async fn redis_peak_mib(stack: &Stack) -> u64 {
    let info = stack.redis.command(&["INFO", "memory"]).await.expect("ask Redis");
    let line = info.lines().find_map(|line| line.strip_prefix("used_memory_peak:")).expect("a peak");
    line.trim().parse::<u64>().expect("a number") >> 20
}
