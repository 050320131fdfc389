//! Workspaces as people and agents leave them. Each case prepares a folder, runs a turn over it, and looks with real git.

use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};

use serde_json::{Value, json};
use tests::api::Api;
use tests::git::{git, give_to_worker, subjects, trailer};
use tests::http::Answer;
use tests::stack::{Backend, Options, Stack};

use crate::support::exec_profile;

/// Runs the prompt as a shell script.
const RUN: &str = "sh -e -s";

struct Case {
    stack: Stack,
    api: Api,
}

impl Case {
    async fn start() -> Self {
        let stack = Stack::start(Options::new(Backend::Process).settings(&exec_profile(RUN, ""))).await;
        let api = stack.api("ann");
        Self { stack, api }
    }

    fn folder(&self, workspace: &str) -> PathBuf {
        self.stack.store().join("workspaces").join(workspace)
    }

    /// A workspace that a person made before the platform saw it.
    fn made(&self, workspace: &str, make: impl FnOnce(&Path)) -> PathBuf {
        let folder = self.folder(workspace);
        std::fs::create_dir_all(folder.parent().unwrap()).unwrap();
        std::fs::create_dir(&folder).unwrap();
        make(&folder);
        give_to_worker(&folder);
        folder
    }

    /// A unit of the workspace's name runs a script over it.
    async fn run(&self, workspace: &str, script: &str) -> Answer {
        let body = json!({"prompt": script, "workspaces": [{"id": workspace, "mode": "rw"}]});
        self.api.post(&format!("/v1/units/{workspace}/invoke"), &body).await
    }

    /// The same, ended, so that the next one is another generation.
    async fn stop(&self, unit: &str) {
        self.api.post_with(&format!("/v1/units/{unit}/stop"), &[("prefer", "wait=30")], &json!({})).await;
        crate::support::gone(&self.stack, &self.api, unit).await;
    }
}

fn repository(folder: &Path) {
    git(folder, &["init", "-q", "-b", "main"]);
    std::fs::write(folder.join("a.txt"), "one\n").unwrap();
    git(folder, &["add", "."]);
    git(folder, &["commit", "-qm", "by hand"]);
}

fn failed(answer: &Answer, reason: &str) -> String {
    assert_eq!(answer.status.as_u16(), 502, "{}", answer.text());
    let problem = answer.json();
    assert_eq!(problem["reason"], reason, "{problem:#}");
    problem["detail"].as_str().unwrap_or_default().to_owned()
}

#[tokio::test]
async fn every_state_of_a_repository_is_worked_with() {
    let case = Case::start().await;

    // A folder that nobody made yet, and one without a commit.
    case.run("fresh", "echo hi > x").await.expect(200);
    assert_eq!(subjects(&case.folder("fresh")).len(), 2);
    let empty = case.made("empty", |f| drop(git(f, &["init", "-q", "-b", "trunk"])));
    case.run("empty", "echo hi > x").await.expect(200);
    assert_eq!(git(&empty, &["rev-parse", "--abbrev-ref", "HEAD"]), "trunk");

    // What people changed is theirs and is committed first, by itself.
    let outside = case.made("outside", |f| {
        repository(f);
        std::fs::write(f.join("a.txt"), "two\n").unwrap();
    });
    case.run("outside", "echo hi > x").await.expect(200);
    assert_eq!(subjects(&outside).len(), 3);
    assert_eq!(git(&outside, &["show", "HEAD~1:a.txt"]), "two");
    assert!(git(&outside, &["log", "-1", "--skip=1", "--format=%B"]).contains("Trigger: outside"));

    let detached = case.made("detached", |f| {
        repository(f);
        git(f, &["checkout", "-q", "--detach"]);
    });
    let before = git(&detached, &["rev-parse", "main"]);
    let answer = case.run("detached", "echo hi > x").await.expect(200).json();
    assert_eq!(git(&detached, &["rev-parse", "HEAD"]), answer["commits"][0]["sha"].as_str().unwrap());
    assert_eq!(git(&detached, &["rev-parse", "main"]), before, "a branch that was not checked out stays");

    let merging = case.made("merging", |f| {
        repository(f);
        git(f, &["checkout", "-qb", "side"]);
        std::fs::write(f.join("b.txt"), "b\n").unwrap();
        git(f, &["add", "."]);
        git(f, &["commit", "-qm", "side"]);
        git(f, &["checkout", "-q", "main"]);
        git(f, &["merge", "-q", "--no-ff", "--no-commit", "side"]);
    });
    case.run("merging", "echo hi > x").await.expect(200);
    assert_eq!(git(&merging, &["status", "--porcelain"]), "");
    assert_eq!(git(&merging, &["show", "HEAD:b.txt"]), "b", "what the merge brought is kept");

    let nested = case.made("nested", repository);
    case.run(
        "nested",
        "git init -q sub; cd sub; echo hi > inner; git add .; git -c user.name=x -c user.email=x@x commit -qm x",
    )
    .await
    .expect(200);
    assert_eq!(
        git(&nested, &["ls-tree", "-r", "--name-only", "HEAD"]),
        "a.txt\nsub/inner",
        "plain files, no link to a commit"
    );

    let locked = case.made("locked", |f| {
        repository(f);
        std::fs::write(f.join(".git/index.lock"), "").unwrap();
    });
    case.run("locked", "echo hi > x").await.expect(200);
    assert_eq!(git(&locked, &["status", "--porcelain"]), "");

    let venv = case.made("venv", repository);
    case.run("venv", "mkdir -p v/bin v/lib; ln -s /usr/bin/python3 v/bin/python; ln -s lib v/lib64; ln -s ../../../../etc v/out; echo x > v/lib/m.py")
        .await
        .expect(200);
    let modes = git(&venv, &["ls-tree", "-r", "HEAD", "v"]);
    assert_eq!(modes.lines().filter(|l| l.starts_with("120000")).count(), 3, "links are kept as links: {modes}");
    for folder in ["fresh", "empty", "outside", "detached", "merging", "nested", "locked", "venv"] {
        git(&case.folder(folder), &["fsck", "--strict"]);
    }
}

#[tokio::test]
async fn what_cannot_be_worked_with_is_refused_with_a_reason() {
    let case = Case::start().await;
    std::fs::create_dir_all(case.folder("file").parent().unwrap()).unwrap();
    std::fs::write(case.folder("file"), "not a folder").unwrap();
    let answer = case.run("file", "echo hi > x").await;
    assert!((500..600).contains(&answer.status.as_u16()), "{}", answer.text());
    assert!(answer.text().contains("folder"), "{}", answer.text());
    assert_eq!(std::fs::read_to_string(case.folder("file")).unwrap(), "not a folder");

    case.made("packed", |f| {
        repository(f);
        git(f, &["pack-refs", "--all"]);
        std::fs::write(f.join(".git/packed-refs"), "this is\0no list of refs\n").unwrap();
    });
    let detail = failed(&case.run("packed", "echo hi > x").await, "workspace_unusable");
    assert!(detail.contains("packed"), "{detail}");

    // A folder that the workers' uid may not write to.
    let read_only = case.made("readonly", repository);
    for path in [read_only.clone(), read_only.join(".git")] {
        std::os::unix::fs::chown(&path, Some(0), Some(0)).unwrap();
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o755)).unwrap();
    }
    let detail = failed(&case.run("readonly", "true").await, "workspace_unusable");
    assert!(!detail.is_empty());
}

#[tokio::test]
async fn what_an_agent_does_to_its_repository_ends_as_one_commit() {
    let case = Case::start().await;
    let folder = case.made("agent", repository);
    let identity = "git config user.email a@a; git config user.name a;";
    let turn =
        case.run("agent", &format!("{identity} echo 1 > one; git add .; git commit -qm mine; echo 2 > two")).await;
    let turn = turn.expect(200).json();
    assert_eq!(subjects(&folder).len(), 2, "{:?}", subjects(&folder));
    assert_eq!(git(&folder, &["ls-tree", "--name-only", "HEAD"]), "a.txt\none\ntwo");
    let kept = format!("refs/rekindle/agent/{}", turn["turn_id"].as_str().unwrap());
    assert_eq!(git(&folder, &["log", "-1", "--format=%s", &kept]), "mine");

    case.run("agent", "git checkout -q -b elsewhere; echo 3 > three").await.expect(200);
    assert_eq!(git(&folder, &["rev-parse", "--abbrev-ref", "HEAD"]), "main", "the branch is put back");
    assert_eq!(git(&folder, &["show", "HEAD:three"]), "3");

    // A failed turn changes nothing; what it left is kept aside.
    let head = git(&folder, &["rev-parse", "HEAD"]);
    let answer = case.run("agent", "echo half > one; echo new > four; exit 137").await;
    let detail = failed(&answer, "error");
    assert!(detail.contains("137"), "{detail}");
    assert_eq!(git(&folder, &["rev-parse", "HEAD"]), head);
    assert_eq!(git(&folder, &["status", "--porcelain"]), "");
    let left = format!("refs/rekindle/interrupted/{}", answer.json()["turn_id"].as_str().unwrap());
    assert_eq!(git(&folder, &["show", &format!("{left}:one")]), "half");

    // What goes on writing after the turn is stopped before anybody looks.
    case.run("agent", "(while true; do date +%N > beat; done) >/dev/null 2>&1 & sleep 0.1; echo done")
        .await
        .expect(200);
    let seen = std::fs::read(folder.join("beat")).unwrap();
    assert_eq!(git(&folder, &["status", "--porcelain"]), "");
    case.run("agent", "echo 5 > five").await.expect(200);
    assert_eq!(std::fs::read(folder.join("beat")).unwrap(), seen, "nothing wrote between the turns");
    assert_eq!(trailer(&folder, "Trigger"), "message");
    case.stop("agent").await;
}

#[tokio::test]
async fn rules_put_back_what_breaks_them() {
    let case = Case::start().await;
    let folder = case.made("rules", repository);
    let script = "mkdir -p kg/entities; echo 'no front matter' > kg/entities/bad.md; \
        printf -- '---\\ntype: person\\nid: p1\\ntitle: Ann\\n---\\nAnn.\\n' > kg/entities/good.md; echo i > kg/entities/index.md";
    let mut stream = case
        .api
        .invoke_streaming("rules", &json!({"prompt": script, "workspaces": [{"id": "rules", "mode": "rw"}]}))
        .await;
    let events = stream.until("turn-complete", crate::support::MINUTE).await;
    let reverted = crate::support::find(&events, "policy-reverted");
    assert_eq!(reverted.data["paths"], json!(["kg/entities/bad.md"]));
    let reasons: Vec<&Value> = reverted.data["reasons"].as_array().unwrap().iter().collect();
    assert!(reasons[0].as_str().unwrap().contains("front matter"), "{reasons:?}");
    assert!(!folder.join("kg/entities/bad.md").exists());
    assert_eq!(
        git(&folder, &["ls-tree", "-r", "--name-only", "HEAD"]),
        "a.txt\nkg/entities/good.md\nkg/entities/index.md"
    );
}

#[tokio::test]
async fn a_read_only_workspace_stays_as_it_is() {
    let case = Case::start().await;
    let folder = case.made("library", repository);
    let body = json!({"prompt": "cat /workspaces/library/a.txt; if echo x > /workspaces/library/a.txt; then exit 3; fi",
        "workspaces": [{"id": "own", "mode": "rw"}, {"id": "library", "mode": "ro"}]});
    let answer = case.api.post("/v1/units/reader/invoke", &body).await.expect(200).json();
    assert!(answer["reply"].as_str().unwrap().starts_with("one"), "{answer:#}");
    assert_eq!(git(&folder, &["status", "--porcelain"]), "");
    assert_eq!(subjects(&folder), ["by hand"]);
}
