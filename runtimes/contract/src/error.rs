//! Error codes and RFC 9457 problem documents.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// Whose fault it was.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum Source {
    /// The platform, or the call itself.
    Platform,
    /// The function that was called.
    Function,
}

macro_rules! codes {
    ($($(#[$doc:meta])* $variant:ident = $code:literal, $status:literal, $title:literal;)*) => {
        /// Stable error codes; the problem's `type` is `urn:rekindle:error:<code>`.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
        #[serde(rename_all = "kebab-case")]
        pub enum ErrorCode { $($(#[$doc])* $variant,)* }

        impl ErrorCode {
            /// Every code.
            pub const ALL: &[Self] = &[$(Self::$variant,)*];

            /// The code as it stands in `type`.
            pub fn as_str(self) -> &'static str {
                match self { $(Self::$variant => $code,)* }
            }

            /// The HTTP status it goes with.
            pub fn status(self) -> u16 {
                match self { $(Self::$variant => $status,)* }
            }

            /// A short text that is the same for every occurrence.
            pub fn title(self) -> &'static str {
                match self { $(Self::$variant => $title,)* }
            }
        }
    };
}

codes! {
    /// The body is not JSON.
    MalformedJson = "malformed-json", 400, "The body is not JSON";
    /// The document does not match its schema; `pointer` names the offender.
    InvalidDocument = "invalid-document", 400, "The document is not valid";
    /// A name in the path or a query parameter is not legal.
    InvalidParameter = "invalid-parameter", 400, "A parameter is not valid";
    /// No or no valid credential.
    Unauthenticated = "unauthenticated", 401, "A valid bearer token is required";
    /// The credential does not allow this.
    Forbidden = "forbidden", 403, "The token does not allow this";
    /// There is no such thing, or it is somebody else's.
    NotFound = "not-found", 404, "Not found";
    /// The method is not served here.
    MethodNotAllowed = "method-not-allowed", 405, "Method not allowed";
    /// The state does not allow this now.
    Conflict = "conflict", 409, "Conflict with the present state";
    /// The same key was used with another body.
    IdempotencyMismatch = "idempotency-mismatch", 422, "The idempotency key was used for another request";
    /// The generation is ended or lower than one that was seen.
    StaleGeneration = "stale-generation", 409, "The generation is over";
    /// The body is larger than the bound.
    TooLarge = "too-large", 413, "The request is too large";
    /// The body's media type is not `application/json`.
    UnsupportedMediaType = "unsupported-media-type", 415, "Unsupported media type";
    /// No profile has this name.
    UnknownProfile = "unknown-profile", 422, "Unknown profile";
    /// No runner has this name.
    UnknownRunner = "unknown-runner", 422, "Unknown runner";
    /// Too many requests or too long a queue.
    TooMany = "too-many", 429, "Too many requests";
    /// A bug.
    Internal = "internal", 500, "Internal error";
    /// The turn failed: the function's own fault.
    TurnFailed = "turn-failed", 502, "The turn failed";
    /// Redis, the runtime or what is behind it does not answer.
    Unavailable = "unavailable", 503, "A part of the platform does not answer";
    /// Redis has reached its memory's bound: nothing new is accepted until there is room; what was accepted goes on.
    LedgerFull = "ledger-full", 503, "The ledger has no room";
    /// The owner has stored all that it may; `detail` says what to delete.
    StoredTooMuch = "stored-too-much", 507, "You have stored all that you may";
    /// The disk on which workspaces lie is nearly full: nothing starts until there is room.
    NoRoom = "no-room", 507, "No room to start a workload";
    /// The wait was over before the turn; its URL says what became of it.
    StillRunning = "still-running", 504, "The turn still runs";
}

/// An RFC 9457 problem document.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Problem {
    /// `urn:rekindle:error:<code>`.
    #[serde(rename = "type")]
    pub kind: String,
    /// Short, the same for every occurrence.
    pub title: String,
    /// HTTP status.
    pub status: u16,
    /// What went wrong this time and what to do about it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub detail: Option<String>,
    /// Whose fault it was.
    pub source: Source,
    /// JSON pointer (RFC 6901) of the offender in the request body.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub pointer: Option<String>,
    /// The turn that it is about.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub turn_id: Option<String>,
}

impl Problem {
    /// A problem of this code; [`Source::Function`] for a failed turn, [`Source::Platform`] for everything else.
    pub fn new(code: ErrorCode, detail: impl Into<String>) -> Self {
        Self {
            kind: format!("urn:rekindle:error:{}", code.as_str()),
            title: code.title().into(),
            status: code.status(),
            detail: Some(detail.into()),
            source: if code == ErrorCode::TurnFailed { Source::Function } else { Source::Platform },
            pointer: None,
            turn_id: None,
        }
    }
}
