//! What the runner is asked: the turn's own text, and the file of the primary workspace that it names.

use std::fs::File;
use std::io::{self, Read};
use std::path::Path;

use rustix::fs::{CWD, Mode, OFlags, ResolveFlags, openat, openat2};

/// Most bytes of a prompt file.
const MAX_BYTES: u64 = 1 << 20;

/// Puts the prompt together: the text first, then the file, an empty line between.
///
/// # Errors
/// A sentence for the person who wrote the dispatch.
pub fn compose(text: &str, file: Option<&str>, workspace: &Path) -> Result<String, String> {
    let Some(name) = file else { return Ok(text.to_owned()) };
    let content = read(workspace, name).map_err(|why| format!("the prompt file `{name}` cannot be read: {why}"))?;
    Ok(if text.is_empty() { content } else { format!("{text}\n\n{content}") })
}

/// The file is a stranger's: it is opened beneath the workspace only, through no link, and must be a small regular one.
fn read(workspace: &Path, name: &str) -> Result<String, String> {
    let told = |error: rustix::io::Errno| io::Error::from(error).to_string();
    let root =
        openat(CWD, workspace, OFlags::DIRECTORY | OFlags::CLOEXEC | OFlags::PATH, Mode::empty()).map_err(told)?;
    let how = OFlags::RDONLY | OFlags::CLOEXEC | OFlags::NONBLOCK | OFlags::NOCTTY;
    let file = openat2(&root, name, how, Mode::empty(), ResolveFlags::BENEATH | ResolveFlags::NO_SYMLINKS).map_err(
        |error| match error {
            rustix::io::Errno::XDEV => "it lies outside the workspace".to_owned(),
            rustix::io::Errno::LOOP => "links are not followed".to_owned(),
            other => told(other),
        },
    )?;
    let file = File::from(file);
    if !file.metadata().is_ok_and(|meta| meta.is_file()) {
        return Err("it is no regular file".into());
    }
    let mut bytes = Vec::new();
    file.take(MAX_BYTES + 1).read_to_end(&mut bytes).map_err(|error| error.to_string())?;
    if bytes.len() as u64 > MAX_BYTES {
        return Err("it is larger than 1 MiB".into());
    }
    Ok(String::from_utf8_lossy(&bytes).into_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn text_comes_before_the_file() {
        let dir = tempfile::tempdir().unwrap();
        std::fs::create_dir(dir.path().join("prompts")).unwrap();
        std::fs::write(dir.path().join("prompts/x.md"), "from the file").unwrap();
        let compose = |text, file| compose(text, file, dir.path());
        assert_eq!(compose("a", None).unwrap(), "a");
        assert_eq!(compose("a", Some("prompts/x.md")).unwrap(), "a\n\nfrom the file");
        assert_eq!(compose("", Some("prompts/x.md")).unwrap(), "from the file");
    }

    #[test]
    fn nothing_outside_the_workspace_is_read() {
        let dir = tempfile::tempdir().unwrap();
        let inside = dir.path().join("w");
        std::fs::create_dir(&inside).unwrap();
        std::fs::write(dir.path().join("secret"), "s").unwrap();
        std::os::unix::fs::symlink("../secret", inside.join("link")).unwrap();
        std::fs::write(inside.join("big"), vec![b'x'; MAX_BYTES as usize + 1]).unwrap();
        for (name, why) in [
            ("../secret", "outside"),
            ("/etc/passwd", "outside"),
            ("link", "links"),
            ("big", "1 MiB"),
            (".", "regular"),
            ("no", "No such"),
        ] {
            let error = compose("", Some(name), &inside).unwrap_err();
            assert!(error.contains(why), "{name}: {error}");
        }
    }
}
