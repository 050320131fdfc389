//! Delivers every transition to the workload's callback URL, at least once and in order, across restarts.
//!
//! An event lies in the spool before its transition is written down, and leaves it on a 2xx. Workloads do not wait for each
//! other: each has a queue and, while something is in it, a task.

use std::collections::{HashMap, VecDeque};
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};
use std::time::Duration;

use contract::{RuntimeEvent, WorkloadId};
use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use tokio::sync::{Mutex, Semaphore};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use tracing::{debug, warn};

use crate::files;
use crate::http_call::{Endpoint, call, request};

const FIRST_DELAY: Duration = Duration::from_millis(100);
const LONGEST_DELAY: Duration = Duration::from_secs(30);
const ATTEMPT_TIMEOUT: Duration = Duration::from_secs(10);
const AT_ONCE: usize = 32;

/// An event and where it goes; the format of a spool file.
#[derive(Debug, Serialize, Deserialize)]
struct Letter {
    url: String,
    event: RuntimeEvent,
}

/// The spool and its deliverers.
#[derive(Debug, Clone)]
pub(crate) struct Callbacks {
    shared: Arc<Shared>,
}

#[derive(Debug)]
struct Shared {
    dir: PathBuf,
    bearer: Option<String>,
    /// Names of spool files, oldest first. A workload is here while its task runs.
    queues: Mutex<HashMap<WorkloadId, VecDeque<String>>>,
    last: AtomicI64,
    slots: Semaphore,
    tasks: TaskTracker,
    stop: CancellationToken,
}

impl Callbacks {
    /// Opens the spool and goes on with what lies in it.
    pub async fn open(dir: PathBuf, bearer: Option<String>) -> io::Result<Self> {
        let mut found: Vec<String> = Vec::new();
        for entry in std::fs::read_dir(&dir)? {
            found.extend(entry?.file_name().to_str().map(str::to_owned));
        }
        found.sort_unstable();
        let shared = Arc::new(Shared {
            dir,
            bearer,
            queues: Mutex::default(),
            last: AtomicI64::new(0),
            slots: Semaphore::new(AT_ONCE),
            tasks: TaskTracker::new(),
            stop: CancellationToken::new(),
        });
        for name in found {
            match name.split_once('.').and_then(|(id, _)| WorkloadId::parse(id).ok()) {
                Some(id) => shared.enqueue(id, name).await,
                // The temporary file of a write that was cut short: its transition was not written down either.
                None => files::remove_if_there(&shared.dir.join(name))?,
            }
        }
        Ok(Self { shared })
    }

    /// Keeps the event until it is delivered.
    ///
    /// # Errors
    /// When it cannot be written down; then it will not be delivered.
    pub async fn send(&self, url: &str, event: RuntimeEvent) -> io::Result<()> {
        let id = event.workload_id.clone();
        // Names sort by time, and no two are the same.
        let now = i64::try_from(Timestamp::now().as_nanosecond()).unwrap_or(i64::MAX);
        let before = self.shared.last.fetch_max(now, Ordering::SeqCst);
        let number = if before < now { now } else { self.shared.last.fetch_add(1, Ordering::SeqCst) + 1 };
        let name = format!("{id}.{number:020}.json");
        let letter = serde_json::to_vec(&Letter { url: url.to_owned(), event })?;
        files::write_atomically(&self.shared.dir, &name, &letter)?;
        self.shared.enqueue(id, name).await;
        Ok(())
    }

    /// Ends the deliverers. What is not delivered stays in the spool.
    pub async fn close(&self) {
        self.shared.stop.cancel();
        self.shared.tasks.close();
        self.shared.tasks.wait().await;
    }
}

impl Shared {
    async fn enqueue(self: &Arc<Self>, id: WorkloadId, name: String) {
        let mut queues = self.queues.lock().await;
        if let Some(queue) = queues.get_mut(&id) {
            queue.push_back(name);
            return;
        }
        queues.insert(id.clone(), VecDeque::from([name]));
        let shared = Arc::clone(self);
        self.tasks.spawn(async move {
            let stop = shared.stop.clone();
            tokio::select! {
                () = stop.cancelled() => {}
                () = shared.deliver_all(&id) => {}
            }
        });
    }

    async fn deliver_all(&self, id: &WorkloadId) {
        loop {
            let name = {
                let mut queues = self.queues.lock().await;
                match queues.get_mut(id).and_then(VecDeque::pop_front) {
                    Some(name) => name,
                    None => {
                        queues.remove(id);
                        return;
                    }
                }
            };
            self.deliver(&self.dir.join(name)).await;
        }
    }

    async fn deliver(&self, path: &Path) {
        let letter: Letter =
            match files::read_if_there(path).and_then(|text| Ok(serde_json::from_slice(&text.unwrap_or_default())?)) {
                Ok(letter) => letter,
                Err(error) => {
                    warn!(%error, path = %path.display(), "a callback in the spool cannot be read; it is left there");
                    return;
                }
            };
        let mut delay = FIRST_DELAY;
        loop {
            let outcome = match self.slots.acquire().await {
                Ok(_slot) => self.attempt(&letter).await,
                Err(closed) => Err(closed.to_string()),
            };
            match outcome {
                Ok(()) => break,
                Err(error) => {
                    debug!(%error, url = letter.url, workload = %letter.event.workload_id, "a callback failed");
                    if delay == LONGEST_DELAY {
                        warn!(%error, url = letter.url, workload = %letter.event.workload_id, "a callback keeps failing");
                    }
                }
            }
            tokio::time::sleep(delay).await;
            delay = (delay * 2).min(LONGEST_DELAY);
        }
        if let Err(error) = files::remove_if_there(path) {
            warn!(%error, path = %path.display(), "a delivered callback stays in the spool and will be sent again");
        }
    }

    async fn attempt(&self, letter: &Letter) -> Result<(), String> {
        let (endpoint, path) = Endpoint::parse(&letter.url).ok_or("the URL is not http://host:port/path")?;
        let body = serde_json::to_vec(&letter.event).map_err(|e| e.to_string())?;
        let request = request(&endpoint, http::Method::POST, &path, self.bearer.as_deref(), Some(body))
            .map_err(|e| e.to_string())?;
        match tokio::time::timeout(ATTEMPT_TIMEOUT, call(&endpoint, request)).await {
            Ok(Ok(answer)) if answer.status.is_success() => Ok(()),
            Ok(Ok(answer)) => Err(format!("it answered {}", answer.status)),
            Ok(Err(error)) => Err(error.to_string()),
            Err(_) => Err("it does not answer".into()),
        }
    }
}
