//! The table.

use std::time::Duration;

use super::h2;
use super::wire::{Heard, Pace};

/// What a server must make of it.
pub(super) enum Want {
    /// One answer, with one of these statuses, and the end.
    Only(&'static [u16]),
    /// The same as a problem document that no browser takes for a page.
    Problem(&'static [u16]),
    /// The end, and nothing served.
    End,
}

pub(super) struct Case {
    pub(super) name: &'static str,
    pub(super) send: Vec<u8>,
    pub(super) pace: Pace,
    pub(super) limit: Duration,
    want: Want,
    without: &'static [&'static str],
}

impl Case {
    /// Why that is not what must come of it.
    pub(super) fn wrong(&self, heard: &Heard) -> Option<String> {
        let (text, statuses) = (heard.text(), heard.statuses());
        let lower = text.to_ascii_lowercase();
        let one_of = |allowed: &[u16]| matches!(statuses[..], [status] if allowed.contains(&status));
        let is_problem = ["application/problem+json", "x-content-type-options: nosniff", "urn:rekindle:error:"];
        let good = heard.ended
            && match self.want {
                Want::Only(allowed) => one_of(allowed),
                Want::Problem(allowed) => one_of(allowed) && is_problem.iter().all(|part| lower.contains(part)),
                Want::End => statuses.iter().all(|status| *status >= 400),
            };
        let leaked = self.without.iter().find(|part| lower.contains(**part));
        match (good, leaked) {
            (true, None) => None,
            (_, Some(leaked)) => Some(format!("says {leaked}: {text}")),
            (false, None) => {
                let said: String = text.chars().take(600).collect();
                Some(format!("{statuses:?}, {}: {said}", if heard.ended { "ended" } else { "goes on" }))
            }
        }
    }

    fn without(mut self, parts: &'static [&'static str]) -> Self {
        self.without = parts;
        self
    }

    fn slow(mut self, pace: Pace) -> Self {
        (self.pace, self.limit) = (pace, Duration::from_secs(12));
        self
    }

    pub(super) fn is_slow(&self) -> bool {
        self.limit > Duration::from_secs(5)
    }
}

fn case(name: &'static str, send: impl Into<Vec<u8>>, want: Want) -> Case {
    Case { name, send: send.into(), pace: Pace::AtOnce, limit: Duration::from_secs(5), want, without: &[] }
}

const BAD: Want = Want::Only(&[400]);
const BAD_PROBLEM: Want = Want::Problem(&[400]);

/// A request that asks for the end of the connection; `more` are whole lines.
fn request(line: &str, more: &str, body: &[u8]) -> Vec<u8> {
    [format!("{line} HTTP/1.1\r\nHost: gateway\r\nConnection: close\r\n{more}\r\n").as_bytes(), body].concat()
}

/// All of them, with the credential of a caller.
pub(super) fn all(token: &str) -> Vec<Case> {
    let me = format!("Authorization: Bearer {token}\r\n");
    let mut cases = framing(&me);
    cases.extend(heads(&me));
    cases.extend(targets(&me));
    cases.extend(bodies(&me));
    cases.extend(callers(&me));
    cases.extend(slow(&me));
    cases.extend(http2());
    cases
}

fn framing(me: &str) -> Vec<Case> {
    let post = |headers: &str, body: &str| {
        let json = "Content-Type: application/json\r\n";
        let line = "POST /v1/units/edge/invoke HTTP/1.1\r\nHost: gateway\r\n";
        format!("{line}{me}{json}{headers}\r\n{body}")
    };
    let smuggled = "GET /healthz HTTP/1.1\r\nHost: gateway\r\n\r\n";
    let chunked = |body: &str| post("Transfer-Encoding: chunked\r\n", body);
    let length = |value: &str| post(&format!("Content-Length: {value}\r\n"), "{}");
    let trailers = "x: y\r\n".repeat(20_000);
    let over = format!("0\r\n\r\n{smuggled}");
    vec![
        case(
            "two lengths that differ",
            post("Content-Length: 2\r\nContent-Length: 40\r\n", &format!("{{}}{smuggled}")),
            BAD,
        ),
        case(
            "a length, then chunks, and a request inside",
            post(&format!("Content-Length: {}\r\nTransfer-Encoding: chunked\r\n", over.len()), &over),
            BAD_PROBLEM,
        ),
        case(
            "chunks, then a length, and a request inside",
            post("Transfer-Encoding: chunked\r\nContent-Length: 4\r\n", &over),
            BAD_PROBLEM,
        ),
        case("chunked is not the last coding", post("Transfer-Encoding: chunked, identity\r\n", &over), BAD),
        case(
            "two codings, the last one none",
            post("Transfer-Encoding: chunked\r\nTransfer-Encoding: x\r\n", &over),
            BAD,
        ),
        case("a blank before the colon", post("Transfer-Encoding : chunked\r\n", &over), BAD),
        case("a coding with a control character", post("Transfer-Encoding: \u{b}chunked\r\n", &over), BAD),
        case(
            "chunks in HTTP/1.0",
            chunked(&over).replace("HTTP/1.1\r\nHost: gateway\r\nAuth", "HTTP/1.0\r\nHost: gateway\r\nAuth"),
            BAD,
        ),
        case("a negative length", length("-1"), BAD),
        case("a length with a sign", length("+2"), BAD),
        case("a hexadecimal length", length("0x2"), BAD),
        case("a length of 2^64", length("18446744073709551616"), BAD),
        case("a length as a list", length("2, 40"), BAD),
        case("a chunk of 2^68 bytes", chunked("FFFFFFFFFFFFFFFFF\r\n{}"), BAD_PROBLEM),
        case("a chunk of -1 bytes", chunked("-1\r\n{}"), BAD_PROBLEM),
        case("a chunk that ends elsewhere", chunked("2\r\n{}xx0\r\n\r\n"), BAD_PROBLEM),
        case(
            "a chunk's extension without end",
            chunked(&format!("2;{}\r\n{{}}\r\n0\r\n\r\n", "x".repeat(200_000))),
            BAD_PROBLEM,
        ),
        case("trailers without end", chunked(&format!("2\r\n{{}}\r\n0\r\n{trailers}\r\n")), BAD_PROBLEM),
    ]
}

fn heads(me: &str) -> Vec<Case> {
    let get = |more: &str| request("GET /healthz", more, b"");
    let many: String = (0..200).map(|n| format!("x-{n}: y\r\n")).collect();
    let raw = |text: &str| text.as_bytes().to_vec();
    vec![
        case("a folded header", get("x: y\r\n folded\r\n"), BAD),
        case("NUL in a header", get("x: a\0b\r\n"), BAD),
        case("a bare CR in a header", get("x: a\rb\r\n"), BAD),
        case("a header without a name", get(": x\r\n"), BAD),
        case("a blank in a header's name", get("x y: z\r\n"), BAD),
        case("a header without a colon", get("nonsense\r\n"), BAD),
        case("200 headers", get(&many), Want::Only(&[431])),
        case("a header of 200 kB", get(&format!("x: {}\r\n", "y".repeat(200_000))), Want::Only(&[431])),
        case("no Host", raw("GET /healthz HTTP/1.1\r\nConnection: close\r\n\r\n"), BAD_PROBLEM),
        case("two Hosts", get("Host: other\r\n"), BAD_PROBLEM),
        case("HTTP/3.7", raw("GET /healthz HTTP/3.7\r\nHost: a\r\n\r\n"), BAD),
        case("HTTP/0.9", raw("GET /healthz HTTP/0.9\r\n\r\n"), BAD),
        case("no HTTP at all", [&b"\x16\x03\x01 HTTP/\n"[..], &[0xff; 300], b"\r\n\r\n"].concat(), BAD),
        case(
            "CONNECT to the metadata address",
            request("CONNECT 169.254.169.254:80", "", b""),
            Want::Problem(&[400, 404, 405]),
        ),
        case("TRACE", request("TRACE /healthz", me, b""), Want::Problem(&[405])).without(&["authorization:"]),
        case("a method of its own", request("FROBNICATE /healthz", "", b""), Want::Problem(&[405])),
        case(
            "an upgrade to HTTP/2",
            get("Upgrade: h2c\r\nHTTP2-Settings: AAMAAABkAAQAoAAAAAIAAAAA\r\n"),
            Want::Only(&[200]),
        )
        .without(&["101 switching"]),
        case(
            "an upgrade to a WebSocket",
            get("Upgrade: websocket\r\nSec-WebSocket-Version: 13\r\n"),
            Want::Only(&[200]),
        )
        .without(&["101 switching"]),
    ]
}

fn targets(me: &str) -> Vec<Case> {
    let get = |name, target: &str, want| case(name, request(&format!("GET {target}"), me, b""), want);
    const NONE: Want = Want::Problem(&[404]);
    vec![
        get("another server's URL", "http://169.254.169.254/latest/meta-data/", NONE),
        get("a URL of 20 kB", &format!("/v1/units/{}", "a".repeat(20_000)), BAD_PROBLEM),
        get("a URL of 200 kB", &format!("/v1/units/{}", "a".repeat(200_000)), Want::Only(&[414, 431])),
        get("dots and escaped slashes", "/v1/units/..%2f..%2fetc", BAD_PROBLEM),
        get("dots", "/v1/units/../../internal/runtime-events", NONE),
        get("NUL in a path", "/v1/units/a%00b", BAD_PROBLEM),
        get("overlong UTF-8", "/v1/units/%c0%ae%c0%ae", BAD_PROBLEM),
        get("a line break in a path", "/v1/units/a%0d%0ax-injected:%20yes", BAD_PROBLEM).without(&["\r\nx-injected"]),
        get("empty parts of a path", "//v1//units", NONE),
        get("backslashes", "/v1/workspaces/w/files/..%5c..%5cetc", Want::Problem(&[400, 404])),
        get("out of a workspace", "/v1/workspaces/w/files/..%2f..%2f..%2fetc%2fpasswd", BAD_PROBLEM),
        get("a pattern of Redis as a unit", "/v1/units/*", BAD_PROBLEM),
        get("a key of Redis as a unit", "/v1/units/%7bx%7d:in", BAD_PROBLEM),
        get("markup in a path", "/v1/%3Cscript%3Ealert(1)%3C/script%3E", NONE).without(&["<script>"]),
        get("markup as it is", "/v1/units/<script>alert(1)</script>", Want::Only(&[400, 404])).without(&["<script>"]),
        get("a parameter twice", "/v1/units?limit=1&limit=2", BAD_PROBLEM),
        get("a parameter that is too large", "/v1/units?limit=99999999999999999999", BAD_PROBLEM),
        get("a parameter that there is not", "/v1/units?limit[$ne]=1", BAD_PROBLEM),
        get("a token as a parameter", "/v1/units?%00=%ff", BAD_PROBLEM),
    ]
}

fn bodies(me: &str) -> Vec<Case> {
    let post = |name, headers: &str, body: &[u8], want| {
        let more = format!("{me}{headers}Content-Length: {}\r\n", body.len());
        case(name, request("POST /v1/units/edge/invoke", &more, body), want)
    };
    let json = |name, body: &[u8]| post(name, "Content-Type: application/json\r\n", body, BAD_PROBLEM);
    const OTHER: Want = Want::Problem(&[415]);
    let large = vec![b' '; 2 << 20];
    let endless = [b"10000\r\n".to_vec(), vec![b' '; 0x10000], b"\r\n".to_vec()].concat().repeat(32);
    let chunked = format!("{me}Content-Type: application/json\r\nTransfer-Encoding: chunked\r\n");
    let expecting =
        format!("{me}Content-Type: application/json\r\nExpect: 100-continue\r\nContent-Length: 99999999\r\n");
    vec![
        json("nothing as JSON", b""),
        json("100,000 brackets", &[b'['; 100_000]),
        json("100,000 objects in one another", r#"{"prompt":"#.repeat(100_000).as_bytes()),
        json("a key twice", br#"{"prompt":"x","prompt":"y"}"#),
        json("a byte order mark", b"\xef\xbb\xbf{\"prompt\":\"x\"}"),
        json("no UTF-8", b"{\"prompt\":\"\xff\xfe\"}"),
        json("half a surrogate", br#"{"prompt":"\ud800"}"#),
        json("a number without end", br#"{"prompt":"x","options":{"max_budget_usd":1e999999}}"#),
        json("a number that is none", br#"{"prompt":"x","options":{"max_turns":NaN}}"#),
        json("something after the end", br#"{"prompt":"x"}{"prompt":"y"}"#),
        json("markup for a key", br#"{"<script>":1}"#),
        post("a form from another site", "Content-Type: text/plain\r\nOrigin: http://evil\r\n", b"{}", OTHER),
        post("a packed body", "Content-Type: application/json\r\nContent-Encoding: gzip\r\n", b"\x1f\x8b\x08", OTHER),
        post("two types", "Content-Type: application/json\r\nContent-Type: text/html\r\n", b"{}", OTHER),
        post("two megabytes", "Content-Type: application/json\r\n", &large, Want::Problem(&[413])),
        case("chunks without end", request("POST /v1/units/edge/invoke", &chunked, &endless), Want::Problem(&[413])),
        case(
            "a large body that is announced",
            request("POST /v1/units/edge/invoke", &expecting, b""),
            Want::Problem(&[413]),
        )
        .without(&["100 continue"]),
        case(
            "a stranger's body",
            request(
                "POST /internal/runtime-events",
                "Content-Type: application/json\r\nContent-Length: 200000\r\n",
                b"{",
            ),
            Want::Problem(&[401]),
        ),
    ]
}

fn callers(me: &str) -> Vec<Case> {
    let body = br#"{"prompt":"x"}"#;
    let post = |name, headers: &str, want| {
        let more = format!("{me}{headers}Content-Type: application/json\r\nContent-Length: {}\r\n", body.len());
        case(name, request("POST /v1/units/edge/invoke", &more, body), want)
    };
    let get = |name, headers: &str, want| case(name, request("GET /v1/units", headers, b""), want);
    const NO: Want = Want::Problem(&[401]);
    let none = "eyJhbGciOiJub25lIn0.eyJzdWIiOiJhbm4iLCJleHAiOjk5OTk5OTk5OTl9.";
    vec![
        post("a key of 10 kB", &format!("Idempotency-Key: {}\r\n", "k".repeat(10_000)), BAD_PROBLEM),
        post("a key with a tab", "Idempotency-Key: a\tb\r\n", BAD_PROBLEM),
        post("two keys", "Idempotency-Key: a\r\nIdempotency-Key: b\r\n", BAD_PROBLEM),
        post("a wait without end", "Prefer: respond-async, wait=-1, wait=99999999999999999999\r\n", Want::Only(&[202])),
        post("a trace of its own", "Prefer: respond-async\r\ntraceparent: 00-<b>\r\n", Want::Only(&[202]))
            .without(&["<b>"]),
        case(
            "an event's id that is a pattern",
            request("GET /v1/units/edge/events", &format!("{me}Last-Event-ID: *\r\n"), b""),
            BAD_PROBLEM,
        ),
        get("two credentials", &format!("{me}{me}"), NO),
        get("a token without a signature", &format!("Authorization: Bearer {none}\r\n"), NO),
        get("a token of 20 kB", &format!("Authorization: Bearer {}\r\n", "a.".repeat(10_000)), NO),
        get("a password", "Authorization: Basic YW5uOmFubg==\r\n", NO),
        get("a cookie", &me.replace("Authorization: Bearer ", "Cookie: token="), NO),
        case(
            "another site asks whether it may",
            request("OPTIONS /v1/units", "Origin: http://evil\r\nAccess-Control-Request-Method: GET\r\n", b""),
            Want::Problem(&[405]),
        )
        .without(&["access-control-allow"]),
        case("figures", request("GET /metrics?of=ann", "", b""), Want::Only(&[200])).without(&["ann", "units/edge"]),
        case("the API's description", request("GET /openapi.json?of=ann-of-edge", "", b""), Want::Only(&[200]))
            .without(&["ann-of-edge"]),
    ]
}

fn slow(me: &str) -> Vec<Case> {
    let ms = Duration::from_millis;
    let post = |length: usize| {
        let more = format!("{me}Content-Type: application/json\r\nContent-Length: {length}\r\n");
        request("POST /v1/units/edge/invoke", &more, &[b' '; 2_000])
    };
    let preface = &h2::hello()[..24];
    vec![
        case("silence", "", Want::End).slow(Pace::AtOnce),
        case("half a head", "GET /healthz HTTP/1.1\r\nHost: gateway\r\nx: ", Want::End).slow(Pace::AtOnce),
        case("a head by single bytes", request("GET /healthz", &"x: y\r\n".repeat(50), b""), Want::End)
            .slow(Pace::Drip(1, ms(50))),
        case("an idle connection", "GET /healthz HTTP/1.1\r\nHost: gateway\r\n\r\n", Want::Only(&[200]))
            .slow(Pace::AtOnce),
        case("a body that stops", post(2_001), Want::Problem(&[408])).slow(Pace::AtOnce),
        case("a body by single bytes", post(2_000), Want::Problem(&[408])).slow(Pace::Drip(300, ms(900))),
        case("half a preface", &preface[..20], Want::End).slow(Pace::AtOnce),
        case("a preface and silence", preface, Want::End).slow(Pace::AtOnce),
    ]
}

fn http2() -> Vec<Case> {
    let half = [h2::hello(), h2::frame(1, 1, 1, &h2::get("/healthz", &[])[..8])].concat();
    vec![
        case("requests that are taken back", h2::rapid_reset(), Want::End),
        case("a header block without end", h2::continuation_flood(), Want::End),
        case("a frame that is too large", h2::oversized_frame(), Want::End),
        case("half a header block", half, Want::End).slow(Pace::AtOnce),
    ]
}
