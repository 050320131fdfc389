//! A unit is its folder: a copy of it goes on elsewhere, and so does a workspace of the older kind.

use std::path::Path;

use serde_json::json;
use tests::git::{git, give_to_worker};
use tests::model::{Model, Reply};
use tests::stack::{Backend, Options, Stack};

use crate::support::{claude_profile, gone, uid};
use crate::tour::notes;

async fn deployment(backend: Backend, model: &Model) -> Stack {
    Stack::start(Options::new(backend).model(model.base_url()).settings(&claude_profile())).await
}

fn copy(from: &Path, to: &Path) {
    std::fs::create_dir_all(to.parent().unwrap()).unwrap();
    let status = tests::paths::command("/bin/cp").arg("-a").arg(from).arg(to).status().unwrap();
    assert!(status.success());
}

#[tokio::test]
async fn a_copy_of_a_units_folder_resumes_on_another_machine() {
    let model = Model::start(notes).await;
    let (here, there) = (deployment(Backend::Process, &model).await, deployment(Backend::Docker, &model).await);
    let api = here.api("ann");
    api.invoke("demo", "write notes.md about moving").await.expect(200);
    let uid = uid(&api, "demo").await;
    api.post("/v1/units/demo/stop", &json!({})).await;
    gone(&here, &api, "demo").await;
    copy(&here.store().join("units").join(&uid), &there.store().join("units").join(&uid));

    let api = there.api("ann");
    let answer = api.invoke("demo", "what did you just write?").await.expect(200).json();
    assert_eq!(answer["reply"], "You asked me: write notes.md about moving");
    assert_eq!(model.requests().pop().unwrap().called(), ["Write"]);
}

#[tokio::test]
async fn a_workspace_that_carries_a_session_of_its_own_is_resumed() {
    let model = Model::start(notes).await;
    let stack = deployment(Backend::Process, &model).await;
    let api = stack.api("ann");
    // A real conversation, then laid out as the older system left it: inside the workspace.
    api.invoke("donor", "write notes.md about heritage").await.expect(200);
    let donor = uid(&api, "donor").await;
    api.post("/v1/units/donor/stop", &json!({})).await;
    gone(&stack, &api, "donor").await;
    let legacy = stack.store().join("workspaces/legacy");
    copy(&stack.workspace(&donor), &legacy);
    let session: serde_json::Value =
        serde_json::from_slice(&std::fs::read(stack.state(&donor).join("session.json")).unwrap()).unwrap();
    let id = session["threads"]["donor"]["session_id"].as_str().unwrap();
    std::fs::create_dir_all(legacy.join(".claude")).unwrap();
    copy(&stack.state(&donor).join("claude/projects"), &legacy.join(".claude/projects"));
    std::fs::write(legacy.join(".claude/.session"), id).unwrap();
    std::fs::write(legacy.join(".gitignore"), ".claude/\n").unwrap();
    give_to_worker(&legacy);

    let body = json!({"prompt": "what did you just write?", "workspaces": [{"id": "legacy", "mode": "rw"}]});
    let answer = api.post("/v1/units/heir/invoke", &body).await.expect(200).json();
    assert_eq!(answer["reply"], "You asked me: write notes.md about heritage");
    assert_eq!(git(&legacy, &["ls-tree", "-r", "--name-only", "HEAD"]), ".gitignore\nnotes.md");
}

#[tokio::test]
async fn a_session_that_is_lost_is_begun_anew_and_said_so() {
    let model = Model::start(notes).await;
    let stack = deployment(Backend::Process, &model).await;
    let api = stack.api("ann");
    api.invoke("demo", "write notes.md").await.expect(200);
    let uid = uid(&api, "demo").await;
    api.post("/v1/units/demo/stop", &json!({})).await;
    gone(&stack, &api, "demo").await;
    untrusted::remove(&stack.state(&uid).join("claude/projects")).unwrap();
    model.follow(|_| Reply::text("Hello anew."));
    let turn = api.invoke("demo", "hello?").await.expect(200).json();
    assert_eq!(turn["reply"], "Hello anew.");
    let turn = api.get(&format!("/v1/turns/{}", turn["turn_id"].as_str().unwrap())).await.expect(200).json();
    assert!(turn["detail"].as_str().unwrap().contains("a new one was begun"), "{turn:#}");
}
