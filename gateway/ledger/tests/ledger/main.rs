//! The ledger against a real Redis.

mod callers;
mod faults;
mod leases;
mod lifecycle;
mod machine;
mod sharing;
mod streams;
mod support;
mod worker;
