//! Whether a run can go round for ever.

use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::hash::{BuildHasher, BuildHasherDefault, DefaultHasher};

use stateright::Model;

use crate::design::Design;
use crate::state::State;

/// How many states there are when none is reached from itself: then every run ends, and where it ends every turn is settled,
/// whoever is slow. Otherwise one that is.
///
/// # Errors
/// The state that comes round.
pub fn count_without_cycle(design: &Design) -> Result<usize, Box<State>> {
    let hasher = BuildHasherDefault::<DefaultHasher>::default();
    // Of each state whether all that follows it was looked at.
    let mut done: HashMap<u64, bool> = HashMap::new();
    let mut path: Vec<(u64, Vec<State>)> = Vec::new();
    let mut next = design.init_states().pop();
    loop {
        if let Some(state) = next.take() {
            let id = hasher.hash_one(state);
            match done.entry(id) {
                Entry::Occupied(known) if *known.get() => {}
                Entry::Occupied(_) => return Err(Box::new(state)),
                Entry::Vacant(new) => {
                    new.insert(false);
                    path.push((id, design.next_states(&state)));
                }
            }
        }
        let Some((id, following)) = path.last_mut() else { return Ok(done.len()) };
        next = following.pop();
        if next.is_none() {
            done.insert(*id, true);
            path.pop();
        }
    }
}
