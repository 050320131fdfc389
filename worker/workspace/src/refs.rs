//! Refs and HEAD of a repository, read and written as files (gitrepository-layout): no reflog, no hooks, no
//! symbolic ref other than HEAD is ever written.

use std::os::fd::AsFd;

use git2::Oid;
use rustix::fs::FileType;

use crate::error::{Doing, Result, WorkspaceError};
use crate::root::{Root, components, list};

const MAX_REF_BYTES: u64 = 4096;
const MAX_PACKED_BYTES: u64 = 64 << 20;
const MAX_SYMBOLIC: usize = 5;
const PACKED: &[u8] = b".git/packed-refs";

/// What HEAD says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Head {
    /// On a branch, which may have no commit yet.
    Branch(String),
    /// On a commit.
    Detached(Oid),
}

impl Head {
    /// The ref that a commit moves.
    pub fn name(&self) -> &str {
        match self {
            Self::Branch(name) => name,
            Self::Detached(_) => "HEAD",
        }
    }
}

/// Whether a name can be given to a ref (git-check-ref-format), and stays below `refs/`.
pub(crate) fn is_ref_name(name: &str) -> bool {
    name.starts_with("refs/") && git2::Reference::is_valid_name(name)
}

/// The refs of a repository.
#[derive(Clone, Copy)]
pub(crate) struct Refs<'a>(pub &'a Root);

enum Value {
    Oid(Oid),
    Symbolic(String),
}

impl Refs<'_> {
    /// Reads HEAD. A branch that is itself symbolic is followed.
    pub fn head(self) -> Result<Head> {
        let mut name = match self.value("HEAD")? {
            None => {
                return Err(WorkspaceError::unusable(
                    "the repository has no HEAD; run `git symbolic-ref HEAD refs/heads/main`",
                ));
            }
            Some(Value::Oid(oid)) => return Ok(Head::Detached(oid)),
            Some(Value::Symbolic(name)) => name,
        };
        for _ in 0..MAX_SYMBOLIC {
            match self.value(&name)? {
                Some(Value::Symbolic(next)) => name = next,
                _ => return Ok(Head::Branch(name)),
            }
        }
        Err(WorkspaceError::unusable("HEAD leads round in circles; run `git symbolic-ref HEAD refs/heads/main`"))
    }

    /// The commit that HEAD, or what it names, points to.
    pub fn tip(self, head: &Head) -> Result<Option<Oid>> {
        match head {
            Head::Detached(oid) => Ok(Some(*oid)),
            Head::Branch(name) => self.get(name),
        }
    }

    /// The object that a ref points to; `None` when there is no such ref.
    pub fn get(self, name: &str) -> Result<Option<Oid>> {
        match self.value(name)? {
            Some(Value::Oid(oid)) => Ok(Some(oid)),
            Some(Value::Symbolic(_)) | None => Ok(None),
        }
    }

    fn value(self, name: &str) -> Result<Option<Value>> {
        let path = format!(".git/{name}");
        let is_file = self.0.stat(path.as_bytes()).doing(|| format!("look at {name}"))?;
        if is_file.is_none_or(|stat| stat.file_type() == FileType::Directory) {
            return Ok(self.packed()?.into_iter().find(|(packed, _)| packed == name).map(|(_, oid)| Value::Oid(oid)));
        }
        let damaged = |why: String| {
            WorkspaceError::unusable(format!("{name} of the repository cannot be read ({why}); run `git fsck`"))
        };
        let bytes =
            self.0.read(path.as_bytes(), MAX_REF_BYTES).map_err(|e| damaged(e.to_string()))?.unwrap_or_default();
        let text = String::from_utf8(bytes).map_err(|_| damaged("not text".into()))?;
        let text = text.trim_end();
        match text.strip_prefix("ref:").map(str::trim_start) {
            Some(to) if is_ref_name(to) => Ok(Some(Value::Symbolic(to.to_owned()))),
            Some(_) => Err(damaged("names no ref".into())),
            None => match parse_oid(text) {
                Some(oid) => Ok(Some(Value::Oid(oid))),
                None => Err(damaged("neither a commit nor a ref".into())),
            },
        }
    }

    /// All packed refs.
    ///
    /// # Errors
    /// `Unusable` when the file is there and is not what git writes.
    pub fn packed(self) -> Result<Vec<(String, Oid)>> {
        let damaged = |why: &str| {
            WorkspaceError::unusable(format!(
                "`.git/packed-refs` cannot be read: {why}; restore it, or remove it and run `git fsck`"
            ))
        };
        let bytes = match self.0.read(PACKED, MAX_PACKED_BYTES) {
            Ok(Some(bytes)) => bytes,
            Ok(None) => return Ok(Vec::new()),
            Err(e) if e.kind() == std::io::ErrorKind::InvalidInput => {
                return Err(damaged("it is not a file"));
            }
            Err(e) => return Err(damaged(&e.to_string())),
        };
        let mut refs = Vec::new();
        for line in bytes.split(|b| *b == b'\n') {
            if line.is_empty() || matches!(line[0], b'#' | b'^') {
                continue;
            }
            let line = std::str::from_utf8(line).map_err(|_| damaged("it is not text"))?;
            let (oid, name) = line.split_once(' ').ok_or_else(|| damaged("a line is not `<commit> <ref>`"))?;
            let oid = parse_oid(oid).ok_or_else(|| damaged("a line is not `<commit> <ref>`"))?;
            refs.push((name.to_owned(), oid));
        }
        Ok(refs)
    }

    /// Points a ref to an object.
    pub fn set(self, name: &str, oid: Oid) -> Result<()> {
        self.put(name, format!("{oid}\n").as_bytes())
    }

    /// Puts HEAD back.
    pub fn set_head(self, head: &Head) -> Result<()> {
        match head {
            Head::Branch(name) => self.put("HEAD", format!("ref: {name}\n").as_bytes()),
            Head::Detached(oid) => self.set("HEAD", *oid),
        }
    }

    fn put(self, name: &str, content: &[u8]) -> Result<()> {
        if name != "HEAD" && !is_ref_name(name) {
            return Err(WorkspaceError::refused(format!("`{name}` is not the name of a ref")));
        }
        let path = format!(".git/{name}");
        let lock = format!("{path}.lock");
        self.0.remove(lock.as_bytes()).doing(|| format!("remove the stale lock of {name}"))?;
        // A folder in the way holds no ref of use: empty, or refs that a name above them now excludes.
        self.0.write_durable(path.as_bytes(), content, 0o644).doing(|| format!("write {name}"))
    }

    /// Removes a ref, packed or not.
    pub fn delete(self, name: &str) -> Result<()> {
        if !is_ref_name(name) {
            return Ok(());
        }
        let loose = format!(".git/{name}");
        self.0.remove(loose.as_bytes()).doing(|| format!("remove {name}"))?;
        // `remove` takes away parents that are left empty; a repository without `refs/` is none.
        self.0.make_dir(b".git/refs/heads").doing(|| "make refs/heads".into())?;
        let packed = self.0.read(PACKED, MAX_PACKED_BYTES).ok().flatten().unwrap_or_default();
        let line_end = format!(" {name}").into_bytes();
        if !packed.split(|b| *b == b'\n').any(|line| line.ends_with(&line_end)) {
            return Ok(());
        }
        let mut kept = Vec::with_capacity(packed.len());
        let mut dropping = false;
        for line in packed.split_inclusive(|b| *b == b'\n') {
            dropping = (dropping && line.first() == Some(&b'^')) || line.trim_ascii_end().ends_with(&line_end);
            if !dropping {
                kept.extend_from_slice(line);
            }
        }
        self.0.write_durable(PACKED, &kept, 0o644).doing(|| "write packed-refs".into())
    }

    /// Names of stale lock files below a folder of the repository.
    pub fn locks_below(self, folder: &[u8]) -> Vec<Vec<u8>> {
        let mut found = Vec::new();
        let mut left = vec![folder.to_vec()];
        while let Some(path) = left.pop() {
            if components(&path).count() > 32 {
                continue;
            }
            let Ok(dir) = self.0.dir(&path) else { continue };
            for (name, kind) in list(dir.as_fd()).unwrap_or_default() {
                let below = [path.as_slice(), b"/", &name].concat();
                if kind == FileType::Directory {
                    left.push(below);
                } else if name.ends_with(b".lock") {
                    found.push(below);
                }
            }
        }
        found
    }
}

fn parse_oid(text: &str) -> Option<Oid> {
    (text.len() == 40 && text.bytes().all(|b| b.is_ascii_hexdigit())).then(|| Oid::from_str(text).ok()).flatten()
}
