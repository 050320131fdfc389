//! What is absent at the start, and what goes away for a while in the middle.

use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::time::Duration;

use hyper::Method;
use serde_json::json;
use tests::eventually;
use tests::stack::{Backend, Options, Stack};
use tokio::net::{UnixListener, UnixStream};
use tokio_util::sync::CancellationToken;

use crate::support::{MINUTE, exec_profile, find};

const STEPS: &str = "echo begun; until [ -e go ]; do sleep 0.05; done; rm go; echo ended";

#[tokio::test]
async fn without_redis_everything_waits_and_says_so() {
    let mut stack = Stack::prepare(&Options::new(Backend::Process)).await;
    stack.redis.kill();
    stack.runtime.start();
    stack.gateway.start();
    stack.reaper.start();
    let api = stack.api("ann");
    let not_ready = eventually("the gateway says what is missing", MINUTE, || async {
        let answer = api.send(Method::GET, "/readyz", &[], bytes::Bytes::new()).await.ok()?;
        (answer.status == 503).then_some(answer)
    })
    .await;
    assert!(not_ready.text().to_lowercase().contains("redis"), "{}", not_ready.text());
    let refused = api.invoke("demo", "hello").await.expect(503);
    assert!(!refused.header("retry-after").is_empty());
    assert_eq!(refused.json()["type"], "urn:rekindle:error:unavailable");
    stack.redis.restart().await;
    stack.ready().await;
    assert_eq!(api.invoke("demo", "hello").await.expect(200).json()["reply"], "hello");
}

#[tokio::test]
async fn a_turn_survives_ten_seconds_without_redis() {
    let mut stack = Stack::start(Options::new(Backend::Process).settings(&exec_profile(STEPS, ""))).await;
    let api = stack.api("ann");
    api.post_with("/v1/units/demo/invoke", &[("prefer", "respond-async")], &json!({"prompt": "go"})).await.expect(202);
    api.events("demo", Some("0")).await.until("message-delta", MINUTE).await;
    let uid = crate::support::uid(&api, "demo").await;
    stack.redis.kill();
    std::fs::write(stack.workspace(&uid).join("go"), "").unwrap();
    // While it is away, calls are refused at once; nothing hangs. Ten seconds of that.
    let until = tokio::time::Instant::now() + Duration::from_secs(10);
    while tokio::time::Instant::now() < until {
        let begun = tokio::time::Instant::now();
        api.invoke("demo", "hello").await.expect(503);
        assert!(begun.elapsed() < Duration::from_secs(8), "a call hung for {:?}", begun.elapsed());
    }
    stack.redis.restart().await;
    stack.ready().await;
    let events = api.events("demo", Some("0")).await.until_any(&["turn-complete", "turn-failed"], MINUTE).await;
    assert_eq!(events.last().unwrap().kind(), "turn-complete", "{events:#?}");
    assert_eq!(find(&events, "done").data["reply"], "begun\nended\n");
    assert_eq!(events.iter().filter(|e| e.kind() == "turn-accepted").count(), 1);
}

/// The engine's socket as the runtime sees it; it can be taken away without harm to the machine's own engine.
struct Engine {
    path: PathBuf,
    up: Option<(CancellationToken, tokio::task::JoinHandle<()>)>,
}

impl Engine {
    fn new(folder: &Path) -> Self {
        Self { path: folder.join("engine.sock"), up: None }
    }

    fn plug(&mut self) {
        let listener = UnixListener::bind(&self.path).expect("bind the engine's stand-in");
        std::fs::set_permissions(&self.path, std::fs::Permissions::from_mode(0o600)).unwrap();
        let cancel = CancellationToken::new();
        let stop = cancel.clone();
        let serve = async move {
            let mut pipes = tokio::task::JoinSet::new();
            loop {
                tokio::select! {
                    () = stop.cancelled() => break,
                    accepted = listener.accept() => {
                        let Ok((mut near, _)) = accepted else { break };
                        pipes.spawn(async move {
                            let mut far = UnixStream::connect("/var/run/docker.sock").await.expect("the engine: service docker start");
                            // Whichever side ends it, the other one sees the end.
                            let _ = tokio::io::copy_bidirectional(&mut near, &mut far).await;
                        });
                    }
                }
            }
        };
        self.up = Some((cancel, tokio::spawn(serve)));
    }

    async fn unplug(&mut self) {
        let (cancel, task) = self.up.take().expect("it is plugged in");
        cancel.cancel();
        task.await.expect("the stand-in ends");
        std::fs::remove_file(&self.path).unwrap();
    }
}

#[tokio::test]
async fn the_docker_engine_may_be_absent_at_the_start_and_go_away_in_a_turn() {
    let folder = tempfile::Builder::new().prefix("rk-engine-").tempdir_in("/tmp").unwrap();
    let mut engine = Engine::new(folder.path());
    let options = Options::new(Backend::Docker).settings(&exec_profile(STEPS, ""));
    let mut stack = Stack::prepare(&options).await;
    // As an operator would do it: one setting by its environment variable.
    let host = format!("unix://{}", engine.path.display());
    stack.runtime.set_env("REKINDLE_RUNTIME__DOCKER_HOST", &host);
    stack.runtime.start();
    stack.gateway.start();
    stack.reaper.start();
    let api = stack.api("ann");
    let not_ready = eventually("the gateway says what is missing", MINUTE, || async {
        let answer = api.send(Method::GET, "/readyz", &[], bytes::Bytes::new()).await.ok()?;
        (answer.status == 503).then_some(answer)
    })
    .await;
    assert!(not_ready.text().contains("runtime"), "{}", not_ready.text());
    // What is accepted meanwhile waits and is started when the engine is there.
    eventually("the gateway has its ledger and takes the turn", MINUTE, || async {
        let headers = [("prefer", "respond-async"), ("idempotency-key", "once")];
        let answer = api.post_with("/v1/units/demo/invoke", &headers, &json!({"prompt": "go"})).await;
        (answer.status == 202).then_some(())
    })
    .await;
    engine.plug();
    stack.ready().await;
    let mut events = api.events("demo", Some("0")).await;
    let begun = events.until("message-delta", MINUTE).await;
    let uid = crate::support::uid(&api, "demo").await;

    engine.unplug().await;
    eventually("the gateway notices", MINUTE, || async { (api.get("/readyz").await.status == 503).then_some(()) })
        .await;
    let away = tokio::time::Instant::now() + Duration::from_secs(10);
    tokio::time::sleep_until(away).await; // the outage itself: nothing is waited for
    engine.plug();
    std::fs::write(stack.workspace(&uid).join("go"), "").unwrap();
    let rest = events.until_any(&["turn-complete", "turn-failed"], MINUTE).await;
    assert_eq!(rest.last().unwrap().kind(), "turn-complete", "{rest:#?}");
    assert_eq!(find(&rest, "done").data["generation"], find(&begun, "turn-accepted").data["generation"]);
    api.post("/v1/units/demo/stop", &json!({})).await;
    crate::support::gone(&stack, &api, "demo").await;
}
