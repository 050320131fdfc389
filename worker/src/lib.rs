//! The program inside the sandbox: takes a turn, drives the runner, validates, commits, emits events.
//!
//! Everything runs on one thread (and a short-lived second one while git works), so that an idle worker stays small.
//! A turn is read top to bottom in [`turn`]; what talks to the gateway is in [`link`], what drives an agent CLI in
//! [`runners`]. The same static binary is also the parent of a sandboxed process ([`shim`]), the limits around one ([`confine`]),
//! a read-only look into a workspace ([`inspect`]), the sidecar on Kubernetes ([`sidecar`]) and the first process around a worker that somebody else wrote ([`foreign`]).

pub mod confine;
pub mod conversation;
pub mod done;
pub mod events;
pub mod fence;
pub mod foreign;
pub mod inspect;
pub mod link;
pub mod log;
pub mod memory;
pub mod oom;
pub mod ports;
pub mod processes;
pub mod prompt;
pub mod quiet;
pub mod runners;
pub mod service;
pub mod settings;
pub mod shim;
pub mod sidecar;
pub mod stop;
mod text;
pub mod tidy;
pub mod turn;
