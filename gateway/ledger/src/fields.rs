//! Replies of scripts: a word and named fields, all text.

use std::collections::HashMap;
use std::str::FromStr;

use redis::Value;

use crate::error::{LedgerError, Result};

/// Named text fields, of a hash or of a script's reply.
#[derive(Debug, Default)]
pub(crate) struct Fields {
    /// Where they came from, for errors.
    pub(crate) key: String,
    map: HashMap<String, String>,
}

/// The text of a value.
pub(crate) fn text(key: &str, value: Value) -> Result<String> {
    match value {
        Value::BulkString(bytes) => String::from_utf8(bytes).map_err(|e| LedgerError::corrupt(key, e.utf8_error())),
        Value::SimpleString(text) => Ok(text),
        Value::Int(n) => Ok(n.to_string()),
        Value::Okay => Ok("OK".into()),
        other => Err(LedgerError::corrupt(key, format!("not a text: {other:?}"))),
    }
}

/// The items of an array.
pub(crate) fn items(key: &str, value: Value) -> Result<Vec<Value>> {
    match value {
        Value::Array(items) => Ok(items),
        Value::Nil => Ok(Vec::new()),
        other => Err(LedgerError::corrupt(key, format!("not an array: {other:?}"))),
    }
}

impl Fields {
    /// From `name, value, name, value, …` or a map.
    pub(crate) fn parse(key: &str, value: Value) -> Result<Self> {
        let mut map = HashMap::new();
        match value {
            Value::Map(pairs) => {
                for (name, value) in pairs {
                    map.insert(text(key, name)?, text(key, value)?);
                }
            }
            other => {
                let mut items = items(key, other)?.into_iter();
                while let (Some(name), Some(value)) = (items.next(), items.next()) {
                    map.insert(text(key, name)?, text(key, value)?);
                }
            }
        }
        Ok(Self { key: key.into(), map })
    }

    /// From the reply to an `HMGET` of these names; what is absent is left out.
    pub(crate) fn named(key: &str, names: &[&str], reply: Value) -> Result<Self> {
        let mut map = HashMap::with_capacity(names.len());
        for (name, value) in names.iter().zip(items(key, reply)?) {
            if value != Value::Nil {
                map.insert((*name).to_owned(), text(key, value)?);
            }
        }
        Ok(Self { key: key.into(), map })
    }

    /// Bytes of all its texts.
    pub(crate) fn bytes(&self) -> usize {
        self.map.values().map(String::len).sum()
    }

    /// A script's reply: its word and its fields.
    pub(crate) fn reply(script: &str, value: Value) -> Result<(String, Self)> {
        let mut list = items(script, value)?;
        if list.is_empty() {
            return Err(LedgerError::corrupt(script, "an empty reply"));
        }
        let word = text(script, list.remove(0))?;
        Ok((word, Self::parse(script, Value::Array(list))?))
    }

    /// A reply that is a list of records.
    pub(crate) fn list(script: &str, value: Value) -> Result<Vec<Self>> {
        items(script, value)?.into_iter().map(|item| Self::parse(script, item)).collect()
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.map.is_empty()
    }

    /// The field; an empty one is an absent one.
    pub(crate) fn get(&self, name: &str) -> Option<&str> {
        self.map.get(name).map(String::as_str).filter(|t| !t.is_empty())
    }

    pub(crate) fn wrong(&self, name: &str, why: impl ToString) -> LedgerError {
        LedgerError::corrupt(self.key.clone(), format!("{name}: {}", why.to_string()))
    }

    pub(crate) fn need(&self, name: &str) -> Result<&str> {
        self.get(name).ok_or_else(|| self.wrong(name, "absent"))
    }

    /// A field with a parser, absent or good.
    pub(crate) fn maybe<T: FromStr<Err: ToString>>(&self, name: &str) -> Result<Option<T>> {
        let parse = |t: &str| t.parse().map_err(|e: T::Err| self.wrong(name, e));
        self.get(name).map(parse).transpose()
    }

    /// A field with a parser.
    pub(crate) fn parsed<T: FromStr<Err: ToString>>(&self, name: &str) -> Result<T> {
        self.maybe(name)?.ok_or_else(|| self.wrong(name, "absent"))
    }

    /// A field that is JSON, absent or good.
    pub(crate) fn maybe_json<T: serde::de::DeserializeOwned>(&self, name: &str) -> Result<Option<T>> {
        let parse = |t: &str| serde_json::from_str(t).map_err(|e| self.wrong(name, e));
        self.get(name).map(parse).transpose()
    }

    /// A field that is JSON.
    pub(crate) fn json<T: serde::de::DeserializeOwned>(&self, name: &str) -> Result<T> {
        self.maybe_json(name)?.ok_or_else(|| self.wrong(name, "absent"))
    }

    /// A field that is a bare word of one of the contract's enums.
    pub(crate) fn maybe_word<T: serde::de::DeserializeOwned>(&self, name: &str) -> Result<Option<T>> {
        let parse = |t: &str| serde_json::from_value(serde_json::Value::from(t)).map_err(|e| self.wrong(name, e));
        self.get(name).map(parse).transpose()
    }
}

/// Decimal text of a number, as an argument.
pub(crate) fn number(n: impl Into<u64>) -> String {
    n.into().to_string()
}
