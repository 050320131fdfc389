//! The agent CLI of this machine, for sandboxes that are processes: which folders they must be able to read.

use std::io::Read;
use std::path::{Path, PathBuf};

use crate::programs;

/// Folders that every process sandbox has anyway.
const SYSTEM: [&str; 6] = ["/usr", "/bin", "/sbin", "/lib", "/lib64", "/etc"];

/// A program and what it needs.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AgentCli {
    /// As it stands on `PATH`.
    pub program: PathBuf,
    /// Folders outside the system's own: of the link, of what it leads to, and of its interpreter.
    pub folders: Vec<PathBuf>,
    /// Those of them that `PATH` must have, for the program and its interpreter to be found.
    pub path: Vec<PathBuf>,
}

impl AgentCli {
    /// `claude` on `PATH`.
    pub fn find() -> Option<Self> {
        Some(Self::at(&programs::find("claude")?, programs::find("node").as_deref()))
    }

    fn at(program: &Path, node: Option<&Path>) -> Self {
        let real = program.canonicalize().unwrap_or_else(|_| program.into());
        let mut path: Vec<PathBuf> = program.parent().map(Into::into).into_iter().collect();
        if runs_on_node(&real)
            && let Some(node) = node
        {
            path.extend(node.parent().map(Into::into));
            path.extend(node.canonicalize().ok().and_then(|n| Some(n.parent()?.to_owned())));
        }
        path.retain(|f| !is_system(f));
        path.dedup();
        let mut folders = path.clone();
        folders.extend(package(&real).filter(|f| !is_system(f)));
        folders.sort();
        folders.dedup();
        Self { program: program.into(), folders, path }
    }
}

fn is_system(folder: &Path) -> bool {
    SYSTEM.iter().any(|s| folder.starts_with(s))
}

/// The npm package that a file is in (a package may need its other files), else its folder.
fn package(real: &Path) -> Option<PathBuf> {
    let parts: Vec<_> = real.components().collect();
    let modules = parts.iter().rposition(|p| p.as_os_str() == "node_modules");
    let scoped = |i: usize| parts.get(i + 1).is_some_and(|p| p.as_os_str().to_string_lossy().starts_with('@'));
    match modules {
        Some(i) => Some(parts.iter().take(i + 2 + usize::from(scoped(i))).collect()),
        None => real.parent().map(Into::into),
    }
}

fn runs_on_node(real: &Path) -> bool {
    let mut head = [0; 64];
    let read = std::fs::File::open(real).and_then(|mut f| f.read(&mut head)).unwrap_or(0);
    let line = head[..read].split(|b| *b == b'\n').next().unwrap_or_default();
    line.starts_with(b"#!") && line.windows(4).any(|w| w == b"node")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_package_in_a_home_folder_is_readable_whole_with_its_interpreter() {
        let root = tempfile::tempdir().unwrap();
        let root = root.path().canonicalize().unwrap();
        let package = root.join("lib/node_modules/@anthropic-ai/claude-code");
        std::fs::create_dir_all(package.join("bin")).unwrap();
        std::fs::create_dir_all(root.join("bin")).unwrap();
        std::fs::write(package.join("bin/cli.js"), "#!/usr/bin/env node\n").unwrap();
        std::fs::write(root.join("bin/node"), "").unwrap();
        let link = root.join("bin/claude");
        std::os::unix::fs::symlink("../lib/node_modules/@anthropic-ai/claude-code/bin/cli.js", &link).unwrap();
        let cli = AgentCli::at(&link, Some(&root.join("bin/node")));
        assert_eq!(cli.path, [root.join("bin")]);
        assert_eq!(cli.folders, [root.join("bin"), package]);
    }

    #[test]
    fn the_systems_folders_are_there_anyway() {
        assert!(AgentCli::at(Path::new("/usr/bin/env"), None).folders.is_empty());
        assert_eq!(package(Path::new("/opt/claude/2.1/claude")), Some("/opt/claude/2.1".into()));
    }
}
