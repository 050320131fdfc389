//! What is counted of what passes.

use ledger::{Tokens, UsageRow};
use serde_json::json;

use super::*;

impl Sandbox {
    /// What was counted, when all that was used is told.
    async fn counted(&self) -> Vec<UsageRow> {
        self.broker.settled().await;
        let day = self.world.ledger.today().await.unwrap();
        self.world.ledger.usage(&testing::owner(), day, true).await.unwrap()
    }

    async fn only(&self) -> UsageRow {
        match self.counted().await.as_slice() {
            [row] => row.clone(),
            rows => panic!("not one row: {rows:#?}"),
        }
    }
}

fn post(path: &str, body: impl Into<Bytes>) -> Request<BoxBody<Bytes, std::io::Error>> {
    Request::post(path).header("host", "x").header("content-type", "application/json").body(full(body)).unwrap()
}

fn event(data: &serde_json::Value) -> Bytes {
    format!("event: x\ndata: {data}\n\n").into()
}

fn start() -> Bytes {
    let usage = json!({"input_tokens": 10, "cache_read_input_tokens": 2, "cache_creation_input_tokens": 3,
        "output_tokens": 1});
    event(&json!({"type": "message_start", "message": {"model": "claude-x", "usage": usage}}))
}

const DELTA: &str = "event: content_block_delta\ndata: {\"type\":\"content_block_delta\"}\n\n";

async fn exchange(
    sandbox: &mut Sandbox,
    api: &mut Api,
    request: Request<BoxBody<Bytes, std::io::Error>>,
    parts: &[Bytes],
) {
    let response = sandbox.send.send_request(request);
    let (seen, response) = tokio::join!(api.requests.recv(), response);
    let seen = seen.unwrap();
    for part in parts {
        seen.answer.send(Ok(part.clone())).await.unwrap();
    }
    drop(seen.answer);
    response.unwrap().into_body().collect().await.unwrap();
}

#[tokio::test]
async fn a_stream_is_counted_with_its_price() {
    let mut api = api().await;
    let (mut settings, _folder) = with_key(&api.url, "sk-real");
    let price = settings::Price { input: 3.0, output: 15.0, cache_write_5m: 4.0, ..settings::Price::default() };
    settings.prices.insert("claude-*".into(), price);
    let mut sandbox = sandbox(settings).await;
    let last = event(&json!({"type": "message_delta", "usage": {"output_tokens": 20}}));
    exchange(&mut sandbox, &mut api, messages(full("{}")), &[start(), DELTA.into(), last]).await;
    let row = sandbox.only().await;
    let tokens = Tokens { input: 10, output: 20, cache_read: 2, cache_write_5m: 3, ..Tokens::default() };
    assert_eq!(row.model, "claude-x");
    assert_eq!(row.unit.unwrap().0, testing::uid("demo"));
    assert_eq!((row.used.requests, row.used.estimated, row.used.tokens), (1, 0, tokens));
    assert_eq!((row.used.cost_nano, row.used.unpriced), (30_000 + 300_000 + 12_000, 0));
}

#[tokio::test]
async fn what_was_made_before_a_stream_is_cut_short_is_counted() {
    let mut api = api().await;
    let (settings, _folder) = with_key(&api.url, "sk-real");
    let mut sandbox = sandbox(settings).await;
    let response = sandbox.send.send_request(messages(full("{}")));
    let (seen, response) = tokio::join!(api.requests.recv(), response);
    let seen = seen.unwrap();
    let mut body = response.unwrap().into_body();
    seen.answer.send(Ok(start())).await.unwrap();
    body.frame().await.unwrap().unwrap();
    for _ in 0..8 {
        seen.answer.send(Ok(DELTA.into())).await.unwrap();
        body.frame().await.unwrap().unwrap();
    }
    sandbox.connection.abort();
    drop(body);
    seen.answer.closed().await;
    (&mut sandbox.serving).await.unwrap();
    let used = sandbox.only().await.used;
    assert_eq!((used.requests, used.estimated), (1, 1));
    assert!((8..=9).contains(&used.tokens.output), "{used:?}");
    assert_eq!((used.tokens.input, used.unpriced), (10, used.tokens.all()));
}

#[tokio::test]
async fn who_does_not_ask_for_figures_is_counted_by_the_text() {
    let mut api = api().await;
    let (settings, _folder) = with("openai", "sk-real", settings::Provider::at(&api.url));
    let mut sandbox = sandbox(settings).await;
    let asked = json!({"model": "gpt-x", "stream": true, "messages": ["x".repeat(400)]}).to_string();
    let chunk = event(&json!({"choices": [{"delta": {"content": "hi"}}]}));
    let request = post("/broker/openai/v1/chat/completions", asked.clone());
    exchange(&mut sandbox, &mut api, request, &[chunk.clone(), chunk.clone(), chunk]).await;
    let row = sandbox.only().await;
    let tokens = Tokens { input: asked.len() as u64 / 4, output: 3, ..Tokens::default() };
    assert_eq!((row.model.as_str(), row.used.tokens, row.used.estimated), ("gpt-x", tokens, 1));
}

#[tokio::test]
async fn the_openai_side_has_its_own_key_and_shape() {
    let mut api = api().await;
    let provider = settings::Provider {
        headers: [("OpenAI-Organization".to_owned(), "ours".to_owned())].into(),
        ..settings::Provider::at(&api.url)
    };
    let (settings, _folder) = with("openai", "sk-real", provider);
    let mut sandbox = sandbox(settings).await;
    let usage = json!({"input_tokens": 9, "output_tokens": 4, "input_tokens_details": {"cached_tokens": 5}});
    let body = json!({"model": "gpt-x", "usage": usage}).to_string();
    let mut request = post("/broker/openai/v1/responses?json=1", r#"{"model":"gpt"}"#);
    request.headers_mut().insert("openai-organization", "theirs".parse().unwrap());
    request.headers_mut().insert("authorization", "Bearer rekindle".parse().unwrap());
    let response = sandbox.send.send_request(request);
    let (seen, response) = tokio::join!(api.requests.recv(), response);
    let seen = seen.unwrap();
    assert_eq!(seen.headers["authorization"], "Bearer sk-real");
    assert_eq!(seen.headers["openai-organization"], "ours");
    assert_eq!(seen.headers["accept-encoding"], "identity");
    seen.answer.send(Ok(body.into())).await.unwrap();
    drop(seen.answer);
    response.unwrap().into_body().collect().await.unwrap();
    let tokens = Tokens { input: 4, output: 4, cache_read: 5, ..Tokens::default() };
    assert_eq!(sandbox.only().await.used.tokens, tokens);

    let background = post("/broker/openai/v1/responses", r#"{"model":"gpt","background":true,"x":"y"}"#);
    let refused = sandbox.send.send_request(background).await.unwrap();
    assert_eq!(refused.status(), 400);
    let body: serde_json::Value =
        serde_json::from_slice(&refused.into_body().collect().await.unwrap().to_bytes()).unwrap();
    assert_eq!(body["error"]["type"], "invalid_request_error");
    assert!(body["error"]["message"].as_str().unwrap().contains("background"), "{body}");
}

#[tokio::test]
async fn what_fails_and_what_makes_nothing_costs_a_request_only() {
    let mut api = api().await;
    let (settings, _folder) = with_key(&api.url, "sk-real");
    let mut sandbox = sandbox(settings).await;
    let fails = post("/broker/anthropic/v1/messages?fails=1&json=1", r#"{"model":"claude-x"}"#);
    exchange(&mut sandbox, &mut api, fails, &[start()]).await;
    let counts = post("/broker/anthropic/v1/messages/count_tokens?json=1", r#"{"model":"claude-x"}"#);
    exchange(&mut sandbox, &mut api, counts, &[r#"{"input_tokens":7}"#.into()]).await;
    let row = sandbox.only().await;
    assert_eq!((row.model.as_str(), row.used.requests, row.used.tokens), ("claude-x", 2, Tokens::default()));
    let mut registry = prometheus_client::registry::Registry::default();
    sandbox.figures.register(&mut registry);
    let mut text = String::new();
    prometheus_client::encoding::text::encode(&mut text, &registry).unwrap();
    for line in [
        r#"model_requests_total{provider="anthropic",outcome="error"} 1"#,
        r#"model_requests_total{provider="anthropic",outcome="answered"} 1"#,
    ] {
        assert!(text.contains(line), "{text}");
    }
}

#[tokio::test]
async fn without_budgets_a_ledger_that_is_gone_holds_nothing_up() {
    let mut api = api().await;
    let (settings, _folder) = with_key(&api.url, "sk-real");
    let mut sandbox = sandbox(settings).await;
    sandbox.world.redis = None;
    let last = event(&json!({"type": "message_delta", "usage": {"output_tokens": 20}}));
    exchange(&mut sandbox, &mut api, messages(full("{}")), &[start(), last]).await;
    // It is counted when the ledger is back.
    sandbox.world.restart_redis().await;
    let used = sandbox.only().await.used;
    assert_eq!((used.requests, used.tokens.output, used.tokens.input), (1, 20, 10));
}
