//! No secret is in a sandbox: every one the platform has is marked, and the runner inside looks for all of them.

use serde_json::json;
use tests::stack::{Backend, Options, Stack};

use crate::support::{MINUTE, exec_profile, find};

/// Prints everything readable from inside: the environment, every process' own, every file but the images' and kernel's.
const LOOK: &str = "env; cat /proc/*/environ /proc/*/cmdline /proc/*/mountinfo 2>/dev/null | tr '\\0' '\\n'; \
    for d in /rekindle /workspace /workspaces /home /tmp /run /etc /root /var/tmp /mnt /srv /opt; do \
    find $d -xdev -type f -size -1000k -exec cat {} + 2>/dev/null; done | grep -a -e rekindle-secret-mark -e 'PRIVATE[ ]KEY' -e eyJ; \
    find / -xdev \\( -name 'dispatch_ed25519*' -o -name jwt_hs256 -o -name runtime_token -o -name anthropic_api_key \
    -o -name token -path '*generations*' -o -name 'docker[.]sock' -o -name 'runtime[.]sock' -o -name 'worker[.]sock' \\) 2>/dev/null; echo looked";

async fn no_secret(backend: Backend) {
    // A key is configured, so that the platform has all the secrets it can have.
    let options = Options::new(backend).model("http://127.0.0.1:9").settings(&exec_profile(LOOK, ""));
    let stack = Stack::start(options).await;
    let api = stack.api("ann");
    let events = api.invoke_streaming("demo", &json!({"prompt": "look"})).await.until("turn-complete", MINUTE).await;
    let seen = find(&events, "done").data["reply"].as_str().unwrap().to_owned();
    assert!(seen.trim_end().ends_with("looked"), "{seen}");
    assert!(seen.contains("PATH="), "it saw its environment: {seen}");

    let uid = crate::support::uid(&api, "demo").await;
    let token = dispatch_token(&stack, &uid);
    let secrets = stack.secrets();
    let mut outside = String::new();
    if backend == Backend::Docker {
        let names = docker(&["ps", "-aq", "--filter", &format!("label=rekindle.uid={uid}")]);
        assert!(!names.trim().is_empty(), "the container is there to be inspected");
        for name in names.split_whitespace() {
            outside += &docker(&["inspect", name]);
            outside += &docker(&["logs", name]);
        }
    }
    let pem_body = secrets.dispatch_pem.lines().nth(1).unwrap();
    for (what, secret) in [
        ("callers' JWT secret", secrets.jwt.as_str()),
        ("the runtime's token", &secrets.runtime),
        ("the model key", &secrets.model),
        ("the signing key", pem_body),
        ("the dispatch token", &token),
        ("any marked secret", tests::keys::MARK),
        ("any private key", "PRIVATE KEY"),
        ("a socket of the platform", "runtime.sock"),
        ("the engine's socket", "docker.sock"),
        ("the worker port", "worker.sock"),
    ] {
        assert!(!seen.contains(secret), "{what} is readable inside:\n{seen}");
        assert!(!outside.contains(secret), "{what} is in docker inspect or logs");
    }
}

fn dispatch_token(stack: &Stack, uid: &str) -> String {
    let folder = std::fs::read_dir(stack.store().join("generations"))
        .unwrap()
        .map(|e| e.unwrap().path())
        .find(|p| p.file_name().unwrap().to_string_lossy().starts_with(uid))
        .expect("the live generation's folder");
    let token = std::fs::read_to_string(folder.join("token")).expect("its token");
    assert!(token.len() > 100, "a signed token");
    token.trim().to_owned()
}

fn docker(arguments: &[&str]) -> String {
    let output = tests::paths::command(tests::paths::tool("docker", "docker.io")).args(arguments).output().unwrap();
    assert!(output.status.success(), "docker {arguments:?}: {}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8_lossy(&output.stdout).into_owned() + &String::from_utf8_lossy(&output.stderr)
}

#[tokio::test]
async fn a_sandboxed_process_holds_no_secret() {
    no_secret(Backend::Process).await;
}

#[tokio::test]
async fn a_container_holds_no_secret() {
    no_secret(Backend::Docker).await;
}
