//! Headers: what of a client's is passed on, and what of an answer's. Whatever is not listed stays behind, keys first of all.

use contract::UnitId;
use http::header::{self, HeaderMap, HeaderName, HeaderValue};
use sha2::{Digest, Sha256};

/// RFC 9110, 7.6.1, and what older clients add.
const HOP_BY_HOP: &[&str] = &[
    "connection",
    "keep-alive",
    "proxy-authenticate",
    "proxy-authorization",
    "proxy-connection",
    "te",
    "trailer",
    "transfer-encoding",
    "upgrade",
];

/// What clients of either API send and the API has a use for. Not among it: who is billed (`openai-organization`,
/// `openai-project`), which is the deployment's to say.
const PASSED: &[&str] = &[
    "accept",
    "accept-language",
    "anthropic-beta",
    "anthropic-dangerous-direct-browser-access",
    "anthropic-version",
    "content-length",
    "content-type",
    "conversation_id",
    "idempotency-key",
    "openai-beta",
    "originator",
    "session_id",
    "user-agent",
    "version",
    "x-app",
    "x-client-request-id",
    "x-request-id",
];

/// The same, by how they begin.
const PASSED_PREFIXES: &[&str] = &["x-claude-", "x-codex-", "x-stainless-"];

/// What is never passed on, whatever the settings say: credentials, and what would lead a request elsewhere.
const NEVER: &[&str] = &[
    "api-key",
    "authorization",
    "content-encoding",
    "cookie",
    "expect",
    "forwarded",
    "host",
    "ocp-apim-subscription-key",
    "proxy-authorization",
    "x-amz-security-token",
    "x-api-key",
    "x-auth-token",
    "x-forwarded-for",
    "x-forwarded-host",
    "x-goog-api-key",
    "x-http-method-override",
    "x-original-url",
    "x-rewrite-url",
];

/// Of an answer: cookies and other addresses are between the API and the broker, whose account it is nobody's business.
const ANSWER_DROPPED: &[&str] = &[
    "alt-svc",
    "anthropic-organization-id",
    "content-location",
    "link",
    "location",
    "openai-organization",
    "openai-project",
    "refresh",
    "set-cookie",
    "www-authenticate",
];

/// Whether the settings may have a header of this name passed on.
pub(super) fn may_pass(name: &HeaderName) -> bool {
    !NEVER.contains(&name.as_str()) && !HOP_BY_HOP.contains(&name.as_str())
}

/// How a header ends by which a provider knows a request again, and answers as before.
const IDEMPOTENCY: &str = "idempotency-key";

/// Leaves of a unit's request what the API shall see. A body is JSON in UTF-8, whatever its sender calls it.
pub(super) fn clean_request(headers: &mut HeaderMap, more: &[HeaderName], unit: &UnitId) {
    drop_hop_by_hop(headers);
    let passed = |name: &HeaderName| {
        let text = name.as_str();
        PASSED.contains(&text) || PASSED_PREFIXES.iter().any(|p| text.starts_with(p)) || more.contains(name)
    };
    let others: Vec<_> = headers.keys().filter(|name| !passed(name)).cloned().collect();
    for name in others {
        headers.remove(name);
    }
    if headers.remove(header::CONTENT_TYPE).is_some() {
        headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("application/json"));
    }
    own_idempotency(headers, unit);
    // The figures in the answer are read as it passes.
    headers.insert(header::ACCEPT_ENCODING, HeaderValue::from_static("identity"));
}

/// All units share one account: what one of them calls its request must not be what another one calls its own.
fn own_idempotency(headers: &mut HeaderMap, unit: &UnitId) {
    let names: Vec<_> = headers.keys().filter(|name| name.as_str().ends_with(IDEMPOTENCY)).cloned().collect();
    for name in names {
        let mut hash = Sha256::new();
        for value in headers.get_all(&name) {
            hash.update(value.as_bytes());
            // No value of a header has it.
            hash.update([0]);
        }
        let digest = data_encoding::HEXLOWER.encode(&hash.finalize()[..16]);
        if let Ok(value) = HeaderValue::try_from(format!("{unit}-{digest}")) {
            headers.insert(name, value);
        }
    }
}

/// Leaves of the API's answer what the worker shall see; never a header that repeats the key.
pub(super) fn clean_response(headers: &mut HeaderMap, key: &str) {
    drop_hop_by_hop(headers);
    let shows = |value: &HeaderValue| value.as_bytes().windows(key.len().max(1)).any(|part| part == key.as_bytes());
    let mut dropped: Vec<_> = headers.iter().filter(|(_, value)| shows(value)).map(|(name, _)| name.clone()).collect();
    dropped.extend(ANSWER_DROPPED.iter().map(|name| HeaderName::from_static(name)));
    for name in dropped {
        headers.remove(name);
    }
}

/// Removes what is about one connection only.
pub(crate) fn drop_hop_by_hop(headers: &mut HeaderMap) {
    let named: Vec<HeaderName> = headers
        .get_all(header::CONNECTION)
        .iter()
        .filter_map(|value| value.to_str().ok())
        .flat_map(|value| value.split(','))
        .filter_map(|name| name.trim().parse().ok())
        // A client that names the body's length here would change where the request ends.
        .filter(|name| name != header::CONTENT_LENGTH)
        .collect();
    for name in named {
        headers.remove(name);
    }
    for name in HOP_BY_HOP {
        headers.remove(*name);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn map(pairs: &[(&'static str, &'static str)]) -> HeaderMap {
        pairs.iter().map(|(name, value)| (HeaderName::from_static(name), HeaderValue::from_static(value))).collect()
    }

    #[test]
    fn what_is_listed_passes_and_nothing_else() {
        let mut headers = map(&[
            ("host", "127.0.0.1:1"),
            ("x-api-key", "rekindle"),
            ("authorization", "Bearer x"),
            ("api-key", "x"),
            ("x-goog-api-key", "x"),
            ("cookie", "a=b"),
            ("x-forwarded-host", "evil"),
            ("openai-organization", "theirs"),
            ("connection", "keep-alive, X-Odd, content-length"),
            ("x-odd", "1"),
            ("x-mine", "2"),
            ("keep-alive", "timeout=5"),
            ("transfer-encoding", "chunked"),
            ("te", "trailers"),
            ("anthropic-version", "2023-06-01"),
            ("anthropic-beta", "a,b"),
            ("x-stainless-lang", "js"),
            ("accept-encoding", "gzip, br"),
            ("content-encoding", "gzip"),
            ("content-length", "3"),
            ("content-type", "application/json; charset=utf-16"),
        ]);
        clean_request(&mut headers, &[HeaderName::from_static("x-mine")], &unit("one"));
        let kept = map(&[
            ("x-mine", "2"),
            ("anthropic-version", "2023-06-01"),
            ("anthropic-beta", "a,b"),
            ("x-stainless-lang", "js"),
            ("accept-encoding", "identity"),
            ("content-length", "3"),
            ("content-type", "application/json"),
        ]);
        assert_eq!(headers, kept);
    }

    fn unit(name: &str) -> UnitId {
        let (owner, name) = (contract::Owner::parse("ann").unwrap(), contract::UnitName::parse(name).unwrap());
        UnitId::of(&owner, &name)
    }

    #[test]
    fn a_request_is_known_again_by_its_own_unit_only() {
        let of = |name: &str, keys: &[&str]| {
            let more = [HeaderName::from_static("x-idempotency-key")];
            let mut headers = HeaderMap::new();
            for key in keys {
                headers.append("idempotency-key", key.parse().unwrap());
                headers.append("x-idempotency-key", key.parse().unwrap());
            }
            clean_request(&mut headers, &more, &unit(name));
            assert_eq!(headers.get_all("idempotency-key").iter().count(), 1);
            assert_eq!(headers["idempotency-key"], headers["x-idempotency-key"]);
            headers["idempotency-key"].to_str().unwrap().to_owned()
        };
        let long = "k".repeat(8_000);
        let one = of("one", &["k"]);
        assert_eq!(one, of("one", &["k"]), "again is again");
        assert!(one.starts_with(unit("one").as_str()) && one.len() <= 64, "{one}");
        assert_eq!(of("one", &[&long]).len(), one.len());
        for other in [of("two", &["k"]), of("one", &["K"]), of("one", &["k", ""]), of("two", &[&one])] {
            assert_ne!(one, other);
        }
    }

    #[test]
    fn an_answer_has_no_cookies_no_addresses_and_no_key() {
        let mut headers = map(&[
            ("set-cookie", "a=b"),
            ("location", "http://x/"),
            ("x-echo", "Bearer sk-1!"),
            ("request-id", "req"),
            ("retry-after", "3"),
        ]);
        clean_response(&mut headers, "sk-1");
        assert_eq!(headers, map(&[("request-id", "req"), ("retry-after", "3")]));
    }
}
