//! Identifiers. Each is a newtype that can only be made by a parser, so that a bare string never becomes a key.

use std::borrow::Cow;
use std::fmt;
use std::str::FromStr;

use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

/// Why a text is not an identifier.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{what} must match {grammar}")]
pub struct IdError {
    /// What was expected, e.g. `unit name`.
    pub what: &'static str,
    /// The grammar that it must match.
    pub grammar: &'static str,
}

const NAME: &str = "[A-Za-z0-9][A-Za-z0-9._-]{0,127}";
const UID: &str = "u[a-z2-7]{25}";

fn is_name(text: &str) -> bool {
    let bytes = text.as_bytes();
    (1..=128).contains(&bytes.len())
        && bytes[0].is_ascii_alphanumeric()
        && bytes.iter().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'.' | b'_' | b'-'))
}

/// Whether a text has the form of a [`UnitId`]: such a workspace id names a unit's own workspace.
pub fn is_uid_shaped(text: &str) -> bool {
    text.len() == 26 && text.starts_with('u') && text[1..].bytes().all(|b| matches!(b, b'a'..=b'z' | b'2'..=b'7'))
}

fn is_ulid(text: &str) -> bool {
    text.len() == 26 && ulid::Ulid::from_string(text).is_ok() && !text.bytes().any(|b| b.is_ascii_lowercase())
}

macro_rules! text_id {
    ($(#[$doc:meta])* $name:ident, $what:literal, $grammar:expr, $check:expr) => {
        $(#[$doc])*
        #[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
        #[serde(try_from = "String", into = "String")]
        pub struct $name(String);

        impl $name {
            /// Parses the text form.
            ///
            /// # Errors
            /// [`IdError`] when the text does not match the grammar.
            pub fn parse(text: impl Into<String>) -> Result<Self, IdError> {
                let text = text.into();
                if $check(&text) { Ok(Self(text)) } else { Err(IdError { what: $what, grammar: $grammar }) }
            }

            /// The text form.
            pub fn as_str(&self) -> &str {
                &self.0
            }
        }

        impl TryFrom<String> for $name {
            type Error = IdError;
            fn try_from(text: String) -> Result<Self, IdError> {
                Self::parse(text)
            }
        }

        impl From<$name> for String {
            fn from(id: $name) -> String {
                id.0
            }
        }

        impl FromStr for $name {
            type Err = IdError;
            fn from_str(text: &str) -> Result<Self, IdError> {
                Self::parse(text)
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(&self.0)
            }
        }

        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, concat!(stringify!($name), "({})"), self.0)
            }
        }

        impl AsRef<str> for $name {
            fn as_ref(&self) -> &str {
                &self.0
            }
        }

        impl JsonSchema for $name {
            fn inline_schema() -> bool {
                true
            }
            fn schema_name() -> Cow<'static, str> {
                stringify!($name).into()
            }
            fn json_schema(_: &mut SchemaGenerator) -> Schema {
                json_schema!({ "type": "string", "pattern": format!("^{}$", $grammar) })
            }
        }
    };
}

text_id! {
    /// A unit's name within its owner.
    UnitName, "unit name", NAME, is_name
}
text_id! {
    /// A workspace: a name of its own, or a uid, which is that unit's own workspace.
    WorkspaceId, "workspace id", NAME, is_name
}
text_id! {
    /// A unit's key everywhere outside HTTP: `u` and 25 base32 characters of SHA-256(owner, NUL, name).
    UnitId, "uid", UID, is_uid_shaped
}
text_id! {
    /// A turn: a ULID in its canonical upper-case form, unique for ever.
    TurnId, "turn id", "[0-7][0-9A-HJKMNP-TV-Z]{25}", is_ulid
}
text_id! {
    /// The authenticated principal that units, workspaces and quotas belong to: any JWT `sub` of 1 to 255 bytes
    /// without control characters. Never part of a key, a path or a label except through [`UnitId::of`] or [`Owner::key`].
    Owner, "owner", "[^\\x00-\\x1f\\x7f]{1,255}",
    |t: &str| (1..=255).contains(&t.len()) && !t.chars().any(char::is_control)
}

impl Owner {
    /// A fixed-length key for this owner: 26 base32 characters of its SHA-256, so that no two owners collide.
    pub fn key(&self) -> String {
        let digest = Sha256::digest(self.0.as_bytes());
        let mut text = data_encoding::BASE32_NOPAD.encode(&digest).to_ascii_lowercase();
        text.truncate(26);
        text
    }
}

impl UnitId {
    /// The uid of an owner's unit.
    pub fn of(owner: &Owner, name: &UnitName) -> Self {
        let mut hash = Sha256::new();
        hash.update(owner.as_str().as_bytes());
        hash.update([0]);
        hash.update(name.as_str().as_bytes());
        let mut text = data_encoding::BASE32_NOPAD.encode(&hash.finalize()).to_ascii_lowercase();
        text.truncate(25);
        Self(format!("u{text}"))
    }

    /// The unit's own workspace.
    pub fn own_workspace(&self) -> WorkspaceId {
        WorkspaceId(self.0.clone())
    }

    /// Name of the in-stream, `unit:<uid>:in`.
    pub fn in_stream(&self) -> String {
        format!("unit:{}:in", self.0)
    }

    /// Name of the out-stream, `unit:<uid>:out`.
    pub fn out_stream(&self) -> String {
        format!("unit:{}:out", self.0)
    }
}

impl TurnId {
    /// A new turn id at the given wall-clock time (milliseconds since the epoch) and with 80 random bits.
    pub fn new(at_ms: u64, random: u128) -> Self {
        Self(ulid::Ulid::from_parts(at_ms, random).to_string())
    }

    /// When it was made, in milliseconds since the epoch.
    pub fn at_ms(&self) -> u64 {
        ulid::Ulid::from_string(&self.0).map(|u| u.timestamp_ms()).unwrap_or_default()
    }
}

/// Number of a unit's worker start; the fence.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default, Serialize, Deserialize, JsonSchema)]
#[serde(transparent)]
pub struct Generation(pub u64);

impl fmt::Display for Generation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// What the runtime runs for one generation of a unit: `<uid>-<generation>`.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct WorkloadId {
    /// The unit.
    pub uid: UnitId,
    /// Its generation.
    pub generation: Generation,
}

impl WorkloadId {
    /// Parses `<uid>-<generation>`.
    ///
    /// # Errors
    /// [`IdError`] when the text has another form.
    pub fn parse(text: &str) -> Result<Self, IdError> {
        let wrong = IdError { what: "workload id", grammar: "u[a-z2-7]{25}-[1-9][0-9]{0,15}" };
        let (uid, generation) = text.split_once('-').ok_or_else(|| wrong.clone())?;
        let uid = UnitId::parse(uid).map_err(|_| wrong.clone())?;
        let digits = (1..=16).contains(&generation.len()) && !generation.starts_with('0');
        match generation.parse() {
            Ok(n) if digits && generation.bytes().all(|b| b.is_ascii_digit()) => {
                Ok(Self { uid, generation: Generation(n) })
            }
            _ => Err(wrong),
        }
    }
}

impl fmt::Display for WorkloadId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}-{}", self.uid, self.generation)
    }
}

impl TryFrom<String> for WorkloadId {
    type Error = IdError;
    fn try_from(text: String) -> Result<Self, IdError> {
        Self::parse(&text)
    }
}

impl From<WorkloadId> for String {
    fn from(id: WorkloadId) -> String {
        id.to_string()
    }
}

impl JsonSchema for WorkloadId {
    fn inline_schema() -> bool {
        true
    }
    fn schema_name() -> Cow<'static, str> {
        "WorkloadId".into()
    }
    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({ "type": "string", "pattern": "^u[a-z2-7]{25}-[1-9][0-9]{0,15}$" })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_bounded_and_cannot_be_paths() {
        for good in ["a", "Demo-1", "x.y_z", &"a".repeat(128)] {
            assert!(UnitName::parse(good).is_ok(), "{good}");
        }
        for bad in ["", "../x", "a/b", ".hidden", "-x", "a\0b", "ä", &"a".repeat(129), &"a".repeat(300)] {
            assert!(WorkspaceId::parse(bad).is_err(), "{bad:?}");
        }
    }

    #[test]
    fn owners_of_any_shape_have_distinct_uids() {
        let name = UnitName::parse("demo").unwrap();
        let a = UnitId::of(&Owner::parse("a|b/../c@d").unwrap(), &name);
        let b = UnitId::of(&Owner::parse("a|b/../c@e").unwrap(), &name);
        assert_ne!(a, b);
        assert!(is_uid_shaped(a.as_str()));
        assert_eq!(a, UnitId::parse(a.as_str()).unwrap());
        assert!(Owner::parse("a\nb").is_err());
    }

    #[test]
    fn workload_ids_round_trip() {
        let uid = UnitId::of(&Owner::parse("o").unwrap(), &UnitName::parse("n").unwrap());
        let id = WorkloadId { uid, generation: Generation(1_790_000_000_000) };
        assert_eq!(WorkloadId::parse(&id.to_string()).unwrap(), id);
        for bad in ["", "x-1", "u-1", &format!("{}-0", id.uid), &format!("{}-1x", id.uid), &format!("{}-+1", id.uid)] {
            assert!(WorkloadId::parse(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn turn_ids_carry_their_time() {
        let id = TurnId::new(1_700_000_000_123, 7);
        assert_eq!(id.at_ms(), 1_700_000_000_123);
        assert!(TurnId::parse(id.as_str().to_lowercase()).is_err());
        assert!(TurnId::parse("x").is_err());
    }
}
