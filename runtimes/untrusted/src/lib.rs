//! What a sandbox has written, at a cost that the sandbox does not choose.
//!
//! An agent decides how deep its folders are nested, how many there are, what they are called, who may enter them, how long
//! its files are, and what `/proc` says of its processes. Nothing here recurses, holds more than some twenty descriptors, keeps
//! more than a few bytes for each level of folders, or reads more than it was told to. No link is followed.

mod folder;
mod place;
mod read;
mod remove;
mod walk;

pub use folder::{make_accessible, open_folder_at};
pub use read::{read_file, read_kernel, read_tail};
pub use remove::{remove, remove_at};
pub use walk::{Entry, Next, Walked, walk, walk_at};

/// A result of the kernel's.
pub(crate) type Sys<T> = rustix::io::Result<T>;
