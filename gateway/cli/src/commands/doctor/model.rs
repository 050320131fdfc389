//! One real request for one token.

use std::time::Duration;

use bytes::Bytes;
use http::Request;
use http_body_util::{BodyExt, Full, Limited};
use serde_json::{Value, json};
use tokio::time::Instant;

use super::Check;
use crate::api::{http_client, whole};
use crate::deployment::Deployment;
use crate::model_key::ModelKey;

/// Asked where no profile names a model: the smallest of the present family.
const DEFAULT_MODEL: &str = "claude-haiku-4-5";
const TIMEOUT: Duration = Duration::from_secs(60);

/// Asks the model of the default profile for one token.
pub async fn check(deployment: &Deployment, key: &ModelKey) -> Check {
    let model = deployment.settings.profile("default").and_then(|p| p.model);
    let model = model.unwrap_or_else(|| DEFAULT_MODEL.into());
    let Some((_, secret)) = &key.key else {
        return Check::not("model", true, "there is no key to try", "give one as said above");
    };
    let began = Instant::now();
    let asked = format!("{model} at {}", key.base_url);
    match tokio::time::timeout(TIMEOUT, ask(&key.base_url, secret, &model)).await {
        Ok(Ok(answered)) => {
            Check::ok("model", format!("{answered} at {} answered in {} ms", key.base_url, began.elapsed().as_millis()))
        }
        Ok(Err(e)) => {
            Check::not("model", true, format!("{asked}: {e:#}"), "check the key, the address and the model's name")
        }
        Err(_) => Check::not("model", true, format!("{asked}: no answer within 60 s"), "check the address"),
    }
}

/// The name of the model that answered.
async fn ask(base_url: &str, key: &str, model: &str) -> anyhow::Result<String> {
    let body = json!({"model": model, "max_tokens": 1, "messages": [{"role": "user", "content": "hi"}]});
    let request = Request::post(format!("{base_url}/v1/messages"))
        .header("content-type", "application/json")
        .header("anthropic-version", "2023-06-01")
        .header("x-api-key", key)
        .body(Full::new(Bytes::from(body.to_string())))?;
    let response = http_client(base_url)?.request(request).await.map_err(|e| anyhow::anyhow!(whole(&e)))?;
    let status = response.status();
    let body =
        Limited::new(response.into_body(), 1 << 20).collect().await.map_err(|e| anyhow::anyhow!("{e}"))?.to_bytes();
    let answer: Value = serde_json::from_slice(&body).unwrap_or_default();
    if status.is_success() {
        return Ok(answer["model"].as_str().unwrap_or(model).to_owned());
    }
    let said = answer["error"]["message"].as_str().unwrap_or("nothing that could be read");
    // A provider may repeat what it was sent.
    anyhow::bail!("it answers {status}: {}", said.replace(key, "<the key>"))
}

#[cfg(test)]
mod tests {
    use settings::Home;
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    use tokio::net::TcpListener;

    use super::super::Verdict;
    use super::*;
    use crate::model_key::KeyFrom;

    async fn asked(status: &str, answer: &str) -> (Check, String) {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let key = ModelKey {
            base_url: format!("http://{}", listener.local_addr().unwrap()),
            key: Some((KeyFrom::Variable("K".into()), "sk-secret".into())),
            problems: Vec::new(),
            provider: None,
        };
        let home = tempfile::tempdir().unwrap();
        let file = home.path().join("rekindle.toml");
        std::fs::write(&file, "[profiles.default]\nmodel = \"m-1\"\n").unwrap();
        let deployment = Deployment::find(Home::at(home.path()), Some(&file)).unwrap();
        let server = async {
            let (mut stream, _) = listener.accept().await.unwrap();
            let mut request = Vec::new();
            while !request.ends_with(b"}]}") && !request.ends_with(b"\"m-1\"}") {
                request.push(stream.read_u8().await.unwrap());
            }
            let text = format!("HTTP/1.1 {status}\r\ncontent-length: {}\r\n\r\n{answer}", answer.len());
            stream.write_all(text.as_bytes()).await.unwrap();
            String::from_utf8(request).unwrap()
        };
        tokio::join!(check(&deployment, &key), server)
    }

    #[tokio::test]
    async fn one_token_is_asked_for_with_the_key() {
        let (check, request) = asked("200 OK", r#"{"model":"m-1-20260101"}"#).await;
        assert_eq!(check.verdict, Verdict::Ok);
        assert!(check.detail.contains("m-1-20260101"), "{}", check.detail);
        assert!(request.starts_with("POST /v1/messages "), "{request}");
        assert!(request.contains("x-api-key: sk-secret") && request.contains(r#""max_tokens":1"#), "{request}");
    }

    #[tokio::test]
    async fn the_providers_own_words_are_told_without_the_key() {
        let (check, _) = asked("401 Unauthorized", r#"{"error":{"message":"invalid x-api-key sk-secret"}}"#).await;
        assert_eq!(check.verdict, Verdict::Missing);
        assert!(
            check.detail.contains("401") && check.detail.contains("invalid x-api-key <the key>"),
            "{}",
            check.detail
        );
    }
}
