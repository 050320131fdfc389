//! The reaper: enforces deadlines and removes workloads whose generation is over.
//!
//! It needs Redis and the runtime and nothing else; it works while every gateway is down. Any number of reapers share the
//! work without a leader: transitions compare what they expect, so that a second one changes nothing, and drain jobs are
//! leased, so that a second one is rarely tried. Each task is a file under `tasks/` that opens with its exact predicate.

mod connect;
mod lease;
mod periodic;
mod reaper;
mod status;
mod tasks;
#[cfg(test)]
mod tests;

pub use reaper::Reaper;
pub use status::{Board, Counts, TaskStatus, serve};
