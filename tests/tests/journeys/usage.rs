//! What a real agent CLI uses is counted, and a budget ends its turn with a reason that can be read.

use serde_json::{Value, json};
use tests::eventually;
use tests::model::{Model, Reply};
use tests::stack::{Backend, Options, Stack};

use crate::support::{MINUTE, find};

async fn deployment(model: &Model, more: &str) -> Stack {
    let prices = "[prices.\"*\"]\ninput = 3.0\noutput = 15.0\n";
    let settings = format!("{}{prices}{more}", tests::claude::profile());
    Stack::start(Options::new(Backend::Process).model(model.base_url()).settings(&settings)).await
}

/// A file, then a word.
fn script(request: &tests::model::Request) -> Reply {
    match request.tool_results().as_slice() {
        [] if request.prompt().contains("write") => Reply::write("notes.md", "about budgets\n"),
        _ => Reply::text("Done."),
    }
}

#[tokio::test]
async fn what_an_agent_uses_is_counted_by_unit_and_model() {
    let model = Model::start(script).await;
    let stack = deployment(&model, "").await;
    let api = stack.api("ann");
    assert_eq!(api.invoke("demo", "please write").await.expect(200).json()["reply"], "Done.");
    let requests = model.requests();
    let count = requests.len() as u64;
    assert_eq!(count, 2, "one for the call, one for the answer");

    // It is told to the ledger after the last byte, not before.
    let row = eventually("the usage is counted", MINUTE, || async {
        let report = api.get("/v1/usage?group_by=unit,model,day").await.expect(200).json();
        let row = report["rows"].as_array()?.first()?.clone();
        (row["requests"] == count).then_some(row)
    })
    .await;
    assert_eq!((&row["unit"], &row["model"]), (&json!("demo"), &requests[0].body["model"]));
    for (kind, each) in
        [("input", 100), ("output", 20), ("cache_read", 7), ("cache_write_5m", 5), ("cache_write_1h", 0)]
    {
        assert_eq!(row[format!("{kind}_tokens")], each * count, "{kind} in {row:#}");
    }
    assert_eq!((&row["estimated_requests"], &row["unpriced_tokens"]), (&json!(0), &json!(0)));
    let cost = row["cost"].as_f64().unwrap();
    assert!((cost - 2.0 * (100.0 * 3.0 + 20.0 * 15.0) / 1e6).abs() < 1e-9, "{cost}");
    assert_eq!(stack.api("bob").get("/v1/usage").await.expect(200).json()["rows"], json!([]));
}

#[tokio::test]
async fn a_turn_over_its_budget_ends_and_says_why() {
    let model = Model::start(script).await;
    let stack = deployment(&model, "[budgets.turn]\nrequests = 1\n").await;
    let api = stack.api("ann");
    let mut stream = api.invoke_streaming("demo", &json!({"prompt": "please write"})).await;
    let events = stream.until("turn-failed", MINUTE).await;
    let done: &Value = &find(&events, "done").data;
    let said = done.to_string();
    assert!(said.contains("this turn's budget is used up: 1 of 1 requests"), "{done:#}");
    assert_eq!(model.requests().len(), 1, "it was let in once, and did not go on asking");
    // The next turn has a budget of its own.
    assert_eq!(api.invoke("demo", "just talk").await.expect(200).json()["reply"], "Done.");
}
