//! What the ledger is told at start.

use std::time::Duration;

/// Where the ledger is and how it bounds what it keeps.
#[derive(Debug, Clone)]
pub struct Config {
    /// `redis://host:port/db` or `redis+unix:///path`.
    pub url: String,
    /// Its password, if it has one.
    pub password: Option<String>,
    /// Replicas that must have an accepted turn before [`crate::Ledger::submit`] answers (Redis' `WAIT`).
    pub wait_replicas: u32,
    /// This process' id, unique for ever (a ULID): names its mailbox, its links and its leases.
    pub gateway: String,
    /// Entries of an out-stream that are kept.
    pub out_entries: u64,
    /// Bytes of an out-stream that are kept.
    pub out_bytes: u64,
    /// How long a settled turn and an idempotency key are kept.
    pub turn_ttl: Duration,
    /// Most turns that wait in one unit.
    pub queued_turns_per_unit: u64,
    /// Most turns that wait in all units of one owner.
    pub queued_turns_per_owner: u64,
    /// How much longer than `timeout_sec` a delivered turn may take before its worker is taken for stuck.
    pub turn_margin: Duration,
    /// Most units of one owner that have a workload.
    pub live_per_owner: u64,
    /// Most units that have a workload.
    pub live_total: u64,
    /// Most starts that are worked on at once.
    pub pending_starts: u64,
    /// How long the prompt and the events of a settled turn are kept.
    pub detail_ttl: Duration,
    /// Most bytes that one owner may have stored.
    pub stored_bytes_per_owner: u64,
    /// Most units of one owner.
    pub units_per_owner: u64,
    /// Most workspaces that one owner may have named.
    pub workspaces_per_owner: u64,
    /// Most turns of all owners that are not settled.
    pub open_turns: u64,
}

impl Config {
    /// Wide bounds (10,000 entries, 16 MiB, a day and 7 days, 1,000 turns or workloads, 1 TiB, a million units, workspaces and
    /// open turns) for this address and process.
    pub fn new(url: impl Into<String>, gateway: impl Into<String>) -> Self {
        Self {
            url: url.into(),
            password: None,
            wait_replicas: 0,
            gateway: gateway.into(),
            out_entries: 10_000,
            out_bytes: 16 << 20,
            turn_ttl: Duration::from_secs(7 * 24 * 3600),
            queued_turns_per_unit: 1_000,
            queued_turns_per_owner: 10_000,
            turn_margin: Duration::from_secs(60),
            live_per_owner: 1_000,
            live_total: 1_000,
            pending_starts: 1_000,
            detail_ttl: Duration::from_secs(24 * 3600),
            stored_bytes_per_owner: 1 << 40,
            units_per_owner: 1_000_000,
            workspaces_per_owner: 1_000_000,
            open_turns: 1_000_000,
        }
    }
}
