//! The unit's life as a pure machine; the scripts and [`UnitState::step`] are tested against each other.

use contract::{Generation, StopReason};

/// Why a generation is being ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum DrainReason {
    /// It was idle for long enough.
    Idle,
    /// Somebody asked for it.
    Stopped,
    /// It lived for as long as it may.
    MaxLifetime,
    /// Another unit needs a workspace that it holds.
    Preempted,
    /// The next turn has another shape.
    OtherShape,
    /// It could not be started.
    StartFailed,
    /// It did not become ready in time.
    StartTimedOut,
    /// Its workload ended by itself.
    Failed,
    /// Its first process died because memory ran out.
    Oom,
    /// It did not answer a cancel in time.
    Unresponsive,
    /// Its turn took longer than it may.
    TurnTimeout,
    /// Its worker said more than a turn may.
    Flooded,
}

impl DrainReason {
    /// Every reason.
    pub const ALL: [Self; 12] = [
        Self::Idle,
        Self::Stopped,
        Self::MaxLifetime,
        Self::Preempted,
        Self::OtherShape,
        Self::StartFailed,
        Self::StartTimedOut,
        Self::Failed,
        Self::Oom,
        Self::Unresponsive,
        Self::TurnTimeout,
        Self::Flooded,
    ];

    /// The word that stands in the unit's record.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Idle => "idle",
            Self::Stopped => "stopped",
            Self::MaxLifetime => "max_lifetime",
            Self::Preempted => "preempted",
            Self::OtherShape => "other_shape",
            Self::StartFailed => "start_failed",
            Self::StartTimedOut => "start_timed_out",
            Self::Failed => "failed",
            Self::Oom => "oom",
            Self::Unresponsive => "unresponsive",
            Self::TurnTimeout => "turn_timeout",
            Self::Flooded => "flooded",
        }
    }

    /// The reason of this name.
    pub fn parse(text: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|r| r.as_str() == text)
    }

    /// What the runtime is told.
    pub fn stop_reason(self) -> StopReason {
        match self {
            Self::Idle => StopReason::IdleTimeout,
            Self::Stopped
            | Self::Preempted
            | Self::OtherShape
            | Self::Unresponsive
            | Self::TurnTimeout
            | Self::Flooded => StopReason::Stopped,
            Self::MaxLifetime => StopReason::MaxLifetime,
            Self::StartFailed | Self::StartTimedOut => StopReason::StartFailed,
            Self::Failed => StopReason::Failed,
            Self::Oom => StopReason::Oom,
        }
    }
}

/// Where a unit is in its life.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub enum UnitState {
    /// No workload, no cost.
    #[default]
    Cold,
    /// A start job exists.
    Starting {
        /// Of this generation.
        generation: Generation,
    },
    /// A worker is ready: the only state in which a turn is given out.
    Live {
        /// The current generation.
        generation: Generation,
    },
    /// The workload is being ended; only the runtime's word that it is gone ends this.
    Draining {
        /// The generation that ends.
        generation: Generation,
        /// Why.
        reason: DrainReason,
    },
}

/// What happens to a unit.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Event {
    /// Something waits and its leases are had.
    Start {
        /// The new generation; higher than any before.
        generation: Generation,
    },
    /// The start job takes a new generation: the runtime refused this one, or it is too old.
    Restart {
        /// The present generation.
        generation: Generation,
        /// The new one.
        next: Generation,
    },
    /// The worker claimed its generation.
    Ready {
        /// Which.
        generation: Generation,
    },
    /// The generation shall end.
    Drain {
        /// Which.
        generation: Generation,
        /// Why.
        reason: DrainReason,
    },
    /// The runtime says that the workload no longer exists.
    Exited {
        /// Which.
        generation: Generation,
        /// The next generation, where something waits.
        next: Option<Generation>,
    },
}

/// The event does not apply: the actor is stale, or too early. Nothing changes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("{event:?} does not apply to {state:?}")]
pub struct Rejected {
    /// The state, unchanged.
    pub state: UnitState,
    /// The event.
    pub event: Event,
}

impl UnitState {
    /// The current generation, if there is one.
    pub fn generation(self) -> Option<Generation> {
        match self {
            Self::Cold => None,
            Self::Starting { generation } | Self::Live { generation } | Self::Draining { generation, .. } => {
                Some(generation)
            }
        }
    }

    /// The word that stands in the unit's record.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Cold => "cold",
            Self::Starting { .. } => "starting",
            Self::Live { .. } => "live",
            Self::Draining { .. } => "draining",
        }
    }

    /// The state after an event.
    ///
    /// # Errors
    /// [`Rejected`] when the event is not one that this state permits, or is of another generation.
    pub fn step(self, event: Event) -> Result<Self, Rejected> {
        let current = self.generation();
        let reject = Err(Rejected { state: self, event });
        match (self, event) {
            // Cold → Starting.
            (Self::Cold, Event::Start { generation }) => Ok(Self::Starting { generation }),
            // Starting → Starting, with a higher generation only.
            (Self::Starting { .. }, Event::Restart { generation, next })
                if current == Some(generation) && next > generation =>
            {
                Ok(Self::Starting { generation: next })
            }
            // Starting → Live.
            (Self::Starting { .. }, Event::Ready { generation }) if current == Some(generation) => {
                Ok(Self::Live { generation })
            }
            // Starting, Live → Draining.
            (Self::Starting { .. } | Self::Live { .. }, Event::Drain { generation, reason })
                if current == Some(generation) =>
            {
                Ok(Self::Draining { generation, reason })
            }
            // Draining → Cold, or Starting with a higher generation.
            (Self::Draining { .. }, Event::Exited { generation, next }) if current == Some(generation) => match next {
                None => Ok(Self::Cold),
                Some(next) if next > generation => Ok(Self::Starting { generation: next }),
                Some(_) => reject,
            },
            _ => reject,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const A: Generation = Generation(10);
    const B: Generation = Generation(11);

    #[test]
    fn a_life_goes_round() {
        let reason = DrainReason::Idle;
        let mut state = UnitState::Cold;
        for (event, expected) in [
            (Event::Start { generation: A }, UnitState::Starting { generation: A }),
            (Event::Ready { generation: A }, UnitState::Live { generation: A }),
            (Event::Drain { generation: A, reason }, UnitState::Draining { generation: A, reason }),
            (Event::Exited { generation: A, next: Some(B) }, UnitState::Starting { generation: B }),
            (Event::Drain { generation: B, reason }, UnitState::Draining { generation: B, reason }),
            (Event::Exited { generation: B, next: None }, UnitState::Cold),
        ] {
            state = state.step(event).unwrap();
            assert_eq!(state, expected);
        }
    }

    #[test]
    fn stale_and_early_events_change_nothing() {
        let live = UnitState::Live { generation: B };
        let reason = DrainReason::Failed;
        for event in [
            Event::Start { generation: Generation(12) },
            Event::Ready { generation: B },
            Event::Drain { generation: A, reason },
            Event::Exited { generation: B, next: None },
            Event::Restart { generation: B, next: Generation(12) },
        ] {
            assert_eq!(live.step(event), Err(Rejected { state: live, event }));
        }
        let draining = UnitState::Draining { generation: B, reason };
        assert!(draining.step(Event::Exited { generation: A, next: None }).is_err());
        assert!(draining.step(Event::Exited { generation: B, next: Some(A) }).is_err());
        assert!(draining.step(Event::Drain { generation: B, reason: DrainReason::Idle }).is_err());
    }

    #[test]
    fn reasons_have_names_of_their_own() {
        for reason in DrainReason::ALL {
            assert_eq!(DrainReason::parse(reason.as_str()), Some(reason));
        }
        assert_eq!(DrainReason::parse("x"), None);
    }
}
