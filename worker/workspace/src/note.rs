//! The note: where HEAD and the branch were when a turn began, for whoever must clean up after it.
//!
//! It lies in the repository, not in the state folder, since another unit may be the next to use a workspace.

use contract::{TurnId, UnitId};
use data_encoding::BASE64;
use git2::Oid;
use serde::{Deserialize, Serialize};

use crate::error::{Doing, Result};
use crate::refs::{Head, is_ref_name};
use crate::root::{Root, StatKey, components, split};
use crate::rules::bad_name;
use crate::tree::{Entry, Flat, Kind};

const FILE: &[u8] = b".git/rekindle/turn.json";
const MAX_BYTES: u64 = 16 << 20;

/// Where a turn began.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct Note {
    pub turn: TurnId,
    pub unit: UnitId,
    /// `HEAD` when it was detached.
    branch: String,
    tip: String,
    /// Operations of several commits, a rebase, that people had under way.
    #[serde(default)]
    pub sequences: Vec<String>,
    /// `.gitignore` files that are not tracked, path (base64) and content (object).
    #[serde(default)]
    ignore_files: Vec<(String, String)>,
    /// Whether the turn is over for this workspace: its branch moved, or its leftovers put aside.
    #[serde(default)]
    pub concluded: bool,
}

impl Note {
    pub fn new(turn: &TurnId, unit: &UnitId, head: &Head, tip: Oid, sequences: &[&str]) -> Self {
        Self {
            turn: turn.clone(),
            unit: unit.clone(),
            branch: head.name().to_owned(),
            tip: tip.to_string(),
            sequences: sequences.iter().map(|s| (*s).to_owned()).collect(),
            ignore_files: Vec::new(),
            concluded: false,
        }
    }

    /// With the `.gitignore` files that decide beside the tracked ones.
    pub fn with_ignore_files(mut self, files: &Flat) -> Self {
        self.ignore_files = files.iter().map(|(path, entry)| (BASE64.encode(path), entry.oid.to_string())).collect();
        self
    }

    /// Those files.
    pub fn ignore_files(&self) -> Flat {
        let decode = |(path, oid): &(String, String)| {
            let path = BASE64.decode(path.as_bytes()).ok()?;
            let fit = components(&path).all(|name| name != b".git" && bad_name(name, false).is_none());
            let oid = Oid::from_str(oid).ok()?;
            (fit && split(&path).1 == b".gitignore").then_some((path, Entry { kind: Kind::File, oid }))
        };
        self.ignore_files.iter().filter_map(decode).collect()
    }

    /// HEAD and tip, if they are such.
    pub fn place(&self) -> Option<(Head, Oid)> {
        let tip = Oid::from_str(&self.tip).ok()?;
        match self.branch.as_str() {
            "HEAD" => Some((Head::Detached(tip), tip)),
            name if is_ref_name(name) => Some((Head::Branch(name.to_owned()), tip)),
            _ => None,
        }
    }

    pub fn write(&self, root: &Root) -> Result<()> {
        let bytes = serde_json::to_vec(self).map_err(std::io::Error::from).doing(|| "write the turn's note".into())?;
        root.write_durable(FILE, &bytes, 0o644).doing(|| "write the turn's note".into())
    }

    /// Notes that the turn is over. That need not be durable: where it is lost, there is only something less to clean up.
    pub fn conclude(mut self, root: &Root) -> Result<()> {
        self.concluded = true;
        let bytes = serde_json::to_vec(&self).map_err(std::io::Error::from).doing(|| "conclude the note".into())?;
        root.write(FILE, &bytes, 0o644).doing(|| "conclude the turn's note".into())
    }

    /// What tells whether the note has moved. Its content may be anybody's, when it was last changed is the kernel's word.
    pub fn stat(root: &Root) -> Option<StatKey> {
        root.stat(FILE).ok().flatten()
    }

    /// The note that is there; one that cannot be read is none.
    pub fn read(root: &Root) -> Option<Self> {
        let bytes = root.read(FILE, MAX_BYTES).ok().flatten()?;
        serde_json::from_slice(&bytes).ok()
    }
}
