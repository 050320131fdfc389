//! JSON Schemas, made from the types, and the example documents that are checked against them.

use schemars::{Schema, schema_for};
use serde_json::Value;

use crate::event::UnitEvent;
use crate::inspect::{InspectAnswer, InspectOutcome, InspectRequest};
use crate::parse::{ParseError, parse};
use crate::runtime::{RuntimeEvent, WorkloadSpec, WorkloadStatus};
use crate::token::DispatchClaims;
use crate::turn::InEntry;
use crate::unit::{Dispatch, InvokeBody};

/// Every contract's name and JSON Schema (2020-12).
pub fn schemas() -> Vec<(&'static str, Schema)> {
    vec![
        ("unit.v1.dispatch", schema_for!(Dispatch)),
        ("unit.v1.invoke", schema_for!(InvokeBody)),
        ("runtime.v1.workload-spec", schema_for!(WorkloadSpec)),
        ("runtime.v1.workload-status", schema_for!(WorkloadStatus)),
        ("runtime.v1.event", schema_for!(RuntimeEvent)),
        ("runtime.v1.inspect-request", schema_for!(InspectRequest)),
        ("runtime.v1.inspect-answer", schema_for!(InspectAnswer)),
        ("inspect-outcome", schema_for!(InspectOutcome)),
        ("unit.in", schema_for!(InEntry)),
        ("unit.event", schema_for!(UnitEvent)),
        ("dispatch-token", schema_for!(DispatchClaims)),
        ("problem", schema_for!(crate::error::Problem)),
    ]
}

/// A checked-in document.
pub struct Example {
    /// Its file's name below `examples/`.
    pub name: &'static str,
    /// Its text.
    pub text: &'static str,
    reparse: fn(&[u8]) -> Result<Value, ParseError>,
}

impl Example {
    /// Parses the document as its contract's type and writes it again.
    ///
    /// # Errors
    /// Those of [`parse`].
    pub fn reparse(&self) -> Result<Value, ParseError> {
        (self.reparse)(self.text.as_bytes())
    }
}

fn through<T: serde::de::DeserializeOwned + serde::Serialize>(text: &[u8]) -> Result<Value, ParseError> {
    let document: T = parse(text)?;
    serde_json::to_value(document).map_err(|e| ParseError::Malformed(e.to_string()))
}

macro_rules! examples {
    ($($file:literal: $type:ty,)*) => {
        /// One document for every shape.
        pub const EXAMPLES: &[Example] = &[
            $(Example { name: $file, text: include_str!(concat!("../examples/", $file)), reparse: through::<$type> },)*
        ];
    };
}

examples! {
    "dispatch-message.json": Dispatch,
    "dispatch-meeting.json": Dispatch,
    "dispatch-scheduled.json": Dispatch,
    "dispatch-session.json": Dispatch,
    "invoke.json": InvokeBody,
    "workload-spec.json": WorkloadSpec,
    "workload-status-running.json": WorkloadStatus,
    "workload-status-oom.json": WorkloadStatus,
    "runtime-event.json": RuntimeEvent,
    "inspect-files.json": InspectRequest,
    "inspect-log.json": InspectRequest,
    "inspect-diff.json": InspectRequest,
    "inspect-answer-folder.json": InspectAnswer,
    "inspect-answer-file.json": InspectAnswer,
    "inspect-answer-link.json": InspectAnswer,
    "inspect-answer-log.json": InspectAnswer,
    "inspect-answer-diff.json": InspectAnswer,
    "inspect-outcome-refused.json": InspectOutcome,
    "in-message.json": InEntry,
    "in-cancel.json": InEntry,
    "in-stop.json": InEntry,
    "event-worker-ready.json": UnitEvent,
    "event-turn-accepted.json": UnitEvent,
    "event-message-delta.json": UnitEvent,
    "event-thinking-delta.json": UnitEvent,
    "event-tool-call.json": UnitEvent,
    "event-tool-result.json": UnitEvent,
    "event-policy-reverted.json": UnitEvent,
    "event-egress-denied.json": UnitEvent,
    "event-commit.json": UnitEvent,
    "event-done.json": UnitEvent,
    "event-turn-complete.json": UnitEvent,
    "event-turn-failed.json": UnitEvent,
    "event-queued.json": UnitEvent,
    "event-worker-exit.json": UnitEvent,
    "event-gap.json": UnitEvent,
    "dispatch-token.json": DispatchClaims,
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;

    #[test]
    fn every_example_survives_its_type_unchanged() {
        for example in EXAMPLES {
            let written = example.reparse().unwrap_or_else(|e| panic!("{}: {e}", example.name));
            let read: Value = serde_json::from_str(example.text).unwrap();
            assert_eq!(written, read, "{}", example.name);
        }
    }

    #[test]
    fn every_example_file_is_listed() {
        let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("examples");
        for entry in std::fs::read_dir(folder).unwrap() {
            let name = entry.unwrap().file_name().into_string().unwrap();
            assert!(EXAMPLES.iter().any(|e| e.name == name), "{name} is checked by nothing");
        }
    }

    #[test]
    fn no_event_example_is_of_an_unknown_type() {
        for example in EXAMPLES.iter().filter(|e| e.name.starts_with("event-")) {
            let event: UnitEvent = parse(example.text.as_bytes()).unwrap();
            assert!(!matches!(event.body, crate::event::EventBody::Unknown(_)), "{}", example.name);
            assert_eq!(format!("event-{}.json", event.body.name()), example.name);
        }
    }

    /// The schemas lie in the tree for people and other languages; they are what the types say. `UPDATE_SCHEMAS=1` rewrites.
    #[test]
    fn checked_in_schemas_are_those_of_the_types() {
        let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("schemas");
        for (name, schema) in schemas() {
            let path = folder.join(format!("{name}.json"));
            let text = serde_json::to_string_pretty(&schema).unwrap() + "\n";
            if std::env::var_os("UPDATE_SCHEMAS").is_some() {
                std::fs::create_dir_all(&folder).unwrap();
                std::fs::write(&path, &text).unwrap();
            }
            let stored = std::fs::read_to_string(&path).unwrap_or_default();
            assert_eq!(stored, text, "{name}: run UPDATE_SCHEMAS=1 cargo test -p contract");
        }
    }
}
