//! What is checked: the numbers of a run, and the ways in which the design can be broken.

use crate::state::TurnId;

/// One run's bounds. Everything else is every order in which things can happen.
#[derive(Debug, Clone, Copy)]
pub struct Design {
    /// The unit of each turn.
    pub turns: &'static [u8],
    /// How many things go wrong: a process killed, a lease lapsed, a request stalled, a deadline passed, a unit stopped.
    pub troubles: u8,
    /// How many turns a caller cancels.
    pub cancels: u8,
    /// As in a profile.
    pub max_attempts: u8,
    /// As in a profile.
    pub max_starts: u8,
    /// `MAX_TAKEN_AWAY` of the scripts.
    pub max_taken_away: u8,
    /// Every worker dies of this turn, as often as it is run.
    pub poison: Option<TurnId>,
    /// No worker ever comes up: it dies before it claims.
    pub broken_image: bool,
    /// What is wrong with the design.
    pub fault: Option<Fault>,
}

impl Design {
    /// Most generations that one unit may take. Each attempt, each time that a turn is taken away and each trouble costs at
    /// most one, and before each there are fewer than `max_starts` that fail.
    pub fn most_starts(&self) -> u8 {
        let turns = self.turns.len() as u8;
        turns * (self.max_attempts + self.max_starts) + self.troubles
    }
}

/// One way to get it wrong.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fault {
    /// The reaper reports the end without asking the runtime for it.
    ExitedUnconfirmed,
    /// A lease is given on when the drain begins.
    LeaseGivenOnAtDrain,
    /// The runtime buries only what it knows: a start that comes late finds no tombstone.
    UnknownNotBuried,
    /// The runtime destroys the very generation that it is asked for, and leaves lower ones alive.
    LowerLeftAlive,
    /// `exited` does not compare the generation.
    ExitedUnfenced,
    /// `take` does not compare the generation.
    TakeUnfenced,
    /// `settle` compares neither the generation nor the turn.
    SettleUnfenced,
    /// A worker runs whatever it is given.
    NoLookAtTheRecord,
    /// The branch moves, then the record is written.
    RecordAfterMove,
    /// A turn that is out of attempts is settled without asking for its record.
    DeadUnasked,
    /// An entry leaves the in-stream when it is delivered.
    EntryGoneAtDelivery,
    /// A drain job is gone when it is picked.
    DrainJobTaken,
    /// A start that fails is not counted.
    FailedStartsUncounted,
    /// A generation that ended before its worker came is replaced by another without being counted.
    EndedStartsReplaced,
    /// A turn whose worker is lost has not been attempted.
    AttemptsUncounted,
    /// Nothing notes that a dead turn was delivered on the workspace.
    UncleanUnmarked,
    /// Only the leftovers of the very turn that the mark names are put aside. Its worker may have been lost before it had put
    /// aside those of an earlier one that was given up.
    OnlyTheMarkedTurn,
}
