//! What of a provider may be reached: models and messages, nothing of its administration.

use http::{Method, Uri};

use super::refusal::{Kind, Refusal};

/// A request's path and query behind the provider's base URL.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Route {
    pub(super) path: String,
    pub(super) query: Option<String>,
}

/// Finds the route of a request to `/broker/anthropic/…`.
pub(super) fn parse(method: &Method, uri: &Uri) -> Result<Route, Refusal> {
    let path = uri.path();
    let served = path.strip_prefix("/broker/anthropic").filter(|rest| {
        let reads = *method == Method::GET || *method == Method::HEAD;
        match *rest {
            "/v1/messages" | "/v1/messages/count_tokens" => *method == Method::POST,
            "/v1/models" => reads,
            other => reads && other.strip_prefix("/v1/models/").is_some_and(is_model),
        }
    });
    match served {
        Some(path) => Ok(Route { path: path.into(), query: uri.query().map(Into::into) }),
        None => Err(Refusal::new(
            Kind::NotFound,
            format!(
                "rekindle: {method} {} is not served; there are POST /broker/anthropic/v1/messages and \
                 …/messages/count_tokens, and GET …/v1/models",
                path.chars().take(200).collect::<String>()
            ),
        )),
    }
}

/// No dots alone and no escapes: the path that was checked is the path that is sent.
fn is_model(id: &str) -> bool {
    let plain = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'_' | b'.' | b':' | b'@');
    (1..=128).contains(&id.len()) && id.bytes().all(plain) && !id.bytes().all(|b| b == b'.')
}

#[cfg(test)]
mod tests {

    #[test]
    fn only_messages_and_models_are_served() {
        let parse = |method: &str, uri: &str| super::parse(&method.parse().unwrap(), &uri.parse().unwrap()).ok();
        let route = parse("POST", "/broker/anthropic/v1/messages?beta=true").unwrap();
        assert_eq!((route.path.as_str(), route.query.as_deref()), ("/v1/messages", Some("beta=true")));
        for (method, path) in [
            ("POST", "/v1/messages/count_tokens"),
            ("GET", "/v1/models"),
            ("GET", "/v1/models/claude-x.1@2"),
            ("HEAD", "/v1/models"),
        ] {
            assert!(parse(method, &format!("/broker/anthropic{path}")).is_some());
        }
        for (method, path) in [
            ("GET", "/broker/anthropic/v1/messages"),
            ("POST", "/broker/anthropic/v1/models"),
            ("DELETE", "/broker/anthropic/v1/models/x"),
            ("POST", "/broker/anthropic/v1/messages/"),
            ("POST", "/broker/anthropic/v1/messages/batches"),
            ("POST", "/broker/anthropic//v1/messages"),
            ("GET", "/broker/anthropic/v1/models/.."),
            ("GET", "/broker/anthropic/v1/models/%2e%2e"),
            ("GET", "/broker/anthropic/v1/models/a/b"),
            ("GET", "/broker/anthropic/v1/organizations"),
            ("POST", "/broker/other/v1/messages"),
            ("POST", "/v1/messages"),
            ("GET", "/"),
        ] {
            assert!(parse(method, path).is_none(), "{method} {path}");
        }
    }
}
