//! What a credential allows.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// One thing that a credential may allow.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize, JsonSchema)]
pub enum Scope {
    /// Run turns, end and erase units, grant workspaces, make API keys.
    #[serde(rename = "units:invoke")]
    Invoke,
    /// Look at units, turns, events, workspaces and keys.
    #[serde(rename = "units:read")]
    Read,
    /// See how many workers every owner has.
    #[serde(rename = "units:admin")]
    Admin,
    /// Act for any owner.
    #[serde(rename = "units:impersonate")]
    Impersonate,
    /// Make schedules and webhooks.
    #[serde(rename = "triggers:write")]
    Triggers,
}

impl Scope {
    /// All of them.
    pub const ALL: [Self; 5] = [Self::Invoke, Self::Read, Self::Admin, Self::Impersonate, Self::Triggers];

    /// The word in `scope`.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Invoke => "units:invoke",
            Self::Read => "units:read",
            Self::Admin => "units:admin",
            Self::Impersonate => "units:impersonate",
            Self::Triggers => "triggers:write",
        }
    }
}

/// What a credential allows, all of it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Scopes(u8);

impl Scopes {
    /// From words with spaces between (RFC 8693 §4.2). Those that mean nothing here allow nothing.
    pub fn parse(text: &str) -> Self {
        Scope::ALL.into_iter().filter(|scope| text.split(' ').any(|word| word == scope.as_str())).collect()
    }

    /// Whether this is among them.
    pub fn has(self, scope: Scope) -> bool {
        self.0 & bit(scope) != 0
    }

    /// Those that are in both.
    #[must_use]
    pub fn and(self, other: Self) -> Self {
        Self(self.0 & other.0)
    }

    /// One after the other.
    pub fn iter(self) -> impl Iterator<Item = Scope> {
        Scope::ALL.into_iter().filter(move |scope| self.has(*scope))
    }

    /// As words with spaces between.
    pub fn text(self) -> String {
        self.iter().map(Scope::as_str).collect::<Vec<_>>().join(" ")
    }
}

impl FromIterator<Scope> for Scopes {
    fn from_iter<T: IntoIterator<Item = Scope>>(scopes: T) -> Self {
        Self(scopes.into_iter().fold(0, |all, scope| all | bit(scope)))
    }
}

fn bit(scope: Scope) -> u8 {
    1 << (scope as u8)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_are_whole_and_unknown_ones_mean_nothing() {
        let scopes = Scopes::parse("units:read units:adminx  openid units:invoke");
        assert_eq!(scopes.text(), "units:invoke units:read");
        assert!(!scopes.has(Scope::Admin));
        assert_eq!(Scopes::parse(""), Scopes::default());
        for scope in Scope::ALL {
            assert_eq!(serde_json::to_value(scope).unwrap(), scope.as_str());
            assert_eq!(Scopes::parse(scope.as_str()).iter().collect::<Vec<_>>(), [scope]);
        }
    }
}
