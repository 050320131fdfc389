//! The processes around the ledger: what a gateway does with a start job, the runtime, the reaper.

use crate::design::{Design, Fault};
use crate::state::{Gateway, Gen, Life, Reaper, State, Step, Unit, Workload};

impl State {
    /// The generation that runs; 0 when none does.
    pub fn alive(&self, u: Unit) -> Gen {
        match self.unit(u).workload {
            Workload::Alive(of, _) => of,
            Workload::Gone | Workload::Ended(_) => 0,
        }
    }

    /// Whether the runtime would start this generation, which does not run.
    pub fn admits(&self, u: Unit, of: Gen) -> bool {
        self.alive(u).max(self.unit(u).tombstone) < of
    }

    /// The runtime's `start`: idempotent while it is alive, 409 for what is over, and lower ones are removed before.
    pub fn call(&mut self, g: usize) {
        let Gateway::Job(u, of) = self.gateways[g] else { return };
        let (alive, tombstone) = (self.alive(u), self.unit(u).tombstone);
        self.gateways[g] = Gateway::Free;
        if self.admits(u, of) {
            self.end(u);
            self.unit_mut(u).workload = Workload::Alive(of, Step::Boot);
        } else if alive != of {
            self.gateways[g] = Gateway::Stale(u, of, alive.max(tombstone));
        }
    }

    /// What the runtime said is told to the ledger.
    pub fn report(&mut self, design: &Design, g: usize) {
        let answer = std::mem::replace(&mut self.gateways[g], Gateway::Free);
        let (Gateway::Failed(u, of) | Gateway::Stale(u, of, _)) = answer else { return };
        let unit = self.unit(u);
        if unit.life != Life::Starting || unit.generation != of {
            return;
        }
        match answer {
            Gateway::Stale(_, _, highest) if highest > of || design.fault == Some(Fault::EndedStartsReplaced) => {
                self.restart(u, highest);
                self.gateways[g] = Gateway::Job(u, self.unit(u).generation);
            }
            // This very generation has ended: its start has failed.
            _ => self.ended(design, u),
        }
    }

    /// One step of a reap. The reaper may die before each.
    pub fn reap(&mut self, design: &Design) {
        self.reaper = match self.reaper {
            Reaper::Free => Reaper::Free,
            Reaper::Stop(u, of) => {
                if self.alive(u) == of {
                    self.end(u);
                }
                Reaper::Destroy(u, of)
            }
            Reaper::Destroy(u, of) => {
                let unit = self.unit_mut(u);
                let lower_too = design.fault != Some(Fault::LowerLeftAlive);
                let known = match unit.workload {
                    Workload::Gone => false,
                    Workload::Ended(x) | Workload::Alive(x, _) => x == of || (x < of && lower_too),
                };
                if known {
                    unit.workload = Workload::Gone;
                }
                if known || design.fault != Some(Fault::UnknownNotBuried) {
                    unit.tombstone = unit.tombstone.max(of);
                }
                Reaper::Exited(u, of)
            }
            Reaper::Exited(u, of) => {
                self.exited(design, u, of);
                Reaper::Free
            }
        };
    }
}
