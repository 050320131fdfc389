//! The ledger against a real Redis.

mod api_keys;
mod callers;
mod costs;
mod egress;
mod faults;
mod full;
mod grants;
mod house;
mod leases;
mod lifecycle;
mod machine;
mod race;
mod room;
mod sharing;
mod stored;
mod streams;
mod support;
mod throttle;
mod usage;
mod worker;
mod workspaces;
