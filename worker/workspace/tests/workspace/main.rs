//! Turns over real folders, with the real git to make the situations and to check what came of them.

#![allow(clippy::disallowed_methods, reason = "what these tests remove, they have made")]

mod archive;
mod fixture;
mod forged_archive;
mod hostile;
mod inspect;
mod openings;
mod properties;
mod recovery;
mod scale;
mod tidy;
mod turns;
