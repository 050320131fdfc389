//! Turns of an agent that works against the rules: each trick by itself, with what was committed and what was left.

mod crashed;
mod links;
mod objects;
mod refs;
mod rules;
mod settings;
mod tree;

use std::fs;
use std::path::{Path, PathBuf};

use workspace::{Finished, WorkspaceError};

use crate::fixture::{Place, meta};

fn mkfifo(path: &Path) {
    rustix::fs::mkfifoat(rustix::fs::CWD, path, 0o644.into()).unwrap();
}

/// A turn of which the end is not known to go well.
fn ended(place: &Place, turn: u64, agent: impl FnOnce(&Place)) -> Result<Finished, WorkspaceError> {
    let (mut workspace, begun) = place.begin(turn);
    agent(place);
    workspace.finish(&begun.baseline, &meta(turn))
}

#[track_caller]
fn unusable(ended: Result<Finished, WorkspaceError>) -> String {
    match ended {
        Err(WorkspaceError::Unusable { why }) => why,
        other => panic!("not unusable: {other:?}"),
    }
}

/// A file outside the workspace which shall stay as it is.
struct Bystander(PathBuf);

impl Bystander {
    fn new(place: &Place) -> Self {
        let path = place.dir.path().join("bystander");
        fs::write(&path, "untouched").unwrap();
        Self(path)
    }

    #[track_caller]
    fn assert_untouched(&self) {
        assert_eq!(fs::read_to_string(&self.0).unwrap(), "untouched");
    }
}

/// A command of the agent's that leaves a mark where it was run.
struct Trap(PathBuf);

impl Trap {
    fn new(place: &Place) -> Self {
        Self(place.dir.path().join("trapped"))
    }

    fn command(&self) -> String {
        format!("touch {}", self.0.display())
    }

    #[track_caller]
    fn assert_unsprung(&self) {
        assert!(!self.0.exists(), "the agent's command was run");
    }
}

/// Runs it as somebody whom permissions bind, which is anybody but root.
fn as_plain_user(work: impl FnOnce() + Send + 'static) {
    let run = || {
        if rustix::process::geteuid().is_root() {
            let nobody = rustix::process::Uid::from_raw(65_534);
            rustix::thread::set_thread_res_uid(nobody, nobody, nobody).unwrap();
        }
        work();
    };
    if let Err(panic) = std::thread::spawn(run).join() {
        std::panic::resume_unwind(panic);
    }
}
