//! `rekindle.toml`: its types, where each value comes from, and errors that name the line.
//!
//! One file serves all processes; each reads the sections that concern it. Every value can also be given by an environment
//! variable: `REKINDLE_` and the path in capitals with `__` between its parts (`REKINDLE_GATEWAY__LISTEN`), which wins over the
//! file. Secrets are never values: a key that ends in `_file` names the file that holds one. Unknown keys are errors.

mod auth;
mod broker;
mod budgets;
mod edge;
mod egress;
mod home;
mod limits;
mod load;
mod private;
mod profile;
mod runtime;
mod types;

pub use auth::{Auth, CallerKey, Jwks, KeyAlgorithm};
pub use broker::{Api, Broker, Provider};
pub use budgets::{Budget, Budgets, OwnersBudgets, Price, Usage};
pub use edge::Edge;
pub use egress::{Egress, EgressError, EgressHost, EgressRule, EgressTarget};
pub use home::Home;
pub use limits::Limits;
pub use load::{SettingsError, read_secret};
pub use private::make_private;
pub use profile::{Isolation, Network, Profile};
pub use runtime::{Runtime, RuntimeBackend};
pub use types::{Gateway, Reaper, Redis, Settings};
