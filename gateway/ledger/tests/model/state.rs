//! What the protocol is about: the ledger's fields, the folders, the processes. As small as it goes: there are many of these.

/// Number of a unit.
pub type Unit = u8;
/// Number of a turn.
pub type TurnId = u8;
/// Number of a generation; 0 is none.
pub type Gen = u8;
/// A commit: of which turn, by which generation. See [`commit`].
pub type Commit = u8;

/// Most turns of one run.
pub const TURNS: usize = 3;

/// The commit that a generation writes of a turn; 0 is the one with which the repository began.
pub fn commit(turn: TurnId, gen_: Gen) -> Commit {
    turn * 64 + gen_
}

/// What came of a turn, as the record says it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Outcome {
    Completed,
    Failed,
    Cancelled,
}

/// What the caller was told.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Told {
    /// On the worker's word.
    Word(Outcome),
    /// By the platform: it was delivered, and no generation could be started to be asked.
    GaveUp,
    /// By the platform: it was never delivered.
    AtOnce,
}

/// Where a unit is in its life.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Life {
    Cold,
    Starting,
    Live,
    Draining(Cause),
}

/// Why a generation ends, as far as it matters to a turn that it had.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Cause {
    /// Idle, stopped, preempted: the platform's own doing.
    Platform,
    /// Everything that counts as an attempt.
    Attempt,
}

/// `turn:<id>`, and what the properties want to know.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Turn {
    pub submitted: bool,
    pub told: Option<Told>,
    pub settled_gen: Gen,
    pub delivered: bool,
    pub cancelled: bool,
    pub tell: Option<Outcome>,
    pub lost: u8,
    pub taken_away: u8,
    /// The other unit stood in line for the workspace before this was submitted.
    pub behind: bool,
    /// Observed: commits of it that a branch moved to.
    pub commits: u8,
    /// Observed: records written of it, and what the last one said.
    pub records: u8,
    pub recorded: Option<Outcome>,
}

/// The record in a unit's state folder.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Record {
    pub turn: TurnId,
    pub outcome: Outcome,
    pub commit: Commit,
    pub parent: Commit,
}

/// Where a worker is in its work. A crash may come in each of them.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Step {
    /// It has not claimed its generation.
    Boot,
    Idle,
    /// Has been given a turn: it is accepted, and the moves of an earlier record are finished.
    Open {
        turn: TurnId,
        tell: Option<Outcome>,
        unclean: Option<TurnId>,
    },
    /// The tree is put back, then the turn begins, or is told again, or is not run.
    Clean {
        turn: TurnId,
        tell: Option<Outcome>,
        unclean: Option<TurnId>,
    },
    /// The agent writes.
    Running {
        turn: TurnId,
        parent: Commit,
    },
    /// The commit is written and pinned; no record yet.
    Looked {
        turn: TurnId,
        outcome: Outcome,
        parent: Commit,
    },
    /// The branch has yet to move.
    Recorded {
        turn: TurnId,
        outcome: Outcome,
        parent: Commit,
    },
    /// `done` has yet to be heard.
    Telling {
        turn: TurnId,
        outcome: Outcome,
    },
}

/// What the runtime has of a unit.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Workload {
    Gone,
    /// Ended, not yet destroyed.
    Ended(Gen),
    Alive(Gen, Step),
}

/// `unit:<uid>`, its state folder, its workload.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct UnitState {
    pub life: Life,
    pub generation: Gen,
    pub taken: Option<TurnId>,
    pub served: bool,
    pub linked: bool,
    pub failed_starts: u8,
    /// Stands in line for the workspace.
    pub waits: bool,
    /// Somebody has the start job's lease.
    pub leased: bool,
    /// There is a drain job.
    pub drain_job: bool,
    pub record: Option<Record>,
    pub workload: Workload,
    /// The highest generation that has ended.
    pub tombstone: Gen,
}

/// The one workspace, which both units write.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Workspace {
    pub holder: Option<Unit>,
    pub unclean: Option<TurnId>,
    /// The turn of which there are changes in the tree that its branch does not have.
    pub dirty: Option<TurnId>,
    /// The turn that began and was not concluded, by the note in the repository.
    pub note: Option<TurnId>,
    pub tip: Commit,
}

/// What a gateway is in the middle of. Between any two steps it may stall for as long as it likes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Gateway {
    Free,
    /// Has a start job and is about to call the runtime.
    Job(Unit, Gen),
    /// The runtime said that the start failed.
    Failed(Unit, Gen),
    /// The runtime said 409, with the highest generation that it knows.
    Stale(Unit, Gen, Gen),
}

/// What the reaper is in the middle of.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Reaper {
    Free,
    Stop(Unit, Gen),
    Destroy(Unit, Gen),
    Exited(Unit, Gen),
}

impl Reaper {
    /// The generation that it ends.
    pub fn workload(self) -> Option<(Unit, Gen)> {
        match self {
            Self::Free => None,
            Self::Stop(u, of) | Self::Destroy(u, of) | Self::Exited(u, of) => Some((u, of)),
        }
    }
}

/// What stalls, for as long as it likes, while others go on.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Stalled {
    /// A worker's read, in a gateway that has yet to run the script.
    Take(Unit, Gen),
    /// A worker's `done`, likewise.
    Settle(Unit, Gen, TurnId, Outcome),
    /// A reaper in the middle of a reap. Its job's lease lapses meanwhile.
    Reap(Reaper),
}

/// Everything.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct State {
    pub units: [UnitState; 2],
    pub turns: [Turn; TURNS],
    pub workspace: Workspace,
    pub gateways: [Gateway; 2],
    pub reaper: Reaper,
    pub stalled: Option<Stalled>,
    /// How much may still go wrong, and how many turns be cancelled.
    pub troubles: u8,
    pub cancels: u8,
    /// Observed: somebody but the current generation took, emitted or settled.
    pub unfenced: bool,
    /// Observed: a turn began in a tree with another's leftovers.
    pub on_leftovers: bool,
}

impl State {
    /// Before anything.
    pub fn new(troubles: u8, cancels: u8) -> Self {
        let unit = UnitState {
            life: Life::Cold,
            generation: 0,
            taken: None,
            served: false,
            linked: false,
            failed_starts: 0,
            waits: false,
            leased: false,
            drain_job: false,
            record: None,
            workload: Workload::Gone,
            tombstone: 0,
        };
        let turn = Turn {
            submitted: false,
            told: None,
            settled_gen: 0,
            delivered: false,
            cancelled: false,
            tell: None,
            lost: 0,
            taken_away: 0,
            behind: false,
            commits: 0,
            records: 0,
            recorded: None,
        };
        Self {
            units: [unit; 2],
            turns: [turn; TURNS],
            workspace: Workspace { holder: None, unclean: None, dirty: None, note: None, tip: 0 },
            gateways: [Gateway::Free; 2],
            reaper: Reaper::Free,
            stalled: None,
            troubles,
            cancels,
            unfenced: false,
            on_leftovers: false,
        }
    }

    pub fn unit(&self, u: Unit) -> &UnitState {
        &self.units[usize::from(u)]
    }

    pub fn unit_mut(&mut self, u: Unit) -> &mut UnitState {
        &mut self.units[usize::from(u)]
    }

    pub fn turn(&self, t: TurnId) -> &Turn {
        &self.turns[usize::from(t)]
    }

    pub fn turn_mut(&mut self, t: TurnId) -> &mut Turn {
        &mut self.turns[usize::from(t)]
    }
}
