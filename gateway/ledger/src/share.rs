//! What one owner's answers may hold of a gateway's memory at one time.

use std::fmt;
use std::ops::Deref;
use std::sync::Arc;

use tokio::sync::{OwnedSemaphorePermit, Semaphore};

/// So many bytes for all answers of one owner: pages of lists, events that are read again, events that its readers have not
/// taken yet. Who finds none left waits, and holds nothing meanwhile. Clones are the same share.
#[derive(Debug, Clone)]
pub struct Share {
    left: Arc<Semaphore>,
    all: usize,
}

/// A part of a [`Share`], given back when it is dropped.
#[derive(Debug)]
pub struct Held(OwnedSemaphorePermit);

impl Share {
    /// Of this many bytes.
    pub fn new(bytes: usize) -> Self {
        let all = bytes.clamp(1, u32::MAX as usize);
        Self { left: Arc::new(Semaphore::new(all)), all }
    }

    /// Waits until so many bytes are left, in order; of more than there are in all, for all.
    pub async fn take(&self, bytes: usize) -> Held {
        // The semaphore is never closed.
        let taken = self.left.clone().acquire_many_owned(self.part(bytes)).await;
        Held(taken.unwrap_or_else(|closed| unreachable!("{closed}")))
    }

    /// So many bytes, if they are left now and nobody waits for them.
    pub fn try_take(&self, bytes: usize) -> Option<Held> {
        self.left.clone().try_acquire_many_owned(self.part(bytes)).ok().map(Held)
    }

    /// Bytes that nobody has.
    pub fn left(&self) -> usize {
        self.left.available_permits()
    }

    fn part(&self, bytes: usize) -> u32 {
        u32::try_from(bytes.min(self.all)).unwrap_or(u32::MAX)
    }
}

impl Held {
    /// Gives back what is beyond so many bytes.
    pub fn shrink(&mut self, bytes: usize) {
        drop(self.split_off(bytes));
    }

    /// What is beyond so many bytes.
    pub(crate) fn split_off(&mut self, bytes: usize) -> Self {
        let beyond = self.0.num_permits().saturating_sub(bytes);
        Self(self.0.split(beyond).unwrap_or_else(|| unreachable!("it is a part of it")))
    }
}

/// An event's JSON, shared by all its readers; its bytes count for as long as anybody has it.
#[derive(Clone)]
pub struct EventJson(Arc<(String, Option<Held>)>);

impl EventJson {
    pub(crate) fn new(json: Vec<u8>, held: Option<Held>) -> Self {
        // What is not UTF-8 is made so: nobody's stream ends over it.
        let text = String::from_utf8(json).unwrap_or_else(|e| String::from_utf8_lossy(e.as_bytes()).into_owned());
        Self(Arc::new((text, held)))
    }
}

impl Deref for EventJson {
    type Target = str;
    fn deref(&self) -> &str {
        &self.0.0
    }
}

impl AsRef<[u8]> for EventJson {
    fn as_ref(&self) -> &[u8] {
        self.0.0.as_bytes()
    }
}

impl PartialEq for EventJson {
    fn eq(&self, other: &Self) -> bool {
        **self == **other
    }
}

impl Eq for EventJson {}

impl fmt::Debug for EventJson {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn what_is_held_is_given_back_by_the_last_who_has_it() {
        let share = Share::new(100);
        let mut page = share.take(90).await;
        assert!(share.try_take(11).is_none());
        page.shrink(60);
        assert_eq!(share.left(), 40);
        let event = EventJson::new(b"{}".to_vec(), Some(page));
        let other = event.clone();
        drop(event);
        assert_eq!((share.left(), &*other), (40, "{}"));
        drop(other);
        // One that is larger than the share has all of it.
        let all = share.take(1_000).await;
        assert_eq!(share.left(), 0);
        drop(all);
        assert_eq!(share.left(), 100);
    }
}
