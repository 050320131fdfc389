//! The ledger against a real Redis.

mod callers;
mod faults;
mod house;
mod leases;
mod lifecycle;
mod machine;
mod race;
mod room;
mod sharing;
mod streams;
mod support;
mod worker;
mod workspaces;
