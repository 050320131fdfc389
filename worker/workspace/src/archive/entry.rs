//! One entry's header: bytes out of what is known of it, and back.
//!
//! There is one way to write an entry. What is read is written again and must be the same bytes, so whatever else tar can
//! say (other types, owners, prefixes, numbers in base 256, sparse maps, GNU's long names, pax records of any other kind) is
//! refused without being known by name.

use tar::{EntryType, Header};

/// Unit of a tar stream.
pub(super) const BLOCK: usize = 512;
/// Longest path and longest target of a link.
pub(super) const MAX_PATH_BYTES: usize = 4095;
/// Longest name of a file system's.
const MAX_NAME_BYTES: usize = 255;
/// What eleven octal digits can say.
pub(super) const MAX_FILE_BYTES: u64 = (8 << 30) - 1;
/// The latest time, likewise.
pub(super) const MAX_MTIME: u64 = (8 << 30) - 1;
/// A pax header's content: two records at their longest.
const MAX_PAX_BYTES: u64 = 2 * (MAX_PATH_BYTES as u64 + 32);
/// Room for a name in a header.
const NAME_ROOM: usize = 100;
/// The name of every pax header; no other name is looked at there.
const PAX_NAME: &[u8] = b"pax-header";

/// What is stored of a file, folder or link.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Entry {
    pub path: Vec<u8>,
    pub kind: Kind,
    /// Permission bits; of a link always 0777.
    pub mode: u32,
    /// Seconds since 1970; zero of folders and links.
    pub mtime: u64,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Kind {
    File { size: u64 },
    Folder,
    Link { target: Vec<u8> },
}

impl Entry {
    /// A file of the archive's own.
    pub fn note(path: &[u8], size: u64) -> Self {
        Self { path: path.to_vec(), kind: Kind::File { size }, mode: 0o644, mtime: 0 }
    }

    /// Its header, with a pax header before it where a name is long.
    pub fn encode(&self) -> Vec<u8> {
        let (kind, size, target) = match &self.kind {
            Kind::File { size } => (EntryType::Regular, *size, &[][..]),
            Kind::Folder => (EntryType::Directory, 0, &[][..]),
            Kind::Link { target } => (EntryType::Symlink, 0, target.as_slice()),
        };
        let mut records = Vec::new();
        for (key, value) in [("path", self.path.as_slice()), ("linkpath", target)] {
            if value.len() > NAME_ROOM {
                records.extend(record(key, value));
            }
        }
        let mut out = Vec::with_capacity(BLOCK);
        if !records.is_empty() {
            out.extend(header(EntryType::XHeader, PAX_NAME, b"", records.len() as u64, 0o644, 0));
            out.extend_from_slice(&records);
            out.resize(out.len().next_multiple_of(BLOCK), 0);
        }
        out.extend(header(kind, &self.path, target, size, self.mode, self.mtime));
        out
    }

    /// How many bytes follow the first block before the entry's own header: those of its pax header, if it is one.
    pub fn pax_bytes(block: &[u8; BLOCK]) -> Result<Option<usize>, &'static str> {
        let header = Header::from_byte_slice(block);
        if header.entry_type() != EntryType::XHeader {
            return Ok(None);
        }
        match header.entry_size() {
            Ok(size @ 1..=MAX_PAX_BYTES) => Ok(Some((size as usize).next_multiple_of(BLOCK))),
            _ => Err("a pax header of such a size is not taken"),
        }
    }

    /// Reads what [`encode`](Self::encode) wrote, and nothing else: `raw` is the entry's header with the pax header.
    pub fn decode(raw: &[u8]) -> Result<Self, &'static str> {
        const NOT_OURS: &str = "its header is not in the one form that is written here";
        let Some((before, block)) = raw.split_last_chunk::<BLOCK>() else {
            return Err(NOT_OURS);
        };
        let header = Header::from_byte_slice(block);
        let (mut path, mut target) = (field(&header.as_old().name), field(&header.as_old().linkname));
        let mut records = before.get(BLOCK..).unwrap_or_default();
        while let Some((key, value, rest)) = next_record(records) {
            match key {
                b"path" => path = value,
                b"linkpath" => target = value,
                _ => return Err("a pax record other than path and linkpath is not taken"),
            }
            records = rest;
        }
        let size = header.entry_size().map_err(|_| NOT_OURS)?;
        let kind = match header.entry_type() {
            EntryType::Regular => Kind::File { size },
            EntryType::Directory => Kind::Folder,
            EntryType::Symlink => Kind::Link { target: target.to_vec() },
            EntryType::Link => return Err("hard links are not taken"),
            EntryType::Fifo | EntryType::Char | EntryType::Block => return Err("devices and pipes are not taken"),
            _ => return Err("only files, folders and links are taken"),
        };
        let entry = Self {
            path: path.to_vec(),
            kind,
            mode: header.mode().map_err(|_| NOT_OURS)?,
            mtime: header.mtime().map_err(|_| NOT_OURS)?,
        };
        entry.check()?;
        if entry.encode() == raw { Ok(entry) } else { Err(NOT_OURS) }
    }

    /// Whether it may be stored at all.
    pub fn check(&self) -> Result<(), &'static str> {
        if self.path.is_empty() || self.path.len() > MAX_PATH_BYTES {
            return Err("the path is empty or too long");
        }
        for name in self.path.split(|b| *b == b'/') {
            if matches!(name, b"" | b"." | b"..") || name.contains(&0) {
                return Err("the path is not one below the folder");
            }
            if name.len() > MAX_NAME_BYTES {
                return Err("a name is too long");
            }
        }
        if self.mode & !0o777 != 0 {
            return Err("only permission bits are taken");
        }
        if self.mtime > MAX_MTIME {
            return Err("there is no such time");
        }
        match &self.kind {
            Kind::File { size } if *size > MAX_FILE_BYTES => Err("the file is larger than 8 GiB"),
            Kind::Link { target } if target.is_empty() || target.len() > MAX_PATH_BYTES || target.contains(&0) => {
                Err("the link's target is empty or too long")
            }
            _ => Ok(()),
        }
    }

    /// Bytes behind the header, without what fills the last block.
    pub fn size(&self) -> u64 {
        if let Kind::File { size } = self.kind { size } else { 0 }
    }
}

/// What fills the last block behind so many bytes.
pub(super) fn padding(size: u64) -> usize {
    (size.next_multiple_of(BLOCK as u64) - size) as usize
}

fn header(kind: EntryType, path: &[u8], target: &[u8], size: u64, mode: u32, mtime: u64) -> [u8; BLOCK] {
    let mut header = Header::new_ustar();
    header.set_entry_type(kind);
    header.set_uid(0);
    header.set_gid(0);
    header.set_mode(mode);
    header.set_size(size);
    header.set_mtime(mtime);
    let old = header.as_old_mut();
    for (room, name) in [(&mut old.name, path), (&mut old.linkname, target)] {
        let name = &name[..name.len().min(NAME_ROOM)];
        room[..name.len()].copy_from_slice(name);
    }
    header.set_cksum();
    *header.as_bytes()
}

/// A field up to its first NUL.
fn field(room: &[u8]) -> &[u8] {
    room.split(|b| *b == 0).next().unwrap_or_default()
}

/// `<length> <key>=<value>\n`, where the length counts itself.
fn record(key: &str, value: &[u8]) -> Vec<u8> {
    let rest = key.len() + value.len() + 3;
    let mut length = rest;
    while rest + length.to_string().len() != length {
        length = rest + length.to_string().len();
    }
    let mut out = format!("{length} {key}=").into_bytes();
    out.extend_from_slice(value);
    out.push(b'\n');
    out
}

/// Key, value and what follows; `None` at the zeros that fill the block, or at what is no record.
fn next_record(bytes: &[u8]) -> Option<(&[u8], &[u8], &[u8])> {
    let space = bytes.iter().take(6).position(|b| *b == b' ')?;
    let length = std::str::from_utf8(&bytes[..space]).ok()?.parse::<usize>().ok()?;
    let body = bytes.get(space + 1..length)?.strip_suffix(b"\n")?;
    let equals = body.iter().position(|b| *b == b'=')?;
    Some((&body[..equals], &body[equals + 1..], &bytes[length..]))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn kind() -> impl Strategy<Value = Kind> {
        prop_oneof![
            (0..=MAX_FILE_BYTES).prop_map(|size| Kind::File { size }),
            Just(Kind::Folder),
            proptest::collection::vec(1..=255_u8, 1..300).prop_map(|target| Kind::Link { target }),
        ]
    }

    fn path() -> impl Strategy<Value = Vec<u8>> {
        let byte = any::<u8>().prop_filter("a name's", |b| !matches!(b, 0 | b'/' | b'.'));
        proptest::collection::vec(proptest::collection::vec(byte, 1..120), 1..5).prop_map(|names| names.join(&b'/'))
    }

    proptest! {
        #[test]
        fn what_is_written_is_read(path in path(), kind in kind(), mode in 0..=0o777_u32, mtime in 0..1_u64 << 33) {
            let entry = Entry { path, kind, mode, mtime };
            let raw = entry.encode();
            let first = raw.first_chunk().unwrap();
            let before = Entry::pax_bytes(first).unwrap().map_or(0, |bytes| bytes + BLOCK);
            prop_assert_eq!(raw.len(), before + BLOCK);
            prop_assert_eq!(Entry::decode(&raw), Ok(entry));
        }

        #[test]
        fn no_byte_can_be_another(path in path(), at in 0..BLOCK, by in 1..=255_u8) {
            let entry = Entry { path, kind: Kind::File { size: 5 }, mode: 0o644, mtime: 7 };
            let mut raw = entry.encode();
            let at = raw.len() - BLOCK + at;
            raw[at] = raw[at].wrapping_add(by);
            prop_assert!(Entry::decode(&raw).is_err(), "byte {}", at);
        }
    }

    #[test]
    fn paths_stay_below() {
        for bad in ["", "/a", "a/", "a//b", ".", "..", "a/../b", "../a", "a\0b", &"x".repeat(256), &"x/".repeat(3000)] {
            let entry = Entry { path: bad.into(), kind: Kind::Folder, mode: 0o755, mtime: 0 };
            assert!(entry.check().is_err(), "{bad:?}");
        }
    }
}
