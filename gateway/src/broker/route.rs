//! What of a provider may be reached: models and messages, nothing of its administration, and nothing that others left there.
//!
//! The path that was checked is the path that is sent: a segment holds no escape but `%3A`, which some gateways want in names
//! of models, and no dots alone; so there is nothing to be normalised differently by somebody else.

use http::{Method, Uri};
use settings::Api;

use super::refusal::{Kind, Refusal};

/// Bytes of a query.
const QUERY_BYTES: usize = 512;

/// What an API serves. Not among it: what was stored with the provider, since all units share one account there.
fn served(api: Api) -> &'static [&'static str] {
    match api {
        Api::Anthropic => {
            &["POST /v1/messages", "POST /v1/messages/count_tokens", "GET /v1/models", "GET /v1/models/*"]
        }
        Api::OpenAi => &[
            "POST /v1/responses",
            "POST /v1/responses/compact",
            "POST /v1/responses/input_tokens",
            "POST /v1/chat/completions",
            "GET /v1/models",
            "GET /v1/models/*",
        ],
    }
}

fn parameters(api: Api) -> &'static [&'static str] {
    match api {
        Api::Anthropic => &["beta", "limit", "after_id", "before_id"],
        Api::OpenAi => &["limit", "after", "order"],
    }
}

/// Paths and parameters of one provider.
#[derive(Debug)]
pub(super) struct Routes {
    paths: Vec<(Method, Vec<String>)>,
    parameters: Vec<String>,
}

/// A request's path and query behind the provider's base URL.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Route {
    pub(super) path: String,
    pub(super) query: Option<String>,
    /// Whether tokens are made there.
    pub(super) generates: bool,
}

impl Routes {
    /// The API's own, or `paths`; `Err` is the offender.
    pub(super) fn new(api: Api, paths: &[String], query: &[String]) -> Result<Self, String> {
        let own = served(api).iter().map(|text| (*text).to_owned());
        let paths = if paths.is_empty() { own.collect() } else { paths.to_vec() };
        let parse = |text: String| {
            let (method, path) = text.split_once(' ')?;
            let method = method.parse().ok().filter(|m| matches!(*m, Method::GET | Method::POST))?;
            let segments = path.strip_prefix('/')?.split('/').map(str::to_owned).collect::<Vec<_>>();
            segments.iter().all(|s| s == "*" || is_plain(s)).then_some((method, segments))
        };
        let paths = paths.into_iter().map(|text| parse(text.clone()).ok_or(text)).collect::<Result<_, _>>()?;
        let own = parameters(api).iter().map(|name| (*name).to_owned());
        Ok(Self { paths, parameters: own.chain(query.iter().cloned()).collect() })
    }

    /// Finds the route of a request to `path`, which is what stands behind `/broker/<name>`.
    pub(super) fn find(&self, method: &Method, path: &str, query: Option<&str>) -> Result<Route, Refusal> {
        // A HEAD is a GET without the answer's body.
        let as_method = if *method == Method::HEAD { &Method::GET } else { method };
        let segments: Option<Vec<_>> = path.strip_prefix('/').map(|rest| rest.split('/').collect());
        let segments = segments.filter(|all| all.iter().all(|s| is_plain(s)));
        let is_served = |segments: &Vec<&str>| {
            self.paths.iter().any(|(method, pattern)| {
                let fits = pattern.len() == segments.len()
                    && pattern.iter().zip(segments).all(|(pattern, segment)| pattern == "*" || pattern == segment);
                method == as_method && fits
            })
        };
        if !segments.is_some_and(|segments| is_served(&segments)) {
            let all: Vec<_> =
                self.paths.iter().map(|(method, segments)| format!("{method} …/{}", segments.join("/"))).collect();
            let shown: String = path.chars().take(200).collect();
            let message = format!("rekindle: {method} {shown} is not served; there are {}", all.join(", "));
            return Err(Refusal::new(Kind::NotFound, message));
        }
        self.check_query(query.unwrap_or_default())?;
        let counts = path.ends_with("/count_tokens") || path.ends_with("/input_tokens");
        Ok(Route { path: path.into(), query: query.map(Into::into), generates: *method == Method::POST && !counts })
    }

    fn check_query(&self, query: &str) -> Result<(), Refusal> {
        let plain = |b: u8| b.is_ascii_alphanumeric() || b"-_.:,@[]=~+%".contains(&b);
        for parameter in query.split('&').filter(|p| !p.is_empty()) {
            let name = parameter.split('=').next().unwrap_or_default();
            if query.len() > QUERY_BYTES || !parameter.bytes().all(plain) || !self.parameters.iter().any(|p| p == name)
            {
                let name: String = name.chars().take(60).collect();
                let message = format!("rekindle: the query parameter `{name}` is not passed on");
                return Err(Refusal::new(Kind::Invalid, message));
            }
        }
        Ok(())
    }
}

/// Name of the provider and the rest of a request's path; `None` for what is not a path below `/broker/`, as when the
/// request names a host of its own.
pub(super) fn split(uri: &Uri) -> Option<(&str, &str)> {
    if uri.scheme().is_some() || uri.authority().is_some() {
        return None;
    }
    let rest = uri.path().strip_prefix("/broker/")?;
    let end = rest.find('/').filter(|end| *end > 0)?;
    Some((&rest[..end], &rest[end..]))
}

fn is_plain(segment: &str) -> bool {
    let rest = segment.replace("%3A", ":").replace("%3a", ":");
    let plain = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'_' | b'.' | b':' | b'@');
    (1..=128).contains(&rest.len()) && rest.bytes().all(plain) && !rest.bytes().all(|b| b == b'.')
}

#[cfg(test)]
mod tests {
    use super::*;

    fn find(routes: &Routes, method: &str, uri: &str) -> Option<Route> {
        let uri: Uri = uri.parse().ok()?;
        let (_, path) = split(&uri)?;
        routes.find(&method.parse().unwrap(), path, uri.query()).ok()
    }

    #[test]
    fn only_messages_and_models_are_served() {
        let routes = Routes::new(Api::Anthropic, &[], &[]).unwrap();
        let route = find(&routes, "POST", "/broker/anthropic/v1/messages?beta=true").unwrap();
        let path = "/v1/messages".to_owned();
        assert_eq!(route, Route { path, query: Some("beta=true".into()), generates: true });
        for (method, path, generates) in [
            ("POST", "/v1/messages/count_tokens", false),
            ("GET", "/v1/models?limit=20&after_id=x", false),
            ("GET", "/v1/models/claude-x.1@2", false),
            ("GET", "/v1/models/claude-x%3A0", false),
            ("HEAD", "/v1/models", false),
        ] {
            let route = find(&routes, method, &format!("/broker/anthropic{path}"));
            assert_eq!(route.map(|r| r.generates), Some(generates), "{path}");
        }
        for (method, path) in [
            ("GET", "/broker/anthropic/v1/messages"),
            ("POST", "/broker/anthropic/v1/models"),
            ("DELETE", "/broker/anthropic/v1/models/x"),
            ("PUT", "/broker/anthropic/v1/messages"),
            ("OPTIONS", "/broker/anthropic/v1/messages"),
            ("POST", "/broker/anthropic/v1/messages/"),
            ("POST", "/broker/anthropic/v1/messages/batches"),
            ("POST", "/broker/anthropic//v1/messages"),
            ("POST", "/broker/anthropic/v1//messages"),
            ("POST", "/broker//v1/messages"),
            ("POST", "/broker/anthropic/./v1/messages"),
            ("POST", "/broker/anthropic/x/../v1/messages"),
            ("POST", "/broker/anthropic/v1/messages%2f"),
            ("POST", "/broker/anthropic/v1%2Fmessages"),
            ("POST", "/broker/anthropic/v1/%6dessages"),
            ("POST", "/broker/anthropic/v1/messages;x=1"),
            ("POST", "/broker/anthropic/v1/messages\\..\\files"),
            ("GET", "/broker/anthropic/v1/models/.."),
            ("GET", "/broker/anthropic/v1/models/%2e%2e"),
            ("GET", "/broker/anthropic/v1/models/a/b"),
            ("GET", "/broker/anthropic/v1/models/a%00"),
            ("GET", "/broker/anthropic/v1/organizations"),
            ("POST", "/broker/anthropic/v1/messages?key=x"),
            ("POST", "/broker/anthropic/v1/messages?beta=true&beta2=x"),
            ("POST", "/broker/anthropic/v1/messages?beta=a/b"),
            ("POST", "http://evil.example/broker/anthropic/v1/messages"),
            ("POST", "/v1/messages"),
            ("GET", "/"),
            ("OPTIONS", "*"),
        ] {
            assert!(find(&routes, method, path).is_none(), "{method} {path}");
        }
    }

    #[test]
    fn what_others_left_with_the_provider_is_not_served() {
        let routes = Routes::new(Api::OpenAi, &[], &[]).unwrap();
        for path in ["/v1/responses", "/v1/responses/compact", "/v1/chat/completions"] {
            assert!(find(&routes, "POST", &format!("/broker/openai{path}")).unwrap().generates);
        }
        for (method, path) in [
            ("GET", "/v1/responses/resp_1"),
            ("GET", "/v1/responses"),
            ("DELETE", "/v1/responses/resp_1"),
            ("GET", "/v1/chat/completions"),
            ("GET", "/v1/files"),
        ] {
            assert!(find(&routes, method, &format!("/broker/openai{path}")).is_none(), "{method} {path}");
        }
    }

    #[test]
    fn the_settings_may_say_other_paths() {
        let text = |all: &[&str]| all.iter().map(|t| (*t).to_owned()).collect::<Vec<_>>();
        let paths = text(&["POST /model/*/invoke", "GET /models"]);
        let routes = Routes::new(Api::Anthropic, &paths, &text(&["api-version"])).unwrap();
        assert!(find(&routes, "POST", "/broker/x/model/a.b-v2%3A0/invoke?api-version=2024-01-01").is_some());
        assert!(find(&routes, "POST", "/broker/x/model/a/b/invoke").is_none());
        assert!(find(&routes, "POST", "/broker/x/v1/messages").is_none());
        for wrong in ["/v1/x", "DELETE /v1/x", "POST v1", "POST /v1/**", "POST /../x", "POST /a//b", "POST /a?b=c"] {
            assert_eq!(Routes::new(Api::OpenAi, &text(&[wrong]), &[]).unwrap_err(), wrong);
        }
    }
}
