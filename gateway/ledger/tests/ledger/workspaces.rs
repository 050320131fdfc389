//! Whose a workspace is.

use contract::{Owner, WorkspaceId};

use crate::support::{Redis, submission, submit};

#[tokio::test]
async fn a_workspace_is_told_to_be_its_first_users() {
    let redis = Redis::start().await;
    let ledger = redis.ledger("g").await;
    let used = WorkspaceId::parse("demo").unwrap();
    assert_eq!(ledger.workspace_owner(&used).await.unwrap(), None);
    let submission = submission("demo", "hello");
    let owner: Owner = submission.owner.clone();
    submit(&ledger, &submission).await;
    assert_eq!(ledger.workspace_owner(&used).await.unwrap(), Some(owner));
    assert_eq!(ledger.workspace_owner(&WorkspaceId::parse("nobodys").unwrap()).await.unwrap(), None);
}
