//! The documents that callers send.

use std::fmt::Debug;

use contract::{Dispatch, InvokeBody, ParseError, Problem, UnitName, parse};
use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::same;

/// What was taken is written so that it is taken again as the same, and addresses one unit; what was refused says where.
pub fn check(data: &[u8]) {
    if let Some(dispatch) = same_again::<Dispatch>(data) {
        assert!(!dispatch.workspaces.is_empty(), "there is a primary workspace");
        let name = dispatch.unit_name();
        assert_eq!(UnitName::parse(name.as_str()).as_ref(), Ok(&name), "its unit has a name by the grammar");
        assert!(!dispatch.thread().is_empty());
        for at in &dispatch.workspaces {
            let id = at.id.as_str();
            assert!(!id.contains('/') && !id.starts_with('.') && id.len() <= 128, "{id:?} is one name of a folder");
        }
    }
    same_again::<InvokeBody>(data);
}

fn same_again<T: DeserializeOwned + Serialize + Debug>(data: &[u8]) -> Option<T> {
    match parse::<T>(data) {
        Ok(document) => {
            let text = serde_json::to_vec(&document).expect("what was read can be written");
            let again: T = parse(&text).expect("what was written can be read");
            let value = |document: &T| serde_json::to_value(document).expect("a document is a value");
            assert!(same(&value(&document), &value(&again)), "{document:?}\n{again:?}");
            Some(document)
        }
        Err(error) => {
            if let ParseError::Invalid { pointer, .. } = &error {
                assert!(pointer.is_empty() || pointer.starts_with('/'), "{pointer:?} is no JSON pointer");
            }
            serde_json::to_vec(&Problem::from(error)).expect("a refusal can be told");
            None
        }
    }
}
