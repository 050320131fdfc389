//! What runs workloads: the [`Runtime`] port over a closed set of backends, `runtime.v1` over HTTP, and its client.
//!
//! A workload is one generation of a unit. Everything that is known of it lies in its generation's folder before the
//! substrate is asked for anything, so that a runtime killed at any point finds it again; killing the runtime ends none.

mod backend;
mod callbacks;
mod client;
mod config;
#[cfg(test)]
mod conformance;
mod environment;
mod error;
mod files;
mod generation;
mod grant;
mod http_call;
mod inspect;
mod leftovers;
mod life;
mod nameless;
mod restore;
mod room;
mod runtime;
mod service;
mod spec;
mod store;
mod table;
mod tombstones;
mod usage;

pub use backend::Isolation;
pub use client::{RuntimeClient, Watch};
pub use config::{ConfigError, RuntimeConfig};
pub use error::RuntimeError;
pub use leftovers::{Leftovers, TrashEntry};
pub use room::Room;
pub use runtime::Runtime;
pub use service::{Health, Listener, serve};
pub use tombstones::StaleProblem;
