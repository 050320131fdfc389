//! `[budgets]`, `[prices]` and `[usage]`: what models may cost, what they do cost, and how long that is remembered.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

/// `[budgets]`: of every owner and every unit for a day (UTC), and of every turn. Absent: no bound.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Budgets {
    /// All that an owner's units use in a day.
    pub owner_day: Budget,
    /// All that a unit uses in a day.
    pub unit_day: Budget,
    /// All that a turn uses, attempts included.
    pub turn: Budget,
    /// Other budgets for some owners, by their `sub`.
    pub owners: BTreeMap<String, OwnersBudgets>,
}

/// `[budgets.owners."<sub>"]`: each table replaces the general one as a whole; an empty one lifts it.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct OwnersBudgets {
    /// As `budgets.owner_day`.
    pub owner_day: Option<Budget>,
    /// As `budgets.unit_day`.
    pub unit_day: Option<Budget>,
    /// As `budgets.turn`.
    pub turn: Option<Budget>,
}

/// What may be used. A request that begins within it finishes.
#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Budget {
    /// Requests to models.
    pub requests: Option<u64>,
    /// Tokens of all kinds: input, output, written to and read from caches.
    pub tokens: Option<u64>,
    /// In the currency of the prices.
    pub cost: Option<f64>,
}

impl Budgets {
    /// The three budgets of an owner: for a day, for a day of one unit, for a turn.
    pub fn of(&self, owner: &str) -> [Budget; 3] {
        let own = self.owners.get(owner).cloned().unwrap_or_default();
        [own.owner_day.unwrap_or(self.owner_day), own.unit_day.unwrap_or(self.unit_day), own.turn.unwrap_or(self.turn)]
    }

    /// Whether any of them is in currency.
    pub fn have_cost(&self) -> bool {
        let own = self.owners.values().flat_map(|own| [own.owner_day, own.unit_day, own.turn]).flatten();
        [self.owner_day, self.unit_day, self.turn].into_iter().chain(own).any(|budget| budget.cost.is_some())
    }
}

/// `[prices."<model>"]`: for a million tokens, in whatever currency all prices and budgets are. The name may have stars; of
/// those that match, the one with the most other characters counts.
#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Price {
    /// Input that no cache had.
    pub input: f64,
    /// Output, reasoning included.
    pub output: f64,
    /// Input that was read from a cache.
    pub cache_read: f64,
    /// Input that was written to a cache for five minutes.
    pub cache_write_5m: f64,
    /// Input that was written to a cache for an hour.
    pub cache_write_1h: f64,
}

/// `[usage]`
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Usage {
    /// Days that what models were used for is remembered.
    pub retention_days: u32,
}

impl Default for Usage {
    fn default() -> Self {
        Self { retention_days: 90 }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_owners_table_replaces_the_general_one() {
        let budgets: Budgets = toml::from_str(
            "[owner_day]\ntokens = 10\nrequests = 1\n[turn]\ntokens = 3\n[owners.ann.owner_day]\ncost = 1.5\n[owners.bob.turn]\n",
        )
        .unwrap();
        let ten = Budget { tokens: Some(10), requests: Some(1), cost: None };
        let three = Budget { tokens: Some(3), ..Budget::default() };
        assert_eq!(budgets.of("eve"), [ten, Budget::default(), three]);
        let cost = Budget { cost: Some(1.5), ..Budget::default() };
        assert_eq!(budgets.of("ann"), [cost, Budget::default(), three]);
        assert_eq!(budgets.of("bob"), [ten, Budget::default(), Budget::default()]);
        assert!(budgets.have_cost());
        assert!(!Budgets::default().have_cost());
    }
}
