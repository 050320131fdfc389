//! A look into a workspace that changes nothing: what is in it now, its commits, what they changed.
//!
//! It may be looked at while a turn runs over it, and it may be mounted read-only. Paths are opened component by component and
//! no link is followed; `.git` is never shown. As everywhere in this crate no hook, filter, attribute or configuration of the
//! repository is looked at: libgit2 gets the object database alone. Every answer is bounded, whatever the workspace holds.

mod files;
mod history;

use std::path::Path;

use contract::{InspectAnswer, InspectOutcome, InspectRefusal, Look};
use rustix::io::Errno;

use crate::error::WorkspaceError;
use crate::gitdir;

/// Why nothing is shown.
#[derive(Debug)]
struct Refused(InspectRefusal, String);

type Seen<T> = Result<T, Refused>;

/// Looks into the workspace at `folder`. Synchronous; may take as long as the disk and the repository's size make it.
pub fn look(folder: &Path, look: &Look) -> InspectOutcome {
    match see(folder, look) {
        Ok(answer) => InspectOutcome::Answer(answer),
        Err(Refused(reason, detail)) => InspectOutcome::Refused { reason, detail },
    }
}

fn see(folder: &Path, look: &Look) -> Seen<InspectAnswer> {
    let root = gitdir::open_folder(folder)?;
    match look {
        Look::Files { path } => files::see(&root, path),
        Look::Log { limit, before } => history::log(&root, folder, *limit, before.as_ref()),
        Look::Diff { from, to } => history::diff(&root, folder, from.as_ref(), to.as_ref()),
    }
}

impl Refused {
    fn absent(detail: impl Into<String>) -> Self {
        Self(InspectRefusal::Absent, detail.into())
    }

    fn invalid(detail: impl Into<String>) -> Self {
        Self(InspectRefusal::Invalid, detail.into())
    }

    fn unusable(detail: impl Into<String>) -> Self {
        Self(InspectRefusal::Unusable, detail.into())
    }

    /// A path that the system did not open.
    fn errno(path: &str, errno: Errno) -> Self {
        match errno {
            // A file or a link where a folder would have to be is the same as nothing there.
            Errno::NOENT | Errno::NOTDIR | Errno::LOOP | Errno::NAMETOOLONG => {
                Self::absent(format!("there is no `{path}`"))
            }
            errno => Self::unusable(format!("cannot open `{path}`: {}", std::io::Error::from(errno))),
        }
    }
}

impl From<WorkspaceError> for Refused {
    fn from(error: WorkspaceError) -> Self {
        Self::unusable(error.chain())
    }
}

impl From<git2::Error> for Refused {
    fn from(error: git2::Error) -> Self {
        Self::unusable(format!("the repository cannot be read: {}; run `git fsck`", error.message()))
    }
}

/// Bytes that a text takes in the answer, as JSON writes it.
fn weight(text: &str) -> usize {
    let escaped = |c: char| match c {
        '"' | '\\' | '\n' | '\r' | '\t' => 2,
        c if (c as u32) < 0x20 => 6,
        c => c.len_utf8(),
    };
    text.chars().map(escaped).sum()
}
