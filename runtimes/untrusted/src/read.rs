//! Reading a file that says by itself how long it is.

use std::fs::File;
use std::io::{self, Read, Seek, SeekFrom};
use std::path::Path;

use rustix::fs::{FileType, Mode, OFlags};

/// Reads a regular file of the platform's own folders whole.
///
/// # Errors
/// `FileTooLarge` when it has more than `most` bytes; `InvalidInput` when it is a link, or no regular file.
pub fn read_file(path: &Path, most: usize) -> io::Result<Vec<u8>> {
    let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::NOCTTY | OFlags::CLOEXEC;
    let file = match rustix::fs::open(path, flags, Mode::empty()) {
        Err(rustix::io::Errno::LOOP) => return Err(not_a_file(path)),
        opened => File::from(opened?),
    };
    if FileType::from_raw_mode(rustix::fs::fstat(&file)?.st_mode) != FileType::RegularFile {
        return Err(not_a_file(path));
    }
    let bytes = read_at_most(&file, most.saturating_add(1))?;
    if bytes.len() > most {
        let detail = format!("{} has more than {most} bytes", path.display());
        return Err(io::Error::new(io::ErrorKind::FileTooLarge, detail));
    }
    Ok(bytes)
}

fn not_a_file(path: &Path) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidInput, format!("{} is no regular file", path.display()))
}

/// The first bytes of something, at most so many; what follows is not read. For what the kernel makes up (`/proc`, cgroups), of
/// which no length is known before.
///
/// # Errors
/// Of reading it.
pub fn read_at_most(from: impl Read, most: usize) -> io::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    from.take(most as u64).read_to_end(&mut bytes)?;
    Ok(bytes)
}

/// The last bytes of a file, at most so many.
///
/// # Errors
/// Of reading it.
pub fn read_tail(file: &mut File, most: usize) -> io::Result<Vec<u8>> {
    let length = file.metadata()?.len();
    file.seek(SeekFrom::Start(length.saturating_sub(most as u64)))?;
    read_at_most(file, most)
}
