//! `rekindle cancel`: ends a turn before its time.

use contract::TurnId;
use serde_json::Value;

use crate::api::{Api, Call};
use crate::failure::Failure;
use crate::target::Target;

#[derive(Debug, clap::Args)]
pub struct Args {
    /// Which turn, as `rekindle turns` lists it
    turn: TurnId,
}

pub async fn run(args: Args, target: &Target) -> Result<(), Failure> {
    let api = Api::new(target.reach()?)?;
    let turn = args.turn;
    let answer: Value = api.json(&Call::post(format!("/v1/turns/{turn}/cancel"), &serde_json::json!({}))).await?;
    println!("{}", said(&turn, answer["status"].as_str().unwrap_or("unknown")));
    Ok(())
}

fn said(turn: &TurnId, status: &str) -> String {
    match status {
        "cancelled" => format!("{turn}: cancelled before it began"),
        "cancelling" => format!("{turn}: its worker is told to end it, and stays warm"),
        before => format!("{turn}: it was {before} already"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_outcome_is_said() {
        let turn = TurnId::new(1_700_000_000_000, 1);
        assert!(said(&turn, "cancelled").ends_with("before it began"));
        assert!(said(&turn, "cancelling").contains("stays warm"));
        assert!(said(&turn, "completed").ends_with("it was completed already"));
    }
}
