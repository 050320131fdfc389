//! The steps of a turn (`worker/src/turn.rs`, `worker/workspace`). Between any two the worker may be killed.

use crate::design::{Design, Fault};
use crate::scripts::Settled;
use crate::state::{Gen, Outcome, Record, State, Step, TurnId, Unit, Workload, commit};

impl State {
    /// The worker of `u` does what comes next. `cancelled`: its runner was interrupted, if there is one.
    pub fn work(&mut self, design: &Design, u: Unit, cancelled: bool) {
        let Workload::Alive(generation, step) = self.unit(u).workload else { return };
        let next = match step {
            Step::Boot => self.ready(design, u, generation).then_some(Step::Idle),
            Step::Idle => Some(match self.take(design, u, generation) {
                Some(turn) => Step::Open { turn, tell: self.asked_for(turn), unclean: self.workspace.unclean },
                None => Step::Idle,
            }),
            Step::Open { turn, tell, unclean } => {
                let runs = tell.is_none() && self.record_of(u, turn).is_none();
                let fenced = runs && !self.emit(u, generation);
                (!fenced).then(|| self.finish_moves(u, turn, tell, unclean))
            }
            Step::Clean { turn, tell, unclean } => Some(self.clean(design, u, turn, tell, unclean)),
            Step::Running { turn, parent } => Some(self.look(turn, parent, cancelled)),
            Step::Looked { turn, outcome, parent } => Some(self.conclude(design, u, generation, turn, outcome, parent)),
            Step::Recorded { turn, outcome, parent } => {
                match (design.fault, outcome) {
                    (Some(Fault::RecordAfterMove), _) => self.write_record(u, generation, turn, outcome, parent),
                    (_, Outcome::Completed) => self.move_branch(turn, commit(turn, generation), parent),
                    _ => {}
                }
                Some(Step::Telling { turn, outcome })
            }
            Step::Telling { turn, outcome } => match self.settle(design, u, generation, turn, outcome) {
                Settled::Yes | Settled::Stale => Some(Step::Idle),
                Settled::Over => None,
            },
        };
        match next {
            Some(step) => self.unit_mut(u).workload = Workload::Alive(generation, step),
            None => self.end(u),
        }
    }

    /// `tell` of the message.
    fn asked_for(&self, t: TurnId) -> Option<Outcome> {
        let turn = self.turn(t);
        turn.tell.or(turn.cancelled.then_some(Outcome::Cancelled))
    }

    /// `Workspace::recover`, its first half: the moves that the record names.
    fn finish_moves(&mut self, u: Unit, turn: TurnId, tell: Option<Outcome>, unclean: Option<TurnId>) -> Step {
        let unclean = unclean.or(self.record_of(u, turn).map(|_| turn));
        if let Some(record) = unclean.and_then(|dead| self.record_of(u, dead))
            && record.outcome == Outcome::Completed
        {
            self.move_branch(record.turn, record.commit, record.parent);
        }
        Step::Clean { turn, tell, unclean }
    }

    /// The other half, then what is to be done with this turn.
    fn clean(
        &mut self,
        design: &Design,
        u: Unit,
        turn: TurnId,
        tell: Option<Outcome>,
        unclean: Option<TurnId>,
    ) -> Step {
        if let Some(dead) = unclean {
            let begun = match design.fault {
                Some(Fault::OnlyTheMarkedTurn) => self.workspace.note == Some(dead),
                _ => self.workspace.note.is_some(),
            };
            if begun || self.record_of(u, dead).is_some() {
                (self.workspace.dirty, self.workspace.note) = (None, None);
            }
        }
        if let Some(record) = self.record_of(u, turn).filter(|_| design.fault != Some(Fault::NoLookAtTheRecord)) {
            return Step::Telling { turn, outcome: record.outcome };
        }
        let parent = self.workspace.tip;
        if let Some(outcome) = tell {
            return Step::Looked { turn, outcome, parent };
        }
        self.on_leftovers |= self.workspace.dirty.is_some();
        (self.workspace.note, self.workspace.dirty) = (Some(turn), Some(turn));
        Step::Running { turn, parent }
    }

    /// The runner has ended. What an interrupted one left is put aside.
    fn look(&mut self, turn: TurnId, parent: u8, cancelled: bool) -> Step {
        if cancelled {
            (self.workspace.dirty, self.workspace.note) = (None, None);
            return Step::Looked { turn, outcome: Outcome::Cancelled, parent };
        }
        Step::Looked { turn, outcome: Outcome::Completed, parent }
    }

    fn conclude(
        &mut self,
        design: &Design,
        u: Unit,
        generation: Gen,
        turn: TurnId,
        outcome: Outcome,
        parent: u8,
    ) -> Step {
        if design.fault != Some(Fault::RecordAfterMove) {
            self.write_record(u, generation, turn, outcome, parent);
        } else if outcome == Outcome::Completed {
            self.move_branch(turn, commit(turn, generation), parent);
        }
        Step::Recorded { turn, outcome, parent }
    }

    fn write_record(&mut self, u: Unit, generation: Gen, turn: TurnId, outcome: Outcome, parent: u8) {
        self.unit_mut(u).record = Some(Record { turn, outcome, commit: commit(turn, generation), parent });
        let seen = self.turn_mut(turn);
        (seen.records, seen.recorded) = (seen.records + 1, Some(outcome));
    }

    /// `Workspace::move_branch`: from its parent only.
    fn move_branch(&mut self, turn: TurnId, to: u8, parent: u8) {
        if self.workspace.tip == parent {
            (self.workspace.tip, self.workspace.dirty, self.workspace.note) = (to, None, None);
            self.turn_mut(turn).commits += 1;
        }
    }

    fn record_of(&self, u: Unit, turn: TurnId) -> Option<Record> {
        self.unit(u).record.filter(|record| record.turn == turn)
    }

    /// The workload of `u` is no more; the runtime buries it.
    pub fn end(&mut self, u: Unit) {
        let unit = self.unit_mut(u);
        if let Workload::Alive(generation, _) = unit.workload {
            unit.workload = Workload::Ended(generation);
            unit.tombstone = unit.tombstone.max(generation);
        }
    }
}
