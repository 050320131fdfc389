//! Whether a folder holds a repository that can be worked on, and making one where there is none.

use std::path::Path;

use rustix::fs::FileType;
use rustix::io::Errno;

use crate::error::{Doing, Result, WorkspaceError};
use crate::refs::Refs;
use crate::root::{Root, SCRATCH};

const MAX_CONFIG_BYTES: u64 = 4 << 20;
const FIRST_BRANCH: &str = "refs/heads/main";

/// Opens the workspace's folder.
///
/// # Errors
/// `Unusable` when it is missing or not a folder.
pub(crate) fn open_folder(path: &Path) -> Result<Root> {
    let at = path.display();
    Root::open(path).map_err(|e| match e {
        Errno::NOENT => WorkspaceError::unusable(format!(
            "the workspace folder {at} does not exist; create it or restore a snapshot"
        )),
        Errno::NOTDIR => {
            WorkspaceError::unusable(format!("the workspace {at} is a file; move it away and create a folder"))
        }
        Errno::ACCESS | Errno::PERM => WorkspaceError::unusable(format!(
            "the workspace folder {at} cannot be opened: permission denied; give it to the worker's uid"
        )),
        e => WorkspaceError::Io { doing: format!("open {at}"), source: e.into() },
    })
}

/// Makes sure that there is a repository, without a commit if it is new, and that it is one which this crate
/// can work on.
///
/// # Errors
/// `Unusable` says what is the matter; the folder is as it was.
pub(crate) fn ensure(root: &Root) -> Result<()> {
    match root.stat(b".git").doing(|| "look at .git".into())? {
        None => init(root)?,
        Some(stat) => check_git(root, stat.file_type(), stat.dev)?,
    }
    root.make_dir(SCRATCH).map_err(not_writable)?;
    root.write(b".git/rekindle/probe", b"", 0o600).map_err(|e| match Errno::from_io_error(&e) {
        Some(errno) => not_writable(errno),
        None => WorkspaceError::Io { doing: "write into .git".into(), source: e },
    })
}

fn not_writable(errno: Errno) -> WorkspaceError {
    match errno {
        Errno::ROFS | Errno::ACCESS | Errno::PERM | Errno::NOENT => WorkspaceError::unusable(
            "the workspace folder is read-only for the worker; mount it writable, give it to the worker's uid, or use mode `ro`",
        ),
        errno => WorkspaceError::Io { doing: "write into the workspace".into(), source: errno.into() },
    }
}

/// A repository as `git init` makes it, but for hooks, templates and description. HEAD comes last, since
/// without one git sees no repository: a crash before it is mended by the next call.
fn init(root: &Root) -> Result<()> {
    let made = (|| {
        for dir in
            [&b".git/objects/info"[..], b".git/objects/pack", b".git/refs/heads", b".git/refs/tags", b".git/info"]
        {
            root.make_dir(dir)?;
        }
        Ok(())
    })();
    made.map_err(not_writable)?;
    let config =
        b"[core]\n\trepositoryformatversion = 0\n\tfilemode = true\n\tbare = false\n\tlogallrefupdates = true\n";
    root.write_durable(b".git/config", config, 0o644).doing(|| "write .git/config".into())?;
    let head = format!("ref: {FIRST_BRANCH}\n");
    root.write_durable(b".git/HEAD", head.as_bytes(), 0o644).doing(|| "write .git/HEAD".into())
}

fn check_git(root: &Root, kind: FileType, dev: u64) -> Result<()> {
    match kind {
        FileType::Directory if dev != root.dev => {
            return Err(WorkspaceError::unusable(
                "`.git` is on another file system than the workspace; move it into the folder",
            ));
        }
        FileType::Directory => {}
        FileType::RegularFile => {
            return Err(WorkspaceError::unusable(
                "`.git` is a file that points to a repository elsewhere (a submodule or linked worktree); a workspace must hold its own: clone it",
            ));
        }
        _ => {
            return Err(WorkspaceError::unusable(
                "`.git` is neither a folder nor a file; remove it or restore the repository",
            ));
        }
    }
    if root.stat(b".git/HEAD").doing(|| "look at HEAD".into())?.is_none() && is_half_made(root)? {
        return init(root);
    }
    check_own(root)?;
    Refs(root).packed().map(drop)
}

/// Refuses a repository that does not stand on its own, or that this crate cannot read. Nothing is written.
pub(crate) fn check_own(root: &Root) -> Result<()> {
    for dir in ["objects", "refs"] {
        let found = root.stat(format!(".git/{dir}").as_bytes()).doing(|| format!("look at .git/{dir}"))?;
        if found.is_none_or(|stat| stat.file_type() != FileType::Directory) {
            return Err(WorkspaceError::unusable(format!(
                "`.git/{dir}` is missing or not a folder; restore the repository, or move `.git` away to begin a new one"
            )));
        }
    }
    for (file, why) in [
        (
            "objects/info/alternates",
            "borrows objects from another repository; run `git repack -ad` where it can be reached and remove the file",
        ),
        ("commondir", "belongs to a linked worktree; a workspace must hold its own repository: clone it"),
    ] {
        if root.stat(format!(".git/{file}").as_bytes()).doing(|| format!("look at .git/{file}"))?.is_some() {
            return Err(WorkspaceError::unusable(format!("the repository has `.git/{file}`: it {why}")));
        }
    }
    check_format(root)
}

/// Whether an earlier `init` was cut off: nothing in it that could be lost.
fn is_half_made(root: &Root) -> Result<bool> {
    let has = |path: &[u8]| root.stat(path).map(|found| found.is_some()).doing(|| "look into .git".into());
    Ok(!has(b".git/packed-refs")? && !has(b".git/index")? && !has(b".git/logs")? && has(b".git/objects/info")?)
}

/// Refuses repositories of a format that this crate would damage: another hash, another ref store.
fn check_format(root: &Root) -> Result<()> {
    let unreadable = |why: String| {
        WorkspaceError::unusable(format!(
            "`.git/config` cannot be read ({why}); restore it from `git init` in an empty folder"
        ))
    };
    let config =
        root.read(b".git/config", MAX_CONFIG_BYTES).map_err(|e| unreadable(e.to_string()))?.unwrap_or_default();
    let mut in_extensions = false;
    for line in String::from_utf8_lossy(&config).lines() {
        let line = line.trim().to_ascii_lowercase();
        let rest = match line.strip_prefix('[') {
            Some(header) => {
                let (section, rest) = header.split_once(']').unwrap_or((header, ""));
                in_extensions = section.trim() == "extensions";
                rest.trim().to_owned()
            }
            None => line,
        };
        if !in_extensions {
            continue;
        }
        let (key, value) = rest.split_once('=').map_or((rest.trim(), ""), |(k, v)| (k.trim(), v.trim()));
        let value = value.trim_matches('"');
        let other = match key {
            "objectformat" => value != "sha1",
            "refstorage" => value != "files",
            "compatobjectformat" => true,
            _ => false,
        };
        if other {
            return Err(WorkspaceError::unusable(format!(
                "the repository uses extensions.{key} = {value}, which is not supported; use SHA-1 objects and ref files"
            )));
        }
    }
    Ok(())
}
