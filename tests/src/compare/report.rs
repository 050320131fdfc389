//! The table, as markdown and as JSON.

use std::fmt::Write as _;
use std::path::Path;

use anyhow::Context as _;
use serde_json::{Value, json};

use crate::bounds::{Bounds, Row};
use crate::figure::Figure;
use crate::measures::Measure;
use crate::statistics::{Estimate, estimate, quantile};

/// Around the table in a document.
const MARKS: [&str; 2] = ["<!-- compare: begin -->\n", "<!-- compare: end -->\n"];

/// What a run came to.
#[derive(Debug)]
pub struct Report {
    bounds: Bounds,
    lines: Vec<Line>,
}

#[derive(Debug)]
enum Line {
    Measured(Figure, Estimate),
    /// A figure, and why there is none.
    Failed(&'static str, String),
}

impl Report {
    /// An empty one.
    pub fn new(bounds: Bounds) -> Self {
        Self { bounds, lines: Vec::new() }
    }

    /// Takes in what a measure found, or why it found nothing.
    pub fn add(&mut self, measure: &Measure, found: anyhow::Result<Vec<Figure>>) {
        match found {
            Ok(figures) => {
                let names: Vec<_> = figures.iter().map(|f| f.name).collect();
                assert_eq!(names, measure.figures, "{} does not measure what it says", measure.name);
                self.lines.extend(figures.into_iter().map(|figure| {
                    let estimate = estimate(&figure);
                    Line::Measured(figure, estimate)
                }));
            }
            Err(e) => self.lines.extend(measure.figures.iter().map(|name| Line::Failed(name, format!("{e:#}")))),
        }
    }

    /// What misses its bound by more than its interval, and what could not be measured; a line for each.
    pub fn misses(&self) -> Vec<String> {
        let miss = |line: &Line| match line {
            Line::Measured(figure, estimate) => {
                let row = self.bounds.row(figure.name);
                let (told, bound) = (told(row, estimate), row.bound());
                row.is_missed_by(estimate).then(|| format!("missed: {}: {told}, and the bound is {bound}", figure.name))
            }
            Line::Failed(name, why) => Some(format!("not measured: {name}: {why}")),
        };
        self.lines.iter().filter_map(miss).collect()
    }

    /// The table, the machine above it.
    pub fn markdown(&self) -> String {
        let mut text = format!("{}\n\n", machine());
        text.push_str("| what | median | beside it | figure, and its 95 % interval | bound | |\n");
        text.push_str("|---|---:|---|---:|---|---|\n");
        for line in &self.lines {
            let _ = match line {
                Line::Measured(figure, estimate) => {
                    let row = self.bounds.row(figure.name);
                    let own = with_unit(quantile(&figure.samples, figure.quantile), &row.unit);
                    let beside = row.beside.as_ref().map_or_else(String::new, |what| {
                        format!("{what}: {}", with_unit(quantile(&figure.beside, figure.quantile), &row.unit))
                    });
                    let bound = row.bound();
                    let verdict = if row.is_missed_by(estimate) { "**missed**" } else { "" };
                    writeln!(
                        text,
                        "| {} | {own} | {beside} | {} | {bound} | {verdict} |",
                        row.what,
                        told(row, estimate)
                    )
                }
                Line::Failed(name, why) => {
                    let row = self.bounds.row(name);
                    writeln!(text, "| {} | | | not measured: {} | {} | |", row.what, cell(why), row.bound())
                }
            };
        }
        text
    }

    /// The same with every sample.
    pub fn json(&self) -> String {
        let line = |line: &Line| match line {
            Line::Measured(figure, estimate) => {
                let row = self.bounds.row(figure.name);
                json!({
                    "name": figure.name, "unit": row.unit, "quantile": figure.quantile,
                    "samples": figure.samples, "beside": figure.beside,
                    "figure": estimate.value, "low": estimate.low, "high": estimate.high,
                    "at_most": row.at_most, "at_least": row.at_least, "missed": row.is_missed_by(estimate),
                })
            }
            Line::Failed(name, why) => json!({ "name": name, "error": why }),
        };
        let figures: Vec<Value> = self.lines.iter().map(line).collect();
        format!("{:#}\n", json!({ "machine": machine(), "figures": figures }))
    }

    /// Puts the table between the marks of a document, in the place of what is there.
    ///
    /// # Errors
    /// When the document cannot be read or written, or has no marks.
    pub fn write_into(&self, file: &Path) -> anyhow::Result<()> {
        let text = std::fs::read_to_string(file).with_context(|| format!("read {}", file.display()))?;
        let text = between_marks(&text, &self.markdown()).with_context(|| format!("no marks in {}", file.display()))?;
        std::fs::write(file, text).with_context(|| format!("write {}", file.display()))
    }
}

fn between_marks(text: &str, table: &str) -> Option<String> {
    let [begin, end] = MARKS;
    let (before, rest) = text.split_once(begin)?;
    let (_, after) = rest.split_once(end)?;
    Some(format!("{before}{begin}{table}{end}{after}"))
}

fn told(row: &Row, estimate: &Estimate) -> String {
    let unit = if row.beside.is_some() { "×" } else { &row.unit };
    let Estimate { value, low, high } = *estimate;
    format!("{} ({} to {})", with_unit(value, unit), number(low), number(high))
}

fn with_unit(value: f64, unit: &str) -> String {
    format!("{} {unit}", number(value))
}

/// Three digits that count.
fn number(value: f64) -> String {
    match value.abs() {
        100.0.. => format!("{value:.0}"),
        10.0.. => format!("{value:.1}"),
        _ => format!("{value:.2}"),
    }
}

/// A text as one cell of a table takes it.
fn cell(text: &str) -> String {
    text.replace('\n', " ").replace('|', "\\|")
}

/// Date, processors, kernel, and whose programs these are.
fn machine() -> String {
    let cpus = std::thread::available_parallelism().map_or(0, usize::from);
    let info = std::fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
    let model = info.lines().find_map(|l| l.strip_prefix("model name")).and_then(|l| l.split_once(':'));
    let model = model.map_or("", |(_, name)| name.trim());
    let kernel = std::fs::read_to_string("/proc/sys/kernel/osrelease").unwrap_or_default();
    let load = std::fs::read_to_string("/proc/loadavg").unwrap_or_default();
    let load = load.split_ascii_whitespace().next().unwrap_or_default().to_owned();
    let date = jiff::Timestamp::now().strftime("%Y-%m-%d %H:%M UTC");
    let programs = ::tests::paths::binaries();
    let profile = programs.file_name().unwrap_or_default().display();
    format!("{date}; {cpus} × {model}, Linux {}; load at the end {load}; {profile} programs.", kernel.trim())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_table_replaces_what_is_between_the_marks_and_nothing_else() {
        let [begin, end] = MARKS;
        let text = format!("above\n{begin}old\n{end}below\n");
        let once = between_marks(&text, "new\n").unwrap();
        assert_eq!(once, format!("above\n{begin}new\n{end}below\n"));
        assert_eq!(between_marks(&once, "new\n").unwrap(), once);
        assert!(between_marks("none", "new\n").is_none());
    }

    #[test]
    fn numbers_have_three_digits() {
        assert_eq!([0.187, 1.9, 37.25, 1_335.4].map(number), ["0.19", "1.90", "37.2", "1335"]);
        assert_eq!(cell("a\n|b"), "a \\|b");
    }
}
