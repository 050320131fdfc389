//! The protocol as a model: what can happen next, and what must never be.

use stateright::{Model, Property};

use crate::design::{Design, Fault};
use crate::properties;
use crate::state::{Cause, Gateway, Life, Reaper, Stalled, State, Step, TurnId, Unit, Workload};

/// One thing that happens. Numbers are units, but for gateways and turns where that is said.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Action {
    /// A caller's turn comes in.
    Submit(TurnId),
    /// A gateway picks up a start job that nobody has.
    Pick(usize, Unit),
    /// A gateway calls the runtime.
    Call(usize),
    /// A gateway tells the ledger what the runtime said.
    Report(usize),
    /// A worker does what comes next; also when nobody lets it.
    Work(Unit),
    /// A runner is interrupted by a cancel.
    Interrupt(Unit),
    /// A worker dies of what it runs, or never comes up.
    DieOfIt(Unit),
    /// The runtime's event about a workload that ended arrives.
    Event(Unit),
    /// An idle worker is ended.
    Idle(Unit),
    PickDrain(Unit),
    Reap,
    /// Who stalled wakes, and does its next step.
    Wake,

    // What goes wrong; each costs a trouble, or a cancel.
    Cancel(TurnId),
    WorkerDies(Unit),
    GatewayDies(usize),
    ReaperDies,
    /// The runtime says that it could not start it.
    CallFails(usize),
    /// The runtime dies in the middle of a start: nothing runs, and the gateway does not know.
    CallCut(usize),
    /// A start job's lease ends though somebody is at work on it, or has been.
    LeaseLapses(Unit),
    /// The job is so old that it takes a new generation.
    PickAged(usize, Unit),
    /// Start timeout or maximum lifetime.
    Overdue(Unit),
    /// A caller's stop.
    Stop(Unit),
    /// The reading connection is lost.
    LinkLost(Unit),
    /// A worker's read stalls in a gateway.
    StallTake(Unit),
    /// A worker's `done` stalls in a gateway.
    StallSettle(Unit),
    /// The reaper stalls, and another one takes its place.
    StallReap,
}

impl Action {
    fn costs(self) -> u8 {
        u8::from(self.is_trouble() && !matches!(self, Self::Cancel(_)))
    }

    fn is_trouble(self) -> bool {
        !matches!(
            self,
            Self::Submit(_)
                | Self::Pick(..)
                | Self::Call(_)
                | Self::Report(_)
                | Self::Work(_)
                | Self::Interrupt(_)
                | Self::DieOfIt(_)
                | Self::Event(_)
                | Self::Idle(_)
                | Self::PickDrain(_)
                | Self::Reap
                | Self::Wake
        )
    }
}

impl Design {
    /// What happens without anything going wrong. Each of these changes something.
    pub fn progress(&self, s: &State, actions: &mut Vec<Action>) {
        for t in 0..self.turns.len() as TurnId {
            let mut earlier = self.turns[..usize::from(t)].iter().zip(&s.turns);
            let in_order = earlier.all(|(of, turn)| *of != self.turns[usize::from(t)] || turn.submitted);
            if !s.turn(t).submitted && in_order {
                actions.push(Action::Submit(t));
            }
        }
        for u in [0, 1] {
            self.progress_of(s, u, actions);
        }
        for (g, gateway) in gateways(s) {
            match gateway {
                Gateway::Free => {}
                Gateway::Job(..) => actions.push(Action::Call(g)),
                Gateway::Failed(..) | Gateway::Stale(..) => actions.push(Action::Report(g)),
            }
        }
        if s.reaper != Reaper::Free {
            actions.push(Action::Reap);
        }
        if s.stalled.is_some() {
            actions.push(Action::Wake);
        }
    }

    fn progress_of(&self, s: &State, u: Unit, actions: &mut Vec<Action>) {
        let unit = s.unit(u);
        if let Some(g) = s.gateways.iter().position(|g| *g == Gateway::Free)
            && unit.life == Life::Starting
            && (!unit.leased || !is_pursued(s, u))
        {
            actions.push(Action::Pick(g, u));
        }
        match unit.workload {
            Workload::Gone => {}
            Workload::Ended(of) => {
                if unit.generation == of && matches!(unit.life, Life::Starting | Life::Live) {
                    actions.push(Action::Event(u));
                }
            }
            Workload::Alive(_, Step::Boot) if self.broken_image => actions.push(Action::DieOfIt(u)),
            Workload::Alive(_, Step::Running { turn, .. }) if self.poison == Some(turn) => {
                actions.push(Action::DieOfIt(u));
            }
            Workload::Alive(of, Step::Idle) => {
                let nothing = unit.linked && unit.taken.is_none();
                if unit.life == Life::Live && unit.generation == of && !nothing {
                    actions.push(Action::Work(u));
                }
            }
            Workload::Alive(_, step) => {
                actions.push(Action::Work(u));
                if let Step::Running { turn, .. } = step
                    && s.turn(turn).cancelled
                {
                    actions.push(Action::Interrupt(u));
                }
            }
        }
        if unit.life == Life::Live && unit.taken.is_none() && s.head(self, u).is_none() {
            actions.push(Action::Idle(u));
        }
        if unit.drain_job && s.reaper == Reaper::Free {
            actions.push(Action::PickDrain(u));
        }
    }

    fn troubles(&self, s: &State, actions: &mut Vec<Action>) {
        for (g, gateway) in gateways(s) {
            if gateway != Gateway::Free {
                actions.push(Action::GatewayDies(g));
            }
            if matches!(gateway, Gateway::Job(u, of) if s.admits(u, of)) {
                actions.extend([Action::CallFails(g), Action::CallCut(g)]);
            }
        }
        for u in [0, 1] {
            let unit = s.unit(u);
            match unit.workload {
                Workload::Alive(_, step) => {
                    actions.push(Action::WorkerDies(u));
                    if s.stalled.is_none() && matches!(step, Step::Telling { .. }) {
                        actions.push(Action::StallSettle(u));
                    } else if s.stalled.is_none() && step == Step::Idle {
                        actions.push(Action::StallTake(u));
                    }
                }
                Workload::Gone | Workload::Ended(_) => {}
            }
            if unit.life == Life::Starting {
                if unit.leased && is_pursued(s, u) {
                    actions.push(Action::LeaseLapses(u));
                }
                if let Some(g) = s.gateways.iter().position(|g| *g == Gateway::Free) {
                    actions.push(Action::PickAged(g, u));
                }
            }
            if matches!(unit.life, Life::Starting | Life::Live) {
                actions.extend([Action::Overdue(u), Action::Stop(u)]);
            }
            if unit.life == Life::Live && unit.linked {
                actions.push(Action::LinkLost(u));
            }
        }
        if s.reaper != Reaper::Free {
            actions.push(Action::ReaperDies);
            if s.stalled.is_none() {
                actions.push(Action::StallReap);
            }
        }
    }

    fn happen(&self, s: &mut State, action: Action) {
        match action {
            Action::Submit(t) => s.submit(self, t),
            Action::Cancel(t) => {
                s.cancels -= 1;
                s.cancel(self, t);
            }
            Action::Pick(g, u) => {
                s.unit_mut(u).leased = true;
                s.gateways[g] = Gateway::Job(u, s.unit(u).generation);
            }
            Action::PickAged(g, u) => {
                s.restart(u, 0);
                s.gateways[g] = Gateway::Job(u, s.unit(u).generation);
            }
            Action::Call(g) => s.call(g),
            Action::CallFails(g) | Action::CallCut(g) => {
                if let Gateway::Job(u, of) = s.gateways[g] {
                    s.unit_mut(u).workload = Workload::Alive(of, Step::Boot);
                    s.end(u);
                    if matches!(action, Action::CallFails(_)) {
                        s.gateways[g] = Gateway::Failed(u, of);
                    }
                }
            }
            Action::Report(g) => s.report(self, g),
            Action::Work(u) => s.work(self, u, false),
            Action::Interrupt(u) => s.work(self, u, true),
            Action::DieOfIt(u) | Action::WorkerDies(u) => s.end(u),
            Action::Event(u) => s.ended(self, u),
            Action::Overdue(u) if s.unit(u).life == Life::Starting => s.ended(self, u),
            Action::Overdue(u) => s.drain(self, u, Cause::Attempt),
            Action::Idle(u) | Action::Stop(u) => s.drain(self, u, Cause::Platform),
            Action::PickDrain(u) => {
                let of = s.unit(u).generation;
                s.unit_mut(u).drain_job = self.fault != Some(Fault::DrainJobTaken);
                let unconfirmed = self.fault == Some(Fault::ExitedUnconfirmed);
                s.reaper = if unconfirmed { Reaper::Exited(u, of) } else { Reaper::Stop(u, of) };
            }
            Action::Reap => s.reap(self),
            Action::GatewayDies(g) => s.gateways[g] = Gateway::Free,
            Action::ReaperDies => s.reaper = Reaper::Free,
            Action::LeaseLapses(u) => s.unit_mut(u).leased = false,
            Action::LinkLost(u) => s.unit_mut(u).linked = false,
            Action::StallTake(u) => s.stalled = Some(Stalled::Take(u, s.alive(u))),
            Action::StallSettle(u) => {
                if let Workload::Alive(of, Step::Telling { turn, outcome }) = s.unit(u).workload {
                    s.stalled = Some(Stalled::Settle(u, of, turn, outcome));
                }
            }
            Action::StallReap => s.stalled = Some(Stalled::Reap(std::mem::replace(&mut s.reaper, Reaper::Free))),
            // Whoever asked has given up on that connection.
            Action::Wake => match s.stalled.take() {
                Some(Stalled::Reap(reap)) => {
                    let other = std::mem::replace(&mut s.reaper, reap);
                    s.reap(self);
                    let reap = std::mem::replace(&mut s.reaper, other);
                    s.stalled = (reap != Reaper::Free).then_some(Stalled::Reap(reap));
                }
                Some(Stalled::Take(u, of)) => drop(s.take(self, u, of)),
                Some(Stalled::Settle(u, of, turn, outcome)) => drop(s.settle(self, u, of, turn, outcome)),
                None => {}
            },
        }
    }
}

/// Gateways that differ: what one of two equals does, the other need not do as well.
fn gateways(s: &State) -> impl Iterator<Item = (usize, Gateway)> + '_ {
    s.gateways.iter().copied().enumerate().filter(|(g, gateway)| *g == 0 || *gateway != s.gateways[0])
}

/// Whether somebody is at work on the start job, or its workload is there.
fn is_pursued(s: &State, u: Unit) -> bool {
    let of = s.unit(u).generation;
    let has = |g: &Gateway| matches!(g, Gateway::Job(v, x) | Gateway::Failed(v, x) | Gateway::Stale(v, x, _) if (*v, *x) == (u, of));
    s.gateways.iter().any(has) || matches!(s.unit(u).workload, Workload::Alive(x, _) if x == of)
}

impl Model for Design {
    type State = State;
    type Action = Action;

    fn init_states(&self) -> Vec<State> {
        vec![State::new(self.troubles, self.cancels)]
    }

    fn actions(&self, s: &State, actions: &mut Vec<Action>) {
        self.progress(s, actions);
        if s.troubles > 0 {
            self.troubles(s, actions);
        }
        if s.cancels > 0 {
            let open = (0..self.turns.len() as TurnId).filter(|t| s.turn(*t).submitted && s.turn(*t).told.is_none());
            actions.extend(open.filter(|t| !s.turn(*t).cancelled).map(Action::Cancel));
        }
    }

    fn next_state(&self, s: &State, action: Action) -> Option<State> {
        let mut next = *s;
        next.troubles -= action.costs();
        self.happen(&mut next, action);
        next.gateways.sort_unstable();
        Some(next)
    }

    /// Beyond this nothing more can be learned: the starts do not end.
    fn within_boundary(&self, s: &State) -> bool {
        s.units.iter().all(|unit| unit.generation <= self.most_starts() + 1)
    }

    fn properties(&self) -> Vec<Property<Self>> {
        properties::all()
    }
}
