//! What a sandbox asks of a model provider.

#[allow(dead_code, reason = "a part of it is used here")]
#[path = "../../../gateway/src/broker/asked/mod.rs"]
mod asked;
#[allow(dead_code, reason = "a part of it is used here")]
#[path = "../../../gateway/src/broker/json.rs"]
mod json;
#[path = "../../../gateway/src/broker/model.rs"]
mod model;

use serde::de::IgnoredAny;
use serde_json::Value;

use self::asked::{Allowed, Asked, Unasked};
use crate::in_parts;

/// A body is judged the same however it comes; what passes is JSON to others, too, and asks for nothing that is refused.
pub fn check(data: &[u8]) {
    let Some((whole, parts)) = in_parts(data) else {
        return;
    };
    let passes = ask([whole].into_iter()).is_ok();
    assert_eq!(passes, ask(parts).is_ok());
    if !passes {
        return;
    }
    assert!(std::str::from_utf8(whole).is_ok() && serde_json::from_slice::<IgnoredAny>(whole).is_ok());
    // Half of a surrogate pair, and a number that is too large, are JSON and not serde_json's.
    let Ok(Value::Object(body)) = serde_json::from_slice(whole) else {
        return;
    };
    for (name, value) in &body {
        match name.to_lowercase().as_str() {
            "background" | "store" => assert!(matches!(value, Value::Null | Value::Bool(false)), "{value}"),
            "container" | "conversation" | "previous_response_id" | "web_search_options" => assert!(value.is_null()),
            _ => {}
        }
    }
    for tool in body.get("tools").and_then(Value::as_array).into_iter().flatten() {
        let kind = tool.get("type").and_then(Value::as_str).unwrap_or_default();
        assert!(!["web_search", "mcp", "code_interpreter"].contains(&kind), "{tool}");
    }
}

fn ask<'a>(parts: impl Iterator<Item = &'a [u8]>) -> Result<(), Unasked> {
    let mut asked = Asked::new(Allowed::default());
    for part in parts {
        asked.feed(part, false)?;
    }
    asked.feed(b"", true)
}
