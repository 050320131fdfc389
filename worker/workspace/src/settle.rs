//! After the agent had the repository: is it still one, and where HEAD and branch belong.

use contract::TurnId;
use git2::Oid;

use crate::error::{Result, WorkspaceError};
use crate::gitdir;
use crate::housekeeping::{end_merge, end_sequences, remove_borrowing, sweep};
use crate::open::Workspace;
use crate::refs::Head;
use crate::store::Store;
use crate::turn::Baseline;

impl Workspace {
    /// Whether the repository is still one after the agent had it.
    pub(crate) fn check_still_there(&mut self, notices: &mut Vec<String>) -> Result<()> {
        let found = self.root.stat(b".git").ok().flatten();
        if found.is_none() {
            return Err(WorkspaceError::unusable(format!(
                "workspace {}: the turn removed `.git`; the files are left as they are, the history is gone unless there is a snapshot or a remote; the next turn begins a new one",
                self.id
            )));
        }
        remove_borrowing(&self.root, notices)?;
        gitdir::ensure(&self.root)?;
        sweep(&self.root, notices)
    }

    /// Puts branch and HEAD back to where the turn began, and keeps the commits that this leaves behind.
    pub(crate) fn settle_refs(
        &self,
        store: &Store<'_>,
        baseline: &Baseline,
        turn: &TurnId,
        notices: &mut Vec<String>,
    ) -> Result<Vec<String>> {
        end_sequences(&self.root, &baseline.sequences, notices)?;
        end_merge(&self.root, store, &format!("refs/rekindle/merge/{turn}"), notices)?;
        self.put_refs_back(store, &baseline.head, baseline.tip, turn, notices)
    }

    pub(crate) fn put_refs_back(
        &self,
        store: &Store<'_>,
        head: &Head,
        tip: Oid,
        turn: &TurnId,
        notices: &mut Vec<String>,
    ) -> Result<Vec<String>> {
        if !store.has_commit(tip) {
            return Err(WorkspaceError::unusable(format!(
                "workspace {}: commit {tip}, with which the turn began, is gone from the repository; restore a snapshot",
                self.id
            )));
        }
        let head_now = self.refs().head().ok();
        let mut left = Vec::new();
        if let Head::Branch(name) = head {
            let now = self.refs().get(name).ok().flatten();
            if now != Some(tip) {
                left.extend(now);
                self.keep_agent(store, turn, &left)?;
                self.refs().set(name, tip)?;
            }
        }
        if head_now.as_ref() != Some(head) {
            if let Some(Head::Detached(oid)) = head_now
                && oid != tip
                && !left.contains(&oid)
            {
                left.push(oid);
            }
            let was = head_now.as_ref().map_or("unreadable", Head::name);
            notices.push(format!("HEAD was put back to {}, it was {was}", head.name()));
        }
        let kept = self.keep_agent(store, turn, &left)?;
        if head_now.as_ref() != Some(head) {
            self.refs().set_head(head)?;
        }
        Ok(kept)
    }

    fn keep_agent(&self, store: &Store<'_>, turn: &TurnId, commits: &[Oid]) -> Result<Vec<String>> {
        let mut kept = Vec::new();
        for oid in commits.iter().filter(|oid| store.has_commit(**oid)) {
            let name = self.free_ref("agent", turn, *oid)?;
            self.refs().set(&name, *oid)?;
            kept.push(name);
        }
        Ok(kept)
    }
}
