//! The warm pool: which units have a workload, and how warm turns were served.

use std::collections::BTreeMap;

use contract::{Generation, Owner, UnitId, UnitName};

use crate::connection::Ledger;
use crate::error::Result;
use crate::fields::{Fields, items, text};
use crate::keys;
use crate::shape::Policy;
use crate::state::{DrainReason, UnitState};

/// A unit that has a workload, or is promised one. Times are milliseconds since the epoch, by Redis' clock.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PoolUnit {
    /// Its key.
    pub uid: UnitId,
    /// Whose it is.
    pub owner: Owner,
    /// Its name within the owner.
    pub name: UnitName,
    /// Starting, live or draining; cold while it waits for a place in the total.
    pub state: UnitState,
    /// Since when it has been starting, or live.
    pub since_ms: Option<u64>,
    /// Since when it idles.
    pub idle_since_ms: Option<u64>,
    /// When it is ended if nothing comes: of an idle unit its idle timeout, of a busy one its lifetime.
    pub until_ms: Option<u64>,
}

/// Turns by how warm the worker was that took them; one that is given again counts again.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Hits {
    /// The unit's worker was there.
    pub warm: u64,
    /// A prewarmed slot became the unit's.
    pub prewarmed: u64,
    /// A worker was started for it.
    pub cold: u64,
}

/// How many units of an owner have a workload.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct PoolCounts {
    /// Starting, live or draining.
    pub live: u64,
    /// Live without a turn.
    pub idle: u64,
}

/// Units that one look takes, and what is read of each.
const AT_ONCE: usize = 100;
const NAMES: &[&str] = &["owner", "name", "state", "gen", "reason", "policy", "start_ms", "ready_ms", "idle_since"];

impl Ledger {
    /// The owner's units that have a workload.
    ///
    /// # Errors
    /// [`crate::LedgerError::Unavailable`], [`crate::LedgerError::Corrupt`].
    pub async fn pool(&self, owner: &Owner) -> Result<Vec<PoolUnit>> {
        self.pool_of(&keys::live_of(owner)).await
    }

    /// How warm the owner's turns were served.
    ///
    /// # Errors
    /// As [`Self::pool`].
    pub async fn hits(&self, owner: &Owner) -> Result<Hits> {
        let key = keys::hits_of(owner);
        let mut get = redis::cmd("HGETALL");
        get.arg(&key);
        let fields = Fields::parse(&key, self.command(&get).await?)?;
        let count = |name| Ok::<_, crate::LedgerError>(fields.maybe(name)?.unwrap_or(0));
        Ok(Hits { warm: count("warm")?, prewarmed: count("prewarmed")?, cold: count("cold")? })
    }

    /// All owners that have a workload. Costs one look at each of them.
    ///
    /// # Errors
    /// As [`Self::pool`].
    pub async fn pool_counts(&self) -> Result<BTreeMap<String, PoolCounts>> {
        let mut counts = BTreeMap::<String, PoolCounts>::new();
        for unit in self.pool_of(keys::LIVE).await? {
            let of = counts.entry(unit.owner.as_str().to_owned()).or_default();
            of.live += 1;
            of.idle += u64::from(unit.idle_since_ms.is_some());
        }
        Ok(counts)
    }

    async fn pool_of(&self, key: &str) -> Result<Vec<PoolUnit>> {
        let mut range = redis::cmd("ZRANGE");
        range.arg(key).arg(0).arg(-1);
        let mut uids = Vec::new();
        for uid in items(key, self.bulk_command(&range).await?)? {
            let uid = text(key, uid)?;
            uids.push(UnitId::parse(&uid).map_err(|e| crate::LedgerError::corrupt(key, e))?);
        }
        let mut units = Vec::with_capacity(uids.len());
        for some in uids.chunks(AT_ONCE) {
            let mut pipe = redis::pipe();
            for uid in some {
                pipe.cmd("HMGET").arg(keys::unit(uid)).arg(NAMES);
            }
            for (uid, value) in some.iter().zip(self.bulk_pipeline(&pipe).await?) {
                let fields = Fields::named(&keys::unit(uid), NAMES, value)?;
                // One that is gone since the list was read.
                if !fields.is_empty() {
                    units.push(PoolUnit::parse(uid.clone(), &fields)?);
                }
            }
        }
        Ok(units)
    }
}

impl PoolUnit {
    fn parse(uid: UnitId, fields: &Fields) -> Result<Self> {
        let generation = || fields.parsed("gen").map(Generation);
        let policy = || fields.get("policy").and_then(Policy::parse);
        let (start_ms, ready_ms) = (fields.maybe("start_ms")?, fields.maybe::<u64>("ready_ms")?);
        let idle_since_ms = fields.maybe::<u64>("idle_since")?;
        let (state, since_ms, until_ms) = match fields.need("state")? {
            "starting" => (UnitState::Starting { generation: generation()? }, start_ms, None),
            "live" => {
                let lifetime = policy().zip(ready_ms).map(|(p, ms)| ms.saturating_add(p.max_lifetime_ms));
                let idle = policy().zip(idle_since_ms).map(|(p, ms)| ms.saturating_add(p.idle_timeout_ms));
                let until = [lifetime, idle].into_iter().flatten().min();
                (UnitState::Live { generation: generation()? }, ready_ms, until)
            }
            "draining" => {
                let reason =
                    DrainReason::parse(fields.need("reason")?).ok_or_else(|| fields.wrong("reason", "unknown"))?;
                (UnitState::Draining { generation: generation()?, reason }, None, None)
            }
            _ => (UnitState::Cold, None, None),
        };
        Ok(Self {
            uid,
            owner: fields.parsed("owner")?,
            name: fields.parsed("name")?,
            state,
            since_ms,
            idle_since_ms,
            until_ms,
        })
    }
}
