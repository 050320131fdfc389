//! What the documents tell a reader to type exists.

use std::collections::BTreeSet;
use std::path::Path;

use tests::paths;

const DOCUMENTS: &[&str] = &["README.md", "ARCHITECTURE.md", "CONTRIBUTING.md", "docs/benchmarks.md", "loadtest/README.md"];

/// Everything in code type: blocks line by line, and spans, without comments.
fn code(text: &str) -> Vec<String> {
    let mut found = Vec::new();
    let mut in_block = false;
    for line in text.lines() {
        if line.trim_start().starts_with("```") {
            in_block = !in_block;
        } else if in_block {
            let typed = line.trim_start().trim_start_matches("$ ");
            found.push(typed.split(" #").next().unwrap_or(typed).trim().to_owned());
        } else {
            found.extend(line.split('`').skip(1).step_by(2).map(str::to_owned));
        }
    }
    found
}

/// Arguments of every command line of this program that the documents show.
fn typed(program: &str) -> BTreeSet<Vec<String>> {
    let root = paths::repository();
    let mut all = BTreeSet::new();
    for document in DOCUMENTS {
        let text = std::fs::read_to_string(root.join(document)).unwrap_or_else(|e| panic!("{document}: {e}"));
        for line in code(&text) {
            if let Some(arguments) = line.strip_prefix(program).and_then(|rest| rest.strip_prefix(' ')) {
                all.insert(arguments.split_whitespace().map(str::to_owned).collect());
            }
        }
    }
    all
}

#[test]
fn every_command_and_flag_exists() {
    let rekindle = paths::program("rekindle");
    let commands = typed("rekindle");
    assert!(commands.len() >= 5, "the documents show too little: {commands:?}");
    for arguments in commands {
        let Some(name) = arguments.iter().find(|a| !a.starts_with('-')) else {
            continue;
        };
        let output = paths::command(&rekindle).args([name, "--help"]).output().expect("run rekindle");
        let help = String::from_utf8_lossy(&output.stdout).into_owned();
        let known = output.status.success() && help.contains(&format!("rekindle {name}"));
        assert!(known, "`rekindle {}`: no such command", arguments.join(" "));
        for flag in arguments.iter().filter(|a| a.starts_with('-') && a.len() > 1) {
            let flag = flag.split('=').next().unwrap_or(flag);
            let known = help.split(|c: char| c.is_whitespace() || ",[]=".contains(c)).any(|word| word == flag);
            assert!(known, "`rekindle {}`: no {flag} in\n{help}", arguments.join(" "));
        }
    }
}

#[test]
fn every_make_target_exists() {
    let makefile = std::fs::read_to_string(paths::repository().join("Makefile")).unwrap();
    let targets: BTreeSet<_> = makefile.lines().filter_map(|l| l.split_once(':')).map(|(t, _)| t).collect();
    let typed = typed("make");
    for needed in ["up", "test"] {
        assert!(typed.iter().any(|a| a == &[needed]), "no document shows `make {needed}`");
    }
    for arguments in typed {
        for target in arguments {
            assert!(targets.contains(target.as_str()), "`make {target}`: no such target");
        }
    }
}

#[test]
fn every_link_leads_somewhere() {
    let root = paths::repository();
    for document in DOCUMENTS {
        let text = std::fs::read_to_string(root.join(document)).unwrap();
        let dir = Path::new(document).parent().unwrap_or(Path::new(""));
        for link in text.split("](").skip(1).filter_map(|rest| rest.split(')').next()) {
            if link.contains("://") || link.starts_with('#') {
                continue;
            }
            let file = link.split('#').next().unwrap_or(link);
            assert!(root.join(dir).join(file).exists(), "{document}: {link} leads nowhere");
        }
    }
}

#[test]
fn every_setting_that_is_shown_is_one() {
    let root = paths::repository();
    let mut shown = 0;
    for document in DOCUMENTS {
        let text = std::fs::read_to_string(root.join(document)).unwrap();
        for block in text.split("```toml\n").skip(1).filter_map(|rest| rest.split("```").next()) {
            let loaded = settings::Settings::from_text(Path::new(document), block, std::iter::empty());
            assert!(loaded.is_ok(), "{document}: {}\n{block}", loaded.unwrap_err());
            shown += 1;
        }
    }
    assert!(shown > 0, "no document shows settings");
}
