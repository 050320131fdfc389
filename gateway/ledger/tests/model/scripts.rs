//! The ledger's scripts, each named as its file under `src/lua`.

use crate::design::{Design, Fault};
use crate::state::{Cause, Gateway, Gen, Life, Outcome, State, Told, TurnId, Unit};

/// What `settle` answers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Settled {
    /// Written, now or before.
    Yes,
    Stale,
    Over,
}

impl State {
    /// `submit`. The gateway that asked gets the start job, if it has its hands free.
    pub fn submit(&mut self, design: &Design, t: TurnId) {
        let u = design.turns[usize::from(t)];
        let behind = self.unit(1 - u).waits;
        let turn = self.turn_mut(t);
        (turn.submitted, turn.behind) = (true, behind);
        let unit = self.unit(u);
        if unit.life == Life::Cold && !unit.waits {
            if self.start(design, u)
                && let Some(free) = self.gateways.iter_mut().find(|g| **g == Gateway::Free)
            {
                *free = Gateway::Job(u, self.units[usize::from(u)].generation);
                self.unit_mut(u).leased = true;
            }
        } else if unit.life == Life::Live && unit.taken.is_none() {
            self.next_turn(design, u);
        }
    }

    /// `cancel`.
    pub fn cancel(&mut self, design: &Design, t: TurnId) {
        let u = design.turns[usize::from(t)];
        let unit = *self.unit(u);
        if unit.taken == Some(t) {
            self.turn_mut(t).cancelled = true;
        } else if self.turn(t).delivered {
            let turn = self.turn_mut(t);
            turn.cancelled = true;
            turn.tell = Some(Outcome::Cancelled);
        } else {
            let first = self.head(design, u) == Some(t);
            self.settle_turn(t, Told::AtOnce, unit.generation);
            if unit.life == Life::Live && unit.taken.is_none() && first {
                self.next_turn(design, u);
            }
            if unit.life == Life::Cold && first {
                self.leave_line(design, u);
                if self.head(design, u).is_some() {
                    self.start(design, u);
                }
            }
        }
    }

    /// `ready`: whether the worker may stay.
    pub fn ready(&mut self, design: &Design, u: Unit, generation: Gen) -> bool {
        let unit = self.unit_mut(u);
        if unit.generation != generation || unit.life != Life::Starting {
            return false;
        }
        (unit.life, unit.linked, unit.leased) = (Life::Live, false, false);
        self.next_turn(design, u);
        true
    }

    /// `take`: the turn that the reading worker gets.
    pub fn take(&mut self, design: &Design, u: Unit, generation: Gen) -> Option<TurnId> {
        let unit = self.unit_mut(u);
        let current = unit.generation == generation;
        if (!current && design.fault != Some(Fault::TakeUnfenced)) || unit.life != Life::Live {
            return None;
        }
        unit.linked = true;
        if unit.taken.is_none() {
            self.next_turn(design, u);
        }
        let unit = self.unit(u);
        let given = unit.taken.filter(|_| unit.life == Life::Live);
        self.unfenced |= given.is_some() && !current;
        given
    }

    /// `emit`, of `turn-accepted`: whether the generation still is the current one.
    pub fn emit(&self, u: Unit, generation: Gen) -> bool {
        self.unit(u).generation == generation && self.unit(u).life != Life::Cold
    }

    /// `settle`.
    pub fn settle(&mut self, design: &Design, u: Unit, generation: Gen, t: TurnId, outcome: Outcome) -> Settled {
        let unit = *self.unit(u);
        let mut settled = t;
        if design.fault == Some(Fault::SettleUnfenced) {
            let Some(taken) = unit.taken else { return Settled::Stale };
            settled = taken;
        } else if unit.generation != generation || unit.life == Life::Cold {
            return Settled::Over;
        } else if unit.life == Life::Starting || unit.taken != Some(t) {
            let known = self.turn(t);
            let again = known.told.is_some() && known.settled_gen == generation;
            return if again { Settled::Yes } else { Settled::Stale };
        }
        self.unfenced |= unit.generation != generation;
        self.settle_turn(settled, Told::Word(outcome), generation);
        self.workspace.unclean = None;
        let unit = self.unit_mut(u);
        (unit.taken, unit.failed_starts) = (None, 0);
        if unit.life == Life::Live {
            self.next_turn(design, u);
        }
        Settled::Yes
    }

    /// `begin_drain` for a workload that ended by itself or a start that timed out, and `start_failed`.
    pub fn ended(&mut self, design: &Design, u: Unit) {
        let unit = *self.unit(u);
        self.drain(design, u, Cause::Attempt);
        if unit.life == Life::Starting || (unit.taken.is_none() && !unit.served) {
            self.failed_start(design, u);
        }
    }

    /// `restart`.
    pub fn restart(&mut self, u: Unit, highest: Gen) {
        let unit = self.unit_mut(u);
        (unit.generation, unit.leased) = (unit.generation.max(highest) + 1, true);
    }

    /// `exited`.
    pub fn exited(&mut self, design: &Design, u: Unit, generation: Gen) {
        let unit = *self.unit(u);
        let Life::Draining(cause) = unit.life else { return };
        if unit.generation != generation && design.fault != Some(Fault::ExitedUnfenced) {
            return;
        }
        if let Some(t) = unit.taken {
            self.taken_from(design, u, t, cause);
        }
        let unit = self.unit_mut(u);
        (unit.life, unit.linked, unit.served, unit.drain_job) = (Life::Cold, false, false, false);
        let Some(next) = self.head(design, u) else { return self.release(design, u) };
        let unclean = self.workspace.unclean == Some(next);
        if !unclean && self.contested(design, u, Some(next)) {
            self.release(design, u);
        }
        if !self.start(design, u) && !unclean {
            self.release(design, u);
        }
    }

    /// The part of `exited` about the turn that was taken.
    fn taken_from(&mut self, design: &Design, u: Unit, t: TurnId, cause: Cause) {
        if design.fault != Some(Fault::UncleanUnmarked) {
            self.workspace.unclean = Some(t);
        }
        let turn = self.turn_mut(t);
        let asked = turn.tell.is_some();
        let away = turn.taken_away + 1;
        if cause == Cause::Platform && away <= design.max_taken_away {
            turn.taken_away = away;
        } else if !asked && design.fault != Some(Fault::AttemptsUncounted) {
            turn.lost += 1;
        }
        if !asked {
            let dead = (turn.lost >= design.max_attempts).then_some(Outcome::Failed);
            turn.tell = if turn.cancelled { Some(Outcome::Cancelled) } else { dead };
        }
        let unasked = turn.tell.is_some() && design.fault == Some(Fault::DeadUnasked);
        self.unit_mut(u).taken = None;
        if unasked {
            self.settle_turn(t, Told::AtOnce, 0);
        } else if asked {
            self.failed_start(design, u);
        }
    }

    /// `drain` of `lib.lua`.
    pub fn drain(&mut self, design: &Design, u: Unit, cause: Cause) {
        let unit = self.unit_mut(u);
        (unit.life, unit.drain_job, unit.leased) = (Life::Draining(cause), true, false);
        if design.fault == Some(Fault::LeaseGivenOnAtDrain) {
            self.release(design, u);
        }
    }

    /// `head`: the first turn that is not settled.
    pub fn head(&self, design: &Design, u: Unit) -> Option<TurnId> {
        let gone = design.fault == Some(Fault::EntryGoneAtDelivery);
        let of_unit = design.turns.iter().enumerate().filter(|(_, of)| **of == u);
        let mut entries = of_unit.filter(|(t, _)| self.turns[*t].submitted && self.turns[*t].told.is_none());
        entries.find(|(t, _)| !(gone && self.turns[*t].delivered)).map(|(t, _)| t as TurnId)
    }

    fn contested(&self, design: &Design, u: Unit, next: Option<TurnId>) -> bool {
        let other = self.unit(1 - u);
        let in_line = self.workspace.holder == Some(u) && other.waits && other.life == Life::Cold;
        debug_assert!(!in_line || self.head(design, 1 - u).is_some());
        in_line && next.is_none_or(|t| self.turn(t).behind)
    }

    fn next_turn(&mut self, design: &Design, u: Unit) {
        let served = self.unit(u).served;
        match self.head(design, u) {
            None if self.contested(design, u, None) => self.drain(design, u, Cause::Platform),
            None => {}
            Some(t) if served && self.contested(design, u, Some(t)) => self.drain(design, u, Cause::Platform),
            Some(t) if self.unit(u).linked => {
                let asked = self.turn(t).tell.is_some();
                self.turn_mut(t).delivered = true;
                let unit = self.unit_mut(u);
                (unit.taken, unit.served) = (Some(t), true);
                if !asked {
                    unit.failed_starts = 0;
                }
            }
            Some(_) => {}
        }
    }

    fn settle_turn(&mut self, t: TurnId, told: Told, generation: Gen) {
        let turn = self.turn_mut(t);
        (turn.told, turn.settled_gen) = (Some(told), generation);
    }

    fn failed_start(&mut self, design: &Design, u: Unit) {
        let head = self.head(design, u);
        let unit = self.unit_mut(u);
        let Some(t) = head else {
            unit.failed_starts = 0;
            return;
        };
        if design.fault == Some(Fault::FailedStartsUncounted) {
            return;
        }
        unit.failed_starts += 1;
        if unit.failed_starts >= design.max_starts {
            unit.failed_starts = 0;
            let told = if self.turn(t).delivered { Told::GaveUp } else { Told::AtOnce };
            self.settle_turn(t, told, self.unit(u).generation);
        }
    }

    /// Cold → Starting with the lease, or the unit stands in line.
    fn start(&mut self, design: &Design, u: Unit) -> bool {
        if let Some(holder) = self.workspace.holder.filter(|holder| *holder != u) {
            let waiting = self.head(design, holder).is_some();
            let h = *self.unit(holder);
            if h.life != Life::Cold || waiting {
                self.unit_mut(u).waits = true;
                if h.life == Life::Live && h.taken.is_none() && !waiting {
                    self.drain(design, holder, Cause::Platform);
                }
                return false;
            }
        }
        self.workspace.holder = Some(u);
        self.leave_line(design, u);
        let unit = self.unit_mut(u);
        (unit.life, unit.leased, unit.served) = (Life::Starting, false, false);
        unit.generation += 1;
        true
    }

    fn leave_line(&mut self, design: &Design, u: Unit) {
        self.unit_mut(u).waits = false;
        for (turn, of) in self.turns.iter_mut().zip(design.turns) {
            turn.behind &= *of == u;
        }
    }

    fn release(&mut self, design: &Design, u: Unit) {
        if self.workspace.holder == Some(u) {
            self.workspace.holder = None;
        }
        let other = 1 - u;
        if self.workspace.holder.is_none() && self.unit(other).waits && self.unit(other).life == Life::Cold {
            self.leave_line(design, other);
            if self.head(design, other).is_some() {
                self.start(design, other);
            }
        }
    }
}
