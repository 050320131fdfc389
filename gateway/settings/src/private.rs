//! A folder that is nobody else's business.

use std::fs::{DirBuilder, Permissions};
use std::io;
use std::os::unix::fs::{DirBuilderExt, MetadataExt, PermissionsExt};
use std::path::Path;

/// Makes a folder with mode 0700. One that is there already is closed to others, if it is empty or holds one of `marks`, by
/// which we know our own. Whatever was below it stays as it is.
///
/// # Errors
/// `PermissionDenied` with what to do, when it belongs to somebody else, or is open to others and holds other things: then it is
/// not ours to close, and nothing was changed.
pub fn make_private(folder: &Path, marks: &[&str]) -> io::Result<()> {
    DirBuilder::new().recursive(true).mode(0o700).create(folder)?;
    let seen = folder.metadata()?;
    let refused = |why: String| Err(io::Error::new(io::ErrorKind::PermissionDenied, why));
    let own = rustix::process::geteuid().as_raw();
    if seen.uid() != own {
        let whose = seen.uid();
        return refused(format!(
            "it belongs to uid {whose}, who could read and change everything in it; give it to uid {own} (chown), or \
             choose another folder"
        ));
    }
    if seen.mode() & 0o077 == 0 {
        return Ok(());
    }
    let ours = marks.iter().any(|mark| folder.join(mark).exists()) || folder.read_dir()?.next().is_none();
    if !ours {
        return refused(
            "others may enter it, and it holds other things; choose an empty folder, or close it (chmod 700)".into(),
        );
    }
    std::fs::set_permissions(folder, Permissions::from_mode(0o700))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn mode(path: &Path) -> u32 {
        path.metadata().unwrap().mode() & 0o777
    }

    #[test]
    fn what_is_ours_is_closed_and_what_is_not_is_refused() {
        let dir = tempfile::tempdir().unwrap();
        let folder = dir.path().join("a/b");
        make_private(&folder, &["mark"]).unwrap();
        assert_eq!(mode(&folder), 0o700);
        let open = || std::fs::set_permissions(&folder, Permissions::from_mode(0o755)).unwrap();
        open();
        make_private(&folder, &["mark"]).unwrap();
        assert_eq!(mode(&folder), 0o700);

        std::fs::write(folder.join("other"), "").unwrap();
        make_private(&folder, &["mark"]).unwrap();
        open();
        let error = make_private(&folder, &["mark"]).unwrap_err();
        assert!(error.to_string().contains("chmod 700"), "{error}");
        assert_eq!(mode(&folder), 0o755);
        std::fs::write(folder.join("mark"), "").unwrap();
        make_private(&folder, &["mark"]).unwrap();
        assert_eq!(mode(&folder), 0o700);
        if rustix::process::geteuid().is_root() {
            std::os::unix::fs::chown(&folder, Some(10_003), None).unwrap();
            let error = make_private(&folder, &["mark"]).unwrap_err();
            assert!(error.to_string().contains("belongs to uid 10003"), "{error}");
        }
    }
}
