//! Reading what says by itself how long it is.

use std::fs::File;
use std::io::{self, Read, Seek, SeekFrom};
use std::path::Path;

use rustix::fs::{FileType, Mode, OFlags};
use rustix::io::Errno;

/// Reads a regular file whole.
///
/// # Errors
/// `FileTooLarge` when it has more than `most` bytes; `InvalidInput` when it is a link, or no regular file.
pub fn read_file(path: &Path, most: usize) -> io::Result<Vec<u8>> {
    let bytes = read_at_most(open_file(path)?, most.saturating_add(1))?;
    if bytes.len() > most {
        return Err(io::Error::new(
            io::ErrorKind::FileTooLarge,
            format!("{} has more than {most} bytes", path.display()),
        ));
    }
    Ok(bytes)
}

/// The last bytes of a regular file, at most so many.
///
/// # Errors
/// `InvalidInput` when it is a link, or no regular file.
pub fn read_tail(path: &Path, most: usize) -> io::Result<Vec<u8>> {
    let mut file = open_file(path)?;
    let length = file.metadata()?.len();
    file.seek(SeekFrom::Start(length.saturating_sub(most as u64)))?;
    read_at_most(file, most)
}

/// What the kernel tells in a file that it makes up (`/proc`, cgroups), at most so many bytes of it as text. A process can make
/// its command line, its environment and its list of mounts as long as it likes.
///
/// # Errors
/// Of reading it.
pub fn read_kernel(path: impl AsRef<Path>, most: usize) -> io::Result<String> {
    let bytes = read_at_most(File::open(path)?, most)?;
    Ok(String::from_utf8_lossy(&bytes).into_owned())
}

fn read_at_most(from: impl Read, most: usize) -> io::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    from.take(most as u64).read_to_end(&mut bytes)?;
    Ok(bytes)
}

fn open_file(path: &Path) -> io::Result<File> {
    // A FIFO would be waited for.
    let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::NOCTTY | OFlags::CLOEXEC;
    let wrong = || io::Error::new(io::ErrorKind::InvalidInput, format!("{} is no regular file", path.display()));
    let file = match rustix::fs::open(path, flags, Mode::empty()) {
        Err(Errno::LOOP) => return Err(wrong()),
        opened => File::from(opened?),
    };
    let kind = FileType::from_raw_mode(rustix::fs::fstat(&file)?.st_mode);
    if kind == FileType::RegularFile { Ok(file) } else { Err(wrong()) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_more_is_read_than_was_asked_for() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("file");
        std::fs::write(&path, "0123456789").unwrap();
        assert_eq!(read_file(&path, 10).unwrap(), b"0123456789");
        assert_eq!(read_file(&path, 9).unwrap_err().kind(), io::ErrorKind::FileTooLarge);
        assert_eq!(read_tail(&path, 3).unwrap(), b"789");
        assert_eq!(read_tail(&path, 30).unwrap(), b"0123456789");
        assert_eq!(read_kernel("/proc/self/stat", 3).unwrap().len(), 3);

        let (link, fifo) = (dir.path().join("link"), dir.path().join("fifo"));
        std::os::unix::fs::symlink(&path, &link).unwrap();
        rustix::fs::mknodat(rustix::fs::CWD, &fifo, FileType::Fifo, Mode::RUSR, 0).unwrap();
        for other in [&link, &fifo, &dir.path().to_owned()] {
            assert_eq!(read_file(other, 10).unwrap_err().kind(), io::ErrorKind::InvalidInput);
        }
        assert_eq!(read_file(&dir.path().join("none"), 10).unwrap_err().kind(), io::ErrorKind::NotFound);
    }
}
