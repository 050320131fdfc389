//! The bounds file: one row for each figure.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use anyhow::Context as _;
use serde::Deserialize;

use crate::statistics::Estimate;

/// All rows by name.
#[derive(Debug, Clone, Deserialize)]
#[serde(transparent)]
pub struct Bounds(BTreeMap<String, Row>);

/// What a figure is, and what is asked of it.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Row {
    /// In words.
    pub what: String,
    /// Of its samples: `ms`, `MiB` …
    pub unit: String,
    /// What it is compared with; then figure and bound are the ratio to that.
    pub beside: Option<String>,
    /// The design's figure, if it is an upper bound.
    pub at_most: Option<f64>,
    /// The design's figure, if it is a lower bound.
    pub at_least: Option<f64>,
}

impl Bounds {
    /// Reads the file.
    ///
    /// # Errors
    /// When it cannot be read or says something else.
    pub fn read(file: &Path) -> anyhow::Result<Self> {
        let text = std::fs::read_to_string(file).with_context(|| format!("read {}", file.display()))?;
        toml::from_str(&text).with_context(|| format!("understand {}", file.display()))
    }

    /// # Errors
    /// When a figure has no row or a row no figure, with all of these.
    pub fn correspond(&self, figures: &[&str]) -> anyhow::Result<()> {
        let (rows, figures): (BTreeSet<_>, BTreeSet<_>) =
            (self.0.keys().map(String::as_str).collect(), figures.iter().copied().collect());
        let without: Vec<_> = figures.difference(&rows).collect();
        let unmeasured: Vec<_> = rows.difference(&figures).collect();
        anyhow::ensure!(
            without.is_empty() && unmeasured.is_empty(),
            "figures without a row in the bounds file: {without:?}; rows that nothing measures: {unmeasured:?}"
        );
        Ok(())
    }

    /// A figure's row.
    ///
    /// # Panics
    /// When there is none, which [`Self::correspond`] has ruled out.
    pub fn row(&self, figure: &str) -> &Row {
        self.0.get(figure).unwrap_or_else(|| panic!("no row {figure}"))
    }
}

impl Row {
    /// Whether the whole interval lies beyond the bound.
    pub fn is_missed_by(&self, estimate: &Estimate) -> bool {
        self.at_most.is_some_and(|most| estimate.low > most) || self.at_least.is_some_and(|least| estimate.high < least)
    }

    /// The bound in words; empty when there is none.
    pub fn bound(&self) -> String {
        let unit = if self.beside.is_some() { "×" } else { &self.unit };
        match (self.at_most, self.at_least) {
            (Some(most), _) => format!("≤ {most} {unit}"),
            (None, Some(least)) => format!("≥ {least} {unit}"),
            (None, None) => String::new(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn row(bound: &str) -> Row {
        toml::from_str(&format!("what = \"w\"\nunit = \"ms\"\n{bound}")).unwrap()
    }

    #[test]
    fn a_bound_is_missed_by_the_whole_interval() {
        let between = |low, high| Estimate { value: f64::midpoint(low, high), low, high };
        assert!(row("at_most = 2").is_missed_by(&between(2.1, 2.4)));
        assert!(!row("at_most = 2").is_missed_by(&between(1.9, 2.4)));
        assert!(row("at_least = 2").is_missed_by(&between(1.0, 1.9)));
        assert!(!row("at_least = 2").is_missed_by(&between(1.0, 2.1)));
        assert!(!row("").is_missed_by(&between(0.0, 9e9)));
        assert!(toml::from_str::<Row>("what = \"w\"\nunit = \"ms\"\nmost = 2").is_err());
    }

    #[test]
    fn rows_and_figures_correspond() {
        let bounds: Bounds = toml::from_str("[a]\nwhat = \"a\"\nunit = \"ms\"\n").unwrap();
        bounds.correspond(&["a"]).unwrap();
        for figures in [&["a", "b"][..], &[]] {
            assert!(bounds.correspond(figures).is_err(), "{figures:?}");
        }
    }
}
