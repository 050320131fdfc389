//! The commits of the present branch, and what differs between two.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Once;

use contract::{CommitSha, FileDiff, FileStatus, InspectAnswer, LogCommit, Principal};
use git2::{Commit, Delta, Diff, DiffDelta, DiffFindOptions, DiffOptions, ErrorCode, ObjectType, Odb, Oid, Patch};
use git2::{Repository, Signature};
use jiff::Timestamp;
use rustix::fs::FileType;

use super::{Refused, Seen, weight};
use crate::error::Doing as _;
use crate::gitdir;
use crate::housekeeping::strange_objects;
use crate::refs::Refs;
use crate::root::Root;
use crate::store::set_up_libgit2;

const LOG_DEFAULT: u32 = 50;
const LOG_MAX: u32 = 200;
const COMMIT_MAX_BYTES: usize = 1 << 20;
const TEXT_MAX_CHARS: usize = 200;
const TRAILERS_MAX: usize = 16;
const FILES_MAX: usize = 1_000;
/// Of all paths of a difference, as JSON.
const PATHS_MAX_BYTES: usize = 1 << 20;
/// Of all patches of a difference, as JSON.
const PATCHES_MAX_BYTES: usize = 2 << 20;
/// Larger files are not compared line by line.
const BLOB_MAX_BYTES: i64 = 1 << 20;
/// How much of a pack is mapped at once, and of all packs together: the process has a small address space.
const WINDOW_BYTES: usize = 32 << 20;
const WINDOWS_BYTES: usize = 256 << 20;

static WINDOWS: Once = Once::new();

fn small_windows() {
    WINDOWS.call_once(|| {
        // SAFETY: sets two numbers of libgit2 that have no lock. A process that looks does nothing else with it, and every
        // look waits here for this to be done.
        let set = unsafe {
            git2::opts::set_mwindow_size(WINDOW_BYTES)
                .and_then(|()| git2::opts::set_mwindow_mapped_limit(WINDOWS_BYTES))
        };
        // Fails for numbers that do not fit, and these do; larger windows would only cost memory.
        debug_assert!(set.is_ok());
    });
}

/// The repository's objects and the commit that its HEAD names.
struct History {
    repo: Repository,
    tip: Option<Oid>,
}

impl History {
    /// None where there is no repository yet.
    fn open(root: &Root, folder: &Path) -> Seen<Option<Self>> {
        let git = root.stat(b".git").doing(|| "look at .git".into())?;
        let Some(git) = git else { return Ok(None) };
        if git.file_type() != FileType::Directory {
            return Err(Refused::unusable("`.git` is not a folder; a workspace must hold its own repository"));
        }
        if root.stat(b".git/HEAD").doing(|| "look at HEAD".into())?.is_none() {
            return Ok(None);
        }
        gitdir::check_own(root)?;
        let refs = Refs(root);
        let tip = refs.tip(&refs.head()?)?;
        // libgit2 would wait at a FIFO and follow a link; removing them is not for one who only looks.
        if let Some(path) = strange_objects(root)?.first() {
            let path = String::from_utf8_lossy(path).into_owned();
            return Err(Refused::unusable(format!("`{path}` is no regular file; remove it and run `git fsck`")));
        }
        set_up_libgit2();
        small_windows();
        let objects = folder.join(".git/objects");
        let objects = objects.to_str().ok_or_else(|| Refused::unusable("the workspace's path is not UTF-8"))?;
        let odb = Odb::new()?;
        odb.add_disk_alternate(objects)?;
        Ok(Some(Self { repo: Repository::from_odb(odb)?, tip }))
    }

    /// A commit; none where the repository does not have it.
    fn commit(&self, oid: Oid) -> Seen<Option<Commit<'_>>> {
        // By its header first: what is no commit, or a huge one, is not read.
        match self.repo.odb()?.read_header(oid) {
            Err(e) if e.code() == ErrorCode::NotFound => return Ok(None),
            Ok((_, kind)) if kind != ObjectType::Commit => return Ok(None),
            Ok((size, _)) if size > COMMIT_MAX_BYTES => {
                return Err(Refused::unusable(format!("commit {oid} is longer than {COMMIT_MAX_BYTES} bytes")));
            }
            header => header?,
        };
        Ok(Some(self.repo.find_commit(oid)?))
    }

    fn named(&self, sha: &CommitSha) -> Seen<Commit<'_>> {
        let absent = || Refused::absent(format!("the repository has no commit {sha}"));
        self.commit(Oid::from_str(sha.as_str())?)?.ok_or_else(absent)
    }
}

pub(super) fn log(root: &Root, folder: &Path, limit: Option<u32>, before: Option<&CommitSha>) -> Seen<InspectAnswer> {
    let limit = limit.unwrap_or(LOG_DEFAULT);
    if !(1..=LOG_MAX).contains(&limit) {
        return Err(Refused::invalid(format!("limit must be 1 to {LOG_MAX}")));
    }
    let Some(history) = History::open(root, folder)? else {
        return match before {
            Some(sha) => Err(Refused::absent(format!("the workspace has no repository yet, so no commit {sha}"))),
            None => Ok(InspectAnswer::Log { commits: Vec::new(), next: None }),
        };
    };
    let mut at = match before {
        Some(sha) => history.named(sha)?.parent_ids().next(),
        None => history.tip,
    };
    let mut commits: Vec<LogCommit> = Vec::new();
    // A shallow clone ends at a commit whose parent it does not have.
    while let Some(commit) = at.map(|oid| history.commit(oid)).transpose()?.flatten() {
        if commits.len() == limit as usize {
            let next = commits.last().map(|last| last.sha.clone());
            return Ok(InspectAnswer::Log { commits, next });
        }
        commits.push(entry(&commit)?);
        at = commit.parent_ids().next();
    }
    Ok(InspectAnswer::Log { commits, next: None })
}

fn entry(commit: &Commit<'_>) -> Seen<LogCommit> {
    let author = commit.author();
    let message = String::from_utf8_lossy(commit.message_bytes());
    Ok(LogCommit {
        sha: sha(commit.id())?,
        parents: commit.parent_ids().take(TRAILERS_MAX).map(sha).collect::<Seen<_>>()?,
        subject: line(message.lines().find(|l| !l.trim().is_empty()).unwrap_or_default()),
        author: principal(&author),
        at: Timestamp::from_second(author.when().seconds()).unwrap_or(Timestamp::UNIX_EPOCH),
        trailers: trailers(&message),
    })
}

fn principal(author: &Signature<'_>) -> Principal {
    let text = |bytes: &[u8]| line(&String::from_utf8_lossy(bytes));
    Principal { name: text(author.name_bytes()), email: text(author.email_bytes()) }
}

/// The last paragraph, when it is not the first and each of its lines is `Key: value`. Of a key that is there twice, neither
/// value is believed.
fn trailers(message: &str) -> BTreeMap<String, String> {
    let Some((_, last)) = message.trim_end().rsplit_once("\n\n") else { return BTreeMap::new() };
    let mut found: BTreeMap<String, Option<String>> = BTreeMap::new();
    for text in last.lines().take(TRAILERS_MAX) {
        let is_key = |key: &str| !key.is_empty() && key.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-');
        let Some((key, value)) = text.split_once(": ").filter(|(key, _)| is_key(key)) else {
            return BTreeMap::new();
        };
        found.entry(line(key)).and_modify(|there| *there = None).or_insert_with(|| Some(line(value)));
    }
    found.into_iter().filter_map(|(key, value)| Some((key, value?))).collect()
}

/// One line without control characters, cut.
fn line(text: &str) -> String {
    let clean = |c: char| if c.is_control() { ' ' } else { c };
    text.chars().take(TEXT_MAX_CHARS).map(clean).collect::<String>().trim().to_owned()
}

fn sha(oid: Oid) -> Seen<CommitSha> {
    CommitSha::parse(oid.to_string()).map_err(|e| Refused::unusable(e.to_string()))
}

pub(super) fn diff(
    root: &Root,
    folder: &Path,
    from: Option<&CommitSha>,
    to: Option<&CommitSha>,
) -> Seen<InspectAnswer> {
    let nothing = || Refused::absent("the workspace has no commit yet");
    let history = History::open(root, folder)?.ok_or_else(nothing)?;
    let to = match to {
        Some(sha) => history.named(sha)?,
        None => history.tip.map(|oid| history.commit(oid)).transpose()?.flatten().ok_or_else(nothing)?,
    };
    let from = match from {
        Some(sha) => Some(history.named(sha)?),
        None => to.parent_ids().next().map(|oid| history.commit(oid)).transpose()?.flatten(),
    };
    let (old, new) = (from.as_ref().map(Commit::tree).transpose()?, to.tree()?);
    let mut options = DiffOptions::new();
    options.max_size(BLOB_MAX_BYTES).include_typechange(true);
    let mut diff = history.repo.diff_tree_to_tree(old.as_ref(), Some(&new), Some(&mut options))?;
    // By name of the content only: to compare contents with each other takes quadratic time.
    diff.find_similar(Some(DiffFindOptions::new().renames(true).exact_match_only(true)))?;
    let (files, truncated) = changes(&diff)?;
    Ok(InspectAnswer::Diff { from: from.map(|c| sha(c.id())).transpose()?, to: sha(to.id())?, files, truncated })
}

fn changes(diff: &Diff<'_>) -> Seen<(Vec<FileDiff>, bool)> {
    let (mut files, mut paths_left, mut patches_left) = (Vec::new(), PATHS_MAX_BYTES, PATCHES_MAX_BYTES);
    for (index, delta) in diff.deltas().enumerate() {
        let mut file = named(&delta);
        let bytes = weight(&file.path) + file.old_path.as_deref().map_or(0, weight);
        if files.len() == FILES_MAX || bytes > paths_left {
            return Ok((files, true));
        }
        paths_left -= bytes;
        let text = if patches_left > 0 { patch(diff, index)? } else { None };
        let bytes = text.as_deref().map_or(0, weight);
        file.truncated = patches_left == 0 || bytes > patches_left;
        if file.truncated {
            // From here on none is looked for any more.
            patches_left = 0;
        } else {
            patches_left -= bytes;
            file.patch = text;
        }
        files.push(file);
    }
    Ok((files, false))
}

fn named(delta: &DiffDelta<'_>) -> FileDiff {
    let path = |bytes: Option<&[u8]>| bytes.map(|b| String::from_utf8_lossy(b).into_owned());
    let (old, new) = (path(delta.old_file().path_bytes()), path(delta.new_file().path_bytes()));
    let status = match delta.status() {
        Delta::Added => FileStatus::Added,
        Delta::Deleted => FileStatus::Deleted,
        Delta::Renamed => FileStatus::Renamed,
        Delta::Typechange => FileStatus::Retyped,
        _ => FileStatus::Modified,
    };
    let old_path = old.clone().filter(|_| status == FileStatus::Renamed);
    FileDiff { path: new.or(old).unwrap_or_default(), old_path, status, patch: None, truncated: false }
}

/// The file's unified diff; none when it is binary or too large.
fn patch(diff: &Diff<'_>, index: usize) -> Seen<Option<String>> {
    let Some(mut patch) = Patch::from_diff(diff, index)? else { return Ok(None) };
    if patch.delta().flags().is_binary() {
        return Ok(None);
    }
    Ok(Some(String::from_utf8_lossy(&patch.to_buf()?).into_owned()))
}
