//! After a turn that never settled: its record's moves are finished, its leftovers kept, the tree put back.

use std::collections::BTreeSet;

use contract::TurnId;
use git2::Oid;

use crate::commit::{CommitInfo, Message, ParsedCommit};
use crate::error::{Result, WorkspaceError};
use crate::housekeeping::{end_merge, end_sequences, sequences};
use crate::interrupt::Cleanup;
use crate::note::Note;
use crate::open::Workspace;
use crate::record::{Outcome, Record};
use crate::refs::Head;
use crate::store::Store;

/// What [`Workspace::recover`] answers.
#[derive(Debug, Default)]
pub struct Recovered {
    /// The commits of the record that the branches point to now.
    pub commits: Vec<CommitInfo>,
    /// Moves of the record that were not made, and why.
    pub refused: Vec<String>,
    /// The ref that holds what the dead turn left, if it left anything.
    pub kept: Option<String>,
    /// The refs that hold the commits which its agent made itself.
    pub agent_commits: Vec<String>,
    /// What else happened, for people.
    pub notices: Vec<String>,
}

impl Workspace {
    /// Cleans up after a turn that was delivered on this workspace and not settled. `record` is the state
    /// folder's, whichever turn it is of. Where the note says that another turn began and was never concluded, it is that
    /// one which is cleaned up after: this one died before it came to it. A workspace where the dead turn never began is left
    /// as it is, for what is changed there is people's. That is believed where the note is of another turn, concluded, and has
    /// not moved since the cache was written ([`Workspace::remember`]): its content may be the dead turn's agent's. Called
    /// again it finds nothing to do.
    ///
    /// # Errors
    /// As `finish`; nothing is lost, and a later call goes on.
    pub fn recover(&mut self, dead_turn: &TurnId, record: Option<&Record>) -> Result<Recovered> {
        let mut out = Recovered { notices: std::mem::take(&mut self.notices), ..Recovered::default() };
        let note = Note::read(&self.root);
        // The record of the dead turn itself goes first: that it ran to its end is not for a note to deny.
        let ran = record.is_some_and(|record| record.turn == *dead_turn && record.outcome == Outcome::Completed);
        let open = note.as_ref().filter(|note| !note.concluded && !ran).map(|note| note.turn.clone());
        let dead_turn = &open.unwrap_or_else(|| dead_turn.clone());
        let record = record.filter(|record| record.turn == *dead_turn);
        let unmoved = self.known.note.is_some() && self.known.note == Note::stat(&self.root);
        if !ran && unmoved && note.as_ref().is_some_and(|note| note.concluded && note.turn != *dead_turn) {
            self.refs().delete(&self.pin())?;
            return Ok(out);
        }
        let note = note.filter(|note| note.turn == *dead_turn);
        let store = Store::open(&self.root, &self.path)?;
        let before = note.as_ref().map_or(&[][..], |note| &note.sequences);
        end_sequences(&self.root, before, &mut out.notices)?;
        end_merge(&self.root, &store, &format!("refs/rekindle/merge/{dead_turn}"), &mut out.notices)?;
        if let Some(record) = record.filter(|record| record.outcome == Outcome::Completed) {
            self.finish_moves(record, &mut out)?;
        } else if let Some(note) = &note
            && let Some((head, tip)) = note.place()
            && store.has_commit(tip)
            && !self.has_moved_already(&store, note, &head, tip)?
        {
            out.agent_commits = self.put_refs_back(&store, &head, tip, dead_turn, &mut out.notices)?;
        }
        let head = self.refs().head()?;
        let tip = self.refs().tip(&head)?.ok_or_else(|| WorkspaceError::unusable("the branch has no commit"))?;
        let (_, tree) = self.tree_of(&store, tip)?;
        drop(store);
        let agent: Vec<Oid> =
            out.agent_commits.iter().filter_map(|name| self.refs().get(name).ok().flatten()).collect();
        let cleanup = Cleanup {
            turn: dead_turn,
            message: Message::interrupted_by_crash(&self.unit, dead_turn),
            tip,
            tree: &tree,
            ignore_files: note.as_ref().map(Note::ignore_files).unwrap_or_default(),
            // Nothing is known by its stat here: the whole tree is read.
            max_read_bytes: u64::MAX,
            leave: BTreeSet::new(),
            agent,
        };
        out.kept = self.keep_and_restore(cleanup, &mut out.notices)?;
        self.refs().delete(&self.pin())?;
        // Where there was none, there is one now: what people change from here on is theirs.
        let note = note.unwrap_or_else(|| Note::new(dead_turn, &self.unit.uid, &head, tip, &sequences(&self.root)));
        note.conclude(&self.root)?;
        Ok(out)
    }

    fn finish_moves(&self, record: &Record, out: &mut Recovered) -> Result<()> {
        for commit in record.commits.iter().filter(|commit| commit.workspace == self.id) {
            match self.move_branch(commit, &record.turn) {
                Ok(_) => out.commits.push(CommitInfo::from(commit)),
                Err(WorkspaceError::Refused { why }) => out.refused.push(why),
                Err(e) => return Err(e),
            }
        }
        Ok(())
    }

    /// Whether the branch is at the platform's commit of the noted turn already: its record is another unit's,
    /// which cannot be seen from here.
    fn has_moved_already(&self, store: &Store<'_>, note: &Note, head: &Head, tip: Oid) -> Result<bool> {
        let now = match head {
            Head::Branch(name) => self.refs().get(name)?,
            Head::Detached(_) => self.refs().tip(&self.refs().head()?)?,
        };
        let parsed = now.and_then(|oid| store.commit(oid).ok()).and_then(|data| ParsedCommit::parse(&data));
        Ok(parsed.is_some_and(|commit| {
            commit.parents == [tip] && commit.names(&note.unit, &note.turn) && note.unit != self.unit.uid
        }))
    }
}
