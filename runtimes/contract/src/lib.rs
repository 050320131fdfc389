//! Wire contracts of Rekindle: what processes say to each other, and nothing about how they do it.
//!
//! No I/O happens here. Field names are wire format. Every type that comes from outside is parsed with
//! [`parse`], which refuses what it does not know and names the offender by JSON pointer (RFC 6901).

mod error;
mod event;
mod id;
mod inspect;
mod parse;
mod path;
mod runtime;
mod schema;
mod stop;
mod token;
mod turn;
mod unit;

pub use error::{ErrorCode, Problem, Source};
pub use event::{EVENT_BYTES, EventBody, Start, UnitEvent, Usage};
pub use id::{Generation, IdError, Owner, TurnId, UnitId, UnitName, WorkloadId, WorkspaceId, is_uid_shaped};
pub use inspect::{
    EntryKind, FileDiff, FileStatus, FolderEntry, InspectAnswer, InspectOutcome, InspectRefusal, InspectRequest,
    LogCommit, Look,
};
pub use parse::{ParseError, parse, parse_value};
pub use path::{CommitSha, WorkspacePath};
pub use runtime::{Backend, Mount, Resources, RuntimeEvent, UnitRef, WorkloadSpec, WorkloadState, WorkloadStatus};
pub use schema::{EXAMPLES, Example, schemas};
pub use stop::StopReason;
pub use token::{DISPATCH_AUDIENCE, DispatchClaims};
pub use turn::{FailReason, InEntry, Tell, TurnMessage};
pub use unit::{
    Context, ContextKind, Dispatch, Entrypoint, Identity, InvokeBody, Launcher, Meeting, Mode, Options, Principal, Ref,
    SessionRef, StartWith, Trigger, WorkspaceAt,
};
