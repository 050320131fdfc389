//! Parsing of documents from outside.

use std::fmt::Write as _;

use serde::de::DeserializeOwned;

use crate::error::{ErrorCode, Problem};

/// Why a document was refused.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ParseError {
    /// It is not JSON.
    #[error("not JSON: {0}")]
    Malformed(String),
    /// It is JSON, but not such a document.
    #[error("{message} (at {pointer:?})")]
    Invalid {
        /// JSON pointer (RFC 6901) of the offender.
        pointer: String,
        /// What is wrong with it.
        message: String,
    },
}

impl From<ParseError> for Problem {
    fn from(error: ParseError) -> Self {
        match error {
            ParseError::Malformed(message) => Problem::new(ErrorCode::MalformedJson, message),
            ParseError::Invalid { pointer, message } => {
                Problem { pointer: Some(pointer), ..Problem::new(ErrorCode::InvalidDocument, message) }
            }
        }
    }
}

/// Parses a JSON text. The document is not touched by a failure.
///
/// # Errors
/// [`ParseError::Malformed`] when it is not JSON, [`ParseError::Invalid`] with the pointer of the offender when it is another
/// document.
pub fn parse<T: DeserializeOwned>(text: &[u8]) -> Result<T, ParseError> {
    // To a value first: what is malformed is told apart, and duplicate keys do not confuse the pointer.
    let value = serde_json::from_slice(text).map_err(|e| ParseError::Malformed(e.to_string()))?;
    parse_value(value)
}

/// Parses a JSON value.
///
/// # Errors
/// [`ParseError::Invalid`].
pub fn parse_value<T: DeserializeOwned>(value: serde_json::Value) -> Result<T, ParseError> {
    serde_path_to_error::deserialize(value).map_err(|error| {
        let mut pointer = pointer(error.path());
        let message = error.into_inner().to_string();
        // serde names an unknown field in the message only, and puts the path at the object around it or at the field.
        if let Some(field) = message.strip_prefix("unknown field `").and_then(|rest| rest.split('`').next()) {
            let token = escape(field);
            if !pointer.ends_with(&format!("/{token}")) {
                let _ = write!(pointer, "/{token}");
            }
        }
        ParseError::Invalid { pointer, message }
    })
}

fn escape(token: &str) -> String {
    token.replace('~', "~0").replace('/', "~1")
}

fn pointer(path: &serde_path_to_error::Path) -> String {
    use serde_path_to_error::Segment;
    let mut out = String::new();
    for segment in path {
        let _ = match segment {
            Segment::Seq { index } => write!(out, "/{index}"),
            Segment::Map { key } => write!(out, "/{}", escape(key)),
            Segment::Enum { variant } => write!(out, "/{}", escape(variant)),
            Segment::Unknown => Ok(()),
        };
    }
    out
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;
    use crate::unit::{Dispatch, InvokeBody};

    fn good() -> Value {
        json!({
            "identity": {"subject": "ann", "launcher": "user:ann"},
            "workspaces": [{"id": "w", "mode": "rw"}],
            "trigger": "message",
            "start": {"entrypoint": {"inline": "hi"}},
        })
    }

    fn refused(change: impl FnOnce(&mut Value)) -> (String, String) {
        let mut document = good();
        change(&mut document);
        match parse::<Dispatch>(document.to_string().as_bytes()) {
            Err(ParseError::Invalid { pointer, message }) => (pointer, message),
            other => panic!("not refused: {other:?}"),
        }
    }

    #[test]
    fn a_good_dispatch_has_its_defaults() {
        let dispatch: Dispatch = parse(good().to_string().as_bytes()).unwrap();
        assert_eq!(dispatch.runner, "claude-code");
        assert_eq!(dispatch.thread(), "main");
    }

    #[test]
    fn offenders_are_named_by_pointer() {
        let pointer = |change: fn(&mut Value)| refused(change).0;
        assert_eq!(pointer(|d| d["extra"] = json!(1)), "/extra");
        assert_eq!(pointer(|d| d["a/b~c"] = json!(1)), "/a~1b~0c");
        assert_eq!(pointer(|d| d["identity"]["extra"] = json!(1)), "/identity/extra");
        assert_eq!(pointer(|d| d["workspaces"][0]["mode"] = json!("rwx")), "/workspaces/0/mode");
        assert_eq!(pointer(|d| d["workspaces"][0]["id"] = json!("../x")), "/workspaces/0/id");
        assert_eq!(pointer(|d| d["workspaces"] = json!([])), "/workspaces");
        assert_eq!(pointer(|d| d["trigger"] = json!("cron")), "/trigger");
        assert_eq!(pointer(|d| d["identity"]["launcher"] = json!("robot:1")), "/identity/launcher");
        assert_eq!(pointer(|d| d["start"]["session"] = json!({"ref": "s"})), "/start");
        assert_eq!(pointer(|d| d["start"] = json!({"entrypoint": {}})), "/start");
        assert_eq!(pointer(|d| d["start"] = json!({})), "/start");
        assert_eq!(pointer(|d| d["start"]["entrypoint"]["x"] = json!(1)), "/start/entrypoint/x");
        assert_eq!(pointer(|d| d["context"] = json!({"kind": "party"})), "/context/kind");
        let (at, message) = refused(|d| {
            d.as_object_mut().unwrap().remove("start");
        });
        assert_eq!((at.as_str(), message.as_str()), ("", "missing field `start`"));
    }

    #[test]
    fn what_is_not_json_is_told_apart() {
        assert!(matches!(parse::<InvokeBody>(b"{\"prompt\":"), Err(ParseError::Malformed(_))));
        assert!(matches!(parse::<InvokeBody>(b"[]"), Err(ParseError::Invalid { .. })));
    }
}
