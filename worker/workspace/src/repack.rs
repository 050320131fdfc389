//! Many loose objects become one pack, delta-compressed. At every moment each object is either loose or in a pack that is
//! whole and durable, so that a kill at any point loses nothing; whatever it leaves half done, the next call goes on with.

use std::collections::{HashMap, HashSet};
use std::ffi::OsString;
use std::os::fd::AsFd;
use std::os::unix::ffi::OsStringExt;
use std::path::{Path, PathBuf};

use git2::{ObjectType, Odb, OdbLookupFlags, Oid};
use rustix::fs::{self, FileType};

use crate::crash::crash_point;
use crate::error::{Doing, Result, WorkspaceError};
use crate::root::{Root, SCRATCH, list, open_dir_at, open_file_at, remove_at};
use crate::store::Store;

/// Fewer loose objects are left as they are: about as many as 700 turns make.
pub(crate) const MANY_LOOSE: usize = 2_000;
/// One pack is made of at most so many objects, so that a repository with very many gets on in bounded time.
const PACK_OBJECTS: usize = 20_000;
/// Larger objects stay loose: they hardly make deltas, and packing shall not need much memory.
const PACK_OBJECT_BYTES: usize = 8 << 20;
/// The tree without entries; libgit2 knows it without having it.
const EMPTY_TREE: &str = "4b825dc642cb6eb9a060e54bf8d69288fbee4904";

/// Packs loose objects where there are at least `many`, and removes those that a pack has. Answers how many were removed.
/// Stops where it is when `enough` says so.
///
/// # Errors
/// `Io`, `Git`: nothing is lost.
pub(crate) fn repack(root: &Root, path: &Path, many: usize, enough: &dyn Fn() -> bool) -> Result<usize> {
    let loose = loose_objects(root)?;
    if loose.len() < many {
        return Ok(0);
    }
    // Those of an earlier call that was cut off.
    let mut removed = remove_packed(root, path, &loose, enough)?;
    let left: Vec<Oid> = loose.into_iter().filter(|oid| !removed.contains(oid)).collect();
    if left.len() >= many && !enough() && pack(root, path, &left, enough)? {
        removed.extend(remove_packed(root, path, &left, enough)?);
    }
    Ok(removed.len())
}

fn loose_objects(root: &Root) -> Result<Vec<Oid>> {
    let mut found = Vec::new();
    let objects = root.dir(b".git/objects").doing(|| "look through the objects".into())?;
    for (folder, _) in list(objects.as_fd()).doing(|| "look through the objects".into())? {
        if folder.len() != 2 {
            continue;
        }
        let Ok(dir) = open_dir_at(objects.as_fd(), &folder) else { continue };
        for (name, kind) in list(dir.as_fd()).doing(|| "look through the objects".into())? {
            let hex = String::from_utf8([folder.as_slice(), &name].concat()).ok().filter(|hex| hex.len() == 40);
            if let Some(oid) = hex.and_then(|hex| Oid::from_str(&hex).ok())
                && kind == FileType::RegularFile
                && oid.to_string() != EMPTY_TREE
            {
                found.push(oid);
            }
        }
    }
    Ok(found)
}

/// Writes a pack of these objects; `false` when there was not enough time.
fn pack(root: &Root, path: &Path, loose: &[Oid], enough: &dyn Fn() -> bool) -> Result<bool> {
    let store = Store::open(root, path)?;
    let chosen = choose(&store, loose, enough)?;
    let (folder, at) = scratch(root, path, b"pack")?;
    let made = || -> Result<Option<String>, git2::Error> {
        let mut builder = store.repo().packbuilder()?;
        builder.set_threads(1);
        builder.set_progress_callback(|_, _, _| !enough())?;
        for (oid, name) in &chosen {
            builder.insert_object(*oid, name.as_deref())?;
        }
        if enough() {
            return Ok(None);
        }
        builder.write(&at, 0o444)?;
        Ok(builder.name()?.map(str::to_owned))
    };
    let name = match made() {
        Ok(Some(name)) => name,
        Ok(None) => return Ok(false),
        // Told to stop, it fails with whatever error comes to its mind.
        Err(_) if enough() => return Ok(false),
        Err(e) => return Err(e).doing(|| "pack the objects".into()),
    };
    let installed = (|| {
        let packs = root.make_dir(b".git/objects/pack")?;
        // A pack without an index is nothing to any reader, an index without its pack an error to some: the pack first.
        for ending in ["pack", "idx"] {
            let file = format!("pack-{name}.{ending}");
            fs::fsync(open_file_at(folder.as_fd(), file.as_bytes())?)?;
            fs::renameat(&folder, &file, &packs, &file)?;
            fs::fsync(&packs)?;
            crash_point("pack-placed");
        }
        Ok::<_, rustix::io::Errno>(())
    })();
    installed.doing(|| "put the pack in its place".into())?;
    Ok(true)
}

/// The sound ones, with what they are called where that is known: names bring versions of the same file together, of which
/// the deltas are small. Damaged ones stay where they are.
fn choose(store: &Store<'_>, loose: &[Oid], enough: &dyn Fn() -> bool) -> Result<Vec<(Oid, Option<String>)>> {
    let odb = store.repo().odb().doing(|| "open the object database".into())?;
    let mut names = HashMap::new();
    let (mut commits, mut trees, mut blobs) = (Vec::new(), Vec::new(), Vec::new());
    for oid in loose {
        if enough() || commits.len() + trees.len() + blobs.len() >= PACK_OBJECTS {
            break;
        }
        if !odb.read_header(*oid).is_ok_and(|(bytes, _)| bytes <= PACK_OBJECT_BYTES) {
            continue;
        }
        let Ok(object) = odb.read(*oid) else { continue };
        match object.kind() {
            ObjectType::Tree => {
                trees.push(*oid);
                name_entries(object.data(), &mut names);
            }
            ObjectType::Blob => blobs.push(*oid),
            _ => commits.push(*oid),
        }
    }
    let all = commits.into_iter().chain(trees).chain(blobs);
    Ok(all.map(|oid| (oid, names.remove(&oid))).collect())
}

/// The entries of a tree object: `<mode> <name>\0<20 bytes>`.
fn name_entries(mut tree: &[u8], names: &mut HashMap<Oid, String>) {
    while let Some(space) = tree.iter().position(|b| *b == b' ')
        && let Some(len) = tree[space..].iter().position(|b| *b == 0)
        && let Some(oid) = tree.get(space + len + 1..space + len + 21).and_then(|raw| Oid::from_bytes(raw).ok())
    {
        let name = String::from_utf8_lossy(&tree[space + 1..space + len]).into_owned();
        names.entry(oid).or_insert(name);
        tree = &tree[space + len + 21..];
    }
}

/// Removes the loose objects that can be read from a pack, each looked at before.
fn remove_packed(root: &Root, path: &Path, loose: &[Oid], enough: &dyn Fn() -> bool) -> Result<HashSet<Oid>> {
    let (folder, at) = scratch(root, path, b"packs")?;
    fs::symlinkat("../../objects/pack", &folder, "pack").doing(|| "look at the packs".into())?;
    let at = at.into_os_string().into_string().map_err(|_| WorkspaceError::unusable("the path is not UTF-8"))?;
    // Only packs: reading checks the hash (`strict_hash_verification`), and nothing loose can answer in their place.
    let packed = Odb::new().doing(|| "open the packs".into())?;
    packed.add_disk_alternate(&at).doing(|| "open the packs".into())?;
    let mut removed = HashSet::new();
    for oid in loose {
        if enough() {
            break;
        }
        if packed.exists_ext(*oid, OdbLookupFlags::NO_REFRESH) && packed.read(*oid).is_ok() {
            let hex = oid.to_string();
            let file = format!(".git/objects/{}/{}", &hex[..2], &hex[2..]);
            root.remove(file.as_bytes()).doing(|| format!("remove {file}"))?;
            removed.insert(*oid);
            crash_point("loose-removed");
        }
    }
    remove_at(root.dir(SCRATCH).doing(|| "clean up".into())?.as_fd(), b"packs").doing(|| "clean up".into())?;
    Ok(removed)
}

/// An empty folder of this name among the scratch files.
fn scratch(root: &Root, path: &Path, name: &[u8]) -> Result<(std::os::fd::OwnedFd, PathBuf)> {
    let made = (|| {
        let scratch = root.make_dir(SCRATCH)?;
        remove_at(scratch.as_fd(), name)?;
        fs::mkdirat(&scratch, name, fs::Mode::from_raw_mode(0o700))?;
        open_dir_at(scratch.as_fd(), name)
    })();
    let folder = made.doing(|| "make a folder in .git".into())?;
    Ok((folder, path.join(OsString::from_vec([SCRATCH, b"/", name].concat()))))
}
