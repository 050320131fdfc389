//! What each target asserts, and the parsers that it asserts it of.
//!
//! The parsers are compiled from where they live, without the crates around them: those bring TLS, HTTP and a git in C, which
//! would be minutes of building for code that no target reaches. It also keeps true what should be: what reads a stranger's
//! bytes needs nothing that can act. Each module here stands in the place of the one that has the parser at home.

pub mod dispatch;
pub mod model_request;
pub mod runners;
pub mod worker_port;
pub mod workspace;

// `crate::…` of what is compiled from elsewhere.
#[allow(dead_code, unused_imports, reason = "a part of it is used here")]
#[path = "../../../worker/workspace/src/archive/mod.rs"]
mod archive;
#[allow(dead_code, reason = "a part of it is used here")]
#[path = "../../../worker/workspace/src/root.rs"]
mod root;
#[allow(dead_code, reason = "a part of it is used here")]
#[path = "../../../worker/workspace/src/rules.rs"]
mod rules;
#[allow(dead_code, reason = "a part of it is used here")]
#[path = "../../../worker/src/text.rs"]
mod text;

/// What is behind the first byte, and the same in parts of as many bytes as that says.
fn in_parts(data: &[u8]) -> Option<(&[u8], std::slice::Chunks<'_, u8>)> {
    let (&size, rest) = data.split_first()?;
    Some((rest, rest.chunks(usize::from(size) + 1)))
}

/// Runs what waits for nothing but its own bytes.
fn block_on<T>(future: impl Future<Output = T>) -> T {
    thread_local! {
        static RUNTIME: tokio::runtime::Runtime =
            tokio::runtime::Builder::new_current_thread().enable_time().build().expect("a runtime");
    }
    RUNTIME.with(|runtime| runtime.block_on(future))
}

/// Whether two values say the same; a number with a fraction may differ in its last bits, in which it is read.
fn same(a: &serde_json::Value, b: &serde_json::Value) -> bool {
    use serde_json::Value::{Array, Number, Object};
    match (a, b) {
        (Array(a), Array(b)) => a.len() == b.len() && a.iter().zip(b).all(|(a, b)| same(a, b)),
        (Object(a), Object(b)) => a.len() == b.len() && a.iter().all(|(key, a)| b.get(key).is_some_and(|b| same(a, b))),
        (Number(a), Number(b)) if a.is_f64() && b.is_f64() => match (a.as_f64(), b.as_f64()) {
            (Some(a), Some(b)) => a == b || (a - b).abs() <= 1e-12 * a.abs().max(b.abs()),
            _ => false,
        },
        (a, b) => a == b,
    }
}
