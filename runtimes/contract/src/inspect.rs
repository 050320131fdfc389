//! `POST /inspect` of `runtime.v1`: a bounded, read-only look into one workspace, and what `rekindle-worker inspect` says of it.

use std::collections::BTreeMap;

use jiff::Timestamp;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::id::WorkspaceId;
use crate::path::{CommitSha, WorkspacePath};
use crate::unit::Principal;

/// `POST /inspect`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
pub struct InspectRequest {
    /// Which workspace.
    pub workspace: WorkspaceId,
    /// What to look at.
    pub look: Look,
    /// Seconds after which the look is ended, 1 to 60; 10 where absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub deadline_sec: Option<u64>,
}

/// What to look at; also the text of `REKINDLE_INSPECT`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(tag = "op", rename_all = "lowercase", deny_unknown_fields)]
pub enum Look {
    /// What is in a folder or a file, now.
    Files {
        /// Relative to the workspace; empty for the workspace itself.
        #[serde(default)]
        path: WorkspacePath,
    },
    /// Commits of the present branch, first parents only, the newest first.
    Log {
        /// How many, 1 to 200; 50 where absent.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        limit: Option<u32>,
        /// Begin with the parent of this commit.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        before: Option<CommitSha>,
    },
    /// What differs between two commits.
    Diff {
        /// The older one; the first parent of `to` where absent.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        from: Option<CommitSha>,
        /// The newer one; the present branch's last where absent.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        to: Option<CommitSha>,
    },
}

/// What a look prints: the answer, or why there is none.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum InspectOutcome {
    /// What was seen.
    Answer(InspectAnswer),
    /// Nothing was seen.
    Refused {
        /// What the caller can do about it.
        reason: InspectRefusal,
        /// In words.
        detail: String,
    },
}

/// Why nothing was seen.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum InspectRefusal {
    /// No such file, folder or commit.
    Absent,
    /// The look itself cannot be done.
    Invalid,
    /// The workspace is in no state to be looked at this way.
    Unusable,
}

/// What was seen. Whatever was cut to its bound says so.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(tag = "kind", rename_all = "lowercase", deny_unknown_fields)]
pub enum InspectAnswer {
    /// A folder, without `.git`.
    Folder {
        /// Its path.
        path: String,
        /// What is in it, by name.
        entries: Vec<FolderEntry>,
        /// There are more.
        truncated: bool,
    },
    /// A file.
    File {
        /// Its path.
        path: String,
        /// Bytes of the whole file.
        size: u64,
        /// Its content, or the first MiB of it, in base64.
        content: String,
        /// The file is longer than its content here.
        truncated: bool,
    },
    /// A symbolic link, which is told and not followed.
    Link {
        /// Its path.
        path: String,
        /// Where it leads, which need not exist.
        target: String,
    },
    /// Commits.
    Log {
        /// The newest first.
        commits: Vec<LogCommit>,
        /// `before` of the commits that follow; null when there are none.
        next: Option<CommitSha>,
    },
    /// A difference.
    Diff {
        /// The older commit; null when it is the empty tree.
        from: Option<CommitSha>,
        /// The newer commit.
        to: CommitSha,
        /// The files that differ, by path.
        files: Vec<FileDiff>,
        /// There are more files.
        truncated: bool,
    },
}

/// What a name in a folder stands for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum EntryKind {
    /// A regular file.
    File,
    /// A folder.
    Folder,
    /// A symbolic link.
    Link,
    /// A socket, pipe or device.
    Other,
}

/// A name in a folder.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct FolderEntry {
    /// The name; what is not UTF-8 in it is replaced.
    pub name: String,
    /// What it is.
    pub kind: EntryKind,
    /// Bytes, of a file.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub size: Option<u64>,
    /// Whether it can be run, of a file.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub executable: bool,
}

/// A commit.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct LogCommit {
    /// Its name.
    pub sha: CommitSha,
    /// Its parents.
    pub parents: Vec<CommitSha>,
    /// First line of its message.
    pub subject: String,
    /// Who wrote it.
    pub author: Principal,
    /// When it was written.
    #[schemars(with = "String")]
    pub at: Timestamp,
    /// `Unit`, `Turn`, `Generation`, `Trigger` and whatever else its last paragraph names.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub trailers: BTreeMap<String, String>,
}

/// What became of a file.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum FileStatus {
    /// It is new.
    Added,
    /// It is gone.
    Deleted,
    /// Its content or its mode changed.
    Modified,
    /// It has another name and the same content.
    Renamed,
    /// It is another kind of thing, such as a link.
    Retyped,
}

/// One file of a difference.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct FileDiff {
    /// Its path, the old one where it is gone.
    pub path: String,
    /// Its path before, where it was renamed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub old_path: Option<String>,
    /// What became of it.
    pub status: FileStatus,
    /// Unified diff; null for binary and large files, and where `truncated`.
    pub patch: Option<String>,
    /// Its patch is longer than what was left of the bound.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub truncated: bool,
}
