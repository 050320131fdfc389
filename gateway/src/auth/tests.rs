//! Every token that must be refused, and those that must not.

mod jwks;
mod refusals;
mod support;
