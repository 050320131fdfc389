//! Where a walk is: the folder that is read, and the way back.

use std::collections::VecDeque;
use std::ffi::CStr;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use rustix::fs::{self, SeekFrom};
use rustix::io::Errno;

use crate::Sys;
use crate::folder::{add_mode, open_folder_at, open_folder_here, open_here};

/// So many of the topmost folders stay open: back to these the way needs nobody's word.
const HELD: usize = 16;
/// Of the folders between those and ours so many are remembered, the lowest: 24 MiB.
const REMEMBERED: usize = 1 << 20;

/// A folder on the way, as it was when the walk came through.
#[derive(Debug, Clone, Copy)]
struct Passed {
    dev: u64,
    ino: u64,
    /// Where to go on reading it: a position that getdents64(2) gave.
    resume: u64,
}

/// The way back.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Back {
    /// In the parent.
    Up,
    /// The parent is not where it was, or not remembered: in the lowest of the folders that stayed open.
    Lost,
    /// The top was left.
    Out,
}

/// A folder below a top, and how to get back there.
#[derive(Debug)]
pub(crate) struct Place {
    here: (OwnedFd, Passed),
    /// From the top on.
    held: Vec<(OwnedFd, Passed)>,
    /// Below those. The way back is by `..`, which must lead to what was passed.
    passed: VecDeque<Passed>,
    depth: usize,
    remembered: usize,
}

impl Place {
    pub fn top(at: BorrowedFd<'_>, name: &CStr) -> Sys<Self> {
        Self::remembering(at, name, REMEMBERED)
    }

    /// As [`Place::top`], with so many folders that are remembered.
    pub fn remembering(at: BorrowedFd<'_>, name: &CStr, remembered: usize) -> Sys<Self> {
        let here = enter(open_folder_at(at, name)?)?;
        Ok(Self { here, held: Vec::new(), passed: VecDeque::new(), depth: 0, remembered })
    }

    /// How many folders lie above this one, up to the top.
    pub fn depth(&self) -> usize {
        self.depth
    }

    /// The folder, to be read from where it was left.
    pub fn folder(&self) -> Sys<BorrowedFd<'_>> {
        fs::seek(&self.here.0, SeekFrom::Start(self.here.1.resume))?;
        Ok(self.here.0.as_fd())
    }

    /// Reading goes on here when the walk comes back.
    pub fn resume_at(&mut self, position: u64) {
        self.here.1.resume = position;
    }

    /// Goes into a folder below. After an error we are where we were.
    pub fn into(&mut self, name: &CStr) -> Sys<()> {
        let below = enter(open_folder_here(self.here.0.as_fd(), name)?)?;
        let left = std::mem::replace(&mut self.here, below);
        if self.held.len() < HELD {
            self.held.push(left);
        } else {
            if self.passed.len() == self.remembered {
                self.passed.pop_front();
            }
            self.passed.push_back(left.1);
        }
        self.depth += 1;
        Ok(())
    }

    /// Goes back.
    pub fn out(&mut self) -> Sys<Back> {
        let mut back = Back::Up;
        if self.depth > self.held.len() {
            if let Some(parent) = self.parent()? {
                self.here = parent;
                self.depth -= 1;
                return Ok(Back::Up);
            }
            self.passed.clear();
            back = Back::Lost;
        }
        let Some(above) = self.held.pop() else { return Ok(Back::Out) };
        self.here = above;
        self.depth = self.held.len();
        Ok(back)
    }

    /// The folder that the walk came from, unless somebody has moved this one since.
    fn parent(&mut self) -> Sys<Option<(OwnedFd, Passed)>> {
        let Some(passed) = self.passed.pop_back() else { return Ok(None) };
        match open_here(self.here.0.as_fd(), c"..").and_then(|parent| Ok((fs::fstat(&parent)?, parent))) {
            Ok((stat, parent)) if is_same(&passed, &Passed::of(&stat)) => Ok(Some((parent, passed))),
            Err(error) if !is_elsewhere(error) => Err(error),
            _ => Ok(None),
        }
    }
}

impl Passed {
    #[allow(clippy::unnecessary_cast, reason = "the widths differ between architectures")]
    fn of(stat: &fs::Stat) -> Self {
        Self { dev: stat.st_dev as u64, ino: stat.st_ino as u64, resume: 0 }
    }
}

fn is_same(one: &Passed, other: &Passed) -> bool {
    (one.dev, one.ino) == (other.dev, other.ino)
}

/// Whether an error says that what was asked for is not there any more, or out of reach.
pub(crate) fn is_elsewhere(error: Errno) -> bool {
    use Errno as E;
    matches!(error, E::NOENT | E::NOTDIR | E::LOOP | E::XDEV | E::ACCESS | E::PERM | E::STALE)
}

/// What a folder is known by. Its owner, if that is us, may do everything in it from now on.
fn enter(folder: OwnedFd) -> Sys<(OwnedFd, Passed)> {
    let stat = fs::fstat(&folder)?;
    if stat.st_mode & 0o700 != 0o700 && stat.st_uid == rustix::process::geteuid().as_raw() {
        add_mode(folder.as_fd(), 0o700)?;
    }
    Ok((folder, Passed::of(&stat)))
}
