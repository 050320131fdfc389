//! What each owner has for itself on this gateway, so that none takes what others need.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError, Weak};
use std::time::Duration;

use contract::{ErrorCode, Owner};
use ledger::{Held, Share};
use tokio::sync::Semaphore;

use crate::http::problem::Failure;

/// Owners that are remembered before those that have nothing are forgotten.
const OWNERS_KEPT: usize = 1024;
/// How long a call waits for its turn.
const WAIT: Duration = Duration::from_secs(5);
/// Bytes of answers that a gateway has in memory for one owner: what its readers have not taken of events, and large answers.
const SHARE_BYTES: usize = 8 << 20;
/// What a large answer may take while it is put together: a page with what it is read from, or one turn. Two at one time, so.
const ANSWER_BYTES: usize = SHARE_BYTES / 2;

/// Something for each owner, which lives as long as anybody has it.
#[derive(Debug)]
pub struct PerOwner<T>(Mutex<HashMap<Owner, Weak<T>>>);

impl<T> Default for PerOwner<T> {
    fn default() -> Self {
        Self(Mutex::default())
    }
}

impl<T> PerOwner<T> {
    /// This owner's; a new one where it has none.
    pub fn of(&self, owner: &Owner, new: impl FnOnce() -> T) -> Arc<T> {
        let mut owners = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if owners.len() >= OWNERS_KEPT {
            owners.retain(|_, one| one.strong_count() > 0);
        }
        owners.get(owner).and_then(Weak::upgrade).unwrap_or_else(|| {
            let one = Arc::new(new());
            owners.insert(owner.clone(), Arc::downgrade(&one));
            one
        })
    }
}

/// Places for something that an owner may do only so many times at once.
pub type Places = PerOwner<Semaphore>;

/// Memory for owners' answers.
#[derive(Debug, Default)]
pub struct Shares(PerOwner<Share>);

/// Memory for one answer, until it was sent.
#[derive(Debug)]
pub struct Room {
    pub(crate) held: Held,
    /// The owner's, which is remembered for as long as a part of it is held.
    _share: Arc<Share>,
}

impl Shares {
    /// What this owner's answers may take.
    pub fn of(&self, owner: &Owner) -> Arc<Share> {
        self.0.of(owner, || Share::new(SHARE_BYTES))
    }

    /// Room for a large answer.
    ///
    /// # Errors
    /// 429 when the owner's other answers are not taken in time.
    pub async fn room(&self, owner: &Owner) -> Result<Room, Failure> {
        let share = self.of(owner);
        match tokio::time::timeout(WAIT, share.take(ANSWER_BYTES)).await {
            Ok(held) => Ok(Room { held, _share: share }),
            Err(_) => {
                let detail = "too many large answers of this owner's are being read or wait to be taken; try again";
                Err(Failure::new(ErrorCode::TooMany, detail).retry_after(Duration::from_secs(1)))
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn an_owner_waits_for_its_own_answers_and_for_nobody_elses() {
        let shares = Shares::default();
        let [ann, bob] = ["ann", "bob"].map(|sub| Owner::parse(sub).unwrap());
        let first = shares.room(&ann).await.unwrap();
        let _second = shares.room(&ann).await.unwrap();
        assert_eq!(shares.room(&ann).await.unwrap_err().status(), 429);
        assert!(shares.room(&bob).await.is_ok());
        drop(first);
        assert!(shares.room(&ann).await.is_ok());
    }

    #[test]
    fn owners_that_have_nothing_are_forgotten() {
        let all = PerOwner::default();
        let kept = all.of(&Owner::parse("kept").unwrap(), || 1);
        for n in 0..OWNERS_KEPT + 1 {
            all.of(&Owner::parse(format!("o{n}")).unwrap(), || 2);
        }
        assert!(all.0.lock().unwrap().len() < OWNERS_KEPT);
        assert_eq!(*all.of(&Owner::parse("kept").unwrap(), || 3), *kept);
    }
}
