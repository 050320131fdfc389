//! Programs: on `PATH`, beside ourselves, and how to install what is missing.

use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use anyhow::{Context, bail};

use crate::failure::Failure;

/// The program of this name on `PATH`.
pub fn find(name: &str) -> Option<PathBuf> {
    find_in(name, &std::env::var_os("PATH").unwrap_or_default())
}

fn find_in(name: &str, path: &std::ffi::OsStr) -> Option<PathBuf> {
    if name.contains('/') {
        return Some(PathBuf::from(name)).filter(|p| is_program(p));
    }
    std::env::split_paths(path).map(|folder| folder.join(name)).find(|p| is_program(p))
}

fn is_program(path: &Path) -> bool {
    path.metadata().is_ok_and(|m| m.is_file() && m.permissions().mode() & 0o111 != 0)
}

/// A binary that was built with this one.
///
/// # Errors
/// When it is not beside this executable.
pub fn sibling(name: &str) -> Result<PathBuf, Failure> {
    let path = beside(name)?;
    match is_program(&path) {
        true => Ok(path),
        false => Err(Failure::Unfit(format!(
            "{} is missing; it is built with `rekindle` (`make up` builds everything)",
            path.display()
        ))),
    }
}

fn beside(name: &str) -> Result<PathBuf, Failure> {
    let me = std::env::current_exe()?;
    Ok(me.canonicalize().unwrap_or(me).with_file_name(name))
}

/// Where the static worker binary is looked for: `$REKINDLE_WORKER`, else beside this executable.
///
/// # Errors
/// When this executable's own path is unknown.
pub fn worker_binary() -> Result<PathBuf, Failure> {
    match std::env::var_os("REKINDLE_WORKER").filter(|v| !v.is_empty()) {
        Some(path) => Ok(std::path::absolute(path)?),
        None => beside("rekindle-worker-static"),
    }
}

/// Whether a program needs no dynamic linker: an ELF file without a `PT_INTERP` segment.
///
/// # Errors
/// When it cannot be read or is no 64-bit little-endian ELF file.
pub fn is_static(path: &Path) -> anyhow::Result<bool> {
    // ELF-64 object file format: e_phoff at 32, e_phentsize at 54, e_phnum at 56; p_type first in each header.
    const PT_INTERP: u32 = 3;
    let bytes = std::fs::read(path).with_context(|| format!("read {}", path.display()))?;
    if bytes.get(..6) != Some(b"\x7fELF\x02\x01") {
        bail!("{} is no 64-bit ELF program", path.display());
    }
    let part = |at: usize, len: usize| {
        let end = at.checked_add(len).filter(|e| *e <= bytes.len());
        let end = end.with_context(|| format!("{} is cut off", path.display()))?;
        anyhow::Ok(&bytes[at..end])
    };
    let number = |at: usize, len: usize| {
        let le = part(at, len)?.iter().rev().fold(0_u64, |n, b| n << 8 | u64::from(*b));
        anyhow::Ok(usize::try_from(le)?)
    };
    let (offset, size, count) = (number(32, 8)?, number(54, 2)?, number(56, 2)?);
    for i in 0..count {
        if part(offset.saturating_add(i * size), 4)? == PT_INTERP.to_le_bytes() {
            return Ok(false);
        }
    }
    Ok(true)
}

/// The line that installs a package here, where the system is a known one.
pub fn install_line(package: &str) -> String {
    let release = std::fs::read_to_string("/etc/os-release").unwrap_or_default();
    install_line_for(&release, package)
}

fn install_line_for(release: &str, package: &str) -> String {
    let ids: String = release
        .lines()
        .filter_map(|l| l.strip_prefix("ID=").or_else(|| l.strip_prefix("ID_LIKE=")))
        .collect::<Vec<_>>()
        .join(" ")
        .replace('"', "");
    let is = |id: &str| ids.split(' ').any(|i| i == id);
    let elsewhere = if package == "redis-server" { "redis" } else { package };
    if is("debian") || is("ubuntu") {
        format!("apt-get install -y {package}")
    } else if is("fedora") || is("rhel") {
        format!("dnf install -y {elsewhere}")
    } else if is("alpine") {
        format!("apk add {elsewhere}")
    } else if is("arch") {
        format!("pacman -S {elsewhere}")
    } else {
        format!("install {elsewhere} with this system's package manager")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn programs_are_found_by_path_and_must_be_executable() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("tool");
        std::fs::write(&file, "").unwrap();
        assert_eq!(find_in("tool", folder.path().as_os_str()), None);
        std::fs::set_permissions(&file, PermissionsExt::from_mode(0o755)).unwrap();
        assert_eq!(find_in("tool", folder.path().as_os_str()), Some(file));
    }

    #[test]
    fn static_programs_have_no_interpreter() {
        let folder = tempfile::tempdir().unwrap();
        let elf = |kinds: &[u32]| {
            let mut bytes = b"\x7fELF\x02\x01".to_vec();
            bytes.resize(64, 0);
            bytes[32] = 64;
            bytes[54] = 56;
            bytes[56] = u8::try_from(kinds.len()).unwrap();
            for kind in kinds {
                bytes.extend(kind.to_le_bytes());
                bytes.extend([0; 52]);
            }
            let path = folder.path().join("elf");
            std::fs::write(&path, bytes).unwrap();
            is_static(&path)
        };
        assert!(elf(&[1, 2, 6]).unwrap());
        assert!(!elf(&[6, 3, 1]).unwrap());
        let path = folder.path().join("script");
        std::fs::write(&path, "#!/bin/sh\n").unwrap();
        assert!(is_static(&path).is_err());
        std::fs::write(&path, b"\x7fELF\x02\x01").unwrap();
        assert!(is_static(&path).is_err());
    }

    #[test]
    fn install_lines_follow_the_system() {
        let line = |release| install_line_for(release, "redis-server");
        assert_eq!(line("ID=debian\n"), "apt-get install -y redis-server");
        assert_eq!(line("ID=linuxmint\nID_LIKE=\"ubuntu debian\"\n"), "apt-get install -y redis-server");
        assert_eq!(line("ID=\"rocky\"\nID_LIKE=\"rhel centos fedora\"\n"), "dnf install -y redis");
    }
}
