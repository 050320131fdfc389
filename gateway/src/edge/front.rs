//! What is refused of a request, and said with every answer, before and after any route.

use axum::response::{IntoResponse, Response};
use contract::ErrorCode;
use http::header::{CACHE_CONTROL, CONTENT_SECURITY_POLICY, HOST, REFERRER_POLICY, X_CONTENT_TYPE_OPTIONS};
use http::{HeaderName, HeaderValue, Request, Version};

use crate::http::problem::Failure;

/// Bytes of a path and a query. Names have 253 bytes, paths of files 4096, of which each may be escaped in three.
const URI_MAX: usize = 16 << 10;

/// A request that no route shall see.
pub fn refuse<B>(request: &Request<B>) -> Option<Response> {
    let failure = |detail: String| Some(Failure::new(ErrorCode::InvalidParameter, detail).into_response());
    // RFC 9112 §3.2: a request of HTTP/1.1 with none or with several must be answered 400; which of two a proxy in front has
    // looked at is anybody's guess.
    let hosts = request.headers().get_all(HOST).iter().count();
    if hosts > 1 || (hosts == 0 && request.version() == Version::HTTP_11) {
        return failure(format!("there must be one Host header; there are {hosts}"));
    }
    let length = request.uri().path_and_query().map_or(0, |both| both.as_str().len());
    if length > URI_MAX {
        return failure(format!("path and query may have at most {URI_MAX} bytes"));
    }
    None
}

/// The headers of every answer that are not set otherwise. Answers are for programs: none is a page, none is kept by a
/// cache, and no other site's script may read one (there is no `Access-Control-Allow-Origin`).
pub fn finish(response: &mut Response) {
    let defaults: [(HeaderName, &str); 4] = [
        (X_CONTENT_TYPE_OPTIONS, "nosniff"),
        (CONTENT_SECURITY_POLICY, "default-src 'none'; frame-ancestors 'none'"),
        (CACHE_CONTROL, "no-store"),
        (REFERRER_POLICY, "no-referrer"),
    ];
    for (name, value) in defaults {
        response.headers_mut().entry(name).or_insert(HeaderValue::from_static(value));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn status(request: http::request::Builder) -> Option<u16> {
        refuse(&request.body(()).unwrap()).map(|answer| answer.status().as_u16())
    }

    #[test]
    fn one_host_and_a_path_of_some_length() {
        let get = |uri: &str| Request::get(uri.to_owned());
        assert_eq!(status(get("/healthz").header(HOST, "a")), None);
        assert_eq!(status(get("/healthz")), Some(400));
        assert_eq!(status(get("/healthz").header(HOST, "a").header(HOST, "a")), Some(400));
        assert_eq!(status(get("/healthz").version(Version::HTTP_10)), None);
        assert_eq!(status(get("http://a/healthz").version(Version::HTTP_2)), None);
        assert_eq!(status(get(&format!("/?{}", "x".repeat(URI_MAX))).header(HOST, "a")), Some(400));
    }

    #[test]
    fn a_route_may_say_otherwise() {
        let mut response = ([(CONTENT_SECURITY_POLICY, "sandbox")], "x").into_response();
        finish(&mut response);
        assert_eq!(response.headers()[CONTENT_SECURITY_POLICY], "sandbox");
        assert_eq!(response.headers()[X_CONTENT_TYPE_OPTIONS], "nosniff");
        assert_eq!(response.headers()[CACHE_CONTROL], "no-store");
    }
}
