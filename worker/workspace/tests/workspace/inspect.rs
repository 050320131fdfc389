//! Looks into a workspace: what they show, what they refuse, and that they change nothing.

use std::os::unix::fs::symlink;
use std::path::Path;

use contract::{CommitSha, EntryKind, FileStatus, InspectAnswer, InspectOutcome, InspectRefusal, Look, WorkspacePath};
use data_encoding::BASE64;
use workspace::inspect::look;

use crate::fixture::Place;

fn files(folder: &Path, path: &str) -> InspectOutcome {
    look(folder, &Look::Files { path: WorkspacePath::parse(path).unwrap() })
}

fn log(folder: &Path, limit: Option<u32>, before: Option<CommitSha>) -> InspectOutcome {
    look(folder, &Look::Log { limit, before })
}

fn diff(folder: &Path, from: Option<CommitSha>, to: Option<CommitSha>) -> InspectOutcome {
    look(folder, &Look::Diff { from, to })
}

#[track_caller]
fn refused(outcome: InspectOutcome, as_reason: InspectRefusal) -> String {
    match outcome {
        InspectOutcome::Refused { reason, detail } if reason == as_reason => detail,
        other => panic!("not {as_reason:?}: {other:?}"),
    }
}

#[track_caller]
fn seen(outcome: InspectOutcome) -> InspectAnswer {
    match outcome {
        InspectOutcome::Answer(answer) => answer,
        InspectOutcome::Refused { detail, .. } => panic!("{detail}"),
    }
}

#[test]
fn folders_files_and_links_are_told() {
    let place = Place::with_repository();
    place.write("docs/run.sh", "#!/bin/sh\n");
    place.chmod("docs/run.sh", 0o755);
    place.write("nested/.git/config", "secret");
    symlink("/etc/passwd", place.path("docs/out")).unwrap();
    symlink("..", place.path("docs/up")).unwrap();
    let InspectAnswer::Folder { entries, truncated: false, .. } = seen(files(&place.ws, "")) else { panic!() };
    let names: Vec<_> = entries.iter().map(|e| (e.name.as_str(), e.kind)).collect();
    assert_eq!(
        names,
        [("a.txt", EntryKind::File), ("docs", EntryKind::Folder), ("nested", EntryKind::Folder)],
        "without .git"
    );
    let InspectAnswer::Folder { entries, .. } = seen(files(&place.ws, "docs")) else { panic!() };
    assert_eq!((entries[0].name.as_str(), entries[0].kind), ("out", EntryKind::Link));
    assert_eq!((entries[1].executable, entries[1].size), (true, Some(10)));
    let InspectAnswer::Folder { entries, .. } = seen(files(&place.ws, "nested/")) else { panic!() };
    assert_eq!(entries, [], "nor that of a repository inside");

    let InspectAnswer::File { size, content, truncated, .. } = seen(files(&place.ws, "a.txt")) else { panic!() };
    assert_eq!((size, content, truncated), (4, BASE64.encode(b"one\n"), false));
    // A link is told, not followed, be it the last part or one on the way.
    let link = InspectAnswer::Link { path: "docs/out".into(), target: "/etc/passwd".into() };
    assert_eq!(seen(files(&place.ws, "docs/out")), link);
    for absent in ["docs/up/a.txt", "docs/up/docs", "absent", "a.txt/below", &"n".repeat(300)] {
        refused(files(&place.ws, absent), InspectRefusal::Absent);
    }
    let mut make = std::process::Command::new("mkfifo");
    assert!(make.arg(place.path("pipe")).env_clear().env("PATH", "/usr/bin:/bin").status().unwrap().success());
    refused(files(&place.ws, "pipe"), InspectRefusal::Invalid);
    refused(files(&place.path("absent"), ""), InspectRefusal::Unusable);
}

#[test]
fn answers_are_bounded() {
    let place = Place::with_repository();
    place.write("large", vec![b'x'; (1 << 20) + 5]);
    place.write("just", vec![b'x'; 1 << 20]);
    let InspectAnswer::File { size, content, truncated, .. } = seen(files(&place.ws, "large")) else { panic!() };
    assert_eq!((size, truncated), ((1 << 20) + 5, true));
    assert_eq!(BASE64.decode(content.as_bytes()).unwrap().len(), 1 << 20);
    let InspectAnswer::File { size, truncated, .. } = seen(files(&place.ws, "just")) else { panic!() };
    assert_eq!((size, truncated), (1 << 20, false));

    for n in 0..10_001 {
        place.write(&format!("many/{n}"), "");
    }
    let InspectAnswer::Folder { entries, truncated, .. } = seen(files(&place.ws, "many")) else { panic!() };
    assert_eq!((entries.len(), truncated), (10_000, true));

    // Three patches of 900 kB do not fit; a binary and a huge file have none anyway.
    for name in ["p1", "p2", "p3"] {
        place.write(name, "line\n".repeat(180_000));
    }
    place.write("binary", b"\0\x01\x02");
    place.git(&["add", "-f", "p1", "p2", "p3", "large", "binary"]);
    place.git(&["commit", "-qm", "large things"]);
    let InspectAnswer::Diff { files, truncated, .. } = seen(diff(&place.ws, None, None)) else { panic!() };
    let shown: Vec<_> = files.iter().map(|f| (f.path.as_str(), f.patch.is_some(), f.truncated)).collect();
    assert_eq!(
        shown,
        [
            ("binary", false, false),
            ("large", false, false),
            ("p1", true, false),
            ("p2", false, true),
            ("p3", false, true)
        ]
    );
    assert!(!truncated);
}

#[test]
fn history_is_read_a_page_at_a_time() {
    let mut place = Place::with_repository();
    let ran = place.turn(1, |p| p.write("new.md", "new\n"));
    let tip = ran.commit.unwrap().sha;
    let InspectAnswer::Log { commits, next: None } = seen(log(&place.ws, None, None)) else { panic!() };
    assert_eq!(commits.len(), 2);
    assert_eq!(commits[0].sha.as_str(), tip);
    assert_eq!(commits[0].trailers["Unit"], crate::fixture::UID);
    assert_eq!(commits[0].trailers["Trigger"], "message");
    assert_eq!((commits[1].subject.as_str(), commits[1].trailers.len()), ("first", 0));
    let InspectAnswer::Log { commits: page, next } = seen(log(&place.ws, Some(1), None)) else { panic!() };
    assert_eq!((&page[..], &next), (&commits[..1], &Some(commits[0].sha.clone())));
    let InspectAnswer::Log { commits: page, next: None } = seen(log(&place.ws, Some(1), next)) else { panic!() };
    assert_eq!(page[..], commits[1..]);

    let InspectAnswer::Diff { from, to, files, .. } = seen(diff(&place.ws, None, None)) else { panic!() };
    assert_eq!((from.as_ref(), &to), (Some(&commits[1].sha), &commits[0].sha));
    assert_eq!((files[0].path.as_str(), files[0].status), ("new.md", FileStatus::Added));
    assert!(files[0].patch.as_ref().unwrap().ends_with("+new\n"), "{files:?}");
    // The first commit has no parent: all of it is new. Backwards, the file goes away.
    let first = Some(commits[1].sha.clone());
    let InspectAnswer::Diff { from: None, files, .. } = seen(diff(&place.ws, None, first.clone())) else { panic!() };
    assert_eq!(files[0].status, FileStatus::Added);
    let InspectAnswer::Diff { files, .. } = seen(diff(&place.ws, Some(to), first)) else { panic!() };
    assert_eq!((files[0].path.as_str(), files[0].status), ("new.md", FileStatus::Deleted));

    place.git(&["mv", "a.txt", "b.txt"]);
    place.git(&["commit", "-qm", "rename"]);
    place.git(&["gc", "-q"]);
    let InspectAnswer::Diff { files, .. } = seen(diff(&place.ws, None, None)) else { panic!() };
    assert_eq!((files[0].status, files[0].old_path.as_deref()), (FileStatus::Renamed, Some("a.txt")));
}

#[test]
fn what_cannot_be_shown_says_why() {
    let place = Place::new();
    let InspectAnswer::Log { commits, next: None } = seen(log(&place.ws, None, None)) else { panic!() };
    assert_eq!(commits, [], "a folder without a repository has no commits");
    refused(diff(&place.ws, None, None), InspectRefusal::Absent);
    let place = Place::with_repository();
    let nowhere = CommitSha::parse("1".repeat(40)).unwrap();
    refused(log(&place.ws, None, Some(nowhere.clone())), InspectRefusal::Absent);
    refused(diff(&place.ws, Some(nowhere), None), InspectRefusal::Absent);
    // A tree is no commit.
    let tree = CommitSha::parse(place.git(&["rev-parse", "HEAD^{tree}"]).trim()).unwrap();
    refused(diff(&place.ws, None, Some(tree)), InspectRefusal::Absent);
    for limit in [0, 201] {
        refused(log(&place.ws, Some(limit), None), InspectRefusal::Invalid);
    }
    place.write(".git/objects/info/alternates", "/somewhere/else\n");
    let why = refused(log(&place.ws, None, None), InspectRefusal::Unusable);
    assert!(why.contains("alternates"), "{why}");
    std::fs::rename(place.path(".git"), place.path("elsewhere")).unwrap();
    symlink("elsewhere", place.path(".git")).unwrap();
    refused(log(&place.ws, None, None), InspectRefusal::Unusable);
}

/// Names and times of everything, `.git` included.
fn everything(at: &Path, found: &mut Vec<(std::path::PathBuf, std::time::SystemTime)>) {
    for entry in std::fs::read_dir(at).unwrap() {
        let entry = entry.unwrap();
        let stat = entry.path().symlink_metadata().unwrap();
        found.push((entry.path(), stat.modified().unwrap()));
        if stat.is_dir() {
            everything(&entry.path(), found);
        }
    }
    found.sort();
}

#[test]
fn nothing_is_changed_and_nothing_of_the_repository_is_run() {
    let place = Place::with_repository();
    place.write(".gitattributes", "*.txt filter=evil diff=evil\n");
    place.write("a.txt", "two\n");
    place.git(&["add", "."]);
    place.git(&["commit", "-qm", "second"]);
    let ran = place.path("ran");
    for key in ["filter.evil.smudge", "filter.evil.clean", "diff.evil.textconv", "diff.evil.command", "core.fsmonitor"]
    {
        place.git(&["config", key, &format!("touch {}", ran.display())]);
    }
    let (mut before, mut after) = (Vec::new(), Vec::new());
    everything(&place.ws, &mut before);
    for path in ["", "a.txt"] {
        seen(files(&place.ws, path));
    }
    seen(log(&place.ws, None, None));
    let InspectAnswer::Diff { files, .. } = seen(diff(&place.ws, None, None)) else { panic!() };
    assert_eq!(files.len(), 2);
    everything(&place.ws, &mut after);
    assert_eq!(before, after);
    assert!(!ran.exists());
}
