//! The real claude CLI against the scripted model endpoint: what our runner relies on is what the CLI does.

use std::time::Duration;

use serde_json::json;
use tests::claude::Claude;
use tests::model::{Block, Model, Reply, Request};

const SESSION: &str = "3b7c0c6e-5f0a-4f0e-9d6b-0d8f3c1a2b34";

/// Writes `notes.md` on the first word of a turn, says so when that is done.
fn writes_notes(request: &Request, path: &str) -> Reply {
    match request.tool_results().as_slice() {
        [] if request.prompt().contains("please write") => Reply::Message(vec![
            Block::Thinking("A file is wanted.".into()),
            Block::Text("I write it.".into()),
            Block::Tool { name: "Write".into(), input: json!({ "file_path": path, "content": "about reaping\n" }) },
        ]),
        [] => Reply::text(format!("You said before: {}", request.said("user")[0])),
        [result] => Reply::text(if result.is_error { "It failed." } else { "It is written." }),
        more => Reply::error(400, &format!("{} results", more.len())),
    }
}

async fn agent() -> (Model, Claude) {
    let model = Model::start(|_| Reply::error(400, "no script yet")).await;
    let claude = Claude::new(model.base_url());
    let notes = claude.workspace().join("notes.md").display().to_string();
    model.follow(move |request| writes_notes(request, &notes));
    (model, claude)
}

#[tokio::test]
async fn a_turn_uses_a_tool_and_the_next_one_remembers() {
    let (model, claude) = agent().await;
    let first = claude.turn("please write notes.md", &["--session-id", SESSION]).await;
    assert_eq!(first.code, Some(0), "{}", first.stderr);
    let result = first.result();
    assert_eq!((&result["subtype"], &result["is_error"]), (&json!("success"), &json!(false)));
    assert_eq!(result["result"], "It is written.");
    assert_eq!(result["session_id"], SESSION);
    assert_eq!(std::fs::read_to_string(claude.workspace().join("notes.md")).unwrap(), "about reaping\n");
    // One request for the call, one for the answer, and nothing behind our back.
    let requests = model.requests();
    assert_eq!(requests.len(), 2);
    assert_eq!(requests[1].called(), ["Write"]);
    assert_eq!(requests[0].header("x-api-key"), "rekindle");
    assert!(requests[0].tools().contains(&"Write"));

    let second = claude.turn("what did you just write?", &["--resume", SESSION]).await;
    assert_eq!(second.result()["result"], "You said before: please write notes.md");
    let carried = model.requests().pop().unwrap();
    assert_eq!(carried.called(), ["Write"]);
    assert_eq!(carried.said("assistant"), ["I write it.", "It is written."]);
    assert_eq!(carried.prompt(), "what did you just write?");
    // Cost adds up over a session, so what a turn cost is a difference.
    let cost = |run: &tests::claude::Run| run.result()["total_cost_usd"].as_f64().unwrap();
    assert!(cost(&second) > cost(&first) && cost(&first) > 0.0);
}

#[tokio::test]
async fn an_unknown_session_ends_at_once_without_asking_the_model() {
    let (model, claude) = agent().await;
    let run = claude.turn("hello", &["--resume", SESSION]).await;
    assert_eq!(run.code, Some(1));
    assert_eq!(run.lines.len(), 1);
    assert_eq!(run.result()["subtype"], "error_during_execution");
    assert_eq!(run.result()["num_turns"], 0);
    assert!(run.stderr.contains("No conversation found"), "{}", run.stderr);
    assert!(model.requests().is_empty());
}

#[tokio::test]
async fn the_cli_itself_asks_again_after_overload_and_broken_answers() {
    let (model, claude) = agent().await;
    let faults = std::sync::Mutex::new(vec![
        Reply::Message(vec![Block::Text("half an answer that nobody".into()), Block::Break]),
        Reply::error(500, "broken"),
        Reply::error(529, "overloaded"),
    ]);
    model.follow(move |_| faults.lock().unwrap().pop().unwrap_or_else(|| Reply::text("At last.")));
    let run = claude.turn("hello", &["--session-id", SESSION]).await;
    assert_eq!(run.result()["result"], "At last.");
    let retries: Vec<_> = run.lines.iter().filter(|l| l["subtype"] == "api_retry").collect();
    assert_eq!(retries.len(), 3, "{retries:#?}");
    assert_eq!(retries[0]["error_status"], 529);
    assert_eq!(model.requests().len(), 4);
}

#[tokio::test]
async fn an_error_of_the_api_is_a_success_that_is_an_error() {
    let (model, claude) = agent().await;
    model.follow(|_| Reply::error(400, "the script says no"));
    let run = claude.turn("hello", &["--session-id", SESSION]).await;
    assert_eq!(run.code, Some(1));
    let result = run.result();
    assert_eq!((&result["subtype"], &result["is_error"]), (&json!("success"), &json!(true)));
    assert!(result["result"].as_str().unwrap().contains("the script says no"));
}

#[tokio::test]
async fn a_schema_gives_structured_output() {
    let (model, claude) = agent().await;
    model.follow(|_| Reply::tool("StructuredOutput", json!({ "answer": 42 })));
    let schema = r#"{"type":"object","properties":{"answer":{"type":"integer"}},"required":["answer"]}"#;
    let run = claude.turn("compute", &["--session-id", SESSION, "--json-schema", schema]).await;
    assert_eq!(run.result()["structured_output"], json!({ "answer": 42 }));
    assert_eq!(run.result()["subtype"], "success");
}

#[tokio::test]
async fn a_held_answer_is_waited_for() {
    let (model, claude) = agent().await;
    let gate = tests::model::Gate::default();
    let held = gate.clone();
    model.follow(move |_| {
        Reply::Message(vec![Block::Text("First. ".into()), Block::Hold(held.clone()), Block::Text("Then.".into())])
    });
    let run = async { claude.turn("hello", &["--session-id", SESSION]).await };
    let open = async {
        model.wait_for(1, Duration::from_secs(30)).await;
        gate.notify_one();
    };
    let (run, ()) = tokio::join!(run, open);
    assert!(run.result()["result"].as_str().unwrap().contains("Then."), "{run:#?}");
}
