//! A noisy neighbour: one owner who takes from everything that all owners share, within its rights and beyond.
//!
//! It does at once what each by itself slowed or filled a deployment once: disk that has no name, long lists of large prompts,
//! readers who take nothing, prompts that are cancelled at once, and a worker that repeats itself. All of it ends by itself.

use std::collections::BTreeMap;
use std::time::Duration;

use bytes::Bytes;
use futures_util::FutureExt as _;
use futures_util::future::BoxFuture;
use hyper::Method;
use serde_json::{Value, json};
use tokio::task::JoinSet;
use tokio::time::{Instant, timeout_at};

use crate::api::Api;

/// Bytes of a prompt, as many as `limits.prompt_bytes` allows.
const PROMPT_BYTES: usize = 1 << 20;
/// Prompts of the unit whose turns are listed.
const PROMPTS: usize = 100;
const LISTS: usize = 8;
const READERS: usize = 40;
/// How long one of them reads nothing: not yet so long that it is hung up on.
const IDLE: Duration = Duration::from_secs(25);
/// Requests of one loop at the most, whatever the time.
const REQUESTS: usize = 20_000;

/// What each loop was answered, by status; 0 counts connections that broke.
pub type Heard = BTreeMap<&'static str, BTreeMap<u16, usize>>;

/// The profiles that the noise needs, `noisy-worker` and `noisy-disk`, as tables of a settings file.
pub fn profiles() -> String {
    let worker = Value::from(include_str!("../fixtures/noisy_worker.py"));
    // Files that are open and have no name count for nobody who looks at names.
    let disk = "import os\nkept = []\nfor n in range(300):\n    f = open(f'hidden{n}', 'wb'); kept.append(f); os.unlink(f.name)\n    \
                f.write(os.urandom(1 << 20)); f.flush()\n";
    format!(
        "[profiles.noisy-worker]\nimage = \"rekindle/test-base:latest\"\ncommand = [\"/usr/bin/python3\", \"-c\", {worker}]\n\
         [profiles.noisy-worker.env]\nREDIS_URL = \"${{redis_url}}\"\nIN = \"${{in}}\"\nOUT = \"${{out}}\"\n\
         [profiles.noisy-disk]\nimage = \"rekindle/test-base:latest\"\nrunner = \"exec\"\nworkspace_max_mb = 100\nmax_attempts = 1\n\
         runner_command = [\"/usr/bin/python3\", \"-c\", {}]\n",
        Value::from(disk)
    )
}

/// The noise, until its time is over.
#[derive(Debug)]
pub struct Noise {
    loops: JoinSet<(&'static str, BTreeMap<u16, usize>)>,
}

impl Noise {
    /// Begins all of it as this caller, for this long.
    pub async fn begin(api: &Api, duration: Duration) -> Self {
        for _ in 0..PROMPTS {
            // As many as an owner may have; what is refused is none.
            submit(api, "listed").await;
        }
        let until = Instant::now() + duration;
        let mut loops = JoinSet::new();
        let mut begin = |name, once: fn(Api) -> BoxFuture<'static, u16>| {
            let api = api.clone();
            loops.spawn(repeated(name, until, move || once(api.clone())));
        };
        for _ in 0..LISTS {
            begin("lists", |api| list(api).boxed());
        }
        for _ in 0..READERS {
            begin("readers", |api| read_nothing(api).boxed());
        }
        begin("cancels", |api| submit_and_cancel(api).boxed());
        begin("disk", |api| fill_the_disk(api).boxed());
        let api = api.clone();
        loops.spawn(repeated("worker", until, move || repeat_events(api.clone(), until)));
        Self { loops }
    }

    /// Waits for its end.
    ///
    /// # Panics
    /// When a loop panicked.
    pub async fn end(self) -> Heard {
        let mut heard = Heard::new();
        for (name, answers) in self.loops.join_all().await {
            let sum = heard.entry(name).or_default();
            for (status, count) in answers {
                *sum.entry(status).or_default() += count;
            }
        }
        heard
    }
}

/// One request of a loop: its status, 0 when the connection broke.
async fn call(api: Api, method: Method, path: &str, body: Value) -> u16 {
    let body = if body.is_null() { Bytes::new() } else { body.to_string().into() };
    api.send(method, path, &[], body).await.map_or(0, |answer| answer.status.as_u16())
}

async fn list(api: Api) -> u16 {
    call(api, Method::GET, "/v1/units/listed/turns?limit=200", Value::Null).await
}

/// Asks for all events and takes none of the answer.
async fn read_nothing(api: Api) -> u16 {
    let Ok((answer, _connection)) = api.open("/v1/units/listed/events?from=0").await else { return 0 };
    if answer.status().is_success() {
        tokio::time::sleep(IDLE).await;
    }
    answer.status().as_u16()
}

async fn submit_and_cancel(api: Api) -> u16 {
    let (status, turn) = submit(&api, "cancelled").await;
    if status == 202 {
        let path = format!("/v1/turns/{}/cancel", turn["turn_id"].as_str().unwrap_or_default());
        // Whatever comes of it, the next prompt follows.
        call(api, Method::POST, &path, json!({})).await;
    }
    status
}

async fn fill_the_disk(api: Api) -> u16 {
    call(api, Method::POST, "/v1/units/disk/invoke", json!({"prompt": "fill", "profile": "noisy-disk"})).await
}

async fn repeat_events(api: Api, until: Instant) -> u16 {
    let seconds = (until - Instant::now()).as_secs().to_string();
    call(api, Method::POST, "/v1/units/repeating/invoke", json!({"prompt": seconds, "profile": "noisy-worker"})).await
}

/// A prompt of [`PROMPT_BYTES`]; nobody waits for its turn.
async fn submit(api: &Api, unit: &str) -> (u16, Value) {
    let path = format!("/v1/units/{unit}/invoke");
    let body = json!({ "prompt": "p".repeat(PROMPT_BYTES) }).to_string();
    match api.send(Method::POST, &path, &[("prefer", "respond-async")], body.into()).await {
        Ok(answer) => (answer.status.as_u16(), answer.json()),
        Err(_) => (0, Value::Null),
    }
}

/// Does it again until the time is over, and counts what was answered.
async fn repeated<F>(name: &'static str, until: Instant, once: impl Fn() -> F) -> (&'static str, BTreeMap<u16, usize>)
where
    F: Future<Output = u16>,
{
    let mut answers = BTreeMap::new();
    for _ in 0..REQUESTS {
        let Ok(status) = timeout_at(until, once()).await else { break };
        *answers.entry(status).or_default() += 1;
    }
    (name, answers)
}
