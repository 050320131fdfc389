//! The ledger against a real Redis.

mod api_keys;
mod callers;
mod egress;
mod faults;
mod full;
mod grants;
mod house;
mod leases;
mod lifecycle;
mod machine;
mod race;
mod recount;
mod room;
mod sharing;
mod stored;
mod stored_histories;
mod streams;
mod support;
mod throttle;
mod usage;
mod worker;
mod workspaces;
