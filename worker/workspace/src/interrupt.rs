//! A turn that does not run to its end: what it left is kept on a ref, the tree is put back.

use std::collections::BTreeSet;

use contract::TurnId;
use git2::Oid;

use crate::cache::Known;
use crate::commit::{Message, ParsedCommit, TurnMeta};
use crate::crash::crash_point;
use crate::error::{Doing, Result};
use crate::judge::committed_tree;
use crate::open::Workspace;
use crate::restore::{put_back, restore};
use crate::root::split;
use crate::store::Store;
use crate::tree::{Entry, Flat};
use crate::turn::Baseline;
use crate::walk::{Walk, Walked};

/// What [`Workspace::interrupt`] answers.
#[derive(Debug, Default)]
pub struct Interrupted {
    /// The ref that holds what the turn left, if it left anything: `refs/rekindle/interrupted/<turn>`.
    pub kept: Option<String>,
    /// The refs that hold the commits which the agent made itself.
    pub agent_commits: Vec<String>,
    /// What else happened, for people.
    pub notices: Vec<String>,
}

/// What to put a tree back to, and whose leftovers these are.
pub(crate) struct Cleanup<'a> {
    pub turn: &'a TurnId,
    pub message: Message,
    pub tip: Oid,
    pub tree: &'a Flat,
    /// `.gitignore` files that decided beside the tracked ones.
    pub ignore_files: Flat,
    /// What is beyond this is left on disk instead.
    pub max_read_bytes: u64,
    /// Left alone on disk.
    pub leave: BTreeSet<Vec<u8>>,
    /// Commits of the agent, to be parents of the leftovers.
    pub agent: Vec<Oid>,
}

impl Workspace {
    /// Ends a turn that failed or was cancelled. HEAD, branch and tree are as they were at `begin`; ignored files
    /// and nested repositories' `.git` are left alone. Called again it does nothing more.
    ///
    /// # Errors
    /// As `finish`. Where the tree could not be put back whole, what the turn left is on the ref already.
    pub fn interrupt(&mut self, baseline: &Baseline, meta: &TurnMeta) -> Result<Interrupted> {
        let mut notices = std::mem::take(&mut self.notices);
        self.check_still_there(&mut notices)?;
        let store = self.store()?;
        let agent_commits = self.settle_refs(&store, baseline, &meta.turn, &mut notices)?;
        drop(store);
        let agent = agent_commits.iter().filter_map(|name| self.refs().get(name).ok().flatten()).collect();
        let leave = baseline.held.keys().chain(&baseline.bad).chain(&baseline.special).cloned().collect();
        let cleanup = Cleanup {
            turn: &meta.turn,
            message: Message::interrupted(meta),
            tip: baseline.tip,
            tree: &baseline.tree,
            ignore_files: baseline.ignore_files.clone(),
            max_read_bytes: self.limits.max_changed_bytes,
            leave,
            agent,
        };
        let kept = self.keep_and_restore(cleanup, &mut notices)?;
        self.refs().delete(&self.pin())?;
        self.conclude(&meta.turn)?;
        Ok(Interrupted { kept, agent_commits, notices })
    }

    /// Keeps whatever differs from the tree on the turn's ref, then puts the tree back. In that order: a crash
    /// in between loses nothing.
    pub(crate) fn keep_and_restore(
        &mut self,
        mut cleanup: Cleanup<'_>,
        notices: &mut Vec<String>,
    ) -> Result<Option<String>> {
        let mut store = Store::open(&self.root, &self.path)?;
        let look = Walk::new(&self.root, &self.limits, cleanup.tree).read_at_most(cleanup.max_read_bytes);
        let mut walked = look.run(&mut store, &self.known)?;
        let mut left = committed_tree(cleanup.tree, &walked);
        let changed = changed_ignore_files(&cleanup, &walked, &mut left);
        let mut kept = self.keep(&mut store, &cleanup, &left)?;
        if !changed.is_empty() {
            for (path, was) in &changed {
                put_back(&self.root, &store, path, was.as_ref())?;
            }
            let seen = Known::from_walk(&walked);
            let look = Walk::new(&self.root, &self.limits, cleanup.tree).read_at_most(cleanup.max_read_bytes);
            walked = look.run(&mut store, &seen)?;
            let is_new = |path: &Vec<u8>| !left.contains_key(path) && !cleanup.tree.contains_key(path);
            let come_to_light: Vec<_> = walked.flat().into_iter().filter(|(path, _)| is_new(path)).collect();
            left.extend(come_to_light);
            kept = self.keep(&mut store, &cleanup, &left)?.or(kept);
        }
        crash_point("leftovers-kept");
        self.spare_unkept(&mut cleanup, &walked, notices)?;
        restore(&self.root, &store, cleanup.tree, &walked, &cleanup.leave)?;
        let seen = Known::from_walk(&walked);
        crash_point("tree-restored");
        let walked = Walk::new(&self.root, &self.limits, cleanup.tree).run(&mut store, &seen)?;
        drop(store);
        let index = self.known.index.take();
        self.known = Known { index, ..Known::from_walk(&walked) };
        self.show_in_index(cleanup.tip, cleanup.tree, &walked)?;
        Ok(kept)
    }

    /// Commits leftovers to the turn's ref, on top of what is there already.
    fn keep(&self, store: &mut Store<'_>, cleanup: &Cleanup<'_>, left: &Flat) -> Result<Option<String>> {
        let name = format!("refs/rekindle/interrupted/{}", cleanup.turn);
        let there = self.refs().get(&name)?.filter(|oid| store.has_commit(*oid));
        if left == cleanup.tree {
            return Ok(None);
        }
        let tree = store.write_tree(left)?;
        if let Some(oid) = there
            && ParsedCommit::parse(&store.commit(oid)?).is_some_and(|commit| commit.tree == tree)
        {
            return Ok(Some(name));
        }
        let mut parents = vec![there.unwrap_or(cleanup.tip)];
        for oid in &cleanup.agent {
            if there.is_none() && !parents.contains(oid) {
                parents.push(*oid);
            }
        }
        let commit = store.write_commit(&cleanup.message.encode(tree, &parents))?;
        store.sync()?;
        self.refs().set(&name, commit)?;
        Ok(Some(name))
    }

    /// What no ref can hold is not destroyed: new files stay, a changed one makes room under another name.
    fn spare_unkept(&self, cleanup: &mut Cleanup<'_>, walked: &Walked, notices: &mut Vec<String>) -> Result<()> {
        let too_large = walked.too_large().map(|(path, _)| path);
        for path in too_large.chain(walked.bad.keys()) {
            if cleanup.leave.contains(path) {
                continue;
            }
            let shown = String::from_utf8_lossy(path);
            if !cleanup.tree.contains_key(path) {
                notices.push(format!("{shown} cannot be committed and was left in place"));
            } else {
                let aside = [path.as_slice(), format!(".interrupted-{}", cleanup.turn).as_bytes()].concat();
                self.root.rename(path, &aside).doing(|| format!("move `{shown}` aside"))?;
                notices
                    .push(format!("{shown} cannot be committed; it was moved to {}", String::from_utf8_lossy(&aside)));
                cleanup.leave.insert(aside);
                continue;
            }
            cleanup.leave.insert(path.clone());
        }
        Ok(())
    }
}

/// What is ignored is decided by the `.gitignore` files that were there before the turn: one `*` in a new one
/// shall not make the turn's files stay. Answers those which differ, with what they were, and adds what they
/// are now to what is kept.
fn changed_ignore_files(cleanup: &Cleanup<'_>, walked: &Walked, left: &mut Flat) -> Vec<(Vec<u8>, Option<Entry>)> {
    let is_ignore_file = |path: &&Vec<u8>| split(path).1 == b".gitignore";
    let was = |path: &Vec<u8>| cleanup.tree.get(path).or_else(|| cleanup.ignore_files.get(path)).copied();
    let mut paths: BTreeSet<Vec<u8>> = left.keys().chain(cleanup.tree.keys()).filter(is_ignore_file).cloned().collect();
    paths.extend(walked.ignore_files.keys().chain(cleanup.ignore_files.keys()).cloned());
    let mut changed = Vec::new();
    for path in paths {
        let now = left.get(&path).or_else(|| walked.ignore_files.get(&path)).copied();
        if now == was(&path) || cleanup.leave.contains(&path) {
            continue;
        }
        if let Some(entry) = now {
            left.insert(path.clone(), entry);
        }
        changed.push((path.clone(), was(&path)));
    }
    changed
}
