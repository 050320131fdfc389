//! A turn that runs to its end: the baseline before it, its one commit after it, the branch's move.

use std::collections::{BTreeMap, BTreeSet, HashSet};

use contract::TurnId;
use git2::Oid;

use crate::cache::{Known, WalkCache};
use crate::commit::{CommitInfo, Message, PreparedCommit, TurnMeta};
use crate::crash::crash_point;
use crate::error::{Result, WorkspaceError};
use crate::housekeeping::{end_merge, sequences};
use crate::judge::{Judge, committed_tree, outside_violations};
use crate::note::Note;
use crate::open::Workspace;
use crate::refs::Head;
use crate::restore::put_back;
use crate::root::StatKey;
use crate::rules::Reverted;
use crate::store::Store;
use crate::tree::{Flat, count_changes};
use crate::walk::{Walk, WalkStats, Walked, special_notice};

/// How a workspace was when its turn began.
pub struct Baseline {
    pub(crate) head: Head,
    pub(crate) tip: Oid,
    pub(crate) tree_oid: Oid,
    pub(crate) tree: Flat,
    /// Files too large to commit, by what they were.
    pub(crate) held: BTreeMap<Vec<u8>, StatKey>,
    pub(crate) bad: BTreeSet<Vec<u8>>,
    pub(crate) special: BTreeSet<Vec<u8>>,
    pub(crate) ignored: HashSet<u64>,
    pub(crate) files: usize,
    /// `.gitignore` files that decide beside the tracked ones.
    pub(crate) ignore_files: Flat,
    pub(crate) sequences: Vec<String>,
}

/// What [`Workspace::begin`] answers.
pub struct Begun {
    /// For `finish` or `interrupt`.
    pub baseline: Baseline,
    /// The commit of what people changed, if they did.
    pub outside: Option<CommitInfo>,
    /// What of their changes breaks a rule: reported, not put back.
    pub violations: Vec<Reverted>,
    /// What else happened, for people.
    pub notices: Vec<String>,
    /// How much work the walk was.
    pub stats: WalkStats,
}

/// What [`Workspace::finish`] answers.
#[derive(Debug)]
pub struct Finished {
    /// The turn's commit; none if nothing changed.
    pub commit: Option<PreparedCommit>,
    /// What broke a rule and was put back.
    pub reverted: Vec<Reverted>,
    /// The refs that hold the commits which the agent made itself.
    pub agent_commits: Vec<String>,
    /// What else happened, for people.
    pub notices: Vec<String>,
    /// How much work the last walk was.
    pub stats: WalkStats,
}

/// What `apply` needs of the `finish` before it.
pub(crate) struct Prepared {
    pub sha: Oid,
    pub tree: Flat,
    pub walked: Walked,
}

/// Putting a path back can bring others to light (`.gitignore`); it settles quickly.
const MAX_ROUNDS: usize = 5;

impl Workspace {
    /// Begins a turn: commits what people changed, and notes branch, HEAD and tree.
    ///
    /// # Errors
    /// `Unusable` when the tree or repository cannot be worked on. What was committed by then stays.
    pub fn begin(&mut self, turn: &TurnId, cache: &WalkCache) -> Result<Begun> {
        let mut notices = std::mem::take(&mut self.notices);
        let head = self.refs().head()?;
        let tip = self.refs().tip(&head)?.ok_or_else(|| WorkspaceError::unusable("the branch has no commit"))?;
        if self.known.at_ns == 0 {
            self.known = cache.known(&self.id);
        }
        let mut store = Store::open(&self.root, &self.path)?;
        end_merge(&self.root, &store, &format!("refs/rekindle/merge/{turn}"), &mut notices)?;
        let (tree_oid, tracked) = self.tree_of(&store, tip)?;
        let walked = Walk::new(&self.root, &self.limits, &tracked).run(&mut store, &self.known)?;
        let tree = committed_tree(&tracked, &walked);
        let violations = outside_violations(&store, &self.limits, &tracked, &walked)?;
        let (mut new_tip, mut new_tree, mut outside) = (tip, tree_oid, None);
        if tree != tracked {
            new_tree = store.write_tree(&tree)?;
            new_tip = store.write_commit(&Message::outside(&self.unit, turn).encode(new_tree, &[tip]))?;
            store.sync()?;
            self.refs().set(head.name(), new_tip)?;
            outside = Some(CommitInfo::from(&self.describe(
                &store,
                &head,
                new_tip,
                (tree_oid, &tracked),
                (new_tree, &tree),
            )?));
        }
        drop(store);
        let head = if let Head::Detached(_) = head { Head::Detached(new_tip) } else { head };
        let index = self.known.index.take();
        self.known = Known { index, ..Known::from_walk(&walked) };
        self.show_in_index(new_tip, &tree, &walked)?;
        let ignore_files: Flat =
            walked.ignore_files.iter().filter(|(p, _)| !tree.contains_key(*p)).map(|(p, e)| (p.clone(), *e)).collect();
        let note = Note::new(turn, &self.unit.uid, &head, new_tip, &sequences(&self.root));
        let note = note.with_ignore_files(&ignore_files);
        note.write(&self.root)?;
        self.note = Some(note.clone());
        let baseline = Baseline {
            head,
            tip: new_tip,
            tree_oid: new_tree,
            held: walked.too_large().map(|(path, found)| (path.clone(), found.stat)).collect(),
            bad: walked.bad.keys().cloned().collect(),
            special: walked.special.iter().cloned().collect(),
            files: tree.len(),
            tree,
            ignored: walked.ignored,
            ignore_files,
            sequences: note.sequences,
        };
        Ok(Begun { baseline, outside, violations, notices, stats: walked.stats })
    }

    /// Ends a turn that ran: puts back what breaks a rule, puts HEAD and branch back, and writes the one commit
    /// with the whole change, pinned at `refs/rekindle/pending/<uid>`. The branch does not move yet.
    /// Called again with the same baseline it goes on where it was.
    ///
    /// # Errors
    /// `Unusable` when the repository is gone or damaged beyond use: the tree is left as the turn left it, the
    /// history is gone unless there is a copy of it. `Io`, `Git`: `recover` cleans up.
    pub fn finish(&mut self, baseline: &Baseline, meta: &TurnMeta) -> Result<Finished> {
        let mut notices = std::mem::take(&mut self.notices);
        self.check_still_there(&mut notices)?;
        let mut store = Store::open(&self.root, &self.path)?;
        let agent_commits = self.settle_refs(&store, baseline, &meta.turn, &mut notices)?;
        let (walked, tree, reverted) = self.judge(&mut store, baseline)?;
        let stats = walked.stats;
        let fresh = walked.special.iter().filter(|path| !baseline.special.contains(*path));
        notices.extend(fresh.map(|path| special_notice(path)).map(|s| format!("{}: {}", s.path, s.reason)));
        let commit = if tree == baseline.tree {
            None
        } else {
            let tree_oid = store.write_tree(&tree)?;
            let sha = store.write_commit(&Message::turn(meta).encode(tree_oid, &[baseline.tip]))?;
            store.sync()?;
            crash_point("objects-written");
            self.refs().set(&self.pin(), sha)?;
            let described =
                self.describe(&store, &baseline.head, sha, (baseline.tree_oid, &baseline.tree), (tree_oid, &tree))?;
            Some((sha, described))
        };
        notices.extend(store.take_notices());
        drop(store);
        let index = self.known.index.take();
        self.known = Known { index, ..Known::from_walk(&walked) };
        let commit = match commit {
            None => {
                self.show_in_index(baseline.tip, &tree, &walked)?;
                self.conclude(&meta.turn)?;
                None
            }
            Some((sha, described)) => {
                self.prepared = Some(Prepared { sha, tree, walked });
                Some(described)
            }
        };
        Ok(Finished { commit, reverted, agent_commits, notices, stats })
    }

    /// Walks, and puts back what breaks a rule, until nothing does.
    fn judge(&self, store: &mut Store<'_>, baseline: &Baseline) -> Result<(Walked, Flat, Vec<Reverted>)> {
        let mut reverted = Vec::new();
        let mut tried: BTreeSet<Vec<u8>> = BTreeSet::new();
        let mut round = 0;
        let mut seen = None;
        loop {
            let walk = Walk::new(&self.root, &self.limits, &baseline.tree)
                .new_ignored(&baseline.ignored)
                .read_at_most(self.limits.max_changed_bytes);
            let walked = walk.run(store, seen.as_ref().unwrap_or(&self.known))?;
            seen = Some(Known::from_walk(&walked));
            let broken = Judge { limits: &self.limits, baseline, walked: &walked, store }.broken()?;
            let fresh: Vec<_> = broken.into_iter().filter(|b| !tried.contains(&b.path)).collect();
            round += 1;
            if fresh.is_empty() || round == MAX_ROUNDS {
                let mut tree = committed_tree(&baseline.tree, &walked);
                // What could not be put back on disk is at least not committed.
                for path in fresh.iter().map(|b| &b.path).chain(&tried) {
                    match baseline.tree.get(path) {
                        Some(entry) => tree.insert(path.clone(), *entry),
                        None => tree.remove(path),
                    };
                }
                return Ok((walked, tree, reverted));
            }
            for b in fresh {
                let mut reason = b.reason;
                if b.lost {
                    reason.push_str("; left in place, since what it was before was never committed");
                } else if let Err(e) = put_back(&self.root, store, &b.path, baseline.tree.get(&b.path)) {
                    reason.push_str(&format!("; it could not be put back: {}", e.chain()));
                }
                reverted.push(Reverted::new(&b.path, reason));
                tried.insert(b.path);
            }
        }
    }

    fn describe(
        &self,
        store: &Store<'_>,
        head: &Head,
        sha: Oid,
        old: (Oid, &Flat),
        new: (Oid, &Flat),
    ) -> Result<PreparedCommit> {
        let (insertions, deletions) = store.count_lines(old.1, new.1)?;
        Ok(PreparedCommit {
            workspace: self.id.clone(),
            branch: head.name().to_owned(),
            sha: sha.to_string(),
            files: count_changes(old.1, new.1),
            insertions,
            deletions,
        })
    }
}
