//! The HTTP edge against a real, private `redis-server`; one module for each concern.

mod answers;
mod callers;
mod pool;
mod refusals;
mod serving;
mod starts;
mod stored;
mod tenancy;
mod usage;
mod workspaces;
mod world;
