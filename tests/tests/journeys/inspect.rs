//! A workspace is looked into from outside, through the API: files, commits, differences, and nothing else.

use hyper::Method;
use serde_json::{Value, json};
use tests::api::Api;
use tests::git::git;
use tests::http::Answer;
use tests::stack::{Backend, Options, Stack};

use crate::support::{MINUTE, exec_profile};

const SCRIPT: &str = "mkdir -p docs sub/.git; echo hello > docs/note.md; ln -s /etc/passwd docs/out; ln -s / root; \
    head -c 1500000 /dev/zero > large; echo secret > sub/.git/config; echo done";

async fn get(api: &Api, path: &str) -> Answer {
    api.get(&format!("/v1/workspaces/{path}")).await
}

fn names(folder: &Value) -> Vec<(&str, &str)> {
    let entries = folder["entries"].as_array().unwrap_or_else(|| panic!("no folder: {folder:#}"));
    entries.iter().map(|e| (e["name"].as_str().unwrap(), e["kind"].as_str().unwrap())).collect()
}

async fn journey(backend: Backend) {
    let stack = Stack::start(Options::new(backend).settings(&exec_profile("sh -e -s", ""))).await;
    let api = stack.api("ann");
    // Nobody's yet, so it is not there.
    get(&api, "notes/files").await.expect(404);
    let body = json!({"prompt": SCRIPT, "workspaces": [{"id": "notes", "mode": "rw"}]});
    let turn = api.post("/v1/units/writer/invoke", &body).await.expect(200).json();
    let head = turn["commits"][0]["sha"].as_str().unwrap().to_owned();

    files(&api).await;
    let log = get(&api, "notes/log").await.expect(200).json();
    let commits = log["commits"].as_array().unwrap();
    assert_eq!((commits.len(), &log["next"]), (2, &Value::Null), "{log:#}");
    assert_eq!((&commits[0]["sha"], &commits[0]["trailers"]["Turn"]), (&json!(head), &turn["turn_id"]));
    let page = get(&api, &format!("notes/log?limit=1&before={head}")).await.expect(200).json();
    assert_eq!(page["commits"][0], commits[1]);
    let diff = get(&api, "notes/diff").await.expect(200).json();
    assert_eq!((&diff["to"], &diff["from"]), (&json!(head), &commits[1]["sha"]));
    let note = diff["files"].as_array().unwrap().iter().find(|f| f["path"] == "docs/note.md").unwrap();
    assert!(note["patch"].as_str().unwrap().ends_with("+hello\n"), "{note:#}");
    let same = get(&api, &format!("notes/diff?from={head}&to={head}")).await.expect(200).json();
    assert_eq!(same["files"], json!([]));
    get(&api, &format!("notes/diff?from={}", "1".repeat(40))).await.expect(404);
    for wrong in ["notes/diff?from=HEAD", "notes/log?limit=0", "notes/log?limit=x", "notes/log?other=1"] {
        get(&api, wrong).await.expect(400);
    }

    // To anybody else it is not there, and says the same as one that is not.
    let bob = stack.api("bob");
    for rest in ["files", "files/docs/note.md", "log", "diff"] {
        let (other, none) = (get(&bob, &format!("notes/{rest}")).await, get(&bob, &format!("none/{rest}")).await);
        assert_eq!(other.expect(404).json(), none.expect(404).json());
    }
    Api::new(&stack.address, "").get("/v1/workspaces/notes/log").await.expect(401);

    // A unit's own, and nothing of its state beside it.
    let own = api.invoke("demo", "echo mine > mine.txt").await.expect(200).json()["uid"].as_str().unwrap().to_owned();
    assert_eq!(get(&api, &format!("{own}/files/mine.txt")).await.expect(200).text(), "mine\n");
    get(&bob, &format!("{own}/files")).await.expect(404);
    assert_eq!(names(&get(&api, &format!("{own}/files")).await.expect(200).json()), [("mine.txt", "file")]);
    // Nobody has been kept from anything, and nothing was changed.
    assert_eq!(git(&stack.store().join("workspaces/notes"), &["status", "--porcelain"]), "");
    left(&stack, backend).await;
}

async fn files(api: &Api) {
    let root = get(api, "notes/files").await.expect(200).json();
    let expected = [("docs", "folder"), ("large", "file"), ("root", "link"), ("sub", "folder")];
    assert_eq!(names(&root), expected, "without .git");
    let file = get(api, "notes/files/docs/note.md").await.expect(200);
    assert_eq!((&*file.text(), file.header("content-type")), ("hello\n", "application/octet-stream"));
    assert_eq!((file.header("x-content-type-options"), file.header("rekindle-truncated")), ("nosniff", "false"));
    assert_eq!(names(&get(api, "notes/files/docs").await.expect(200).json()), [("note.md", "file"), ("out", "link")]);
    // A link is told and leads nowhere.
    let link = get(api, "notes/files/docs/out").await.expect(200).json();
    assert_eq!(link, json!({"kind": "link", "path": "docs/out", "target": "/etc/passwd"}));
    for absent in ["root/etc/passwd", "root/etc", "absent", "docs/note.md/x"] {
        get(api, &format!("notes/files/{absent}")).await.expect(404);
    }
    for refused in
        ["../units", "docs/../../x", "%2e%2e/x", "..%2fx", ".git/config", "sub/.git/config", ".GIT/HEAD", "%00"]
    {
        let answer = api
            .send(Method::GET, &format!("/v1/workspaces/notes/files/{refused}"), &[], Default::default())
            .await
            .expect("an answer");
        assert_eq!(answer.status.as_u16(), 400, "{refused}: {}", answer.text());
    }
    let large = get(api, "notes/files/large").await.expect(200);
    assert_eq!((large.header("rekindle-truncated"), large.header("rekindle-size")), ("true", "1500000"));
    assert_eq!(large.body.len(), 1 << 20);
}

/// No container or process of a look remains.
async fn left(stack: &Stack, backend: Backend) {
    if backend != Backend::Docker {
        return;
    }
    tests::eventually("no look is left", MINUTE, || async {
        let label = format!("label=rekindle.deployment={}", stack.deployment);
        let output = tests::paths::command(tests::paths::tool("docker", "docker.io"))
            .args(["ps", "-aq", "--filter", &label, "--filter", "label=rekindle.kind=inspect"])
            .output()
            .expect("run docker");
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        output.stdout.is_empty().then_some(())
    })
    .await;
}

#[tokio::test]
async fn a_workspace_is_looked_into_as_a_process() {
    journey(Backend::Process).await;
}

#[tokio::test]
async fn a_workspace_is_looked_into_on_docker() {
    journey(Backend::Docker).await;
}
