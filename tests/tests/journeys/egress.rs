//! The way out: real package managers in real sandboxes, against a package server of the test's own.

use serde_json::json;
use tests::api::Api;
use tests::packages::{GREETING, Packages};
use tests::paths;
use tests::sse::Event;
use tests::stack::{Backend, Options, Stack};

use crate::support::{MINUTE, find, toml_text};

const PIP_INSTALL: &str = "python3 -m pip install --no-input --target /tmp/py greet && \
     PYTHONPATH=/tmp/py python3 -c 'import greet; print(greet.GREETING)'";

/// The same request without a package manager, for images that have none.
const FETCH: &str = "python3 -c 'import os, sys, urllib.request as u; \
     open(\"/tmp/greet.whl\", \"wb\").write(u.urlopen(os.environ[\"PIP_INDEX_URL\"].replace(\"/simple/\", \
     \"/files/greet-1.0.0-py3-none-any.whl\")).read()); sys.path.insert(0, \"/tmp/greet.whl\"); import greet; print(greet.GREETING)'";

/// A deployment with two profiles that differ in their `egress` only: `open` has the presets, `closed` has nothing.
async fn deployment(backend: Backend, packages: &Packages) -> Stack {
    let (npm, pip) = (packages.npm(), packages.pip());
    let profile = |name: &str, egress: &str| {
        format!(
            "[profiles.{name}]\nimage = \"rekindle/test-base:latest\"\nrunner = \"exec\"\nidle_timeout_sec = 60\n\
             runner_command = [\"/bin/sh\", \"-es\"]\negress = {egress}\n\
             env = {{ npm_config_registry = {}, PIP_INDEX_URL = {} }}\n",
            toml_text(&npm),
            toml_text(&pip),
        )
    };
    // The gateway's tables are the harness' own; a variable adds to them.
    let settings = profile("open", "[\"preset:npm\", \"preset:pip\"]") + &profile("closed", "[]");
    let mut stack = Stack::prepare(&Options::new(backend).settings(&settings)).await;
    // The home of who runs the gateway, where the package managers find their configuration.
    let home = stack.home().join("operator");
    std::fs::create_dir_all(home.join(".config/pip")).unwrap();
    std::fs::write(home.join(".npmrc"), format!("registry={npm}\n")).unwrap();
    std::fs::write(home.join(".config/pip/pip.conf"), format!("[global]\nindex-url = {pip}\n")).unwrap();
    stack.gateway.set_env("HOME", &home.display().to_string());
    let allowed = format!("[\"{}\"]", packages.address());
    stack.gateway.set_env("REKINDLE_GATEWAY__EGRESS_ALLOW_PRIVATE", &allowed);
    stack.launch().await;
    stack
}

/// Runs a script; its events up to the turn's end.
async fn run(api: &Api, profile: &str, script: &str) -> Vec<Event> {
    let body = json!({"prompt": script, "profile": profile});
    let mut stream = api.invoke_streaming(profile, &body).await;
    stream.until_any(&["turn-complete", "turn-failed"], MINUTE).await
}

fn denied(events: &[Event]) -> Vec<(&str, &str)> {
    let denied = events.iter().filter(|e| e.kind() == "egress-denied");
    denied.map(|e| (e.data["host"].as_str().unwrap(), e.data["setting"].as_str().unwrap())).collect()
}

fn npm_ci(packages: &Packages) -> String {
    let manifest = json!({"name": "demo", "version": "1.0.0", "dependencies": {"greet": "1.0.0"}});
    format!(
        "echo node_modules > .gitignore\ncat > package.json <<'E'\n{manifest}\nE\ncat > package-lock.json <<'E'\n{}\nE\n\
         npm ci --no-fund --no-audit --no-update-notifier\nnode -p 'require(\"greet\")'",
        packages.lock()
    )
}

#[tokio::test]
async fn package_managers_work_with_their_presets_and_are_told_what_they_lack_without() {
    paths::tool("npm", "npm");
    let pip = paths::command("/usr/bin/python3").args(["-m", "pip", "--version"]).output().unwrap();
    assert!(pip.status.success(), "pip is missing: apt-get install python3-pip");

    let packages = Packages::start().await;
    let stack = deployment(Backend::Process, &packages).await;
    let api = stack.api("ann");
    let npm = npm_ci(&packages);
    for script in [npm.as_str(), PIP_INSTALL] {
        let events = run(&api, "open", script).await;
        let done = &find(&events, "done").data;
        assert_eq!(done["ok"], true, "{done:#}");
        assert!(done["reply"].as_str().unwrap().contains(GREETING), "{done:#}");
        assert_eq!(denied(&events), []);
    }
    let asked = packages.requests();
    for request in ["GET /npm/greet/-/greet-1.0.0.tgz", "GET /simple/greet/", "GET /files/greet-1.0.0-py3-none-any.whl"]
    {
        assert!(asked.iter().any(|line| line == request), "{request}: {asked:?}");
    }

    let host = packages.address().to_string();
    let setting = format!("profiles.closed.egress = [\"{host}\"]");
    for script in [npm.as_str(), PIP_INSTALL] {
        let events = run(&api, "closed", script).await;
        assert_eq!(find(&events, "done").data["ok"], false);
        assert_eq!(denied(&events), [(host.as_str(), setting.as_str())]);
    }
    assert_eq!(packages.requests(), asked, "nothing got through");
}

#[tokio::test]
async fn tunnels_go_where_the_profile_says_and_no_name_is_looked_up_elsewhere() {
    let packages = Packages::start().await;
    let stack = deployment(Backend::Process, &packages).await;
    let api = stack.api("ann");
    let host = packages.address();
    let tunnel = format!("curl -sS --proxytunnel http://{host}/npm/greet");
    let events = run(&api, "open", &tunnel).await;
    let reply = find(&events, "done").data["reply"].as_str().unwrap_or_default().to_owned();
    assert!(reply.contains("greet-1.0.0.tgz"), "{events:#?}");

    let script = "curl -sS https://denied.example/ || true; curl -sS http://169.254.169.254/latest/ || true; \
         curl -sS --noproxy '*' http://169.254.169.254/latest/ || true; curl -sS http://localhost:1/ || true; echo tried";
    let events = run(&api, "open", script).await;
    assert!(find(&events, "done").data["reply"].as_str().unwrap().contains("In rekindle.toml this would allow it"));
    let want = [
        ("denied.example", "profiles.open.egress = [\"preset:npm\", \"preset:pip\", \"denied.example\"]"),
        ("169.254.169.254:80", "gateway.egress_allow_private = [\"169.254.169.254:80\"]"),
    ];
    assert_eq!(denied(&events), want);
}

#[tokio::test]
async fn a_container_gets_out_as_a_process_does() {
    let packages = Packages::start().await;
    let stack = deployment(Backend::Docker, &packages).await;
    let api = stack.api("ann");
    let events = run(&api, "open", FETCH).await;
    let done = &find(&events, "done").data;
    assert!(done["reply"].as_str().unwrap().contains(GREETING), "{done:#}");
    let events = run(&api, "closed", FETCH).await;
    assert_eq!(find(&events, "done").data["ok"], false);
    assert_eq!(denied(&events).len(), 1);
}
