//! Everything about a turn's folders: the git repository of each `rw` workspace and the unit's state folder.
//!
//! The order of calls for one turn (DESIGN §7), with what a crash between two of them leaves:
//!
//! ```text
//! StateDir::open, state.record()            a record of this very turn is told again, nothing is run
//! Workspace::open                           per rw workspace; Unusable settles the turn
//! Workspace::recover                        only where the ledger calls the workspace unclean
//! Workspace::begin                          people's own changes are committed, the baseline is noted
//!   … the runner runs; then everything else is stopped …
//! Workspace::finish                         secondaries first; objects are written and pinned
//!   crash here: no record, the next recover keeps the tree on refs/rekindle/interrupted/<turn>
//! StateDir::write_record                    the turn has happened
//!   crash here: recover finishes the moves that the record names
//! Workspace::apply                          branches move
//! WalkCache::update, WalkCache::save        its hash goes with `done`
//! ```
//!
//! A turn that failed or was cancelled calls [`Workspace::interrupt`] in the place of `finish`, and has no commits.
//!
//! **Nothing of the repository is executed or believed.** Hooks, filters, attributes, the repository's
//! configuration, its exclude file, the agent's index and HEAD decide nothing. Files are found by this
//! crate's own walk, which never follows a link; refs are read and written here, byte by byte; libgit2 sees
//! only the object database, through a bare repository of our own making. All calls assume that nothing else
//! writes to the workspace meanwhile. Everything is synchronous and may take long: call it off the async threads.

mod apply;
pub mod archive;
mod cache;
mod codec;
mod commit;
mod crash;
mod error;
mod gitdir;
mod housekeeping;
mod ignore;
mod index;
pub mod inspect;
mod interrupt;
mod judge;
mod legacy;
mod note;
mod open;
mod record;
mod recover;
mod refs;
mod repack;
mod restore;
mod root;
mod rules;
mod session;
mod settle;
mod state;
mod store;
mod tidy;
mod tree;
mod turn;
mod walk;

pub use cache::WalkCache;
pub use commit::{CommitInfo, PreparedCommit, TurnMeta};
pub use crash::{STEPS, crash_point};
pub use error::{Result, WorkspaceError};
pub use interrupt::Interrupted;
pub use legacy::{LegacySession, adopt_transcript, cwd_folder, import_legacy, legacy_session};
pub use open::{Mounted, Unit, Workspace};
pub use record::{Outcome, Record};
pub use recover::Recovered;
pub use rules::{Limits, Reverted};
pub use session::{Session, ThreadSession};
pub use state::StateDir;
pub use tidy::Tidied;
pub use turn::{Baseline, Begun, Finished};
pub use walk::WalkStats;
