//! Bounds: of money, of size, of time.

use serde_json::json;
use settings::Budget;

use super::*;

async fn ask(sandbox: &mut Sandbox) -> (u16, HeaderMap, serde_json::Value) {
    let request = messages(full(r#"{"model":"claude-x","messages":[]}"#));
    read(sandbox.send.send_request(request).await.unwrap()).await
}

async fn read(response: Response<Incoming>) -> (u16, HeaderMap, serde_json::Value) {
    let (head, body) = response.into_parts();
    let body = body.collect().await.unwrap().to_bytes();
    (head.status.as_u16(), head.headers, serde_json::from_slice(&body).unwrap_or_default())
}

/// One whole answer of 10 tokens of input and 20 of output.
async fn spend(sandbox: &mut Sandbox, api: &mut Api) {
    let mut request = messages(full("{}"));
    *request.uri_mut() = "/broker/anthropic/v1/messages?json=1".parse().unwrap();
    let response = sandbox.send.send_request(request);
    let (seen, response) = tokio::join!(api.requests.recv(), response);
    let answer = seen.unwrap().answer;
    let body = json!({"model": "claude-x", "usage": {"input_tokens": 10, "output_tokens": 20}}).to_string();
    answer.send(Ok(body.into())).await.unwrap();
    drop(answer);
    let response = response.unwrap();
    assert_eq!(response.status(), 200);
    response.into_body().collect().await.unwrap();
    sandbox.broker.settled().await;
}

fn tokens(most: u64) -> Budget {
    Budget { tokens: Some(most), ..Budget::default() }
}

#[tokio::test]
async fn what_begins_within_a_budget_finishes_and_the_next_is_told_so() {
    let mut api = api().await;
    let (mut settings, _folder) = with_key(&api.url, "sk-real");
    settings.budgets.owner_day = tokens(25);
    let mut sandbox = sandbox(settings).await;
    spend(&mut sandbox, &mut api).await;
    let (status, headers, body) = ask(&mut sandbox).await;
    assert_eq!((status, &body["type"], &body["error"]["type"]), (429, &json!("error"), &json!("rate_limit_error")));
    let message = body["error"]["message"].as_str().unwrap();
    assert!(message.contains("30 of 25 tokens") && message.contains("budgets.owner_day.tokens"), "{message}");
    assert_eq!(headers["x-should-retry"], "false");
    let after: u64 = headers["retry-after"].to_str().unwrap().parse().unwrap();
    assert!((1..=86_400).contains(&after));
    assert!(api.requests.try_recv().is_err(), "it never reached the API");
}

#[tokio::test]
async fn a_turns_budget_is_the_turns() {
    let mut api = api().await;
    let (mut settings, _folder) = with_key(&api.url, "sk-real");
    settings.prices.insert("*".into(), settings::Price { output: 1.0, ..settings::Price::default() });
    settings.budgets.turn.cost = Some(0.00002);
    let mut sandbox = sandbox(settings).await;
    spend(&mut sandbox, &mut api).await;
    let (status, _, body) = ask(&mut sandbox).await;
    assert_eq!(status, 429, "{body}");
    assert!(body["error"]["message"].as_str().unwrap().contains("this turn's budget"), "{body}");

    // The next turn has its own; between the two there is none.
    let ledger = &sandbox.world.ledger;
    let uid = testing::uid("demo");
    let generation = ledger.unit(&uid).await.unwrap().unwrap().state.generation().unwrap();
    let done = ledger::Settle { ok: true, reason: None, done_json: r#"{"type":"done"}"#, seq: None, cache: None };
    ledger.settle(&uid, generation, &sandbox.turn, done).await.unwrap();
    assert_eq!(ask(&mut sandbox).await.0, 403);
    let (_, handed_over) = sandbox.world.submit_warm("more").await;
    assert!(handed_over);
    spend(&mut sandbox, &mut api).await;
}

#[tokio::test]
async fn an_openai_client_is_told_in_its_own_words_and_an_owner_may_have_more() {
    let mut api = api().await;
    let (mut settings, _folder) = with("openai", "sk-real", settings::Provider::at(&api.url));
    settings.budgets.owner_day.requests = Some(0);
    let mut sandbox_one = sandbox(settings.clone()).await;
    let request = || {
        let request = Request::post("/broker/openai/v1/responses").header("host", "x");
        request.body(full(r#"{"model":"gpt"}"#)).unwrap()
    };
    let (status, headers, body) = read(sandbox_one.send.send_request(request()).await.unwrap()).await;
    assert_eq!(
        (status, &body["error"]["type"], &body["error"]["code"]),
        (429, &json!("insufficient_quota"), &json!("insufficient_quota"))
    );
    assert!(headers.contains_key("retry-after"));

    let lifted = settings::OwnersBudgets { owner_day: Some(Budget::default()), ..Default::default() };
    settings.budgets.owners.insert(testing::owner().to_string(), lifted);
    let mut lucky = sandbox(settings).await;
    let response = lucky.send.send_request(request());
    let (seen, response) = tokio::join!(api.requests.recv(), response);
    drop(seen);
    assert_eq!(response.unwrap().status(), 200);
}

#[tokio::test]
async fn with_budgets_nothing_passes_a_ledger_that_is_gone() {
    let mut api = api().await;
    let (mut settings, _folder) = with_key(&api.url, "sk-real");
    settings.budgets.unit_day = tokens(1_000);
    let mut sandbox = sandbox(settings).await;
    sandbox.world.redis = None;
    let (status, headers, _) = ask(&mut sandbox).await;
    assert_eq!((status, headers["x-should-retry"].to_str().unwrap()), (503, "true"));
    assert!(api.requests.try_recv().is_err());
}

fn bounded(url: &str) -> (Settings, tempfile::TempDir) {
    let provider = settings::Provider { request_mb: 1, silence_sec: 1, ..settings::Provider::at(url) };
    with("anthropic", "sk-real", provider)
}

#[tokio::test]
async fn a_body_that_is_too_large_never_arrives_whole() {
    let mut api = api().await;
    let (settings, _folder) = bounded(&api.url);
    let mut sandbox_one = sandbox(settings.clone()).await;
    let large = vec![b' '; (1 << 20) + 1];
    let (status, _, body) = read(sandbox_one.send.send_request(messages(full(large.clone()))).await.unwrap()).await;
    assert_eq!((status, &body["error"]["type"]), (413, &json!("request_too_large")));
    assert!(api.requests.try_recv().is_err());

    // One that does not say how long it is ends on the way. The API answers when it has read all of it: never.
    let mut sandbox_two = sandbox(settings).await;
    let piece = |piece: &[u8]| Ok::<_, std::io::Error>(hyper::body::Frame::data(Bytes::copy_from_slice(piece)));
    let pieces = futures_util::stream::iter(large.chunks(1 << 16).map(piece).collect::<Vec<_>>());
    let mut request = messages(StreamBody::new(pieces).boxed());
    *request.uri_mut() = "/broker/anthropic/v1/messages?reads=1".parse().unwrap();
    let response = tokio::time::timeout(testing::SOON, sandbox_two.send.send_request(request)).await.unwrap();
    assert_eq!(read(response.unwrap()).await.0, 413);
    assert!(api.requests.try_recv().is_err());
}

#[tokio::test]
async fn an_answer_that_falls_silent_ends() {
    let mut api = api().await;
    let (settings, _folder) = bounded(&api.url);
    let mut sandbox = sandbox(settings).await;
    let response = sandbox.send.send_request(messages(full("{}")));
    let both = async { tokio::join!(api.requests.recv(), response) };
    let (seen, response) = tokio::time::timeout(testing::SOON, both).await.unwrap();
    let mut body = response.unwrap().into_body();
    let ended = tokio::time::timeout(testing::SOON, body.frame()).await.unwrap();
    assert!(ended.is_none_or(|frame| frame.is_err()), "it ends, and not well");
    drop(seen);
}

#[tokio::test]
async fn a_request_has_an_end_even_when_nobody_reads_its_answer() {
    let mut api = api().await;
    let provider = settings::Provider { request_sec: 1, ..settings::Provider::at(&api.url) };
    let (settings, _folder) = with("anthropic", "sk-real", provider);
    let mut sandbox = sandbox(settings).await;
    let response = sandbox.send.send_request(messages(full("{}")));
    let (seen, response) = tokio::join!(api.requests.recv(), response);
    let unread = response.unwrap();
    tokio::time::timeout(testing::SOON, sandbox.serving).await.unwrap().unwrap();
    drop((seen, unread));
}
