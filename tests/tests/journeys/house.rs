//! The rules of the house, over `cargo metadata` and the files themselves.

use std::collections::BTreeMap;
use std::path::Path;

use cargo_metadata::{DependencyKind, MetadataCommand};
use tests::paths;

/// Who may depend on what, directly and outside of tests.
const ONLY: &[(&str, &[&str])] = &[
    ("bollard", &["runtimes"]),
    ("kube", &["runtimes"]),
    ("git2", &["workspace"]),
    ("redis", &["ledger", "worker"]),
    ("aws-sdk-s3", &["gateway"]),
];

/// What would be I/O or an executor.
const NOT_IN_CONTRACT: &[&str] = &["tokio", "hyper", "reqwest", "axum", "redis", "rustix", "libc", "tokio-util", "mio"];

/// Each crate and the crates of this workspace that it may use: services use libraries, never each other.
const MAY_USE: &[(&str, &[&str])] = &[
    ("contract", &[]),
    ("settings", &["contract"]),
    ("relay", &["contract"]),
    ("untrusted", &[]),
    ("workspace", &["contract", "untrusted"]),
    ("ledger", &["contract", "settings"]),
    ("runtimes", &["contract", "relay", "settings", "untrusted"]),
    ("worker", &["contract", "relay", "untrusted", "workspace"]),
    ("gateway", &["contract", "ledger", "relay", "runtimes", "settings"]),
    ("reaper", &["contract", "ledger", "runtimes", "settings"]),
    ("rekindle", &["contract", "settings", "runtimes", "untrusted"]),
    ("tests", &["contract", "ledger", "runtimes", "settings", "relay", "untrusted", "workspace"]),
];

/// Lines: what a main, and what any file, may have. Near 400 is the aim.
const MAIN_LINES: usize = 100;
const FILE_LINES: usize = 500;

/// Direct dependencies of each crate of the workspace; those of tests and of builds are left out.
fn dependencies() -> BTreeMap<String, Vec<String>> {
    let mut command = MetadataCommand::new();
    command.manifest_path(paths::repository().join("Cargo.toml")).no_deps().other_options(vec!["--offline".into()]);
    let metadata = command.exec().expect("cargo metadata");
    let direct = |package: &cargo_metadata::Package| {
        let normal = package.dependencies.iter().filter(|d| d.kind == DependencyKind::Normal);
        normal.map(|d| d.name.clone()).collect()
    };
    metadata.packages.iter().map(|p| (p.name.to_string(), direct(p))).collect()
}

#[test]
fn drivers_stay_with_the_crate_that_owns_them() {
    for (name, used) in dependencies() {
        for (driver, owners) in ONLY {
            let uses = used.iter().any(|d| d == driver);
            assert!(!uses || owners.contains(&name.as_str()), "{name} depends on {driver}; only {owners:?} may");
        }
    }
}

#[test]
fn the_contract_does_no_io() {
    let used = &dependencies()["contract"];
    let forbidden: Vec<_> = used.iter().filter(|d| NOT_IN_CONTRACT.contains(&d.as_str())).collect();
    assert!(forbidden.is_empty(), "contract depends on {forbidden:?}");
}

#[test]
fn services_use_libraries_and_never_each_other() {
    let all = dependencies();
    let rules: BTreeMap<_, _> = MAY_USE.iter().copied().collect();
    for (name, used) in &all {
        let may = rules.get(name.as_str()).unwrap_or_else(|| panic!("{name} is new: say here what it may use"));
        for other in used.iter().filter(|d| all.contains_key(*d)) {
            assert!(may.contains(&other.as_str()), "{name} depends on {other}; it may use {may:?}");
        }
    }
}

#[test]
fn mains_only_wire_and_files_stay_readable() {
    let root = paths::repository();
    let mut long = Vec::new();
    let mut looked_at = 0;
    for top in ["gateway", "reaper", "worker", "runtimes", "tests"] {
        each_source(&root.join(top), &mut |path| {
            looked_at += 1;
            let lines = std::fs::read_to_string(path).expect("a source file in UTF-8").lines().count();
            let most = if path.file_name().is_some_and(|n| n == "main.rs") { MAIN_LINES } else { FILE_LINES };
            if lines > most {
                long.push(format!(
                    "{}: {lines} lines, at most {most}",
                    path.strip_prefix(&root).unwrap_or(path).display()
                ));
            }
        });
    }
    assert!(looked_at > 30, "only {looked_at} files were found");
    assert!(long.is_empty(), "{}", long.join("\n"));
}

#[test]
fn nothing_is_left_undone() {
    let marks = [concat!("to", "do!("), concat!("unimple", "mented!("), concat!("#[ig", "nore"), concat!("dbg", "!(")];
    let root = paths::repository();
    let mut found = Vec::new();
    for top in ["gateway", "reaper", "worker", "runtimes", "tests"] {
        each_source(&root.join(top), &mut |path| {
            let text = std::fs::read_to_string(path).expect("a source file in UTF-8");
            for (number, line) in text.lines().enumerate() {
                if marks.iter().any(|m| line.contains(m)) {
                    found.push(format!("{}:{}: {}", path.display(), number + 1, line.trim()));
                }
            }
        });
    }
    assert!(found.is_empty(), "{}", found.join("\n"));
}

/// Files that read what only the platform or its operator writes.
const READ_THEIR_OWN: &[&str] = &["runtimes/src/grant.rs", "worker/src/sidecar.rs", "worker/workspace/src/crash.rs"];

/// What a sandbox may have written, or a process may say of itself, is as long as it likes.
#[test]
fn nothing_is_read_whole_that_a_sandbox_may_have_written() {
    let root = paths::repository();
    let whole = ["fs::read(", "fs::read_to_string("];
    let (mut found, mut looked_at) = (Vec::new(), 0);
    for top in ["runtimes/src", "worker/src", "worker/relay/src", "worker/workspace/src", "reaper/src"] {
        each_source(&root.join(top), &mut |path| {
            let name = path.strip_prefix(&root).unwrap_or(path).display().to_string();
            if ["tests", "conformance"].iter().any(|word| name.contains(word)) || READ_THEIR_OWN.contains(&&*name) {
                return;
            }
            looked_at += 1;
            let text = std::fs::read_to_string(path).expect("a source file in UTF-8");
            let shipped = text.split("#[cfg(test)]").next().unwrap_or_default();
            for (number, line) in shipped.lines().enumerate() {
                if whole.iter().any(|call| line.contains(call)) {
                    found.push(format!("{name}:{}: {}", number + 1, line.trim()));
                }
            }
        });
    }
    assert!(looked_at > 60, "only {looked_at} files were looked at");
    assert!(found.is_empty(), "use untrusted::read_file or untrusted::read_kernel:\n{}", found.join("\n"));
}

#[test]
fn what_the_security_policy_points_at_is_there() {
    let root = paths::repository();
    let text = std::fs::read_to_string(root.join("SECURITY.md")).expect("SECURITY.md");
    let folders = ["gateway/", "reaper/", "worker/", "runtimes/", "tests/", ".ci/"];
    let named = text.split('`').skip(1).step_by(2).filter(|word| folders.iter().any(|top| word.starts_with(top)));
    let named: Vec<_> = named.collect();
    assert!(named.len() > 20, "only {named:?}");
    let missing: Vec<_> = named.iter().filter(|path| !root.join(path).exists()).collect();
    assert!(missing.is_empty(), "SECURITY.md points at what is not there: {missing:?}");
}

/// The fuzz crate is a workspace of its own; what it fuzzes must be what is shipped.
#[test]
fn fuzz_targets_have_seeds_and_the_versions_of_the_workspace() {
    let root = paths::repository();
    let read = |path: &str| std::fs::read_to_string(root.join(path)).unwrap_or_else(|e| panic!("{path}: {e}"));
    let ours = locked(&read("Cargo.lock"));
    let theirs = locked(&read("tests/fuzz/Cargo.lock"));
    let other: Vec<_> = theirs
        .iter()
        .filter(|(name, _)| ours.iter().any(|(ours, _)| ours == name))
        .filter(|package| !ours.contains(package))
        .collect();
    assert!(theirs.len() > 30 && other.is_empty(), "tests/fuzz/Cargo.lock has other versions: {other:?}");

    let run = read(".ci/fuzz");
    let targets = std::fs::read_dir(root.join("tests/fuzz/fuzz_targets")).expect("targets");
    let mut looked_at = 0;
    for target in targets {
        let path = target.expect("a target").path();
        let name = path.file_stem().and_then(|n| n.to_str()).expect("a target's name").to_owned();
        let seeds = std::fs::read_dir(root.join("tests/fuzz/corpus").join(&name)).expect("a corpus").count();
        assert!(seeds >= 5, "{name} has {seeds} seeds");
        let listed = run.lines().any(|l| l.starts_with("targets=(") && l.contains(&name));
        assert!(listed, "{name} is not run by .ci/fuzz");
        looked_at += 1;
    }
    assert!(looked_at >= 6, "only {looked_at} targets were found");
}

/// Names and versions in a lock file.
fn locked(text: &str) -> Vec<(String, String)> {
    let quoted = |line: &str, key: &str| Some(line.strip_prefix(key)?.trim_matches('"').to_owned());
    let mut packages = Vec::new();
    let mut name = String::new();
    for line in text.lines() {
        if let Some(found) = quoted(line, "name = ") {
            name = found;
        } else if let Some(version) = quoted(line, "version = ") {
            packages.push((std::mem::take(&mut name), version));
        }
    }
    packages
}

fn each_source(dir: &Path, visit: &mut impl FnMut(&Path)) {
    let Ok(entries) = std::fs::read_dir(dir) else {
        return;
    };
    for entry in entries {
        let path = entry.expect("an entry").path();
        if path.is_dir() {
            each_source(&path, visit);
        } else if path.extension().is_some_and(|e| e == "rs") {
            visit(&path);
        }
    }
}
