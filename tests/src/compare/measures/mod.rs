//! The measures. One more is a file here, its line in [`MEASURES`], and a row in the bounds file for each of its figures.

mod burst;
mod cold;
mod follow_up;
mod neighbour;
mod readers;
mod resident;
mod system_calls;
mod throughput;
mod warm;

use std::fmt::Write as _;
use std::time::Duration;

use futures_util::future::BoxFuture;

use crate::figure::Figure;

/// All of them, in the order in which they are taken.
pub const MEASURES: &[Measure] = &[
    cold::MEASURE,
    warm::MEASURE,
    throughput::MEASURE,
    follow_up::MEASURE,
    burst::MEASURE,
    system_calls::MEASURE,
    resident::MEASURE,
    readers::MEASURE,
    neighbour::MEASURE,
];

/// Figures that are taken together, in turn with what they are compared with.
#[derive(Debug)]
pub struct Measure {
    /// What `--only` calls it.
    pub name: &'static str,
    /// What it does.
    pub what: &'static str,
    /// Names of its figures, in their order.
    pub figures: &'static [&'static str],
    /// Takes them.
    pub run: fn(Rounds) -> BoxFuture<'static, anyhow::Result<Vec<Figure>>>,
}

/// How often.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Rounds {
    /// So that intervals are narrow.
    Full,
    /// So that one sees whether it works.
    Few,
}

impl Rounds {
    /// The number for a measure.
    pub fn of<T>(self, full: T, few: T) -> T {
        match self {
            Self::Full => full,
            Self::Few => few,
        }
    }
}

/// Names of all figures.
pub fn figures() -> Vec<&'static str> {
    MEASURES.iter().flat_map(|measure| measure.figures).copied().collect()
}

/// A line for each measure.
pub fn list() -> String {
    let mut text = String::new();
    for Measure { name, what, figures, .. } in MEASURES {
        let _ = writeln!(text, "{name:14} {what}\n{:14} {}", "", figures.join(" "));
    }
    text
}

/// Takes a measure. The harness panics where it finds something missing; that is this measure's error and not the run's end.
///
/// # Errors
/// When it cannot be taken here.
pub async fn take(measure: &Measure, rounds: Rounds) -> anyhow::Result<Vec<Figure>> {
    match tokio::spawn((measure.run)(rounds)).await {
        Ok(found) => found,
        Err(e) => match e.try_into_panic() {
            Ok(panic) => {
                let text = panic.downcast_ref::<String>().map(String::as_str);
                let text = text.or_else(|| panic.downcast_ref::<&str>().copied()).unwrap_or("it panicked");
                Err(anyhow::anyhow!("{}", text.chars().take(500).collect::<String>()))
            }
            Err(e) => Err(e.into()),
        },
    }
}

fn ms(took: Duration) -> f64 {
    took.as_secs_f64() * 1e3
}
