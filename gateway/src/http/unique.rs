//! JSON whose objects name each member once. What names one twice is read differently by different programs (RFC 8259 §4):
//! something that looks at requests before they come here could have seen the other one.

use std::collections::HashSet;
use std::fmt;

use serde::de::{Deserialize, Deserializer, Error, MapAccess, SeqAccess, Visitor};

/// Any JSON value without a member twice; nothing of it is kept.
#[derive(Debug)]
pub struct Unique;

impl<'de> Deserialize<'de> for Unique {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(Any)
    }
}

struct Any;

impl<'de> Visitor<'de> for Any {
    type Value = Unique;

    fn expecting(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("JSON")
    }

    fn visit_unit<E>(self) -> Result<Unique, E> {
        Ok(Unique)
    }

    fn visit_bool<E>(self, _: bool) -> Result<Unique, E> {
        Ok(Unique)
    }

    fn visit_i64<E>(self, _: i64) -> Result<Unique, E> {
        Ok(Unique)
    }

    fn visit_u64<E>(self, _: u64) -> Result<Unique, E> {
        Ok(Unique)
    }

    fn visit_f64<E>(self, _: f64) -> Result<Unique, E> {
        Ok(Unique)
    }

    fn visit_str<E>(self, _: &str) -> Result<Unique, E> {
        Ok(Unique)
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut elements: A) -> Result<Unique, A::Error> {
        while elements.next_element::<Unique>()?.is_some() {}
        Ok(Unique)
    }

    fn visit_map<A: MapAccess<'de>>(self, mut members: A) -> Result<Unique, A::Error> {
        let mut seen = HashSet::new();
        while let Some(name) = members.next_key::<String>()? {
            members.next_value::<Unique>()?;
            if let Some(twice) = seen.replace(name) {
                let shown: String = twice.escape_debug().take(64).collect();
                return Err(A::Error::custom(format!("the member `{shown}` is named twice")));
            }
        }
        Ok(Unique)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_member_is_named_once_wherever_it_is() {
        let read = |text: &str| serde_json::from_str::<Unique>(text).map_err(|e| e.to_string());
        for good in [r#"{"a":{"a":[1,-1,1.5,null,true,"a"]},"b":{"a":1}}"#, r#"[{"a":1},{"a":1}]"#, "1"] {
            assert!(read(good).is_ok(), "{good}");
        }
        for bad in [r#"{"a":1,"a":1}"#, r#"{"x":[{"b":1,"a":2,"b":3}]}"#, r#"{"a":1,"\u0061":2}"#] {
            assert!(read(bad).unwrap_err().contains("named twice"), "{bad}");
        }
    }
}
