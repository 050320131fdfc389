//! `rekindle ps`: one's units, and how often turns found a worker that was there.

use jiff::Timestamp;
use serde::Deserialize;
use serde_json::Value;

use crate::api::{Api, Call};
use crate::failure::Failure;
use crate::render::{duration, json_line, printable};
use crate::table::table;
use crate::target::Target;

#[derive(Debug, clap::Args)]
pub struct Args {
    /// One line of JSON for each unit
    #[arg(long)]
    json: bool,
}

/// What is read of a unit; fields may be added by the gateway.
#[derive(Debug, Deserialize)]
struct Unit {
    name: String,
    state: String,
    generation: Option<u64>,
    reason: Option<String>,
    turn: Option<String>,
    #[serde(default)]
    waiting: u64,
    waits_for: Option<String>,
    idle_since: Option<Timestamp>,
    profile: Option<String>,
    #[serde(default)]
    erasing: bool,
}

/// What is read of the pool.
#[derive(Debug, Deserialize)]
struct Pool {
    hits: Hits,
}

/// Turns by how warm their worker was.
#[derive(Debug, Deserialize)]
struct Hits {
    warm: u64,
    prewarmed: u64,
    cold: u64,
}

impl Hits {
    /// One line; none when there was no turn yet.
    fn line(&self) -> Option<String> {
        let all = self.warm + self.prewarmed + self.cold;
        let percent = (self.warm + self.prewarmed).saturating_mul(100).checked_div(all)?;
        let Self { warm, prewarmed, cold } = self;
        Some(format!("{percent}% of {all} turns found a worker: {warm} warm, {prewarmed} prewarmed, {cold} cold"))
    }
}

pub async fn run(args: Args, target: &Target) -> Result<(), Failure> {
    let api = Api::new(target.reach()?)?;
    let units = all(&api).await?;
    if args.json {
        units.iter().for_each(|unit| println!("{}", json_line(unit)));
        return Ok(());
    }
    let now = Timestamp::now();
    let mut rows = Vec::new();
    for unit in units {
        let unit: Unit = serde_json::from_value(unit).map_err(|e| Failure::Other(e.into()))?;
        rows.push(row(&unit, now));
    }
    let head = ["UNIT", "STATE", "GENERATION", "SINCE", "IDLE", "WAITING", "PROFILE"];
    print!("{}", table(head, &rows));
    let pool: Pool = api.json(&Call::get("/v1/pool")).await?;
    if let Some(line) = pool.hits.line() {
        println!("\n{line}");
    }
    Ok(())
}

/// All pages.
async fn all(api: &Api) -> Result<Vec<Value>, Failure> {
    let mut units = Vec::new();
    let mut path = "/v1/units?limit=200".to_owned();
    loop {
        let mut page: Value = api.json(&Call::get(&path)).await?;
        if let Value::Array(more) = page["units"].take() {
            units.extend(more);
        }
        match page["next"].as_str() {
            Some(next) => path = format!("/v1/units?limit=200&cursor={next}"),
            None => return Ok(units),
        }
    }
}

fn row(unit: &Unit, now: Timestamp) -> [String; 7] {
    let dash = || "-".to_owned();
    let since = |at: Timestamp| duration(u64::try_from(now.duration_since(at).as_millis()).unwrap_or(0));
    let state = match (unit.erasing, &unit.reason) {
        (true, _) => "erasing".into(),
        (false, Some(reason)) => format!("{} ({reason})", unit.state),
        (false, None) => unit.state.clone(),
    };
    // A generation's number is the time, in milliseconds, at which its start began.
    let began = unit.generation.and_then(|g| Timestamp::from_millisecond(i64::try_from(g).ok()?).ok());
    let idle = match (&unit.turn, unit.idle_since) {
        (Some(_), _) => "busy".into(),
        (None, Some(at)) => since(at),
        (None, None) => dash(),
    };
    let waiting = match &unit.waits_for {
        Some(what) => format!("{} for {what}", unit.waiting),
        None => unit.waiting.to_string(),
    };
    [
        unit.name.clone(),
        state,
        unit.generation.map_or_else(dash, |g| g.to_string()),
        began.map_or_else(dash, since),
        idle,
        waiting,
        unit.profile.clone().unwrap_or_else(dash),
    ]
    .map(|cell| printable(&cell))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hits_are_one_line() {
        let hits = Hits { warm: 2, prewarmed: 1, cold: 1 };
        assert_eq!(hits.line().unwrap(), "75% of 4 turns found a worker: 2 warm, 1 prewarmed, 1 cold");
        assert_eq!(Hits { warm: 0, prewarmed: 0, cold: 0 }.line(), None);
    }

    #[test]
    fn rows_say_what_a_unit_does() {
        let now = Timestamp::from_millisecond(1_790_000_065_000).unwrap();
        let of = |json: &str| row(&serde_json::from_str(json).unwrap(), now);
        let live = of(r#"{"name":"demo","state":"live","generation":1790000000000,"waiting":0,"profile":"default",
            "idle_since":"2026-09-21T14:14:20Z","new_field":1}"#);
        assert_eq!(live[..4], ["demo", "live", "1790000000000", "1 min 5 s"]);
        assert_eq!(live[5..], ["0", "default"]);
        let cold = of(r#"{"name":"x","state":"cold","waiting":2,"waits_for":"workspace notes"}"#);
        assert_eq!(cold[1..], ["cold", "-", "-", "-", "2 for workspace notes", "-"]);
        let busy = of(r#"{"name":"x","state":"draining","reason":"idle","turn":"01","waiting":0}"#);
        assert_eq!((busy[1].as_str(), busy[4].as_str()), ("draining (idle)", "busy"));
    }
}
