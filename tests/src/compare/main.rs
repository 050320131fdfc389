//! `loadtest/compare`: Rekindle beside its floors, in one table. See `loadtest/README.md`.

mod bounds;
mod deployment;
mod figure;
mod floors;
mod measures;
mod report;
mod statistics;

use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::Context as _;
use clap::Parser;

use bounds::Bounds;
use measures::{MEASURES, Measure, Rounds};
use report::Report;

/// Measures Rekindle beside what it stands on, in one run and taken in turns, and holds the figures against their bounds.
#[derive(Parser)]
#[command(name = "loadtest/compare")]
struct Options {
    /// Only these measures; all without it. `--list` names them.
    #[arg(long, value_name = "NAME", value_delimiter = ',')]
    only: Vec<String>,
    /// Names the measures and their figures.
    #[arg(long)]
    list: bool,
    /// Few rounds: whether it works, and wide intervals.
    #[arg(long)]
    quick: bool,
    /// Exit status 1 when a figure misses its bound by more than its interval, or could not be measured.
    #[arg(long)]
    strict: bool,
    /// The file with a row for each figure.
    #[arg(long, value_name = "FILE", default_value = "loadtest/bounds.toml")]
    bounds: PathBuf,
    /// Writes all samples there, as JSON.
    #[arg(long, value_name = "FILE")]
    json: Option<PathBuf>,
    /// Replaces the table between the marks of this document.
    #[arg(long, value_name = "FILE")]
    write: Option<PathBuf>,
    /// The other process of a floor.
    #[arg(long, hide = true)]
    floor: Option<floors::Part>,
}

#[tokio::main]
async fn main() -> anyhow::Result<ExitCode> {
    let options = Options::parse();
    if let Some(part) = options.floor {
        return part.run().await.map(|()| ExitCode::SUCCESS);
    }
    if options.list {
        print!("{}", measures::list());
        return Ok(ExitCode::SUCCESS);
    }
    let bounds = Bounds::read(&options.bounds)?;
    bounds.correspond(&measures::figures())?;
    let mut chosen: Vec<&Measure> = MEASURES.iter().collect();
    if !options.only.is_empty() {
        let unknown = options.only.iter().find(|name| !MEASURES.iter().any(|m| m.name == **name));
        anyhow::ensure!(unknown.is_none(), "no measure {}; there are\n{}", unknown.unwrap(), measures::list());
        chosen.retain(|measure| options.only.iter().any(|name| name == measure.name));
    }
    let rounds = if options.quick { Rounds::Few } else { Rounds::Full };
    let mut report = Report::new(bounds);
    for measure in chosen {
        eprintln!("── {}: {}", measure.name, measure.what);
        report.add(measure, measures::take(measure, rounds).await);
    }
    print!("{}", report.markdown());
    if let Some(file) = &options.json {
        std::fs::write(file, report.json()).with_context(|| format!("write {}", file.display()))?;
    }
    if let Some(file) = &options.write {
        report.write_into(file)?;
    }
    let misses = report.misses();
    for miss in &misses {
        eprintln!("{miss}");
    }
    Ok(if options.strict && !misses.is_empty() { ExitCode::FAILURE } else { ExitCode::SUCCESS })
}
