//! Sessions that are where another system, or another machine, left them.

use std::fs;
use std::os::fd::AsFd;
use std::path::{Path, PathBuf};
use std::time::SystemTime;

use rustix::fs::FileType;

use crate::error::{Doing, Result};
use crate::root::{Root, list};
use crate::state::StateDir;

const MAX_SESSION_BYTES: u64 = 64 << 10;
const MAX_TRANSCRIPT_BYTES: u64 = 512 << 20;
const MAX_DEPTH: usize = 6;
const MAX_ENTRIES: usize = 100_000;

/// A session that a workspace carries in `.claude/`, as the system this one descends from leaves it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LegacySession {
    /// The agent CLI's session id.
    pub session_id: String,
    /// Its transcripts, `.claude/projects/**/<session id>.jsonl`, relative to the workspace.
    pub transcripts: Vec<PathBuf>,
    workspace: PathBuf,
}

/// Looks for `.claude/.session` and its transcript in a workspace. Nothing usable there is `None`: a damaged
/// session begins a new one.
pub fn legacy_session(workspace: &Path) -> Option<LegacySession> {
    let root = Root::open(workspace).ok()?;
    let text = String::from_utf8(root.read(b".claude/.session", MAX_SESSION_BYTES).ok()??).ok()?;
    let session_id = parse_session(&text)?;
    let wanted = format!("{session_id}.jsonl").into_bytes();
    let mut transcripts = Vec::new();
    each_file(&root, b".claude/projects", &mut |path, name| {
        if name == wanted {
            transcripts.push(to_path(path));
        }
    });
    (!transcripts.is_empty()).then(|| LegacySession { session_id, transcripts, workspace: workspace.to_owned() })
}

/// Copies a legacy session's newest transcript to where the agent CLI looks for it when it runs in `cwd`.
/// One that is there already is kept. Answers where it is.
///
/// # Errors
/// `Io`; there is no transcript at that place then, unless there was one before.
pub fn import_legacy(state: &StateDir, legacy: &LegacySession, cwd: &Path) -> Result<PathBuf> {
    let folder = state.claude_dir()?.join("projects").join(cwd_folder(cwd));
    let to = folder.join(format!("{}.jsonl", legacy.session_id));
    if to.exists() {
        return Ok(to);
    }
    let root = Root::open(&legacy.workspace).doing(|| format!("open {}", legacy.workspace.display()))?;
    let mut newest: Option<(i64, &PathBuf)> = None;
    for path in &legacy.transcripts {
        let stat = root.stat(path.as_os_str().as_encoded_bytes()).doing(|| "look at a transcript".into())?;
        let mtime = stat.map_or(i64::MIN, |stat| stat.mtime_ns);
        if newest.is_none_or(|(than, _)| mtime > than) {
            newest = Some((mtime, path));
        }
    }
    let absent = || std::io::Error::from(std::io::ErrorKind::NotFound);
    let copied = (|| {
        let (_, from) = newest.ok_or_else(absent)?;
        let content = root.read(from.as_os_str().as_encoded_bytes(), MAX_TRANSCRIPT_BYTES)?.ok_or_else(absent)?;
        fs::create_dir_all(&folder)?;
        let temporary = folder.join(".import");
        fs::write(&temporary, content)?;
        fs::rename(&temporary, &to)
    })();
    copied.doing(|| format!("import the transcript of session {}", legacy.session_id))?;
    Ok(to)
}

/// Makes a session's transcript available to an agent CLI that runs in `cwd`, wherever below `projects/` of the
/// state folder it lies: a unit that was moved between machines may have run in another folder there. Answers
/// whether there is one.
///
/// # Errors
/// `Io`; the transcript is where it was.
pub fn adopt_transcript(state: &StateDir, session_id: &str, cwd: &Path) -> Result<bool> {
    if !is_session_id(session_id) {
        return Ok(false);
    }
    let projects = state.claude_dir()?.join("projects");
    let here = projects.join(cwd_folder(cwd));
    let name = format!("{session_id}.jsonl");
    let mut newest: Option<(SystemTime, PathBuf)> = None;
    for entry in fs::read_dir(&projects).into_iter().flatten().take(MAX_ENTRIES).flatten() {
        let is_dir = entry.file_type().is_ok_and(|kind| kind.is_dir());
        let Ok(meta) = fs::symlink_metadata(entry.path().join(&name)) else {
            continue;
        };
        let Ok(changed) = meta.modified() else {
            continue;
        };
        let newer = newest.as_ref().is_none_or(|(than, at)| changed > *than || (changed == *than && *at != here));
        if is_dir && meta.is_file() && newer {
            newest = Some((changed, entry.path()));
        }
    }
    let Some((_, found)) = newest else {
        return Ok(false);
    };
    if found != here {
        let moved = (|| {
            fs::create_dir_all(&here)?;
            // What the CLI keeps beside the transcript goes first: the transcript is what is looked for.
            if fs::symlink_metadata(found.join(session_id)).is_ok_and(|meta| meta.is_dir())
                && !here.join(session_id).exists()
            {
                fs::rename(found.join(session_id), here.join(session_id))?;
            }
            fs::rename(found.join(&name), here.join(&name))
        })();
        moved.doing(|| format!("move the transcript of session {session_id}"))?;
    }
    Ok(true)
}

/// The name that the claude CLI gives a folder's transcripts: all but letters and digits become `-`.
pub fn cwd_folder(cwd: &Path) -> String {
    cwd.to_string_lossy().chars().map(|c| if c.is_ascii_alphanumeric() { c } else { '-' }).collect()
}

/// A session id alone, or JSON that holds one.
fn parse_session(text: &str) -> Option<String> {
    let text = text.trim();
    let id = match serde_json::from_str::<serde_json::Value>(text) {
        Ok(serde_json::Value::String(id)) => id,
        Ok(serde_json::Value::Object(object)) => {
            let id = object.get("session_id").or_else(|| object.get("sessionId"))?;
            id.as_str()?.to_owned()
        }
        _ => text.to_owned(),
    };
    is_session_id(&id).then_some(id)
}

/// Becomes part of a path: nothing but what ids are made of.
fn is_session_id(id: &str) -> bool {
    (1..=128).contains(&id.len()) && id.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'_'))
}

fn each_file(root: &Root, top: &[u8], found: &mut dyn FnMut(&[u8], &[u8])) {
    let mut left = vec![(top.to_vec(), 0)];
    let mut entries = 0;
    while let Some((path, depth)) = left.pop() {
        let Ok(dir) = root.dir(&path) else { continue };
        for (name, kind) in list(dir.as_fd()).unwrap_or_default() {
            entries += 1;
            if entries > MAX_ENTRIES {
                return;
            }
            let below = [path.as_slice(), b"/", &name].concat();
            match kind {
                FileType::Directory if depth < MAX_DEPTH => left.push((below, depth + 1)),
                FileType::RegularFile => found(&below, &name),
                _ => {}
            }
        }
    }
}

fn to_path(bytes: &[u8]) -> PathBuf {
    use std::os::unix::ffi::OsStrExt;
    PathBuf::from(std::ffi::OsStr::from_bytes(bytes))
}

#[cfg(test)]
mod tests {
    use super::*;

    const SID: &str = "0b7a5a3e-1111-4222-8333-444455556666";

    fn legacy_workspace(session: &str) -> tempfile::TempDir {
        let dir = tempfile::tempdir().unwrap();
        let projects = dir.path().join(".claude/projects/-old-place");
        fs::create_dir_all(&projects).unwrap();
        fs::write(dir.path().join(".claude/.session"), session).unwrap();
        fs::write(projects.join(format!("{SID}.jsonl")), "{\"old\":1}\n").unwrap();
        dir
    }

    #[test]
    fn a_legacy_session_is_found_and_imported() {
        for text in [format!("{SID}\n"), format!("{{\"session_id\":\"{SID}\"}}"), format!("\"{SID}\"")] {
            let dir = legacy_workspace(&text);
            let legacy = legacy_session(dir.path()).unwrap();
            assert_eq!(legacy.session_id, SID);
            let state = StateDir::open(dir.path().join("state")).unwrap();
            let at = import_legacy(&state, &legacy, Path::new("/workspace")).unwrap();
            assert_eq!(at, state.path().join(format!("claude/projects/-workspace/{SID}.jsonl")));
            assert_eq!(fs::read_to_string(&at).unwrap(), "{\"old\":1}\n");
            fs::write(&at, "newer").unwrap();
            import_legacy(&state, &legacy, Path::new("/workspace")).unwrap();
            assert_eq!(fs::read_to_string(&at).unwrap(), "newer");
        }
    }

    #[test]
    fn what_is_no_session_is_none() {
        for text in ["", "../../etc/passwd", "{\"session_id\":7}", "{", "a b"] {
            assert_eq!(legacy_session(legacy_workspace(text).path()), None, "{text}");
        }
        let dir = legacy_workspace("another-id");
        assert_eq!(legacy_session(dir.path()), None, "no transcript");
        let dir = legacy_workspace("x");
        fs::remove_file(dir.path().join(".claude/.session")).unwrap();
        std::os::unix::fs::symlink("/etc/hostname", dir.path().join(".claude/.session")).unwrap();
        assert_eq!(legacy_session(dir.path()), None);
    }

    #[test]
    fn a_transcript_of_another_cwd_is_adopted() {
        let dir = tempfile::tempdir().unwrap();
        let state = StateDir::open(dir.path()).unwrap();
        let cwd = Path::new("/store/units/u1/workspace.d");
        assert!(!adopt_transcript(&state, SID, cwd).unwrap());
        let old = state.claude_dir().unwrap().join("projects/-workspace");
        fs::create_dir_all(old.join(SID)).unwrap();
        fs::write(old.join(SID).join("x"), "beside").unwrap();
        fs::write(old.join(format!("{SID}.jsonl")), "said").unwrap();
        for _ in 0..2 {
            assert!(adopt_transcript(&state, SID, cwd).unwrap());
            let new = dir.path().join("claude/projects/-store-units-u1-workspace-d");
            assert_eq!(fs::read_to_string(new.join(format!("{SID}.jsonl"))).unwrap(), "said");
            assert_eq!(fs::read_to_string(new.join(SID).join("x")).unwrap(), "beside");
        }
        assert!(!adopt_transcript(&state, "../x", cwd).unwrap());
    }
}
