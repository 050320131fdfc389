//! The walk cache: what each file held when it was last read, by its stat.
//!
//! The file lies in the state folder, where the agent can write; its hash is kept by the ledger, where it cannot.

use std::collections::{BTreeMap, HashMap};

use contract::WorkspaceId;
use git2::Oid;
use sha2::{Digest, Sha256};

use crate::codec::{Reader, Writer};
use crate::error::Result;
use crate::note::Note;
use crate::open::Workspace;
use crate::root::StatKey;
use crate::state::StateDir;
use crate::walk::Walked;

const FILE: &str = "walk.cache";
const MAGIC: &[u8] = b"rekindle walk 2\n";
const MAX_FILE_BYTES: u64 = 512 << 20;

/// A file whose ctime is this near to the walk that read it may have changed again within the same tick of the
/// file system's clock (git's "racily clean" entries).
const RACY_NS: i64 = 50_000_000;
/// The same, where time stamps have whole seconds.
const RACY_COARSE_NS: i64 = 2_100_000_000;

/// What is known of one workspace's files.
#[derive(Debug, Clone, Default, PartialEq)]
pub(crate) struct Known {
    pub files: HashMap<Vec<u8>, (StatKey, Oid)>,
    pub at_ns: i64,
    /// The index as this crate last wrote it, with the commit that it shows.
    pub index: Option<(StatKey, Oid)>,
    /// The note as this crate last wrote it: while it has not moved since, no turn has begun.
    pub note: Option<StatKey>,
}

impl Known {
    /// What a walk found out.
    pub fn from_walk(walked: &Walked) -> Self {
        let entry = |(path, found): (&Vec<u8>, &crate::walk::Found)| Some((path.clone(), (found.stat, found.oid?)));
        Self { files: walked.files.iter().filter_map(entry).collect(), at_ns: walked.at_ns, ..Self::default() }
    }

    /// What a file with this stat holds, if that is certain.
    pub fn content(&self, path: &[u8], stat: &StatKey) -> Option<Oid> {
        let (then, oid) = self.files.get(path)?;
        let coarse = stat.ctime_ns % 1_000_000_000 == 0 && stat.mtime_ns % 1_000_000_000 == 0;
        let margin = if coarse { RACY_COARSE_NS } else { RACY_NS };
        (then == stat && stat.ctime_ns < self.at_ns.saturating_sub(margin)).then_some(*oid)
    }

    fn write(&self, out: &mut Writer) {
        out.i64(self.at_ns);
        match &self.index {
            Some((stat, oid)) => {
                out.u32(1);
                write_stat(out, stat);
                out.0.extend_from_slice(oid.as_bytes());
            }
            None => out.u32(0),
        }
        out.u32(u32::from(self.note.is_some()));
        if let Some(stat) = &self.note {
            write_stat(out, stat);
        }
        out.u64(self.files.len() as u64);
        let mut files: Vec<_> = self.files.iter().collect();
        files.sort_unstable_by_key(|(path, _)| *path);
        for (path, (stat, oid)) in files {
            out.bytes(path);
            write_stat(out, stat);
            out.0.extend_from_slice(oid.as_bytes());
        }
    }

    fn read(from: &mut Reader<'_>) -> Option<Self> {
        let at_ns = from.i64()?;
        let index = match from.u32()? {
            0 => None,
            _ => Some((read_stat(from)?, Oid::from_bytes(from.take(20)?).ok()?)),
        };
        let note = match from.u32()? {
            0 => None,
            _ => Some(read_stat(from)?),
        };
        let mut files = HashMap::new();
        for _ in 0..from.u64()? {
            let path = from.bytes()?.to_vec();
            files.insert(path, (read_stat(from)?, Oid::from_bytes(from.take(20)?).ok()?));
        }
        Some(Self { files, at_ns, index, note })
    }
}

fn write_stat(out: &mut Writer, s: &StatKey) {
    for v in [s.dev, s.ino, s.size] {
        out.u64(v);
    }
    out.i64(s.ctime_ns);
    out.i64(s.mtime_ns);
    for v in [s.mode, s.uid, s.gid] {
        out.u32(v);
    }
}

fn read_stat(from: &mut Reader<'_>) -> Option<StatKey> {
    Some(StatKey {
        dev: from.u64()?,
        ino: from.u64()?,
        size: from.u64()?,
        ctime_ns: from.i64()?,
        mtime_ns: from.i64()?,
        mode: from.u32()?,
        uid: from.u32()?,
        gid: from.u32()?,
    })
}

/// What is known of the files of all of a unit's workspaces.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct WalkCache(BTreeMap<WorkspaceId, Known>);

impl WalkCache {
    /// Loads the cache if it is the one that the ledger knows by this hash. Otherwise, or if it cannot be
    /// read, it is empty and everything is read anew.
    pub fn load(state: &StateDir, expected: Option<&str>) -> Self {
        let Some(expected) = expected else {
            return Self::default();
        };
        let Ok(Some(bytes)) = state.read(FILE, MAX_FILE_BYTES) else {
            return Self::default();
        };
        if hash(&bytes) != expected {
            return Self::default();
        }
        Self::decode(&bytes).unwrap_or_default()
    }

    /// Takes over what a workspace knows after its turn.
    pub fn update(&mut self, workspace: &Workspace) {
        let note = Note::stat(&workspace.root);
        self.0.insert(workspace.id().clone(), Known { note, ..workspace.known.clone() });
    }

    /// Writes the cache; answers its hash, for `done`.
    ///
    /// # Errors
    /// `Io`; the cache that was there may be kept, which its hash will show.
    pub fn save(&self, state: &StateDir) -> Result<String> {
        let bytes = self.encode();
        state.write(FILE, &bytes)?;
        Ok(hash(&bytes))
    }

    pub(crate) fn known(&self, id: &WorkspaceId) -> Known {
        self.0.get(id).cloned().unwrap_or_default()
    }

    fn encode(&self) -> Vec<u8> {
        let mut out = Writer(MAGIC.to_vec());
        out.u32(self.0.len() as u32);
        for (id, known) in &self.0 {
            out.bytes(id.as_str().as_bytes());
            known.write(&mut out);
        }
        out.0
    }

    fn decode(bytes: &[u8]) -> Option<Self> {
        let mut from = Reader(bytes.strip_prefix(MAGIC)?);
        let mut all = BTreeMap::new();
        for _ in 0..from.u32()? {
            let id = std::str::from_utf8(from.bytes()?).ok()?;
            all.insert(WorkspaceId::parse(id).ok()?, Known::read(&mut from)?);
        }
        from.0.is_empty().then_some(Self(all))
    }
}

fn hash(bytes: &[u8]) -> String {
    data_encoding::HEXLOWER.encode(&Sha256::digest(bytes))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn stat(ctime_ns: i64) -> StatKey {
        StatKey { dev: 1, ino: 2, size: 3, ctime_ns, mtime_ns: 5, mode: 6, uid: 7, gid: 8 }
    }

    fn known() -> Known {
        let mut files = HashMap::new();
        files.insert(b"a\n\xff".to_vec(), (stat(1_000_000_004), Oid::ZERO_SHA1));
        Known { files, at_ns: 2_000_000_000, index: Some((stat(1), Oid::ZERO_SHA1)), note: Some(stat(2)) }
    }

    #[test]
    fn it_is_read_back_and_only_by_its_own_hash() {
        let dir = tempfile::tempdir().unwrap();
        let state = StateDir::open(dir.path()).unwrap();
        let mut cache = WalkCache::default();
        cache.0.insert(WorkspaceId::parse("w").unwrap(), known());
        let hash = cache.save(&state).unwrap();
        assert_eq!(WalkCache::load(&state, Some(&hash)), cache);
        assert_eq!(WalkCache::load(&state, None), WalkCache::default());
        let mut bytes = std::fs::read(dir.path().join(FILE)).unwrap();
        *bytes.last_mut().unwrap() ^= 1;
        std::fs::write(dir.path().join(FILE), bytes).unwrap();
        assert_eq!(WalkCache::load(&state, Some(&hash)), WalkCache::default());
    }

    #[test]
    fn every_cut_of_it_is_refused() {
        let mut cache = WalkCache::default();
        cache.0.insert(WorkspaceId::parse("w").unwrap(), known());
        let bytes = cache.encode();
        assert_eq!(WalkCache::decode(&bytes), Some(cache));
        for len in 0..bytes.len() {
            assert_eq!(WalkCache::decode(&bytes[..len]), None, "{len}");
        }
    }

    #[test]
    fn racy_entries_are_not_believed() {
        let known = known();
        let path = b"a\n\xff";
        assert_eq!(known.content(path, &stat(1_000_000_004)), Some(Oid::ZERO_SHA1));
        assert_eq!(known.content(path, &stat(1_000_000_005)), None);
        let mut racy = known.clone();
        racy.at_ns = 1_000_000_004 + RACY_NS;
        assert_eq!(racy.content(path, &stat(1_000_000_004)), None);
    }
}
