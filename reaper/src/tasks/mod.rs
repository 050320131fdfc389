//! One file for each task. An activation takes no input but what the ledger lists, is idempotent, and may run in any number
//! of reapers at once.

pub mod age;
pub mod cancel;
pub mod drain;
pub mod erasures;
pub mod idle;
pub mod leases;
pub mod leftovers;
pub mod lifetime;
pub mod orphans;
pub mod places;
pub mod start_timeout;
pub mod turn_timeout;
