//! `GET /v1/usage`: what models were used for, and what that cost.

use std::collections::BTreeMap;

use axum::extract::State;
use contract::{ErrorCode, Owner, UnitId, UnitName};
use data_encoding::BASE64URL_NOPAD;
use jiff::ToSpan;
use jiff::civil::{Date, date};
use ledger::{UsageRow, Used};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::large;
use super::problem::{Answer, Failure};
use super::query::Query;
use super::units::limit;
use crate::address::shown_name;
use crate::app::App;
use crate::auth::{Caller, Scope};

/// Days that one call may look at.
const MOST_DAYS: u64 = 366;
/// Days that it looks at when the caller does not say.
const USUAL_DAYS: u64 = 30;
/// Owners of days that one call may look at.
const MOST_LOOKS: usize = 20_000;

/// What to count by.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum Group {
    /// One row for each owner; only for callers with the scope `units:admin`, who then see all.
    Owner,
    /// One row for each unit.
    Unit,
    /// One row for each model.
    Model,
    /// One row for each day (UTC).
    Day,
}

/// Which usage.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Which {
    group_by: Option<String>,
    from: Option<Date>,
    to: Option<Date>,
    cursor: Option<String>,
    limit: Option<usize>,
}

/// What models were used for.
#[derive(Debug, Serialize, JsonSchema)]
pub struct UsageReport {
    /// The first day that is counted (UTC).
    from: String,
    /// The last day that is counted.
    to: String,
    /// What it is counted by.
    group_by: Vec<Group>,
    /// A page, in the order of `group_by`.
    rows: Vec<UsageEntry>,
    /// `?cursor=` of the next page; null on the last one.
    next: Option<String>,
}

/// What was used of one group.
#[derive(Debug, Default, Serialize, JsonSchema)]
pub struct UsageEntry {
    /// Whose it was.
    #[serde(skip_serializing_if = "Option::is_none")]
    owner: Option<Owner>,
    /// The unit's name.
    #[serde(skip_serializing_if = "Option::is_none")]
    unit: Option<UnitName>,
    /// The unit's key.
    #[serde(skip_serializing_if = "Option::is_none")]
    uid: Option<UnitId>,
    /// The model, as the provider calls it.
    #[serde(skip_serializing_if = "Option::is_none")]
    model: Option<String>,
    /// The day (UTC).
    #[serde(skip_serializing_if = "Option::is_none")]
    day: Option<String>,
    /// Requests that have ended.
    requests: u64,
    /// Requests among them of which the provider said no final figures: what they used is an estimate.
    estimated_requests: u64,
    /// Input that no cache had.
    input_tokens: u64,
    /// Output, reasoning included.
    output_tokens: u64,
    /// Input that was read from a cache.
    cache_read_tokens: u64,
    /// Input that was written to a cache for five minutes.
    cache_write_5m_tokens: u64,
    /// Input that was written to a cache for an hour.
    cache_write_1h_tokens: u64,
    /// What of the output was reasoning.
    reasoning_tokens: u64,
    /// What it cost by the deployment's prices, in their currency.
    cost: f64,
    /// Tokens among them of models that have no price.
    unpriced_tokens: u64,
}

impl UsageEntry {
    fn add(&mut self, used: &Used) {
        self.requests += used.requests;
        self.estimated_requests += used.estimated;
        self.input_tokens += used.tokens.input;
        self.output_tokens += used.tokens.output;
        self.cache_read_tokens += used.tokens.cache_read;
        self.cache_write_5m_tokens += used.tokens.cache_write_5m;
        self.cache_write_1h_tokens += used.tokens.cache_write_1h;
        self.reasoning_tokens += used.tokens.reasoning;
        self.cost += used.cost_nano as f64 / 1e9;
        self.unpriced_tokens += used.unpriced;
    }
}

/// The caller's own; by owner, everybody's.
pub async fn get(State(app): State<App>, caller: Caller, Query(which): Query<Which>) -> Answer {
    let groups = groups(which.group_by.as_deref().unwrap_or("day,model"))?;
    let of_all = groups.contains(&Group::Owner);
    if of_all && !caller.may(Scope::Admin) {
        return Err(Failure::new(ErrorCode::Forbidden, "`group_by=owner` needs the scope `units:admin`"));
    }
    let limit = limit(which.limit)?;
    let after = which.cursor.as_deref().map(cursor_key).transpose()?;
    let ledger = app.ledger()?;
    let room = large::room(&app, &caller.owner).await?;
    let to = which.to.map(number).transpose()?;
    let to = if let Some(to) = to { to } else { ledger.today().await? };
    let from = which.from.map(number).transpose()?.unwrap_or(to.saturating_sub(USUAL_DAYS));
    if from > to || to - from >= MOST_DAYS {
        let detail = format!("from and to must be in order and at most {MOST_DAYS} days apart");
        return Err(Failure::new(ErrorCode::InvalidParameter, detail));
    }
    let mut page = Page { groups: &groups, after, limit, rows: BTreeMap::new() };
    let mut looks = 0;
    for day in from..=to {
        let owners = if of_all { ledger.usage_owners(day).await? } else { vec![caller.owner.clone()] };
        looks += owners.len();
        if looks > MOST_LOOKS {
            let detail = "too many owners used models in that time; ask for fewer days at once";
            return Err(Failure::new(ErrorCode::InvalidParameter, detail));
        }
        for owner in owners {
            for row in ledger.usage(&owner, day, groups.contains(&Group::Unit)).await? {
                page.add(&owner, day, row);
            }
        }
    }
    let more = page.rows.len() > limit;
    if more {
        page.rows.pop_last();
    }
    let next = page.rows.last_key_value().filter(|_| more).map(|(key, _)| cursor(key));
    let rows = page.rows.into_values().collect();
    let report = UsageReport { from: day(from), to: day(to), group_by: groups, rows, next };
    large::json(&app, &caller.owner, room, &report).await
}

fn groups(text: &str) -> Result<Vec<Group>, Failure> {
    let mut groups = Vec::new();
    for word in text.split(',') {
        let group = match word {
            "owner" => Group::Owner,
            "unit" => Group::Unit,
            "model" => Group::Model,
            "day" => Group::Day,
            _ => {
                let detail = "group_by must be some of owner, unit, model and day, with commas between";
                return Err(Failure::new(ErrorCode::InvalidParameter, detail));
            }
        };
        if !groups.contains(&group) {
            groups.push(group);
        }
    }
    Ok(groups)
}

/// The first groups behind the cursor. One more is kept than is shown: that there is a next page. What falls out is greater
/// than all that stays, and stays out, so no sum is ever a part of one.
struct Page<'a> {
    groups: &'a [Group],
    after: Option<Vec<String>>,
    limit: usize,
    rows: BTreeMap<Vec<String>, UsageEntry>,
}

impl Page<'_> {
    fn add(&mut self, owner: &Owner, of_day: u64, row: UsageRow) {
        let key = self.groups.iter().map(|group| match group {
            Group::Owner => owner.to_string(),
            Group::Unit => row.unit.as_ref().map(|(uid, _)| uid.to_string()).unwrap_or_default(),
            Group::Model => row.model.clone(),
            Group::Day => day(of_day),
        });
        let key: Vec<_> = key.collect();
        if self.after.as_ref().is_some_and(|after| key <= *after) {
            return;
        }
        let entry = self.rows.entry(key).or_default();
        entry.add(&row.used);
        for group in self.groups {
            match group {
                Group::Owner => entry.owner = Some(owner.clone()),
                Group::Unit => {
                    if let Some((uid, name)) = &row.unit {
                        entry.uid = Some(uid.clone());
                        entry.unit = name.as_ref().map(|name| shown_name(name, owner)).or(entry.unit.take());
                    }
                }
                Group::Model => entry.model = Some(row.model.clone()),
                Group::Day => entry.day = Some(day(of_day)),
            }
        }
        if self.rows.len() > self.limit + 1 {
            self.rows.pop_last();
        }
    }
}

fn cursor(key: &[String]) -> String {
    BASE64URL_NOPAD.encode(serde_json::Value::from(key).to_string().as_bytes())
}

fn cursor_key(cursor: &str) -> Result<Vec<String>, Failure> {
    let bytes = BASE64URL_NOPAD.decode(cursor.as_bytes()).ok();
    let key = bytes.and_then(|bytes| serde_json::from_slice(&bytes).ok());
    key.ok_or_else(|| Failure::new(ErrorCode::InvalidParameter, "cursor must be `next` of the page before"))
}

const EPOCH: Date = date(1970, 1, 1);

/// Days since the epoch.
fn number(day: Date) -> Result<u64, Failure> {
    let days = day.since(EPOCH).ok().and_then(|span| u64::try_from(span.get_days()).ok());
    days.ok_or_else(|| Failure::new(ErrorCode::InvalidParameter, "from and to must be days from 1970 on"))
}

fn day(number: u64) -> String {
    let days = i32::try_from(number).unwrap_or(i32::MAX);
    EPOCH.checked_add(days.days()).map(|day| day.to_string()).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn days_and_cursors_come_back() {
        assert_eq!(number(date(2026, 1, 2)).unwrap(), 20_455);
        assert_eq!(day(20_455), "2026-01-02");
        assert!(number(date(1969, 12, 31)).is_err());
        let key = vec!["a".to_owned(), "2026-01-02".to_owned()];
        assert_eq!(cursor_key(&cursor(&key)).unwrap(), key);
        assert!(cursor_key("!").is_err());
    }

    #[test]
    fn a_page_holds_whole_sums_however_rows_come() {
        let groups = [Group::Model];
        let owner = Owner::parse("ann").unwrap();
        let used = Used { requests: 1, ..Used::default() };
        let row = |model: &str| UsageRow { unit: None, model: model.into(), used };
        let mut page = Page { groups: &groups, after: Some(vec!["a".into()]), limit: 1, rows: BTreeMap::new() };
        for model in ["d", "c", "a", "d", "b", "c", "b"] {
            page.add(&owner, 1, row(model));
        }
        let rows: Vec<_> = page.rows.iter().map(|(key, entry)| (key[0].as_str(), entry.requests)).collect();
        // `c` was pushed out by nobody: two are kept for a page of one.
        assert_eq!(rows, [("b", 2), ("c", 2)]);
    }
}
