//! `rekindle.toml`: its types, where each value comes from, and errors that name the line.
//!
//! One file serves all processes; each reads the sections that concern it. Every value can also be given by an environment
//! variable: `REKINDLE_` and the path in capitals with `__` between its parts (`REKINDLE_GATEWAY__LISTEN`), which wins over the
//! file. Secrets are never values: a key that ends in `_file` names the file that holds one. Unknown keys are errors.

mod home;
mod load;
mod types;

pub use home::Home;
pub use load::{SettingsError, read_secret};
pub use types::{
    Auth, Broker, Gateway, Isolation, Limits, Profile, Provider, Reaper, Redis, Runtime, RuntimeBackend, Settings,
};
