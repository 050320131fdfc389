//! `rekindle usage`: what models were used for, and what that cost.

use jiff::civil::Date;
use serde::Deserialize;
use serde_json::Value;

use crate::api::{Api, Call};
use crate::failure::Failure;
use crate::render::{json_line, printable};
use crate::table::table;
use crate::target::Target;

#[derive(Debug, clap::Args)]
pub struct Args {
    /// What to count by: some of unit, model, day and, with the scope units:admin, owner
    #[arg(long, value_delimiter = ',', default_values_t = ["day".to_owned(), "model".to_owned()])]
    by: Vec<String>,
    /// The first day (UTC), as 2026-01-31; 30 days before the last if not given
    #[arg(long)]
    from: Option<Date>,
    /// The last day (UTC); today if not given
    #[arg(long)]
    to: Option<Date>,
    /// One line of JSON for each row
    #[arg(long)]
    json: bool,
}

/// What is read of a row; fields may be added by the gateway.
#[derive(Debug, Deserialize)]
struct Row {
    owner: Option<String>,
    unit: Option<String>,
    uid: Option<String>,
    model: Option<String>,
    day: Option<String>,
    requests: u64,
    estimated_requests: u64,
    input_tokens: u64,
    output_tokens: u64,
    cache_read_tokens: u64,
    cache_write_5m_tokens: u64,
    cache_write_1h_tokens: u64,
    reasoning_tokens: u64,
    cost: f64,
    unpriced_tokens: u64,
}

pub async fn run(args: Args, target: &Target) -> Result<(), Failure> {
    let api = Api::new(target.reach()?)?;
    let rows = all(&api, &args).await?;
    if args.json {
        rows.iter().for_each(|row| println!("{}", json_line(row)));
        return Ok(());
    }
    let mut cells = Vec::new();
    let (mut estimated, mut unpriced) = (0, 0);
    for row in rows {
        let row: Row = serde_json::from_value(row).map_err(|e| Failure::Other(e.into()))?;
        estimated += row.estimated_requests;
        unpriced += row.unpriced_tokens;
        cells.push(line(&args.by, &row));
    }
    let by = args.by.join(" ").to_uppercase();
    let head = [by.as_str(), "REQUESTS", "INPUT", "OUTPUT", "REASONING", "CACHE READ", "CACHE WRITE", "COST"];
    print!("{}", table(head, &cells));
    if estimated > 0 {
        println!("\nof {estimated} requests the provider said no final figures: what they used is an estimate");
    }
    if unpriced > 0 {
        println!("\n{unpriced} tokens are of models without a price ([prices] in the settings)");
    }
    Ok(())
}

/// All pages.
async fn all(api: &Api, args: &Args) -> Result<Vec<Value>, Failure> {
    let mut path = format!("/v1/usage?limit=200&group_by={}", args.by.join(","));
    for (name, day) in [("from", args.from), ("to", args.to)] {
        if let Some(day) = day {
            path.push_str(&format!("&{name}={day}"));
        }
    }
    let mut rows = Vec::new();
    let mut cursor = String::new();
    loop {
        let mut page: Value = api.json(&Call::get(format!("{path}{cursor}"))).await?;
        if let Value::Array(more) = page["rows"].take() {
            rows.extend(more);
        }
        match page["next"].as_str() {
            Some(next) => cursor = format!("&cursor={next}"),
            None => return Ok(rows),
        }
    }
}

fn line(by: &[String], row: &Row) -> [String; 8] {
    let of = by.iter().map(|group| match group.as_str() {
        "owner" => row.owner.as_deref(),
        "unit" => row.unit.as_deref().or(row.uid.as_deref()),
        "model" => row.model.as_deref(),
        "day" => row.day.as_deref(),
        _ => None,
    });
    let of = of.map(|text| text.unwrap_or("-")).collect::<Vec<_>>().join(" ");
    let cost = if row.cost > 0.0 { format!("{:.4}", row.cost) } else { "-".into() };
    let written = row.cache_write_5m_tokens + row.cache_write_1h_tokens;
    let counts =
        [row.requests, row.input_tokens, row.output_tokens, row.reasoning_tokens, row.cache_read_tokens, written];
    let [requests, input, output, reasoning, read, written] = counts.map(|n| n.to_string());
    [of, requests, input, output, reasoning, read, written, cost].map(|cell| printable(&cell))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_row_is_one_line() {
        let row = serde_json::json!({"unit": "demo", "day": "2026-01-31", "requests": 2, "estimated_requests": 0,
            "input_tokens": 10, "output_tokens": 20, "cache_read_tokens": 3, "cache_write_5m_tokens": 4,
            "cache_write_1h_tokens": 1, "reasoning_tokens": 6, "cost": 0.12345, "unpriced_tokens": 0, "new": 1});
        let row: Row = serde_json::from_value(row).unwrap();
        let by = ["unit", "day", "model"].map(str::to_owned);
        assert_eq!(line(&by, &row), ["demo 2026-01-31 -", "2", "10", "20", "6", "3", "5", "0.1235"]);
    }
}
