//! Moving a branch to the commit of a turn, once that is recorded.

use contract::TurnId;
use git2::Oid;

use crate::cache::Known;
use crate::commit::{CommitInfo, ParsedCommit, PreparedCommit};
use crate::crash::crash_point;
use crate::error::{Result, WorkspaceError};
use crate::open::Workspace;
use crate::refs::Head;
use crate::store::Store;
use crate::walk::Walk;

impl Workspace {
    /// Moves the branch to a commit that the record names, and the index with it, and drops the pin. A commit
    /// that the branch points to already is fine.
    ///
    /// # Errors
    /// `Refused`: not a commit of this repository that names this unit and turn, or the branch has moved on. The
    /// branch is as it was; a commit of this turn is kept on `refs/rekindle/interrupted/<turn>`.
    pub fn apply(&mut self, commit: &PreparedCommit, turn: &TurnId) -> Result<CommitInfo> {
        let sha = match self.move_branch(commit, turn) {
            // The turn is over all the same.
            Err(refused @ WorkspaceError::Refused { .. }) if commit.workspace == self.id => {
                self.conclude(turn)?;
                return Err(refused);
            }
            moved => moved?,
        };
        match self.prepared.take().filter(|prepared| prepared.sha == sha) {
            Some(prepared) => self.show_in_index(sha, &prepared.tree, &prepared.walked)?,
            None => self.look_and_index(sha)?,
        }
        self.refs().delete(&self.pin())?;
        self.conclude(turn)?;
        Ok(CommitInfo::from(commit))
    }

    /// The checks and the move of `apply`.
    pub(crate) fn move_branch(&self, commit: &PreparedCommit, turn: &TurnId) -> Result<Oid> {
        if commit.workspace != self.id {
            return Err(WorkspaceError::refused(format!("it is of workspace {}", commit.workspace)));
        }
        let sha = Oid::from_str(&commit.sha)
            .map_err(|_| WorkspaceError::refused(format!("`{}` is not a commit", commit.sha)))?;
        let store = self.store()?;
        let parsed = store.commit(sha).ok().and_then(|data| ParsedCommit::parse(&data));
        let parsed =
            parsed.ok_or_else(|| WorkspaceError::refused(format!("{sha} is not a commit of this repository")))?;
        if !parsed.names(&self.unit.uid, turn) {
            return Err(WorkspaceError::refused(format!("commit {sha} does not name this unit and turn")));
        }
        let tip = if commit.branch == "HEAD" {
            match self.refs().head()? {
                Head::Detached(oid) => Some(oid),
                Head::Branch(name) => {
                    return Err(self.keep_refused(turn, sha, format!("HEAD is on {name} now, it was detached"))?);
                }
            }
        } else {
            self.refs().get(&commit.branch)?
        };
        if tip == Some(sha) {
            return Ok(sha);
        }
        if tip.is_none() || tip != parsed.parents.first().copied() {
            let now = tip.map_or_else(|| "gone".to_owned(), |oid| format!("at {oid}"));
            return Err(self.keep_refused(turn, sha, format!("{} has moved, it is {now}", commit.branch))?);
        }
        self.refs().set(&commit.branch, sha)?;
        crash_point("branch-moved");
        Ok(sha)
    }

    fn keep_refused(&self, turn: &TurnId, sha: Oid, why: String) -> Result<WorkspaceError> {
        let name = self.free_ref("interrupted", turn, sha)?;
        self.refs().set(&name, sha)?;
        Ok(WorkspaceError::refused(format!("{why}; commit {sha} is kept on {name}")))
    }

    /// Walks once more for the index's sake.
    pub(crate) fn look_and_index(&mut self, tip: Oid) -> Result<()> {
        let mut store = Store::open(&self.root, &self.path)?;
        let (_, tree) = self.tree_of(&store, tip)?;
        let walked = Walk::new(&self.root, &self.limits, &tree).run(&mut store, &self.known)?;
        drop(store);
        let index = self.known.index.take();
        self.known = Known { index, ..Known::from_walk(&walked) };
        self.show_in_index(tip, &tree, &walked)
    }
}
