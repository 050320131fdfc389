//! `rekindle turns`: a unit's conversation, the oldest turn first.

use contract::UnitName;
use serde_json::Value;

use crate::api::{Api, Call};
use crate::failure::Failure;
use crate::render::{first_line, json_line, printable};
use crate::target::Target;

#[derive(Debug, clap::Args)]
pub struct Args {
    /// Which unit
    unit: UnitName,
    /// How many of the newest turns
    #[arg(long, default_value_t = 20, value_parser = clap::value_parser!(u32).range(1..=200))]
    limit: u32,
    /// One line of JSON for each turn
    #[arg(long)]
    json: bool,
}

pub async fn run(args: Args, target: &Target) -> Result<(), Failure> {
    let api = Api::new(target.reach()?)?;
    let call = Call::get(format!("/v1/units/{}/turns?limit={}", args.unit, args.limit));
    let mut page: Value = api.json(&call).await?;
    let Value::Array(turns) = page["turns"].take() else {
        return Err(Failure::Unreachable("the answer has no turns: this is another version of the gateway".into()));
    };
    for turn in turns.iter().rev() {
        match args.json {
            true => println!("{}", json_line(turn)),
            false => print!("{}", printable(&readable(turn))),
        }
    }
    Ok(())
}

fn readable(turn: &Value) -> String {
    let text = |field: &str| turn[field].as_str().unwrap_or_default();
    let at = text("submitted_at").split('.').next().unwrap_or_default().trim_end_matches('Z').replace('T', " ");
    let mut said = format!("{} {at} {}", text("turn_id"), text("status"));
    for (field, before) in [("reason", ": "), ("queued_reason", ", waits for "), ("detail", "; ")] {
        if !text(field).is_empty() {
            said.push_str(before);
            said.push_str(text(field));
        }
    }
    said.push_str(&format!("\n  > {}\n", first_line(text("prompt"), 200)));
    for line in text("reply").lines() {
        said.push_str(&format!("  {line}\n"));
    }
    for commit in turn["commits"].as_array().into_iter().flatten() {
        let sha = commit["sha"].as_str().unwrap_or_default();
        let number = |field: &str| commit[field].as_u64().unwrap_or(0);
        said.push_str(&format!(
            "  commit {} {} files +{} -{} ({})\n",
            sha.get(..7).unwrap_or(sha),
            number("files"),
            number("insertions"),
            number("deletions"),
            commit["workspace"].as_str().unwrap_or_default()
        ));
    }
    said
}

#[cfg(test)]
mod tests {
    #[test]
    fn a_turn_reads_as_a_conversation() {
        let turn = serde_json::json!({
            "turn_id": "01JD", "status": "completed", "submitted_at": "2026-01-02T03:04:05.123Z",
            "prompt": "write\nnotes", "reply": "done\nand done",
            "commits": [{"sha": "1a2b3c4d5e", "files": 2, "insertions": 3, "deletions": 0, "workspace": "w"}],
        });
        assert_eq!(
            super::readable(&turn),
            "01JD 2026-01-02 03:04:05 completed\n  > write…\n  done\n  and done\n  commit 1a2b3c4 2 files +3 -0 (w)\n"
        );
        let failed = serde_json::json!({"turn_id": "01JD", "status": "failed", "reason": "oom", "prompt": "x"});
        assert_eq!(super::readable(&failed), "01JD  failed: oom\n  > x\n");
    }
}
