//! Names inside a workspace: a path that stays in it, a commit.

use std::borrow::Cow;
use std::fmt;

use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::{Deserialize, Serialize};

use crate::id::IdError;

const PATH_MAX_BYTES: usize = 4096;

/// A path relative to a workspace, without `.`, `..`, empty parts and `.git`; empty for the workspace itself.
#[derive(Debug, Clone, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct WorkspacePath(String);

impl WorkspacePath {
    /// Parses a path; one `/` at its end is left out.
    ///
    /// # Errors
    /// [`IdError`] when it is not such a path. That nothing below `.git` is named in any case of letters keeps the repository's
    /// own files private on file systems that do not tell cases apart, too.
    pub fn parse(text: impl Into<String>) -> Result<Self, IdError> {
        let mut text = text.into();
        if text.len() > 1 && text.ends_with('/') {
            text.pop();
        }
        let is_part =
            |part: &str| !matches!(part, "" | "." | "..") && !part.eq_ignore_ascii_case(".git") && !part.contains('\0');
        if text.len() <= PATH_MAX_BYTES && (text.is_empty() || text.split('/').all(is_part)) {
            Ok(Self(text))
        } else {
            Err(IdError {
                what: "path",
                grammar: "at most 4096 bytes, relative to the workspace, without `.`, `..`, empty parts, NUL and `.git`",
            })
        }
    }

    /// The text form.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl TryFrom<String> for WorkspacePath {
    type Error = IdError;
    fn try_from(text: String) -> Result<Self, IdError> {
        Self::parse(text)
    }
}

impl From<WorkspacePath> for String {
    fn from(path: WorkspacePath) -> String {
        path.0
    }
}

impl fmt::Display for WorkspacePath {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl JsonSchema for WorkspacePath {
    fn schema_name() -> Cow<'static, str> {
        "WorkspacePath".into()
    }
    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({ "type": "string", "maxLength": PATH_MAX_BYTES })
    }
}

/// The whole name of a git commit: 40 lower-case hexadecimal digits.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct CommitSha(String);

impl CommitSha {
    /// Parses the text form.
    ///
    /// # Errors
    /// [`IdError`] when it is another text.
    pub fn parse(text: impl Into<String>) -> Result<Self, IdError> {
        let text = text.into();
        if text.len() == 40 && text.bytes().all(|b| matches!(b, b'0'..=b'9' | b'a'..=b'f')) {
            Ok(Self(text))
        } else {
            Err(IdError { what: "commit", grammar: "[0-9a-f]{40}" })
        }
    }

    /// The text form.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl TryFrom<String> for CommitSha {
    type Error = IdError;
    fn try_from(text: String) -> Result<Self, IdError> {
        Self::parse(text)
    }
}

impl From<CommitSha> for String {
    fn from(sha: CommitSha) -> String {
        sha.0
    }
}

impl fmt::Display for CommitSha {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl JsonSchema for CommitSha {
    fn schema_name() -> Cow<'static, str> {
        "CommitSha".into()
    }
    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({ "type": "string", "pattern": "^[0-9a-f]{40}$" })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_path_stays_in_the_workspace() {
        for good in ["", "a", "a/b.c", ".gitignore", "a/..b", "ä ö/\n", "a.git/x"] {
            assert_eq!(WorkspacePath::parse(good).unwrap().as_str(), good);
        }
        assert_eq!(WorkspacePath::parse("a/b/").unwrap().as_str(), "a/b");
        let long = "a".repeat(4097);
        for bad in ["/", "/etc", "..", "a/../b", "./a", "a//b", "a//", ".git", "sub/.GIT/config", "a\0b", &long] {
            assert!(WorkspacePath::parse(bad).is_err(), "{bad:?}");
        }
    }

    #[test]
    fn a_commit_is_named_in_full() {
        let sha = "0123456789abcdef0123456789abcdef01234567";
        assert_eq!(CommitSha::parse(sha).unwrap().as_str(), sha);
        for bad in ["", "HEAD", "0123456", &sha.to_uppercase(), &format!("{sha}0")] {
            assert!(CommitSha::parse(bad).is_err(), "{bad}");
        }
    }
}
