//! What models were used for: counted per owner, unit, model and day (UTC), and held against budgets.

use std::collections::BTreeMap;
use std::time::Duration;

use contract::{DispatchClaims, Owner, TurnId, UnitId, UnitName};

use crate::connection::Ledger;
use crate::error::Result;
use crate::fields::{Fields, items, number, text};
use crate::{keys, script};

/// Fields of a hash that one look at it takes.
const AT_ONCE: u32 = 1_000;
/// Milliseconds of a day.
const DAY_MS: u64 = 86_400_000;

/// Tokens by kind.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Tokens {
    /// Input that no cache had.
    pub input: u64,
    /// Output, reasoning included.
    pub output: u64,
    /// Input that was read from a cache.
    pub cache_read: u64,
    /// Input that was written to a cache for five minutes.
    pub cache_write_5m: u64,
    /// Input that was written to a cache for an hour.
    pub cache_write_1h: u64,
    /// What of the output was reasoning.
    pub reasoning: u64,
}

impl Tokens {
    /// Names and counts of all kinds.
    pub fn kinds(&self) -> [(&'static str, u64); 6] {
        [
            ("input", self.input),
            ("output", self.output),
            ("cache_read", self.cache_read),
            ("cache_write_5m", self.cache_write_5m),
            ("cache_write_1h", self.cache_write_1h),
            ("reasoning", self.reasoning),
        ]
    }

    /// All of them; reasoning is a part of the output.
    pub fn all(&self) -> u64 {
        let rest = [self.output, self.cache_read, self.cache_write_5m, self.cache_write_1h];
        rest.into_iter().fold(self.input, u64::saturating_add)
    }

    /// What came since `before`.
    #[must_use]
    pub fn since(&self, before: &Self) -> Self {
        Self {
            input: self.input.saturating_sub(before.input),
            output: self.output.saturating_sub(before.output),
            cache_read: self.cache_read.saturating_sub(before.cache_read),
            cache_write_5m: self.cache_write_5m.saturating_sub(before.cache_write_5m),
            cache_write_1h: self.cache_write_1h.saturating_sub(before.cache_write_1h),
            reasoning: self.reasoning.saturating_sub(before.reasoning),
        }
    }
}

/// What was used.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Used {
    /// Requests that have ended.
    pub requests: u64,
    /// Requests among them whose output, at least, is an estimate: the provider said no final figures.
    pub estimated: u64,
    /// Tokens.
    pub tokens: Tokens,
    /// What they cost, in billionths of the currency.
    pub cost_nano: u64,
    /// Tokens among them of models that have no price.
    pub unpriced: u64,
}

impl Used {
    fn kinds(&self) -> impl Iterator<Item = (&'static str, u64)> {
        let rest = [
            ("requests", self.requests),
            ("estimated", self.estimated),
            ("cost", self.cost_nano),
            ("unpriced", self.unpriced),
            ("tokens", self.tokens.all()),
        ];
        self.tokens.kinds().into_iter().chain(rest).filter(|(_, count)| *count > 0)
    }

    fn add(&mut self, kind: &str, count: u64) {
        let tokens = &mut self.tokens;
        let field = match kind {
            "requests" => &mut self.requests,
            "estimated" => &mut self.estimated,
            "cost" => &mut self.cost_nano,
            "unpriced" => &mut self.unpriced,
            "input" => &mut tokens.input,
            "output" => &mut tokens.output,
            "cache_read" => &mut tokens.cache_read,
            "cache_write_5m" => &mut tokens.cache_write_5m,
            "cache_write_1h" => &mut tokens.cache_write_1h,
            "reasoning" => &mut tokens.reasoning,
            _ => return,
        };
        *field = field.saturating_add(count);
    }
}

impl std::ops::AddAssign for Used {
    fn add_assign(&mut self, other: Self) {
        for (kind, count) in other.kinds() {
            self.add(kind, count);
        }
    }
}

/// Most that may be used; `None` is no bound.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Bound {
    /// Requests that have begun.
    pub requests: Option<u64>,
    /// Tokens of all kinds.
    pub tokens: Option<u64>,
    /// In billionths of the currency.
    pub cost_nano: Option<u64>,
}

/// Whether a request to a model may begin.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Admission {
    /// It may, and is counted.
    Admitted {
        /// The turn that it is of.
        turn: Option<TurnId>,
    },
    /// A budget is used up.
    Spent(Spent),
    /// There is a budget for turns, and no turn runs.
    Idle,
    /// The generation is over.
    Over,
}

/// A budget that is used up.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Spent {
    /// `owner_day`, `unit_day` or `turn`.
    pub budget: String,
    /// `requests`, `tokens` or `cost`.
    pub kind: String,
    /// How much was used.
    pub used: u64,
    /// How much may be.
    pub most: u64,
    /// Until the next day begins.
    pub midnight: Duration,
}

/// A part of what a request has used.
#[derive(Debug, Clone, Copy)]
pub struct UsePart<'a> {
    /// The request's id, unique for ever.
    pub request: &'a str,
    /// From 1.
    pub part: u32,
    /// The turn that it is of.
    pub turn: Option<&'a TurnId>,
    /// The model, in letters, digits and `-._:@/`.
    pub model: &'a str,
    /// What it used since the part before.
    pub used: Used,
}

/// What one model was used for by one unit of an owner, or by all, in a day.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct UsageRow {
    /// The unit and its name, where it was asked for.
    pub unit: Option<(UnitId, Option<UnitName>)>,
    /// The model.
    pub model: String,
    /// What was used.
    pub used: Used,
}

impl Ledger {
    /// A request to a model begins: within all budgets (of the owner's day, the unit's day, the turn) it is counted against
    /// them. Two that begin together are both let in by what is used until then; each finishes.
    ///
    /// # Errors
    /// [`crate::LedgerError::Unavailable`]; may be repeated.
    pub async fn admit_use(
        &self,
        request: &str,
        claims: &DispatchClaims,
        keep_days: u32,
        bounds: &[Bound; 3],
    ) -> Result<Admission> {
        let (owner_key, generation, days) = (claims.sub.key(), number(claims.generation.0), number(keep_days));
        let bound = |b: &Bound| [b.requests, b.tokens, b.cost_nano].map(|n| n.map(number).unwrap_or_default());
        let bounds: Vec<String> = bounds.iter().flat_map(bound).collect();
        let head = [request, claims.unit.as_str(), &generation, claims.sub.as_str(), &owner_key, &days];
        let args: Vec<&[u8]> = head.into_iter().chain(bounds.iter().map(String::as_str)).map(str::as_bytes).collect();
        let (word, fields) = Fields::reply("admit_use", self.run(&script::ADMIT_USE, &args).await?)?;
        Ok(match word.as_str() {
            "admitted" => Admission::Admitted { turn: fields.maybe("turn")? },
            "spent" => Admission::Spent(Spent {
                budget: fields.need("budget")?.into(),
                kind: fields.need("kind")?.into(),
                used: fields.parsed("used")?,
                most: fields.parsed("most")?,
                midnight: Duration::from_secs(fields.parsed("midnight_sec")?),
            }),
            "idle" => Admission::Idle,
            "over" => Admission::Over,
            other => return Err(fields.wrong("reply", other)),
        })
    }

    /// Adds what a request has used.
    ///
    /// # Errors
    /// [`crate::LedgerError::Unavailable`]; may be repeated: each part counts once.
    pub async fn add_use(&self, owner: &Owner, uid: &UnitId, keep_days: u32, part: UsePart<'_>) -> Result<()> {
        let (owner_key, days, nth) = (owner.key(), number(keep_days), number(part.part));
        let turn = part.turn.map_or("", |t| t.as_str());
        let head = [part.request, &nth, uid.as_str(), owner.as_str(), &owner_key, turn, &days, part.model];
        let kinds: Vec<_> = part.used.kinds().map(|(kind, count)| (kind, number(count))).collect();
        let kinds = kinds.iter().flat_map(|(kind, count)| [*kind, count.as_str()]);
        let args: Vec<&[u8]> = head.into_iter().chain(kinds).map(str::as_bytes).collect();
        self.run(&script::ADD_USE, &args).await.map(drop)
    }

    /// What an owner used on a day, counted in days since the epoch: one row for each model, or for each unit and model.
    ///
    /// # Errors
    /// [`crate::LedgerError::Unavailable`], [`crate::LedgerError::Corrupt`].
    pub async fn usage(&self, owner: &Owner, day: u64, by_unit: bool) -> Result<Vec<UsageRow>> {
        let key = if by_unit { keys::usage_of_units(day, owner) } else { keys::usage_of(day, owner) };
        let mut rows = BTreeMap::<(String, String), Used>::new();
        let mut names = BTreeMap::new();
        for (field, value) in self.scan(&key).await? {
            let mut parts = field.split('|');
            let uid = if by_unit { parts.next().unwrap_or_default() } else { "" };
            let (Some(model), Some(kind)) = (parts.next(), parts.next()) else {
                return Err(crate::LedgerError::corrupt(key, format!("a field `{field}`")));
            };
            if kind == "name" {
                names.insert(uid.to_owned(), UnitName::parse(value).map_err(|e| crate::LedgerError::corrupt(&key, e))?);
            } else if !model.is_empty() {
                let count = value.parse().map_err(|e| crate::LedgerError::corrupt(&key, e))?;
                rows.entry((uid.into(), model.into())).or_default().add(kind, count);
            }
        }
        let row = |((uid, model), used): ((String, String), Used)| {
            let name = names.get(&uid).cloned();
            let unit = by_unit.then(|| UnitId::parse(uid)).transpose();
            let unit = unit.map_err(|e| crate::LedgerError::corrupt(&key, e))?;
            Ok(UsageRow { unit: unit.map(|uid| (uid, name)), model, used })
        };
        rows.into_iter().map(row).collect()
    }

    /// Who used models on a day.
    ///
    /// # Errors
    /// As [`Self::usage`].
    pub async fn usage_owners(&self, day: u64) -> Result<Vec<Owner>> {
        let key = keys::usage_owners(day);
        let parse = |owner: String| Owner::parse(owner).map_err(|e| crate::LedgerError::corrupt(&key, e));
        self.scan(&key).await?.into_values().map(parse).collect()
    }

    /// The day that it is by Redis' clock, in days since the epoch.
    ///
    /// # Errors
    /// [`crate::LedgerError::Unavailable`].
    pub async fn today(&self) -> Result<u64> {
        let mut parts = items("TIME", self.command(&redis::cmd("TIME")).await?)?.into_iter();
        let seconds = text("TIME", parts.next().unwrap_or_default())?;
        let seconds: u64 = seconds.parse().map_err(|e| crate::LedgerError::corrupt("TIME", e))?;
        Ok(seconds * 1000 / DAY_MS)
    }

    /// A hash in bounded looks. One that is seen twice, as Redis may show it, counts once.
    async fn scan(&self, key: &str) -> Result<BTreeMap<String, String>> {
        let mut found = BTreeMap::new();
        let mut cursor = "0".to_owned();
        loop {
            let mut scan = redis::cmd("HSCAN");
            scan.arg(key).arg(&cursor).arg("COUNT").arg(AT_ONCE);
            let mut reply = items(key, self.bulk_command(&scan).await?)?.into_iter();
            cursor = text(key, reply.next().unwrap_or_default())?;
            let mut pairs = items(key, reply.next().unwrap_or_default())?.into_iter();
            while let (Some(field), Some(value)) = (pairs.next(), pairs.next()) {
                found.insert(text(key, field)?, text(key, value)?);
            }
            if cursor == "0" {
                return Ok(found);
            }
        }
    }
}
