//! What of requests is passed on: by their bodies, by what they call themselves, by how many there are.

use serde_json::json;

use super::*;

async fn post(sandbox: &mut Sandbox, path: &str, body: impl Into<Bytes>) -> (u16, HeaderMap, serde_json::Value) {
    let request = Request::post(path).header("host", "x").body(full(body)).unwrap();
    let (head, body) = sandbox.send.send_request(request).await.unwrap().into_parts();
    let body = body.collect().await.unwrap().to_bytes();
    (head.status.as_u16(), head.headers, serde_json::from_slice(&body).unwrap_or_default())
}

/// The API answers these when it has read all of the request, and not before.
const READS: &str = "/broker/openai/v1/responses?reads=1";

#[tokio::test]
async fn a_body_that_could_be_read_in_another_way_never_arrives_whole() {
    let api = api().await;
    let (settings, _folder) = with("openai", "sk-real", settings::Provider::at(&api.url));
    let text = r#"{"model":"gpt-x","background":true}"#;
    let utf_16 = text.encode_utf16().flat_map(u16::to_le_bytes).collect::<Vec<u8>>();
    for (body, says) in [
        (utf_16, "UTF-8"),
        ([b"\xef\xbb\xbf", text.as_bytes()].concat(), "UTF-8"),
        (text.replace("true", "1").into(), "background"),
        (text.replace("true", "\"true\"").into(), "background"),
        (text.replace("back", "b\\u0061ck").into(), "background"),
        (text.replace("true", "false,\"background\":false").into(), "`background` stands twice"),
        (text.replace("\"background\":true", "\"store\":true").into(), "[broker.openai] allow = [\"store\"]"),
        (format!("[{text}]").into(), "JSON object"),
        (Vec::new(), "JSON object"),
    ] {
        // One that was broken off is its connection's last.
        let mut sandbox = sandbox(settings.clone()).await;
        let (status, headers, answer) = post(&mut sandbox, READS, body).await;
        assert_eq!((status, &answer["error"]["type"]), (400, &json!("invalid_request_error")), "{answer}");
        let message = answer["error"]["message"].as_str().unwrap();
        assert!(message.starts_with("rekindle: ") && message.contains(says), "{message}");
        assert_eq!(headers["x-should-retry"], "false");
    }
    let mut sandbox = sandbox(settings).await;
    let plain = text.replace("true", "false");
    let (status, _, echo) = post(&mut sandbox, READS, plain.clone()).await;
    assert_eq!((status, echo), (200, serde_json::from_str(&plain).unwrap()), "the same with `false` does");
    let get = Request::get("/broker/openai/v1/models").header("host", "x").body(full("{}")).unwrap();
    assert_eq!(sandbox.send.send_request(get).await.unwrap().status(), 400);
}

#[tokio::test]
async fn who_still_sends_hears_the_refusal() {
    let mut api = api().await;
    let (settings, _folder) = with_key(&api.url, "sk-real");
    let mut sandbox = sandbox(settings).await;
    let tools = json!([{"type": "web_search_20250305", "name": "web_search"}]);
    let said = "x".repeat(16 << 20);
    let body = json!({"tools": tools, "model": "m", "z": said}).to_string();
    let (status, _, answer) = post(&mut sandbox, "/broker/anthropic/v1/messages", body).await;
    assert_eq!(status, 400, "{answer}");
    let message = answer["error"]["message"].as_str().unwrap();
    let line = "`web_search_20250305` has the provider reach others or run something; \
                to allow it, add to rekindle.toml: [broker.anthropic] allow = [\"web_search\"]";
    assert!(message.ends_with(line), "{message}");
    // Its head may have got there.
    if let Ok(mut seen) = api.requests.try_recv() {
        while let Some(piece) = seen.body.recv().await {
            assert!(!String::from_utf8_lossy(&piece).contains("web_search"));
        }
    }
}

#[tokio::test]
async fn the_settings_open_what_they_name() {
    let mut api = api().await;
    let provider = settings::Provider { allow: vec!["web_search".into()], ..settings::Provider::at(&api.url) };
    let (settings, _folder) = with("anthropic", "sk-real", provider);
    let mut sandbox = sandbox(settings).await;
    let body = json!({"tools": [{"type": "web_search_20250305", "name": "web_search"}]}).to_string();
    let mut request = messages(full(body.clone()));
    let own = format!("{}-", testing::uid("demo"));
    request.headers_mut().insert("idempotency-key", "k".parse().unwrap());
    request.headers_mut().insert("content-type", "application/json; charset=utf-7".parse().unwrap());
    let response = sandbox.send.send_request(request);
    let (seen, response) = tokio::join!(api.requests.recv(), response);
    let mut seen = seen.unwrap();
    assert_eq!(seen.body.recv().await.unwrap(), body);
    let sent = seen.headers["idempotency-key"].to_str().unwrap();
    assert!(sent.starts_with(&own) && !sent.ends_with("-k"), "{sent}");
    assert_eq!(seen.headers["content-type"], "application/json");
    drop(seen);
    assert_eq!(response.unwrap().status(), 200);
}

#[tokio::test]
async fn requests_to_models_have_a_rate_of_their_owner() {
    let api = api().await;
    let (mut settings, _folder) = with("openai", "sk-real", settings::Provider::at(&api.url));
    (settings.limits.model_requests_per_sec, settings.limits.model_request_burst) = (1, 3);
    let mut sandbox = sandbox(settings).await;
    let mut passed = 0;
    let (headers, answer) = loop {
        match post(&mut sandbox, READS, r#"{"model":"gpt-x"}"#).await {
            (200, ..) => passed += 1,
            (429, headers, answer) => break (headers, answer),
            other => panic!("{other:?}"),
        }
        assert!(passed < 60, "no end of them");
    };
    assert!(passed >= 3, "{passed}");
    let error = &answer["error"];
    assert_eq!((&error["type"], &error["code"]), (&json!("rate_limit_exceeded"), &json!("rate_limit_exceeded")));
    assert!(error["message"].as_str().unwrap().contains("limits.model_requests_per_sec"), "{error}");
    assert_eq!((headers["x-should-retry"].to_str().unwrap(), headers["retry-after"].to_str().unwrap()), ("true", "1"));
    sandbox.broker.settled().await;
    let day = sandbox.world.ledger.today().await.unwrap();
    let rows = sandbox.world.ledger.usage(&testing::owner(), day, false).await.unwrap();
    assert_eq!(rows.iter().map(|row| row.used.requests).sum::<u64>(), passed, "one that is refused leaves no trace");
}
