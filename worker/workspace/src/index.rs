//! The index, written so that git finds nothing to do: entries with the stat of the files they stand for
//! (gitformat-index, version 2). It is never read.

use sha1::{Digest, Sha1};

use crate::error::{Doing, Result};
use crate::root::{Root, StatKey};
use crate::tree::{Flat, Kind};
use crate::walk::Walked;

const FILE: &[u8] = b".git/index";

/// Writes an index that shows `tree`. Files that hold something else on disk get no stat, so that git looks.
pub(crate) fn write(root: &Root, tree: &Flat, walked: &Walked) -> Result<StatKey> {
    let mut out = Vec::with_capacity(tree.len() * 96 + 32);
    out.extend_from_slice(b"DIRC");
    out.extend_from_slice(&2_u32.to_be_bytes());
    out.extend_from_slice(&(tree.len() as u32).to_be_bytes());
    for (path, entry) in tree {
        let same = walked.files.get(path).filter(|f| f.oid == Some(entry.oid) && f.kind == entry.kind);
        let stat = same.filter(|f| f.kind != Kind::Gitlink).map(|f| f.stat);
        let start = out.len();
        for field in stat_fields(stat.as_ref(), entry.kind) {
            out.extend_from_slice(&field.to_be_bytes());
        }
        out.extend_from_slice(entry.oid.as_bytes());
        out.extend_from_slice(&(path.len().min(0xfff) as u16).to_be_bytes());
        out.extend_from_slice(path);
        // One to eight NULs, up to a multiple of eight.
        let pad = 8 - (out.len() - start) % 8;
        out.resize(out.len() + pad, 0);
    }
    let sum = Sha1::digest(&out);
    out.extend_from_slice(&sum);
    root.write(FILE, &out, 0o644).doing(|| "write the index".into())?;
    stat(root)?.ok_or_else(|| std::io::Error::other("it is gone again")).doing(|| "write the index".into())
}

/// The index as it is now.
pub(crate) fn stat(root: &Root) -> Result<Option<StatKey>> {
    root.stat(FILE).doing(|| "look at the index".into())
}

/// ctime, mtime (seconds, nanoseconds each), dev, ino, mode, uid, gid, size; all of them truncated to 32 bits.
fn stat_fields(stat: Option<&StatKey>, kind: Kind) -> [u32; 10] {
    let Some(s) = stat else {
        return [0, 0, 0, 0, 0, 0, kind.mode(), 0, 0, 0];
    };
    let sec = |ns: i64| ns.div_euclid(1_000_000_000) as u32;
    let nsec = |ns: i64| ns.rem_euclid(1_000_000_000) as u32;
    [
        sec(s.ctime_ns),
        nsec(s.ctime_ns),
        sec(s.mtime_ns),
        nsec(s.mtime_ns),
        s.dev as u32,
        s.ino as u32,
        kind.mode(),
        s.uid,
        s.gid,
        s.size as u32,
    ]
}
