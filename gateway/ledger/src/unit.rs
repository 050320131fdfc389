//! Records of units.

use contract::{Generation, Owner, TurnId, UnitId, UnitName, WorkspaceAt};
use redis::Value;

use crate::connection::Ledger;
use crate::error::Result;
use crate::fields::{Fields, items, text};
use crate::shape::Shape;
use crate::state::{DrainReason, UnitState};
use crate::{keys, script};

/// What the ledger knows of a unit.
#[derive(Debug, Clone, PartialEq)]
pub struct UnitRecord {
    /// Its key.
    pub uid: UnitId,
    /// Whose it is.
    pub owner: Owner,
    /// Its name within the owner.
    pub name: UnitName,
    /// Where it is in its life.
    pub state: UnitState,
    /// When its first turn came, in milliseconds since the epoch.
    pub created_ms: u64,
    /// Since when a live unit has nothing taken or waiting, in milliseconds since the epoch.
    pub idle_since_ms: Option<u64>,
    /// The turn that its worker has.
    pub taken: Option<TurnId>,
    /// Turns that wait, the taken one not counted.
    pub waiting: u64,
    /// What was fixed at the last start.
    pub shape: Option<Shape>,
    /// The last generation, ended or not.
    pub last_generation: Option<Generation>,
    /// Failed starts in a row.
    pub failed_starts: u32,
    /// What the substrate said to the last failed start.
    pub start_detail: Option<String>,
    /// The workspaces of the last start.
    pub workspaces: Vec<WorkspaceAt>,
    /// What a cold unit with waiting turns waits for: `workspace demo`, `owner cap`, `total cap`.
    pub waits_for: Option<String>,
    /// Whether it is being erased.
    pub erasing: bool,
}

/// Units that one look of a list takes: the shape of each may have a hundred kilobytes.
const AT_ONCE: usize = 8;

/// Where a list goes on.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Cursor(pub UnitName);

impl UnitRecord {
    fn parse(uid: &UnitId, fields: &Fields, entries: u64) -> Result<Self> {
        let generation = fields.maybe("gen")?.map(Generation);
        let current = || generation.ok_or_else(|| fields.wrong("gen", "absent"));
        let state = match fields.need("state")? {
            "cold" => UnitState::Cold,
            "starting" => UnitState::Starting { generation: current()? },
            "live" => UnitState::Live { generation: current()? },
            "draining" => UnitState::Draining {
                generation: current()?,
                reason: DrainReason::parse(fields.need("reason")?).ok_or_else(|| fields.wrong("reason", "unknown"))?,
            },
            other => return Err(fields.wrong("state", other)),
        };
        let taken = fields.maybe::<TurnId>("taken")?;
        let shape = fields.maybe_json::<Shape>("shape")?;
        Ok(Self {
            uid: uid.clone(),
            owner: fields.parsed("owner")?,
            name: fields.parsed("name")?,
            state,
            created_ms: fields.parsed("created_ms")?,
            idle_since_ms: fields.maybe("idle_since")?,
            waiting: entries.saturating_sub(u64::from(taken.is_some())),
            taken,
            workspaces: shape.as_ref().map(|s| s.workspaces.clone()).unwrap_or_default(),
            shape,
            last_generation: generation,
            failed_starts: fields.maybe("failed_starts")?.unwrap_or(0),
            start_detail: fields.get("start_detail").map(Into::into),
            waits_for: match (fields.get("waits_for"), fields.get("room")) {
                (Some(workspace), _) => Some(format!("workspace {workspace}")),
                (None, Some(line)) => Some(if line == keys::ROOM { "total cap" } else { "owner cap" }.into()),
                (None, None) => None,
            },
            erasing: fields.get("erasing").is_some(),
        })
    }
}

impl Ledger {
    /// The unit, if it exists.
    ///
    /// # Errors
    /// [`crate::LedgerError::Unavailable`], [`crate::LedgerError::Corrupt`].
    pub async fn unit(&self, uid: &UnitId) -> Result<Option<UnitRecord>> {
        let reply = self.run(&script::UNITS, &[uid.as_str().as_bytes()]).await?;
        Ok(read_units(std::slice::from_ref(uid), reply)?.0.pop())
    }

    /// The owner's units by name, after the cursor; and where the list goes on. At most `limit`, and not more when there are
    /// `bytes` already.
    ///
    /// # Errors
    /// As [`Self::unit`].
    pub async fn units(
        &self,
        owner: &Owner,
        cursor: Option<Cursor>,
        limit: usize,
        bytes: usize,
    ) -> Result<(Vec<UnitRecord>, Option<Cursor>)> {
        let from = cursor.map_or("-".to_owned(), |Cursor(name)| format!("({name}"));
        let mut range = redis::cmd("ZRANGE");
        range.arg(keys::owner_units(owner)).arg(from).arg("+").arg("BYLEX").arg("LIMIT").arg(0).arg(limit + 1);
        let mut names = Vec::new();
        for name in items("owner:*:units", self.bulk_command(&range).await?)? {
            let name = text("owner:*:units", name)?;
            names.push(UnitName::parse(name).map_err(|e| crate::LedgerError::corrupt("owner:*:units", e))?);
        }
        let (mut records, mut read, mut at) = (Vec::new(), 0, 0);
        while at < names.len().min(limit) && read < bytes {
            let some = &names[at..names.len().min(limit).min(at + AT_ONCE)];
            let uids: Vec<_> = some.iter().map(|name| UnitId::of(owner, name)).collect();
            let args: Vec<&[u8]> = uids.iter().map(|uid| uid.as_str().as_bytes()).collect();
            let (more, size) = read_units(&uids, self.run_bulk(&script::UNITS, &args).await?)?;
            records.extend(more);
            (read, at) = (read + size, at + some.len());
        }
        let next = (at < names.len()).then(|| at.checked_sub(1).and_then(|last| names.into_iter().nth(last)));
        Ok((records, next.flatten().map(Cursor)))
    }
}

/// The records, and how many bytes they had.
fn read_units(uids: &[UnitId], reply: Value) -> Result<(Vec<UnitRecord>, usize)> {
    let (mut records, mut bytes) = (Vec::with_capacity(uids.len()), 0);
    for (uid, value) in uids.iter().zip(items("units", reply)?) {
        let mut parts = items("units", value)?.into_iter();
        let fields = Fields::parse(&keys::unit(uid), parts.next().unwrap_or_default())?;
        let entries = match parts.next() {
            Some(Value::Int(n)) => u64::try_from(n).unwrap_or(0),
            _ => 0,
        };
        if !fields.is_empty() {
            bytes += fields.bytes();
            records.push(UnitRecord::parse(uid, &fields, entries)?);
        }
    }
    Ok((records, bytes))
}
