//! Submit, start, take, settle, reap and crash as a model that is checked exhaustively: two units on one workspace, two
//! gateways, a reaper and a runtime, with a bounded number of troubles that may come at any moment.
//!
//! Every step of a process is a step of the model, so a process that stalls between two of them is one that takes the second
//! late. A reaper that stalls does so while the next one, which takes its job's lease, does the same work. Redis, with its
//! file, dies between two scripts or not at all: to the others that is a request that stalls, or is made again. What runs without a trouble never goes round (`cycles`) and ends with every turn settled (`properties::EXIT`);
//! together: every accepted turn is settled, however slow anybody is.

mod actors;
mod cycles;
mod design;
mod properties;
mod protocol;
mod scripts;
mod state;
mod worker;

use std::collections::BTreeSet;

use design::{Design, Fault};
use properties::{EXIT, FENCED, LEFTOVERS, ONCE, RECORD, STARTS, WITNESSES, WRITERS};
use stateright::{Checker, HasDiscoveries, Model};

/// Two units, a turn each.
const TWO_UNITS: Design = Design {
    turns: &[0, 1],
    troubles: 2,
    cancels: 0,
    max_attempts: 2,
    max_starts: 2,
    max_taken_away: 1,
    poison: None,
    broken_image: false,
    fault: None,
};

#[test]
fn the_design_holds() {
    let runs = [
        ("two units, 3 troubles, no second start", Design { troubles: 3, max_starts: 1, ..TWO_UNITS }),
        ("two units, 2 troubles, a cancel", Design { cancels: 1, ..TWO_UNITS }),
        ("two turns of one unit and one of the other", Design { turns: &[0, 0, 1], ..TWO_UNITS }),
        ("one unit, 3 troubles, a cancel", Design { turns: &[0], troubles: 3, cancels: 1, ..TWO_UNITS }),
        ("two units, a turn that kills its worker", Design { poison: Some(0), ..TWO_UNITS }),
        ("two units, an image that does not start", Design { broken_image: true, ..TWO_UNITS }),
    ];
    let mut witnessed = BTreeSet::new();
    let mut all = 0;
    for (name, design) in runs {
        let checker = design.checker().finish_when(HasDiscoveries::AnyFailures).spawn_bfs().join();
        let states = checker.unique_state_count();
        println!("{name}: {states} states, {} transitions, depth {}", checker.state_count(), checker.max_depth());
        for (property, path) in checker.discoveries() {
            let failed = !WITNESSES.contains(&property);
            assert!(!failed, "{name}: not `{property}`: {:?}\n{:?}", path.clone().into_actions(), path.last_state());
            witnessed.insert(property);
        }
        let counted =
            cycles::count_without_cycle(&design).unwrap_or_else(|state| panic!("{name}: for ever: {state:?}"));
        assert_eq!(counted, states, "{name}: not every state was checked");
        all += states;
    }
    assert_eq!(witnessed, BTreeSet::from(WITNESSES));
    println!("{all} states in all");
}

#[test]
fn each_fault_is_found() {
    let three = Design { troubles: 3, ..TWO_UNITS };
    let one_start = Design { max_starts: 1, ..three };
    let poison = Design { poison: Some(0), ..TWO_UNITS };
    let broken_image = Design { broken_image: true, troubles: 0, ..TWO_UNITS };
    let two_turns = Design { turns: &[0, 0, 1], ..TWO_UNITS };
    for (fault, property, design) in [
        (Fault::ExitedUnconfirmed, WRITERS, TWO_UNITS),
        (Fault::LeaseGivenOnAtDrain, WRITERS, TWO_UNITS),
        (Fault::UnknownNotBuried, WRITERS, TWO_UNITS),
        (Fault::LowerLeftAlive, WRITERS, one_start),
        (Fault::ExitedUnfenced, WRITERS, TWO_UNITS),
        (Fault::TakeUnfenced, FENCED, TWO_UNITS),
        (Fault::SettleUnfenced, RECORD, two_turns),
        (Fault::NoLookAtTheRecord, ONCE, TWO_UNITS),
        (Fault::RecordAfterMove, ONCE, TWO_UNITS),
        (Fault::DeadUnasked, RECORD, TWO_UNITS),
        (Fault::EntryGoneAtDelivery, EXIT, TWO_UNITS),
        (Fault::DrainJobTaken, EXIT, TWO_UNITS),
        (Fault::FailedStartsUncounted, STARTS, broken_image),
        (Fault::EndedStartsReplaced, STARTS, broken_image),
        (Fault::AttemptsUncounted, STARTS, poison),
        (Fault::UncleanUnmarked, LEFTOVERS, TWO_UNITS),
        (Fault::OnlyTheMarkedTurn, LEFTOVERS, one_start),
    ] {
        let design = Design { fault: Some(fault), ..design };
        let until = HasDiscoveries::AnyOf(BTreeSet::from([property]));
        let checker = design.checker().finish_when(until).spawn_bfs().join();
        let path = checker.discovery(property).unwrap_or_else(|| panic!("{fault:?} does not break `{property}`"));
        let states = checker.unique_state_count();
        println!("{fault:?}: not `{property}` after {states} states: {:?}", path.into_actions());
    }
}
