//! Who may look into a workspace, before the runtime is asked.

use serde_json::json;

use crate::world::{post, world};

#[tokio::test]
async fn a_workspace_is_there_for_its_owner_alone() {
    let world = world().await;
    let mut request =
        post("/v1/units/a/invoke", "ann", &json!({"prompt": "x", "workspaces": [{"id": "notes", "mode": "rw"}]}));
    request.headers_mut().insert("prefer", "respond-async".parse().unwrap());
    assert_eq!(world.call(request).await.status, 202);
    for rest in ["files", "files/a/b", "log", "diff"] {
        // The owner's call gets as far as the runtime, which is not there in this test.
        world.get(&format!("/v1/workspaces/notes/{rest}"), "ann").await.problem(503, "unavailable");
        let others = world.get(&format!("/v1/workspaces/notes/{rest}"), "bob").await.problem(404, "not-found");
        let nobodys = world.get(&format!("/v1/workspaces/none/{rest}"), "bob").await.problem(404, "not-found");
        assert_eq!(others, nobodys);
    }
    for wrong in ["files/../x", "files/.git/config", "files/a//b", "log?limit=-1", "log?before=HEAD", "diff?to=x"] {
        world.get(&format!("/v1/workspaces/notes/{wrong}"), "ann").await.problem(400, "invalid-parameter");
    }
    world.get("/v1/workspaces/..%2fx/files", "ann").await.problem(400, "invalid-parameter");
}
