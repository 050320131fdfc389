//! Who calls, what that allows, and how often.
//!
//! One layer stands before every route for callers ([`guard`]): credential, rate, scope, in this order. A handler gets a
//! [`Caller`] and decides only what is whose.

pub mod api_key;
mod authenticator;
mod credential;
mod error;
mod failures;
mod guard;
mod jwk;
mod jwks;
mod jwt;
mod key;
mod open_calls;
mod scope;
#[cfg(test)]
mod tests;

pub use authenticator::{Authenticator, Caller};
pub use credential::bearer;
pub use error::AuthError;
pub(crate) use failures::network;
pub use guard::Gate;
pub(crate) use guard::guard;
pub use scope::{Scope, Scopes};
