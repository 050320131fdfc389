//! What is found in a workspace's folder, and what becomes one.

use std::fs;
use std::path::Path;

use data_encoding::HEXLOWER;
use sha2::{Digest, Sha256};
use tar::{EntryType, Header};
use tempfile::TempDir;

use crate::archive::{self, ArchiveLimits};
use crate::rules::{bad_name, check_front_matter as front_matter, wants_front_matter};

/// The verdict is about the front matter alone, whatever ends the lines; what it says of it can be shown to a person.
pub fn check_front_matter(data: &[u8]) {
    match front_matter(data) {
        Ok(()) => {
            let more = [data, b"\n---\nno: [front matter".as_slice()].concat();
            assert_eq!(front_matter(&more), Ok(()), "what follows it does not matter");
            for key in ["type:", "id:", "title:"] {
                assert!(data.windows(key.len()).any(|w| w == key.as_bytes()) || data.contains(&b':'));
            }
        }
        Err(why) => assert!(why.len() <= 512, "{} bytes to say what is wrong", why.len()),
    }
    if !data.contains(&b'\r') {
        let text = String::from_utf8_lossy(data);
        let other = text.replace('\n', "\r\n");
        assert_eq!(front_matter(text.as_bytes()), front_matter(other.as_bytes()), "lines end either way");
    }
    if wants_front_matter(data) {
        assert!(data.starts_with(b"kg/entities/") && data.ends_with(b".md"));
    }
    for name in data.split(|b| matches!(b, b'/' | b'\n')) {
        if bad_name(name, false).is_none() {
            assert!(!name.is_empty() && name != b"." && name != b".." && !name.contains(&0));
            assert!(!name.eq_ignore_ascii_case(b".git"));
        }
    }
}

const LIMITS: ArchiveLimits = ArchiveLimits { max_bytes: 1 << 16, max_entries: 64, max_depth: 8 };

/// The folder in which everything happens, with a canary beside what is read.
fn with_folder(run: impl FnOnce(&Path)) {
    thread_local! {
        static FOLDER: TempDir = tempfile::tempdir().expect("a folder for archives");
    }
    FOLDER.with(|folder| run(folder.path()));
}

/// What is refused leaves nothing. What is taken stays below its folder, keeps to the limits, and is the same when it is
/// written and read again.
pub fn check_archive(data: &[u8]) {
    one_archive(data);
    one_archive(&mended(data));
}

fn one_archive(bytes: &[u8]) {
    with_folder(|folder| {
        fs::write(folder.join("canary"), "sings").expect("a canary");
        let to = folder.join("to");
        let there = match archive::read(&mut &bytes[..], &to, &LIMITS) {
            Ok(restored) => {
                assert!(restored.bytes <= LIMITS.max_bytes && restored.entries <= LIMITS.max_entries);
                let again = written(&to);
                if restored.entries > 0 {
                    archive::read(&mut &again[..], &to, &LIMITS).expect_err("over a folder that is not empty");
                }
                fs::remove_dir_all(&to).expect("a folder to remove");
                archive::read(&mut &again[..], &to, &LIMITS).expect("what was written can be read");
                assert!(written(&to) == again, "and is the same");
                vec!["canary", "to"]
            }
            Err(_) => vec!["canary"],
        };
        let mut names: Vec<_> = fs::read_dir(folder)
            .expect("the folder")
            .map(|entry| entry.expect("an entry").file_name().to_string_lossy().into_owned())
            .collect();
        names.sort();
        assert_eq!(names, there, "nothing is left and nothing is beside");
        assert_eq!(fs::read(folder.join("canary")).expect("the canary"), b"sings");
        if there.len() > 1 {
            fs::remove_dir_all(&to).expect("a folder to remove");
        }
    });
}

fn written(folder: &Path) -> Vec<u8> {
    let mut bytes = Vec::new();
    let written = archive::write(folder, &mut bytes, &LIMITS).expect("what was read can be written");
    assert_eq!(written.left_out, [], "all of it");
    bytes
}

/// The entries as they are, with checksums that are right and a trailer that tells of them: most changes of a byte would
/// otherwise be found by those alone.
fn mended(data: &[u8]) -> Vec<u8> {
    let mut out = Vec::new();
    let (mut entries, mut bytes) = (0_u64, 0_u64);
    let mut rest = data;
    while let Some((block, more)) = rest.split_first_chunk::<512>() {
        let mut header = Header::from_byte_slice(block).clone();
        if block.iter().all(|b| *b == 0) || header.path_bytes().starts_with(b"rekindle-archive-end") {
            break;
        }
        header.set_cksum();
        let size = header.entry_size().unwrap_or(0);
        let blocks = usize::try_from(size.saturating_add(511) / 512 * 512).unwrap_or(usize::MAX);
        let (content, more) = more.split_at(more.len().min(blocks));
        // The manifest is no entry, and a pax header is a part of one.
        if !out.is_empty() && header.entry_type() != EntryType::XHeader {
            entries += 1;
            bytes = bytes.saturating_add(size);
        }
        out.extend_from_slice(header.as_bytes());
        out.extend_from_slice(content);
        out.resize(out.len().next_multiple_of(512), 0);
        rest = more;
    }
    let hash = HEXLOWER.encode(&Sha256::digest(&out));
    let trailer = format!(r#"{{"entries":{entries},"bytes":{bytes},"sha256":"{hash}"}}"#);
    let mut header = Header::new_ustar();
    header.as_old_mut().name[..25].copy_from_slice(b"rekindle-archive-end.json");
    header.set_entry_type(EntryType::Regular);
    header.set_mode(0o644);
    header.set_uid(0);
    header.set_gid(0);
    header.set_size(trailer.len() as u64);
    header.set_cksum();
    out.extend_from_slice(header.as_bytes());
    out.extend_from_slice(trailer.as_bytes());
    out.resize(out.len().next_multiple_of(512) + 1024, 0);
    out
}
