//! Archives that this program did not write, from somebody who knows its format.

use std::fs;
use std::path::Path;

use sha2::{Digest, Sha256};
use tar::{EntryType, Header};
use workspace::archive::ArchiveError;

use crate::archive::{names, read, unit, write};

/// An archive in the making; its trailer is right whatever stands before it.
struct Forged {
    bytes: Vec<u8>,
    entries: u64,
    content: u64,
}

impl Forged {
    fn begin(manifest: &str) -> Self {
        let mut forged = Self { bytes: Vec::new(), entries: 0, content: 0 };
        forged.note("rekindle-archive.json", manifest);
        forged
    }

    fn note(&mut self, name: &str, text: &str) {
        self.raw(header(EntryType::Regular, name, text.len() as u64), text.as_bytes());
    }

    fn raw(&mut self, mut header: Header, content: &[u8]) {
        header.set_cksum();
        self.bytes.extend_from_slice(header.as_bytes());
        self.bytes.extend_from_slice(content);
        self.bytes.resize(self.bytes.len().next_multiple_of(512), 0);
    }

    fn entry(mut self, header: Header, content: &[u8]) -> Self {
        self.raw(header, content);
        self.entries += 1;
        self.content += content.len() as u64;
        self
    }

    fn folder(self, name: &str) -> Self {
        let mut folder = header(EntryType::Directory, name, 0);
        folder.set_mode(0o755);
        self.entry(folder, b"")
    }

    fn file(self, name: &str) -> Self {
        self.entry(header(EntryType::Regular, name, 4), b"evil")
    }

    fn link(self, kind: EntryType, name: &str, target: &str) -> Self {
        let mut link = header(kind, name, 0);
        link.as_old_mut().linkname[..target.len()].copy_from_slice(target.as_bytes());
        link.set_mode(0o777);
        self.entry(link, b"")
    }

    fn end(mut self) -> Vec<u8> {
        let hash = data_encoding::HEXLOWER.encode(&Sha256::digest(&self.bytes));
        let trailer = format!(r#"{{"entries":{},"bytes":{},"sha256":"{hash}"}}"#, self.entries, self.content);
        self.note("rekindle-archive-end.json", &trailer);
        self.bytes.extend_from_slice(&[0; 1024]);
        self.bytes
    }
}

fn header(kind: EntryType, name: &str, size: u64) -> Header {
    let mut header = Header::new_ustar();
    header.set_entry_type(kind);
    header.set_mode(0o644);
    header.set_uid(0);
    header.set_gid(0);
    header.set_size(size);
    header.as_old_mut().name[..name.len()].copy_from_slice(name.as_bytes());
    header
}

fn forged() -> Forged {
    Forged::begin(r#"{"format":"rekindle-archive","version":1,"hash":"sha256"}"#).folder("workspace")
}

fn with(change: impl FnOnce(&mut Header)) -> Vec<u8> {
    let mut header = header(EntryType::Regular, "workspace/a", 4);
    change(&mut header);
    forged().entry(header, b"evil").end()
}

fn pax(records: &str) -> Vec<u8> {
    let mut forged = forged();
    forged.raw(header(EntryType::XHeader, "pax-header", records.len() as u64), records.as_bytes());
    forged.file("workspace/a").end()
}

/// Reads it where an escape would show, and says why it was refused.
fn refused(what: &str, bytes: &[u8]) -> String {
    let dir = tempfile::tempdir().unwrap();
    let outside = dir.path().join("outside");
    fs::create_dir(&outside).unwrap();
    let error = read(bytes, &dir.path().join("to")).expect_err(what);
    assert_eq!(names(dir.path()), ["outside"], "{what}");
    assert_eq!(names(&outside), [""; 0], "{what}");
    assert!(!Path::new("/tmp/rekindle-escaped").exists());
    match error {
        ArchiveError::Refused { why, .. } => why,
        other => panic!("{what}: {other:?}"),
    }
}

#[test]
fn a_forged_archive_without_a_trick_is_taken() {
    let dir = tempfile::tempdir().unwrap();
    let bytes = forged().file("workspace/a").link(EntryType::Symlink, "workspace/l", "/etc").folder("state").end();
    read(&bytes, &dir.path().join("to")).expect("so the refusals below are not the forger's own mistakes");
    assert_eq!(fs::read(dir.path().join("to/workspace/a")).unwrap(), b"evil");
}

#[test]
fn paths_that_lead_out_are_refused() {
    for path in [
        "../outside/a",
        "workspace/../../outside/a",
        "workspace/./a",
        "workspace//a",
        "workspace/a/",
        "/tmp/rekindle-escaped",
        "./workspace/a",
        "outside/a",
        "state/../../outside/a",
        "rekindle-archive.json",
        "state",
        "a",
        "",
    ] {
        refused(path, &forged().file(path).end());
    }
    let mut split = header(EntryType::Regular, "a", 4);
    split.as_ustar_mut().unwrap().prefix[..9].copy_from_slice(b"workspace");
    refused("a prefix", &forged().entry(split, b"evil").end());
}

#[test]
fn links_lead_nowhere() {
    let through = |target| forged().link(EntryType::Symlink, "workspace/l", target).file("workspace/l/a").end();
    for target in ["../../outside", ".", "/", "../../../outside", "../workspace"] {
        let why = refused(target, &through(target));
        assert!(why.contains("did not come before it"), "{why}");
    }
    let over = forged().link(EntryType::Symlink, "workspace/l", "../../outside/a").file("workspace/l").end();
    assert!(refused("written through a link", &over).contains("already"));
    let part = forged().link(EntryType::Symlink, "state", "../outside").file("state/a").end();
    assert!(refused("a part that is a link", &part).contains("not part of"));
    for target in ["/etc/passwd", "workspace/a", "../outside"] {
        let why = refused("a hard link", &forged().link(EntryType::Link, "workspace/h", target).end());
        assert!(why.contains("hard links"), "{why}");
    }
}

#[test]
fn other_kinds_are_refused() {
    for kind in [
        EntryType::Fifo,
        EntryType::Char,
        EntryType::Block,
        EntryType::Continuous,
        EntryType::GNULongName,
        EntryType::GNULongLink,
        EntryType::GNUSparse,
        EntryType::XGlobalHeader,
        EntryType::new(b'V'),
    ] {
        refused(&format!("{kind:?}"), &forged().entry(header(kind, "workspace/a", 4), b"evil").end());
    }
}

#[test]
fn nothing_comes_twice_and_folders_come_first() {
    for (what, bytes) in [
        ("a file twice", forged().file("workspace/a").file("workspace/a").end()),
        ("a folder twice", forged().folder("workspace").end()),
        ("a file, then a folder", forged().file("workspace/a").folder("workspace/a").end()),
        ("a link twice", {
            let link = |f: Forged| f.link(EntryType::Symlink, "workspace/l", "x");
            link(link(forged())).end()
        }),
    ] {
        assert!(refused(what, &bytes).contains("already"), "{what}");
    }
    refused("no folder", &forged().file("workspace/b/a").end());
    refused("a file as a folder", &forged().file("workspace/a").file("workspace/a/b").end());
    refused("the other part", &forged().file("state/a").end());
}

#[test]
fn headers_have_one_form() {
    refused("set-uid", &with(|h| h.set_mode(0o4755)));
    refused("an owner", &with(|h| h.set_uid(7)));
    refused("a name", &with(|h| h.set_username("root").unwrap()));
    refused("a device", &with(|h| h.set_device_major(1).unwrap()));
    refused("a size in base 256", &with(|h| h.as_old_mut().size = [0x80, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 4]));
    refused("a huge size", &with(|h| h.set_size(1 << 60)));
    refused("a huge time", &with(|h| h.set_mtime(1 << 60)));
    refused("a size in other digits", &with(|h| h.as_old_mut().size = *b"4\0\0\0\0\0\0\0\0\0\0\0"));
    refused("a link's name on a file", &with(|h| h.as_old_mut().linkname[0] = b'x'));
    refused("bytes behind a name", &with(|h| h.as_old_mut().name[50] = b'x'));
    refused("GNU's magic", &with(|h| h.as_ustar_mut().unwrap().magic = *b"ustar "));
    refused("the old type of a file", &with(|h| h.as_old_mut().linkflag = [0]));
    refused("no magic", &with(|h| h.as_ustar_mut().unwrap().magic = [0; 6]));
    let mut folder = header(EntryType::Directory, "workspace/d", 4);
    folder.set_mode(0o755);
    refused("a folder with content", &forged().entry(folder, b"evil").end());
    let mut padded = forged().file("workspace/a");
    *padded.bytes.last_mut().unwrap() = 1;
    refused("padding", &padded.end());
}

#[test]
fn pax_says_only_long_names() {
    for records in [
        "20 path=workspace/b\n",
        "18 size=1000000000\n",
        "30 mtime=1350244992.023960108\n",
        "22 GNU.sparse.major=1\n",
        "30 GNU.sparse.name=/etc/passwd\n",
        "11 uid=1000\n",
        "24 SCHILY.xattr.user.a=b\n",
        "9 path=\n",
        "999999 path=x\n",
        "0 path=x\n",
        "path",
        "\n",
    ] {
        refused(records, &pax(records));
    }
    let long = format!("workspace/{}", "../".repeat(60));
    refused("a long path that leads out", &pax(&format!("{} path={long}\n", long.len() + 10)));
    let mut huge = forged();
    huge.raw(header(EntryType::XHeader, "pax-header", 1 << 30), b"");
    refused("a huge pax header", &huge.end());
}

#[test]
fn begin_and_end_are_what_they_must_be() {
    let manifest = |text: &str| Forged::begin(text).folder("workspace").end();
    refused("another format", &manifest(r#"{"format":"tar","version":1,"hash":"sha256"}"#));
    refused("another hash", &manifest(r#"{"format":"rekindle-archive","version":1,"hash":"none"}"#));
    refused("no JSON", &manifest("hello"));
    refused("a long manifest", &manifest(&"x".repeat(5000)));
    let newer = manifest(r#"{"format":"rekindle-archive","version":2,"hash":"sha256","codec":"x"}"#);
    let dir = tempfile::tempdir().unwrap();
    assert!(matches!(read(&newer, &dir.path().join("to")), Err(ArchiveError::Version(2))));

    unit(&dir.path().join("from"));
    let good = write(&dir.path().join("from")).0;
    let first = 1024;
    refused("no manifest", &good[first..]);
    let twice = [&good[..first], &good[..]].concat();
    refused("two manifests", &twice);
    refused("more behind the end", &[&good[..], b"x"].concat());
    refused("two archives", &[&good[..], &good[..]].concat());
    refused("zeros before the trailer", &[&good[..good.len() - 2048], &[0; 1024]].concat());

    let mut fewer = forged().file("workspace/a");
    fewer.entries -= 1;
    assert!(refused("a wrong count", &fewer.end()).contains("another content"));
    let mut hidden = forged();
    let at = hidden.bytes.len();
    hidden = hidden.file("workspace/a");
    let mut bytes = hidden.end();
    bytes[at + 512] = b'E';
    assert!(refused("changed content", &bytes).contains("another content"));
}
