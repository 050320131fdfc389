//! A unit's folder in a temporary place, and git as a person or an agent would call it.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::Command;

use contract::{Generation, Mode, Principal, Trigger, TurnId, UnitId, WorkspaceId};
use workspace::{
    Begun, CommitInfo, Finished, Limits, Mounted, Outcome, PreparedCommit, Record, StateDir, TurnMeta, Unit, WalkCache,
    Workspace, WorkspaceError,
};

pub const UID: &str = "uaaaaaaaaaaaaaaaaaaaaaaaaa";

pub struct Place {
    pub dir: tempfile::TempDir,
    pub ws: PathBuf,
    pub state: StateDir,
    pub limits: Limits,
    pub cache: WalkCache,
}

pub struct Ran {
    pub outside: Option<CommitInfo>,
    pub violations: Vec<workspace::Reverted>,
    pub begin_notices: Vec<String>,
    pub finished: Finished,
    pub commit: Option<CommitInfo>,
}

impl Place {
    pub fn new() -> Self {
        let dir = tempfile::tempdir().expect("a temporary folder");
        let ws = dir.path().join("workspace");
        fs::create_dir(&ws).expect("the workspace folder");
        fs::create_dir(dir.path().join("home")).expect("a home");
        let state = StateDir::open(dir.path().join("state")).expect("the state folder");
        Self { dir, ws, state, limits: Limits::default(), cache: WalkCache::default() }
    }

    /// With a repository of a person's, with one commit of `a.txt`.
    pub fn with_repository() -> Self {
        let place = Self::new();
        place.git(&["init", "-q"]);
        place.write("a.txt", "one\n");
        place.git(&["add", "."]);
        place.git(&["commit", "-qm", "first"]);
        place
    }

    pub fn mounted(&self) -> Mounted {
        Mounted { id: WorkspaceId::parse("w").unwrap(), mode: Mode::Rw, path: self.ws.clone() }
    }

    pub fn try_open(&self) -> Result<Workspace, WorkspaceError> {
        let unit = Unit { uid: UnitId::parse(UID).unwrap(), generation: Generation(7) };
        Workspace::open(&self.mounted(), &unit, self.limits.clone())
    }

    pub fn open(&self) -> Workspace {
        self.try_open().map_err(|e| e.chain()).expect("an open workspace")
    }

    /// Why it cannot be opened.
    pub fn unusable(&self) -> String {
        match self.try_open() {
            Err(WorkspaceError::Unusable { why }) => why,
            Err(e) => panic!("another error: {}", e.chain()),
            Ok(_) => panic!("it could be opened"),
        }
    }

    pub fn begin(&self, turn: u64) -> (Workspace, Begun) {
        let mut workspace = self.open();
        let begun = workspace.begin(&turn_id(turn), &self.cache).map_err(|e| e.chain()).expect("begin");
        (workspace, begun)
    }

    /// A whole turn.
    pub fn turn(&mut self, turn: u64, agent: impl FnOnce(&Self)) -> Ran {
        let (mut workspace, begun) = self.begin(turn);
        agent(self);
        let finished = workspace.finish(&begun.baseline, &meta(turn)).map_err(|e| e.chain()).expect("finish");
        self.record(turn, Outcome::Completed, finished.commit.iter().cloned().collect());
        let apply = |c: &PreparedCommit| workspace.apply(c, &turn_id(turn)).map_err(|e| e.chain()).expect("apply");
        let commit = finished.commit.as_ref().map(apply);
        self.cache.update(&workspace);
        Ran { outside: begun.outside, violations: begun.violations, begin_notices: begun.notices, finished, commit }
    }

    pub fn record(&self, turn: u64, outcome: Outcome, commits: Vec<PreparedCommit>) {
        let result = serde_json::json!({ "ok": outcome == Outcome::Completed });
        let record = Record { turn: turn_id(turn), outcome, result, commits, events: Vec::new() };
        self.state.write_record(&record).expect("the record");
    }

    pub fn path(&self, path: &str) -> PathBuf {
        self.ws.join(path)
    }

    pub fn write(&self, path: &str, content: impl AsRef<[u8]>) {
        let path = self.path(path);
        fs::create_dir_all(path.parent().expect("a parent")).expect("parents");
        fs::write(path, content).expect("a file");
    }

    pub fn read(&self, path: &str) -> String {
        fs::read_to_string(self.path(path)).expect(path)
    }

    pub fn exists(&self, path: &str) -> bool {
        fs::symlink_metadata(self.path(path)).is_ok()
    }

    pub fn chmod(&self, path: &str, mode: u32) {
        fs::set_permissions(self.path(path), fs::Permissions::from_mode(mode)).expect("chmod");
    }

    pub fn git(&self, args: &[&str]) -> String {
        let (ok, out) = self.try_git(&self.ws, args);
        assert!(ok, "git {args:?}: {out}");
        out.trim_end().to_owned()
    }

    pub fn try_git(&self, at: &Path, args: &[&str]) -> (bool, String) {
        let out = Command::new("git")
            .args(["-c", "init.defaultBranch=main", "-c", "core.quotePath=true", "-c", "advice.detachedHead=false"])
            .args(args)
            .current_dir(at)
            .env_clear()
            .env("PATH", "/usr/local/bin:/usr/bin:/bin")
            .env("HOME", self.dir.path().join("home"))
            .env("GIT_CONFIG_NOSYSTEM", "1")
            .env("GIT_AUTHOR_NAME", "Person")
            .env("GIT_AUTHOR_EMAIL", "person@example.org")
            .env("GIT_COMMITTER_NAME", "Person")
            .env("GIT_COMMITTER_EMAIL", "person@example.org")
            .output()
            .expect("git is installed: apt-get install git");
        let text = [out.stdout, out.stderr].concat();
        (out.status.success(), String::from_utf8_lossy(&text).into_owned())
    }

    /// The repository is sound, its branch's tree is what is on disk, and git sees nothing to do.
    pub fn assert_clean(&self) {
        let (ok, out) = self.try_git(&self.ws, &["fsck", "--strict", "--no-dangling"]);
        assert!(ok && !out.contains("error"), "fsck: {out}");
        assert_eq!(self.git(&["status", "--porcelain"]), "");
    }

    pub fn head(&self) -> String {
        self.git(&["rev-parse", "HEAD"])
    }

    /// Subjects of the current branch, newest first.
    pub fn log(&self) -> Vec<String> {
        self.git(&["log", "--first-parent", "--format=%s"]).lines().map(str::to_owned).collect()
    }

    pub fn refs(&self, below: &str) -> Vec<String> {
        self.git(&["for-each-ref", "--format=%(refname)", below]).lines().map(str::to_owned).collect()
    }
}

pub fn turn_id(n: u64) -> TurnId {
    TurnId::new(1_700_000_000_000 + n, u128::from(n))
}

pub fn meta(turn: u64) -> TurnMeta {
    TurnMeta {
        unit: UnitId::parse(UID).unwrap(),
        turn: turn_id(turn),
        generation: Generation(7),
        trigger: Trigger::Message,
        principal: Principal { name: "Ada".into(), email: "ada@example.org".into() },
        subject: format!("turn {turn}"),
    }
}
