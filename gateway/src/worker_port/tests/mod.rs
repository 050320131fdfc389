//! The worker port as a relay sees it: over a socket, with a real Redis behind it.

pub(crate) mod client;
mod faults;
mod fence;
mod foreign;
mod hostile;
mod ours;
