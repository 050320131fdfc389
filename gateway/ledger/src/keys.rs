//! Every Redis key, with its type and its lifetime. Scripts build the same names in `lua/lib.lua`.
//!
//! | key | type | holds | lifetime |
//! |---|---|---|---|
//! | `unit:<uid>` | hash | owner, name, state, generation, policy, link, the taken turn, … (`lua/lib.lua`) | until `forget` |
//! | `unit:<uid>:in` | stream | one entry for each turn that is not settled, field `turn` its id, in order; the first is the taken one or the next | an entry goes when its turn is settled; never trimmed |
//! | `unit:<uid>:out` | stream | events, field `event` the JSON, `seq` the worker's number, `after` what was trimmed before it was written, where there was no room | trimmed by entries and bytes; an entry for `detail_ttl`, longer while its turn is not settled; until `forget` |
//! | `unit:<uid>:turns` | zset | turn ids, score 0 (ULIDs sort by time) | a member goes with its turn's hash |
//! | `turn:<id>` | hash | prompt, options, shape, status, attempt, result, `prompt_head` and `result_head` what lists show, `stored` what of it is counted, … | for ever while not settled, then `turn_ttl` (its prompt `detail_ttl`), at most until its unit's `forget` |
//! | `stored:<ownerkey>` | string | bytes that the owner has stored: texts of its turns, events, and a sum for each record | while it has any |
//! | `open` | string | how many turns are not settled | for ever |
//! | `ages` | zset | `prompt\|<turn>`, `turn\|<turn>`, `out\|<uid>`: what is removed next of a settled turn or an out-stream; score when, ms | until then, or until `forget` |
//! | `owner:<key>:workspaces` | set | workspaces that the owner named | a member goes with `forget_workspace` |
//! | `owner:<key>:units` | zset | unit names, score 0 | a member goes with `forget` |
//! | `ws:<id>` | hash | `owner`; `holder` (uid with the lease); `joined` (how many ever joined its line); `unclean` (turn that was delivered on it and never settled); of one that was named also `open` (turns that name it and are not settled) and `erasing` | until `forget_workspace`: it says whose the workspace is; of a unit's own workspace until `forget` |
//! | `ws:<id>:line` | zset | uids that wait for the lease; score: the how-manieth to join | while somebody waits |
//! | `deadlines` | zset | `idle\|<uid>\|<gen>`, `start\|…`, `lifetime\|…`, `cancel\|…`, `turn\|…`; score when due, ms | until due or void |
//! | `starts` | zset | uids with a start job; score: not before, or end of the lease, ms | until the worker is ready or the generation drains |
//! | `starting` | zset | uids whose start a gateway works on; score: end of its lease, ms | as `starts` |
//! | `live`, `live:<ownerkey>` | zset | uids with a workload, from Starting until `exited`; score: since when idle, ms, `+inf` while not, `-inf` when draining | until `exited` |
//! | `owners` | set | owner keys of `live:<ownerkey>` and `room:<ownerkey>` | a member goes when a reaper finds both empty |
//! | `room`, `room:<ownerkey>` | zset | uids that wait for a place in `live` or `live:<ownerkey>`; score: since when, µs | until it has one, or nothing waits in it |
//! | `queued:<ownerkey>` | set | turns of the owner's that wait | a member goes when its turn is taken or settled |
//! | `hits:<ownerkey>` | hash | `cold`, `prewarmed`, `warm`: turns that were delivered so | for ever |
//! | `drains` | zset | `<uid>\|<gen>` with a drain job; score: end of the lease, ms, of the unit's `drain_by` | until `exited` |
//! | `unmoved` | set | `line <workspace>`, `room <ownerkey>`: lines that a script left before it was through with them | until `go_on` |
//! | `lines` | set | workspaces that somebody waits for | until a reaper finds the line empty |
//! | `erasures` | zset | uids that are being erased; score: when it was last gone on with, ms | until `forget` |
//! | `strays:workloads`, `strays:folders` | zset | `<uid>\|<gen>` that the runtime has and no unit; score: when it may be removed, ms | until it is gone |
//! | `period:<task>` | string | the reaper that does a periodic task in this period | the period |
//! | `usage:<day>` | hash | owners who used models on that day (days since the epoch): `<ownerkey>` → owner | `usage.retention_days` |
//! | `usage:<day>:<ownerkey>` | hash | `<model>\|<kind>` → count, of all kinds of tokens, `requests estimated cost unpriced`; `\|<kind>` → what budgets hold against: `requests` that have begun, `tokens`, `cost` (10⁻⁹) | as `usage:<day>` |
//! | `usage:<day>:<ownerkey>:units` | hash | the same with `<uid>\|` in front; `<uid>\|\|name` → the unit's name | as `usage:<day>` |
//! | `used:<request>` | hash | which parts of a model request were counted | 24 h |
//! | `dead` | zset | turns that ran out of attempts; score when, ms | the latest 10,000 |
//! | `mail:<gateway>` | stream | deliveries, cancels and drains for links on that gateway | 60 s after its last heartbeat |
//! | `nudge:starts`, `nudge:drains` | stream | a uid when a job was written | about 100 entries |
//! | `ws:<id>:grants` | hash | for each other owner that may use it: `<mode> <ownerkey>` | a field until it is revoked, or until its workspace's record goes |
//! | `ws:<id>:guests` | zset | units that mount it, but the one whose own it is: `<ownerkey> <mode> <uid>`, score 0 | until `exited`, or ended for it |
//! | `ws:<id>:leaving` | set | uids of such units that are ended for it | until `exited` |
//! | `apikey:<id>` | hash | an API key: hash, owner, name, scopes, `created_ms expires_ms used_ms` | until it is revoked or expires |
//! | `apikeys:<ownerkey>` | zset | ids of the owner's API keys; score: since when, ms | a member goes with its key, or when another is made |
//! | `apikeys:<ownerkey>:until` | zset | ids of those that expire; score: when, ms | as in `apikeys:<ownerkey>` |
//! | `rate:<ownerkey>` | string | when the owner's bucket of requests is full again, µs | until then |
//! | `idem:<ownerkey>:<key>` | string | `<turn> <uid> <body hash>` | as long as its turn |
//!
//! All numbers are decimal integers; times are milliseconds of Redis' clock. JSON that came from outside is kept as text.

use contract::{Owner, TurnId, UnitId, WorkspaceId};

/// Due times of everything that has one.
pub const DEADLINES: &str = "deadlines";
/// Start jobs.
pub const STARTS: &str = "starts";
/// Who waits for a place among all live units.
pub const ROOM: &str = "room";
/// Units that have a workload.
pub const LIVE: &str = "live";
/// Drain jobs.
pub const DRAINS: &str = "drains";
/// Wakes whoever starts workloads.
pub const NUDGE_STARTS: &str = "nudge:starts";
/// Wakes whoever ends workloads.
pub const NUDGE_DRAINS: &str = "nudge:drains";

/// The unit's record.
pub fn unit(uid: &UnitId) -> String {
    format!("unit:{uid}")
}

/// The unit's turns.
pub fn unit_turns(uid: &UnitId) -> String {
    format!("unit:{uid}:turns")
}

/// The turn's record.
pub fn turn(turn: &TurnId) -> String {
    format!("turn:{turn}")
}

/// The owner's units.
pub fn owner_units(owner: &Owner) -> String {
    format!("owner:{}:units", owner.key())
}

/// The workspaces that the owner named.
pub fn owner_workspaces(owner: &Owner) -> String {
    format!("owner:{}:workspaces", owner.key())
}

/// The workspace's record.
pub fn workspace(id: &WorkspaceId) -> String {
    format!("ws:{id}")
}

/// To whom a workspace is granted.
pub fn grants(id: &WorkspaceId) -> String {
    format!("ws:{id}:grants")
}

/// Who used models on a day.
pub fn usage_owners(day: u64) -> String {
    format!("usage:{day}")
}

/// What the owner used of models on a day.
pub fn usage_of(day: u64, owner: &Owner) -> String {
    format!("usage:{day}:{}", owner.key())
}

/// What the owner's units used of models on a day.
pub fn usage_of_units(day: u64, owner: &Owner) -> String {
    format!("usage:{day}:{}:units", owner.key())
}

/// The owner's units that have a workload.
pub fn live_of(owner: &Owner) -> String {
    format!("live:{}", owner.key())
}

/// How warm the owner's turns were served.
pub fn hits_of(owner: &Owner) -> String {
    format!("hits:{}", owner.key())
}

/// A gateway's mailbox.
pub fn mail(gateway: &str) -> String {
    format!("mail:{gateway}")
}
