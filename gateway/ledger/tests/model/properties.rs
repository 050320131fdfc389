//! What must never be, and what must be possible for that to mean anything.

use stateright::Property;

use crate::design::Design;
use crate::state::{Gateway, Outcome, Stalled, State, Told};

/// No accepted turn is lost: as long as one is not settled, something goes on by itself.
pub const EXIT: &str = "no state without an exit";
/// A turn is run to its record, and its commit put on the branch, at most once.
pub const ONCE: &str = "no turn is run to a commit twice";
/// What a turn is told as is what its record says, and its branch shows. Where the platform settles one that nobody could be
/// asked about, it says so; it settles none at once that has a record.
pub const RECORD: &str = "no turn is told otherwise than its record";
/// At any moment at most one workload has the workspace mounted.
pub const WRITERS: &str = "never two writers";
/// Starts are bounded by attempts, failed starts and troubles.
pub const STARTS: &str = "no endless loop of starts";
/// Only the current generation takes and settles.
pub const FENCED: &str = "only the current generation acts";
/// What a dead turn left is not taken for people's changes.
pub const LEFTOVERS: &str = "no turn begins on another's leftovers";

/// Things that happen in some run; if they did not, the model would be about less than it says.
pub const WITNESSES: [&str; 9] = [
    "a unit waits for the workspace",
    "a turn is told again from its record",
    "a turn that is out of attempts is told by a worker that ran nothing",
    "a turn is cancelled by its worker",
    "nobody could be asked about a turn",
    "a turn fails before it was ever delivered",
    "two gateways are at work on one start",
    "a late start is refused",
    "two reapers are at work on one workload",
];

/// All of them.
pub fn all() -> Vec<Property<Design>> {
    vec![
        Property::always(EXIT, |design: &Design, s: &State| {
            let settled = s.turns.iter().take(design.turns.len()).all(|t| t.told.is_some());
            settled || {
                let mut actions = Vec::new();
                design.progress(s, &mut actions);
                !actions.is_empty()
            }
        }),
        Property::always(ONCE, |_, s: &State| s.turns.iter().all(|t| t.commits <= 1 && t.records <= 1)),
        Property::always(RECORD, |_, s: &State| {
            s.turns.iter().all(|t| match t.told {
                None | Some(Told::GaveUp) => true,
                Some(Told::AtOnce) => t.records == 0 && t.commits == 0,
                Some(Told::Word(said)) => t.recorded == Some(said) && t.commits == u8::from(said == Outcome::Completed),
            })
        }),
        Property::always(WRITERS, |_, s: &State| (s.alive(0) == 0) || (s.alive(1) == 0)),
        Property::always(STARTS, |design: &Design, s: &State| {
            s.units.iter().all(|u| u.generation <= design.most_starts())
        }),
        Property::always(FENCED, |_, s: &State| !s.unfenced),
        Property::always(LEFTOVERS, |_, s: &State| !s.on_leftovers),
        Property::sometimes(WITNESSES[0], |_, s: &State| s.units.iter().any(|u| u.waits)),
        Property::sometimes(WITNESSES[1], |_, s: &State| {
            let by = |t: usize| {
                s.units.iter().filter_map(|u| u.record).find(|r| usize::from(r.turn) == t).map(|r| r.commit % 64)
            };
            let mut turns = s.turns.iter().enumerate();
            turns.any(|(t, turn)| {
                turn.told == Some(Told::Word(Outcome::Completed)) && by(t).is_some_and(|by| by < turn.settled_gen)
            })
        }),
        Property::sometimes(WITNESSES[2], |_, s: &State| any_told(s, Told::Word(Outcome::Failed))),
        Property::sometimes(WITNESSES[3], |_, s: &State| any_told(s, Told::Word(Outcome::Cancelled))),
        Property::sometimes(WITNESSES[4], |_, s: &State| any_told(s, Told::GaveUp)),
        Property::sometimes(WITNESSES[5], |_, s: &State| {
            s.turns.iter().any(|t| t.told == Some(Told::AtOnce) && !t.cancelled)
        }),
        Property::sometimes(
            WITNESSES[6],
            |_, s: &State| matches!(s.gateways, [Gateway::Job(u, a), Gateway::Job(v, b)] if (u, a) == (v, b)),
        ),
        Property::sometimes(WITNESSES[7], |_, s: &State| s.gateways.iter().any(|g| matches!(g, Gateway::Stale(..)))),
        Property::sometimes(WITNESSES[8], |_, s: &State| match s.stalled {
            Some(Stalled::Reap(stalled)) => stalled.workload().is_some_and(|w| s.reaper.workload() == Some(w)),
            _ => false,
        }),
    ]
}

fn any_told(s: &State, told: Told) -> bool {
    s.turns.iter().any(|t| t.told == Some(told))
}
