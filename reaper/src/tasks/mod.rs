//! One file for each task. An activation takes no input but what the ledger lists, is idempotent, and may run in any number
//! of reapers at once.

pub mod cancel;
pub mod drain;
pub mod idle;
pub mod lifetime;
pub mod start_timeout;
