//! The gateway: HTTP for callers, the worker port for relays, and the dispatcher that has workloads started.
//!
//! It is stateless: what must survive it is in the ledger, and any number of gateways share one.

pub mod address;
pub mod app;
pub mod auth;
pub mod broker;
pub mod dispatcher;
mod edge;
pub mod egress;
pub mod http;
mod mailbox;
pub mod metrics;
pub mod public_address;
pub mod rates;
pub mod serve;
pub mod tokens;
pub mod worker_port;
pub mod workload;
