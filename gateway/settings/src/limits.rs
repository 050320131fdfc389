//! `[limits]`: bounds.

use serde::de::Error as _;
use serde::{Deserialize, Deserializer, Serialize};

/// `[limits]`
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Limits {
    /// Most bytes of a prompt.
    pub prompt_bytes: usize,
    /// Most bytes of a request body.
    pub body_bytes: usize,
    /// Most turns that wait in one unit.
    pub queued_turns_per_unit: u64,
    /// Most turns that wait in all units of one owner.
    pub queued_turns_per_owner: u64,
    /// Most units of one owner that have a workload at once; others wait in order.
    pub live_per_owner: u64,
    /// Most units that have a workload at once, of all owners.
    pub live_total: u64,
    /// Most starts that are worked on at once, of all gateways.
    pub pending_starts: u64,
    /// Seconds that a delivered turn may take longer than its timeout before its worker is ended.
    pub turn_margin_sec: u64,
    /// Seconds that a settled turn (its head and its result) and its idempotency key are kept.
    pub turn_ttl_sec: u64,
    /// Seconds that the prompt and the events of a settled turn are kept.
    pub detail_ttl_sec: u64,
    /// MiB that one owner may have stored in the ledger: prompts, results, events, and a sum for each record. Beyond that calls
    /// are refused (507) until units are erased or ended turns are over their time. At the most a quarter of Redis' `maxmemory`,
    /// as it is when a gateway starts.
    pub stored_mb_per_owner: u64,
    /// Most units of one owner, cold ones included.
    pub units_per_owner: u64,
    /// Most workspaces that one owner may name.
    pub workspaces_per_owner: u64,
    /// Most turns of all owners that wait or run.
    pub open_turns: u64,
    /// Seconds that a JSON invoke waits when the caller does not say (`Prefer: wait=N`).
    pub default_wait_sec: u64,
    /// Bytes that one event of a worker may have. What a turn came to is one event, so there are at least 512 KiB.
    #[serde(deserialize_with = "event_bytes")]
    pub event_bytes: usize,
    /// Commands of one worker in a second, in the long run; its answers come later beyond that. Four seconds' worth may come
    /// at once.
    pub worker_commands_per_sec: u32,
    /// Bytes of one worker in a second, likewise.
    pub worker_bytes_per_sec: u64,
    /// Commands of one turn that may be slowed so before the worker is ended and the turn fails as `flooded`.
    pub slowed_commands_per_turn: u64,
    /// Bytes of events that one turn may have before that.
    pub event_bytes_per_turn: u64,
    /// Entries of an out-stream that are kept.
    pub out_entries: u64,
    /// Bytes of an out-stream that are kept.
    pub out_bytes: u64,
    /// Requests of one owner in a second, in the long run, of all gateways; 0 for no bound.
    pub requests_per_sec: u32,
    /// Requests of one owner that may come at once before that rate holds.
    pub request_burst: u32,
    /// KiB of one owner's large requests and answers, those of more than 16 KiB, in a second, in the long run, of all gateways; 0
    /// for no bound.
    pub bulk_kib_per_sec: u32,
    /// KiB of them that may come at once before that rate holds. The last one may be of any size.
    pub bulk_burst_kib: u32,
    /// Requests to models of one owner in a second, in the long run, of all gateways; 0 for no bound.
    pub model_requests_per_sec: u32,
    /// Requests to models of one owner that may come at once before that rate holds.
    pub model_request_burst: u32,
    /// Calls of one owner that are open on one gateway: waiting ones and event streams.
    pub open_calls_per_owner: u32,
    /// API keys that one owner may have.
    pub keys_per_owner: u32,
    /// Owners to whom one workspace may be granted.
    pub grants_per_workspace: u32,
}

fn event_bytes<'de, D: Deserializer<'de>>(deserializer: D) -> Result<usize, D::Error> {
    let bytes = usize::deserialize(deserializer)?;
    if bytes < contract::EVENT_BYTES {
        let least = contract::EVENT_BYTES;
        return Err(D::Error::custom(format!("event_bytes is at least {least}: what a turn came to is one event")));
    }
    Ok(bytes)
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            prompt_bytes: 1 << 20,
            body_bytes: 4 << 20,
            queued_turns_per_unit: 100,
            queued_turns_per_owner: 1_000,
            live_per_owner: 100,
            live_total: 500,
            pending_starts: 32,
            turn_margin_sec: 60,
            turn_ttl_sec: 7 * 86_400,
            detail_ttl_sec: 86_400,
            stored_mb_per_owner: 256,
            units_per_owner: 10_000,
            workspaces_per_owner: 1_000,
            open_turns: 10_000,
            default_wait_sec: 300,
            event_bytes: contract::EVENT_BYTES,
            worker_commands_per_sec: 1_000,
            worker_bytes_per_sec: 8 << 20,
            slowed_commands_per_turn: 60_000,
            event_bytes_per_turn: 256 << 20,
            out_entries: 10_000,
            out_bytes: 16 << 20,
            requests_per_sec: 200,
            request_burst: 1_000,
            bulk_kib_per_sec: 2 << 10,
            bulk_burst_kib: 4 << 10,
            model_requests_per_sec: 50,
            model_request_burst: 500,
            open_calls_per_owner: 2_000,
            keys_per_owner: 100,
            grants_per_workspace: 100,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_turn_came_to_is_one_event() {
        assert_eq!(toml::from_str::<Limits>("event_bytes = 524288").unwrap().event_bytes, contract::EVENT_BYTES);
        let refused = toml::from_str::<Limits>("event_bytes = 524287").unwrap_err().to_string();
        assert!(refused.contains("event_bytes is at least 524288"), "{refused}");
    }
}
