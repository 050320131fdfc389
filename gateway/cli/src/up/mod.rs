//! The supervisor of a single machine's deployment.

pub mod backend;
pub mod child;
pub mod environment;
pub mod folders;
pub mod memory;
pub mod reserve;
pub mod services;
