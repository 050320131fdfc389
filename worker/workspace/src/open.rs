//! A workspace, opened for a turn.

use std::path::{Path, PathBuf};

use contract::{Generation, Mode, TurnId, UnitId, WorkspaceId};
use git2::Oid;

use crate::cache::{Known, WalkCache};
use crate::commit::{Message, ParsedCommit};
use crate::error::{Result, WorkspaceError};
use crate::note::Note;
use crate::refs::{Head, Refs};
use crate::root::Root;
use crate::rules::{Limits, named};
use crate::store::Store;
use crate::tree::Flat;
use crate::turn::Prepared;
use crate::walk::Walked;
use crate::{gitdir, housekeeping, index};

/// Whose worker this is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Unit {
    /// The unit.
    pub uid: UnitId,
    /// Its generation.
    pub generation: Generation,
}

/// A workspace as it is mounted: an element of `REKINDLE_WORKSPACES`.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct Mounted {
    /// Which.
    pub id: WorkspaceId,
    /// Read only, or for writing.
    pub mode: Mode,
    /// Where.
    pub path: PathBuf,
}

/// An `rw` workspace, opened. Open it anew for each turn: opening is what removes the traps and locks that
/// earlier processes left.
pub struct Workspace {
    pub(crate) id: WorkspaceId,
    pub(crate) path: PathBuf,
    pub(crate) root: Root,
    pub(crate) unit: Unit,
    pub(crate) limits: Limits,
    pub(crate) known: Known,
    /// Said of the opening; handed out by the next call that answers.
    pub(crate) notices: Vec<String>,
    /// What `apply` needs of `finish`.
    pub(crate) prepared: Option<Prepared>,
    /// The note of the turn that began: what lies in the repository meanwhile is whatever the agent made of it.
    pub(crate) note: Option<Note>,
}

impl Workspace {
    /// Opens a workspace: makes it a git repository if it is none, with an empty first commit if it has none,
    /// and removes stale locks.
    ///
    /// # Errors
    /// `Unusable`: missing, a file, read-only, mounted `ro`, a repository that cannot be worked on (damaged, of
    /// an unsupported format, or not standing on its own). The folder is as it was.
    pub fn open(mounted: &Mounted, unit: &Unit, limits: Limits) -> Result<Self> {
        let prefix = |e: WorkspaceError| match e {
            WorkspaceError::Unusable { why } => {
                WorkspaceError::Unusable { why: format!("{}: {why}", named(&mounted.id)) }
            }
            e => e,
        };
        if mounted.mode != Mode::Rw {
            return Err(prefix(WorkspaceError::unusable("mounted `ro`; only `rw` workspaces are committed to")));
        }
        Self::open_inner(mounted, unit, limits).map_err(prefix)
    }

    fn open_inner(mounted: &Mounted, unit: &Unit, limits: Limits) -> Result<Self> {
        let root = gitdir::open_folder(&mounted.path)?;
        gitdir::ensure(&root)?;
        let mut workspace = Self {
            id: mounted.id.clone(),
            path: mounted.path.clone(),
            root,
            unit: unit.clone(),
            limits,
            known: Known::default(),
            notices: Vec::new(),
            prepared: None,
            note: None,
        };
        housekeeping::sweep(&workspace.root, &mut workspace.notices)?;
        let head = workspace.refs().head()?;
        match workspace.refs().tip(&head)? {
            Some(tip) => workspace.check_tip(tip)?,
            None => workspace.first_commit(&head)?,
        }
        Ok(workspace)
    }

    /// Its id.
    pub fn id(&self) -> &WorkspaceId {
        &self.id
    }

    /// Where it is mounted.
    pub fn path(&self) -> &Path {
        &self.path
    }

    pub(crate) fn refs(&self) -> Refs<'_> {
        Refs(&self.root)
    }

    pub(crate) fn store(&self) -> Result<Store<'_>> {
        Store::open(&self.root, &self.path)
    }

    pub(crate) fn pin(&self) -> String {
        format!("refs/rekindle/pending/{}", self.unit.uid)
    }

    fn check_tip(&self, tip: Oid) -> Result<()> {
        let store = self.store()?;
        self.tree_of(&store, tip).map(drop)
    }

    fn first_commit(&self, head: &Head) -> Result<()> {
        let mut store = self.store()?;
        let tree = store.write_tree(&Flat::new())?;
        let commit = store.write_commit(&Message::first(&self.unit).encode(tree, &[]))?;
        store.sync()?;
        self.refs().set(head.name(), commit)
    }

    /// The turn that began here, as far as the repository says, and that was never concluded: it died, or what it left could
    /// not be cleaned up. Whatever the ledger says, its leftovers are not people's.
    pub fn unconcluded(&self) -> Option<TurnId> {
        Note::read(&self.root).filter(|note| !note.concluded).map(|note| note.turn)
    }

    /// Takes over what is known of it from the last turn that was settled. Without that everything is read, and what a dead
    /// turn may have left is cleaned up even where the note says that it never began.
    pub fn remember(&mut self, cache: &WalkCache) {
        self.known = cache.known(&self.id);
    }

    /// Notes that a turn is over for this workspace.
    pub(crate) fn conclude(&mut self, turn: &TurnId) -> Result<()> {
        let note = self.note.take().or_else(|| Note::read(&self.root)).filter(|note| note.turn == *turn);
        note.map_or(Ok(()), |note| note.conclude(&self.root))
    }

    /// A commit's tree.
    pub(crate) fn tree_of(&self, store: &Store<'_>, commit: Oid) -> Result<(Oid, Flat)> {
        let damaged = |why: String| {
            WorkspaceError::unusable(format!(
                "commit {commit} of the repository cannot be read ({why}); run `git fsck`, restore a snapshot, or move `.git` away to begin a new one"
            ))
        };
        let data = store.commit(commit).map_err(|e| damaged(e.chain()))?;
        let parsed = ParsedCommit::parse(&data).ok_or_else(|| damaged("not a commit".into()))?;
        let flat = store.read_tree(parsed.tree, self.limits.max_entries).map_err(|e| damaged(e.chain()))?;
        Ok((parsed.tree, flat))
    }

    /// Writes the index unless it is the one that was written for this commit.
    pub(crate) fn show_in_index(&mut self, tip: Oid, tree: &Flat, walked: &Walked) -> Result<()> {
        let now = index::stat(&self.root)?;
        if let (Some((stat, of)), Some(now)) = (&self.known.index, &now)
            && stat == now
            && *of == tip
        {
            return Ok(());
        }
        let stat = index::write(&self.root, tree, walked)?;
        self.known.index = Some((stat, tip));
        Ok(())
    }

    /// A name under `refs/rekindle/<kind>/` for this turn that is free or holds this very object already.
    pub(crate) fn free_ref(&self, kind: &str, turn: &TurnId, oid: Oid) -> Result<String> {
        let mut name = format!("refs/rekindle/{kind}/{turn}");
        let mut n = 1;
        while self.refs().get(&name)?.is_some_and(|there| there != oid) {
            n += 1;
            name = format!("refs/rekindle/{kind}/{turn}.{n}");
        }
        Ok(name)
    }
}
