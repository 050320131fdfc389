//! The Redis-held truth about units: state, inbox, turns, leases and deadlines.
//!
//! Every transition is one Lua script (`src/lua/*.lua`) that compares the state and the generation it expects: a stale
//! actor's transition changes nothing and says so. The same machine, without Redis, is [`UnitState::step`]. Redis' own
//! clock (`TIME` inside the scripts) is the only clock. The keys, their types and lifetimes are in [`keys`].
//!
//! Every script may be run again after an unknown outcome (a dropped connection, a timeout): nothing is written twice.

mod api_keys;
mod cancel;
mod config;
mod connection;
mod drain;
mod egress;
mod erase;
mod error;
mod fanout;
mod fields;
mod grants;
mod house;
pub mod keys;
mod mail;
mod nudges;
mod open;
mod pool;
mod reader;
mod script;
mod shape;
mod share;
mod starts;
mod state;
mod strays;
mod stream_id;
mod submit;
mod subscription;
mod throttle;
mod turn;
mod unit;
mod usage;
mod worker_side;
mod workspace;

pub use api_keys::{ApiKey, ApiKeyId, KeyMade, KeyUse, NewApiKey};
pub use cancel::Cancel;
pub use config::Config;
pub use connection::Ledger;
pub use drain::{Deadline, DeadlineKind, DrainJob, Exit};
pub use egress::Errand;
pub use erase::{AbandonedErasure, Erase};
pub use error::{LedgerError, Result};
pub use fanout::Fanout;
pub use grants::{Grant, Granting, WorkspaceAccess};
pub use house::{Moved, Vacated};
pub use mail::Mail;
pub use nudges::Nudges;
pub use pool::{Hits, PoolCounts, PoolUnit};
pub use shape::{Policy, Shape};
pub use share::{EventJson, Held, Share};
pub use starts::{StartFailed, StartJob};
pub use state::{DrainReason, Event, Rejected, UnitState};
pub use strays::{Stray, StrayKind, Tracked};
pub use stream_id::StreamId;
pub use submit::{Delivery, Idempotency, Link, StoredBound, Submission, Submitted};
pub use subscription::{Entry, Subscription};
pub use throttle::{Leave, Paced, Rate};
pub use turn::{TurnRecord, TurnStatus};
pub use unit::{Cursor, UnitRecord};
pub use usage::{Admission, Bound, Spent, Tokens, UsageRow, UsePart, Used};
pub use worker_side::{Current, Emit, Emitted, Ready, Settle, Settled, Standing, Taken};
pub use workspace::EraseWorkspace;
