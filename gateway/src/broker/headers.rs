//! Headers that belong to one connection only, and credentials that are not the sandbox's to give.

use http::header::{self, HeaderMap, HeaderName};

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

/// Leaves of a worker's request what the API shall see.
pub(super) fn clean_request(headers: &mut HeaderMap) {
    drop_hop_by_hop(headers);
    for name in [header::HOST, header::EXPECT, header::AUTHORIZATION, header::COOKIE] {
        headers.remove(name);
    }
    headers.remove("x-api-key");
}

/// Leaves of the API's answer what the worker shall see.
pub(super) fn clean_response(headers: &mut HeaderMap) {
    drop_hop_by_hop(headers);
}

fn drop_hop_by_hop(headers: &mut HeaderMap) {
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
    use http::HeaderValue;

    fn map(pairs: &[(&'static str, &'static str)]) -> HeaderMap {
        pairs.iter().map(|(name, value)| (HeaderName::from_static(name), HeaderValue::from_static(value))).collect()
    }

    #[test]
    fn credentials_and_hops_go_the_rest_stays() {
        let mut headers = map(&[
            ("host", "127.0.0.1:1"),
            ("x-api-key", "rekindle"),
            ("authorization", "Bearer x"),
            ("cookie", "a=b"),
            ("connection", "keep-alive, X-Odd, content-length"),
            ("x-odd", "1"),
            ("keep-alive", "timeout=5"),
            ("transfer-encoding", "chunked"),
            ("te", "trailers"),
            ("anthropic-version", "2023-06-01"),
            ("anthropic-beta", "a,b"),
            ("accept-encoding", "gzip, br"),
            ("content-length", "3"),
        ]);
        clean_request(&mut headers);
        let kept = map(&[
            ("anthropic-version", "2023-06-01"),
            ("anthropic-beta", "a,b"),
            ("accept-encoding", "gzip, br"),
            ("content-length", "3"),
        ]);
        assert_eq!(headers, kept);
    }
}
