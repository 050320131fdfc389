//! A unit's state folder: session file, record, walk cache, the agent CLIs' own state.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Read, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use rustix::fs::OFlags;
use serde::de::DeserializeOwned;

use crate::crash::crash_point;
use crate::error::{Doing, Result, WorkspaceError};
use crate::record::Record;
use crate::session::Session;

const SESSION: &str = "session.json";
const RECORD: &str = "record.json";
const MAX_JSON_BYTES: u64 = 64 << 20;

/// The state folder of one unit. Nothing of it is inside a repository.
#[derive(Debug, Clone)]
pub struct StateDir {
    path: PathBuf,
}

impl StateDir {
    /// Opens the folder, making it (0700) when it is not there.
    ///
    /// # Errors
    /// `Unusable` when it is not a folder or cannot be written.
    pub fn open(path: impl Into<PathBuf>) -> Result<Self> {
        let path = path.into();
        let at = path.display();
        match fs::DirBuilder::new().recursive(true).mode(0o700).create(&path) {
            Ok(()) => {}
            Err(e) => {
                return Err(WorkspaceError::unusable(format!("the state folder {at} cannot be made: {e}")));
            }
        }
        let state = Self { path };
        state.write("probe", b"").map_err(|e| {
            WorkspaceError::unusable(format!(
                "the state folder {} cannot be written: {}",
                state.path.display(),
                e.chain()
            ))
        })?;
        Ok(state)
    }

    /// Where it is.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// `CLAUDE_CONFIG_DIR`; made when missing.
    ///
    /// # Errors
    /// `Io`.
    pub fn claude_dir(&self) -> Result<PathBuf> {
        self.runner_dir("claude")
    }

    /// A folder for a runner's own state, e.g. `codex`; made when missing.
    ///
    /// # Errors
    /// `Io`.
    pub fn runner_dir(&self, name: &str) -> Result<PathBuf> {
        let dir = self.path.join(name);
        let made = fs::DirBuilder::new().recursive(true).mode(0o700).create(&dir);
        made.doing(|| format!("make {}", dir.display()))?;
        Ok(dir)
    }

    /// The session file; an absent one is empty.
    ///
    /// # Errors
    /// `State` when it is damaged: the caller begins new sessions and says so. `Io`.
    pub fn session(&self) -> Result<Session> {
        Ok(self.json(SESSION)?.unwrap_or_default())
    }

    /// Writes the session file, whole and durable.
    ///
    /// # Errors
    /// `Io`; the old file is kept.
    pub fn save_session(&self, session: &Session) -> Result<()> {
        let bytes = serde_json::to_vec_pretty(session).map_err(io::Error::from).doing(|| format!("write {SESSION}"))?;
        self.write(SESSION, &bytes)
    }

    /// The record of the last turn, if any.
    ///
    /// # Errors
    /// `State` when it is damaged, `Io`.
    pub fn record(&self) -> Result<Option<Record>> {
        self.json(RECORD)
    }

    /// Writes the record. Once this has returned, the turn has happened.
    ///
    /// # Errors
    /// `Io`; the earlier record is kept and the turn has not happened, unless only the last fsync failed.
    pub fn write_record(&self, record: &Record) -> Result<()> {
        let bytes = serde_json::to_vec(record).map_err(io::Error::from).doing(|| format!("write {RECORD}"))?;
        self.write(RECORD, &bytes)
    }

    fn json<T: DeserializeOwned>(&self, file: &'static str) -> Result<Option<T>> {
        let Some(bytes) = self.read(file, MAX_JSON_BYTES)? else {
            return Ok(None);
        };
        serde_json::from_slice(&bytes).map(Some).map_err(|e| WorkspaceError::State { file, why: e.to_string() })
    }

    /// Reads a regular file of the folder itself; links are not followed.
    pub(crate) fn read(&self, name: &'static str, max: u64) -> Result<Option<Vec<u8>>> {
        let flags = OFlags::NOFOLLOW | OFlags::NONBLOCK;
        let opened = OpenOptions::new().read(true).custom_flags(flags.bits() as i32).open(self.path.join(name));
        let file = match opened {
            Ok(file) => file,
            Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(e) => return Err(e).doing(|| format!("open {name} of the state folder")),
        };
        let meta = file.metadata().doing(|| format!("look at {name}"))?;
        if !meta.is_file() || meta.len() > max {
            return Err(WorkspaceError::State { file: name, why: "no regular file, or too large".into() });
        }
        let mut bytes = Vec::with_capacity(meta.len() as usize);
        file.take(max).read_to_end(&mut bytes).doing(|| format!("read {name} of the state folder"))?;
        Ok(Some(bytes))
    }

    /// Temporary file, fsync, rename, fsync of the folder.
    pub(crate) fn write(&self, name: &str, content: &[u8]) -> Result<()> {
        let temporary = self.path.join(format!(".{name}.new"));
        let written = (|| {
            untrusted::remove(&temporary)?;
            let mut file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(&temporary)?;
            file.write_all(content)?;
            file.sync_all()?;
            at(name, "record-written");
            fs::rename(&temporary, self.path.join(name))?;
            at(name, "record-renamed");
            File::open(&self.path)?.sync_all()
        })();
        written.doing(|| format!("write {name} of the state folder"))
    }
}

/// The boundaries of the write that makes a turn one that has happened.
fn at(name: &str, step: &str) {
    if name == RECORD {
        crash_point(step);
    }
}

#[cfg(test)]
mod tests {
    use contract::TurnId;

    use super::*;
    use crate::record::Outcome;
    use crate::session::ThreadSession;

    #[test]
    fn session_and_record_are_read_back() {
        let dir = tempfile::tempdir().unwrap();
        let state = StateDir::open(dir.path().join("state")).unwrap();
        assert_eq!(state.session().unwrap(), Session::default());
        assert_eq!(state.record().unwrap(), None);
        let mut session = Session::default();
        let thread = ThreadSession {
            runner: "claude-code".into(),
            session_id: "s".into(),
            cost_usd_total: 0.5,
            ..Default::default()
        };
        session.threads.insert("main".into(), thread);
        state.save_session(&session).unwrap();
        assert_eq!(state.session().unwrap(), session);
        let text = fs::read_to_string(state.path().join(SESSION)).unwrap();
        let json: serde_json::Value = serde_json::from_str(&text).unwrap();
        assert_eq!(
            json,
            serde_json::json!({"threads":{"main":{"runner":"claude-code","session_id":"s","cost_usd_total":0.5}}})
        );
        let record = Record {
            turn: TurnId::new(1, 2),
            outcome: Outcome::Failed,
            result: serde_json::json!({"ok": false}),
            commits: Vec::new(),
            events: Vec::new(),
        };
        state.write_record(&record).unwrap();
        assert_eq!(state.record().unwrap(), Some(record));
    }

    #[test]
    fn a_damaged_or_planted_file_is_an_error_and_not_a_trap() {
        let dir = tempfile::tempdir().unwrap();
        let state = StateDir::open(dir.path()).unwrap();
        fs::write(dir.path().join(SESSION), "{").unwrap();
        assert!(matches!(state.session(), Err(WorkspaceError::State { file: SESSION, .. })));
        std::os::unix::fs::symlink("/dev/zero", dir.path().join(RECORD)).unwrap();
        assert!(state.record().is_err());
        fs::remove_file(dir.path().join(RECORD)).unwrap();
        rustix::fs::mkfifoat(rustix::fs::CWD, dir.path().join(RECORD), 0o600.into()).unwrap();
        assert!(state.record().is_err());
        fs::create_dir(dir.path().join(".session.json.new")).unwrap();
        state.save_session(&Session::default()).unwrap();
    }

    #[test]
    fn a_file_in_the_place_of_the_folder_is_said() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("state");
        fs::write(&path, "").unwrap();
        assert!(matches!(StateDir::open(&path), Err(WorkspaceError::Unusable { .. })));
    }
}
