//! `loadtest/compare` on the programs of the tests: whether it measures what it says and tells what misses its bound. How long
//! anything takes is not looked at.

use std::path::Path;
use std::process::Output;
use std::time::Duration;

use serde_json::Value;
use tests::paths;

/// Quick, and together every kind of figure: alone, beside a floor in another process, from the kernel.
const SOME: &str = "warm,resident";

async fn compare(arguments: &[&str]) -> Output {
    let mut command = tokio::process::Command::from(paths::command(paths::program("rekindle-compare")));
    command.args(arguments).current_dir(paths::repository()).env("REKINDLE_BIN_DIR", paths::binaries());
    tokio::time::timeout(Duration::from_secs(120), command.output()).await.expect("it ends").expect("run it")
}

fn errors(output: &Output) -> String {
    String::from_utf8_lossy(&output.stderr).into_owned()
}

/// The bounds file with one line in the place of another, once.
fn bounds_with(folder: &Path, old: &str, new: &str) -> String {
    let text = std::fs::read_to_string(paths::repository().join("loadtest/bounds.toml")).unwrap();
    assert!(text.contains(old), "{old}");
    let file = folder.join("bounds.toml");
    std::fs::write(&file, text.replacen(old, new, 1)).unwrap();
    file.display().to_string()
}

#[tokio::test]
async fn a_run_has_all_its_figures_and_names_what_misses_its_bound() {
    let folder = tempfile::tempdir().unwrap();
    // No worker fits in four bytes, and nothing has as many megabytes as that.
    let bounds = bounds_with(folder.path(), "unit = \"MiB\"\nat_most = 4\n", "unit = \"MiB\"\nat_most = 0.000004\n");
    let (json, document) = (folder.path().join("run.json"), folder.path().join("benchmarks.md"));
    std::fs::write(&document, "above\n<!-- compare: begin -->\n<!-- compare: end -->\nbelow\n").unwrap();
    let (json, document) = (json.display().to_string(), document.display().to_string());
    let run = ["--quick", "--only", SOME, "--bounds", &bounds, "--json", &json, "--write", &document, "--strict"];
    let output = compare(&run).await;
    let said = errors(&output);
    assert_eq!(output.status.code(), Some(1), "{said}");
    let named: Vec<_> = said.lines().filter(|l| l.starts_with("missed: worker-rss: ")).collect();
    assert_eq!(named.len(), 1, "{said}");
    assert!(!said.contains("not measured"), "{said}");

    let table = String::from_utf8_lossy(&output.stdout).into_owned();
    assert_eq!(
        std::fs::read_to_string(&document).unwrap(),
        format!("above\n<!-- compare: begin -->\n{table}<!-- compare: end -->\nbelow\n")
    );
    let run: Value = serde_json::from_slice(&std::fs::read(&json).unwrap()).unwrap();
    let figures = run["figures"].as_array().unwrap();
    assert_eq!(table.lines().filter(|l| l.starts_with("| ")).count(), figures.len() + 1, "{table}");
    for figure in figures {
        let number = |field: &str| figure[field].as_f64().unwrap_or_else(|| panic!("no {field} in {figure:#}"));
        let samples = figure["samples"].as_array().unwrap();
        assert!(samples.len() >= 2 && samples.iter().all(|s| s.as_f64().unwrap() > 0.0), "{figure:#}");
        assert!(number("low") <= number("figure") && number("figure") <= number("high"), "{figure:#}");
        assert_eq!(figure["missed"] == true, said.contains(&format!("missed: {}:", figure["name"].as_str().unwrap())));
    }
    let sample = |name: &str| figures.iter().find(|f| f["name"] == name).unwrap()["samples"][0].as_f64().unwrap();
    assert!(sample("warm-accepted") < sample("warm-complete"), "a turn is accepted before it is complete");
    assert!(sample("worker-pss") <= sample("worker-rss"), "a part is no more than the whole");
}

#[tokio::test]
async fn a_miss_fails_only_a_strict_run_and_what_cannot_be_measured_is_told() {
    let folder = tempfile::tempdir().unwrap();
    let bounds = bounds_with(folder.path(), "unit = \"MiB\"\nat_most = 4\n", "unit = \"MiB\"\nat_most = 0.000004\n");
    let output = compare(&["--quick", "--only", "resident", "--bounds", &bounds]).await;
    assert_eq!(output.status.code(), Some(0), "{}", errors(&output));
    assert!(errors(&output).contains("missed: worker-rss: "), "{}", errors(&output));

    // Without the services nothing can be measured, and a strict run says so.
    let mut command = tokio::process::Command::from(paths::command(paths::program("rekindle-compare")));
    command.args(["--quick", "--only", "resident", "--strict"]).current_dir(paths::repository());
    let output = command.env("REKINDLE_BIN_DIR", folder.path()).output().await.unwrap();
    assert_eq!(output.status.code(), Some(1), "{}", errors(&output));
    assert!(errors(&output).contains("not measured: worker-rss: "), "{}", errors(&output));
}

#[tokio::test]
async fn every_figure_has_a_row_and_every_row_a_figure() {
    let folder = tempfile::tempdir().unwrap();
    for (old, new, said) in [
        ("[worker-rss]\n", "[worker-memory]\n", "worker-rss"),
        ("[worker-rss]\n", "[nobodys]\nwhat = \"x\"\nunit = \"ms\"\n\n[worker-rss]\n", "nobodys"),
    ] {
        let bounds = bounds_with(folder.path(), old, new);
        let output = compare(&["--only", "resident", "--bounds", &bounds]).await;
        assert!(!output.status.success() && errors(&output).contains(said), "{}", errors(&output));
    }
    let output = compare(&["--only", "nothing"]).await;
    assert!(!output.status.success() && errors(&output).contains("no measure nothing"), "{}", errors(&output));
}
