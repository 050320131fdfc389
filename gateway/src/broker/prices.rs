//! What tokens of a model cost, by the settings alone.

use std::collections::BTreeMap;

use ledger::Tokens;
use settings::Price;

/// The settings' prices, the most specific pattern first.
#[derive(Debug)]
pub(super) struct Prices(Vec<(String, Price)>);

impl Prices {
    pub(super) fn new(prices: &BTreeMap<String, Price>) -> Self {
        let mut prices: Vec<_> = prices.iter().map(|(pattern, price)| (pattern.clone(), *price)).collect();
        prices.sort_by_key(|(pattern, _)| std::cmp::Reverse(pattern.bytes().filter(|b| *b != b'*').count()));
        Self(prices)
    }

    /// In billionths of the currency; `None` when the model has no price.
    pub(super) fn cost_nano(&self, model: &str, tokens: &Tokens) -> Option<u64> {
        let (_, price) = self.0.iter().find(|(pattern, _)| matches(pattern, model))?;
        let parts = [
            (tokens.input, price.input),
            (tokens.output, price.output),
            (tokens.cache_read, price.cache_read),
            (tokens.cache_write_5m, price.cache_write_5m),
            (tokens.cache_write_1h, price.cache_write_1h),
        ];
        // A price is for a million tokens: a thousand billionths for one. The cast saturates.
        Some(parts.iter().map(|(count, price)| *count as f64 * price * 1e3).sum::<f64>().round() as u64)
    }
}

/// Amounts of money are counted in billionths.
pub(super) fn nano(amount: f64) -> u64 {
    (amount * 1e9).round() as u64
}

/// Whether a name is of a pattern whose stars stand for any characters.
fn matches(pattern: &str, name: &str) -> bool {
    let Some((first, rest)) = pattern.split_once('*') else {
        return pattern == name;
    };
    let Some(mut name) = name.strip_prefix(first) else {
        return false;
    };
    let mut parts: Vec<_> = rest.split('*').collect();
    let last = parts.pop().unwrap_or_default();
    for part in parts {
        match name.find(part) {
            Some(at) => name = &name[at + part.len()..],
            None => return false,
        }
    }
    name.ends_with(last)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn stars_stand_for_anything() {
        for (pattern, name, is) in [
            ("claude-x", "claude-x", true),
            ("claude-x", "claude-x-1", false),
            ("claude-*", "claude-x-1", true),
            ("*", "", true),
            ("*-mini", "gpt-mini", true),
            ("*-mini", "gpt-mini-2", false),
            ("a*b*c", "a-b-b-c", true),
            ("a*bc*c", "abc", false),
            ("ab*ba", "aba", false),
        ] {
            assert_eq!(matches(pattern, name), is, "{pattern} {name}");
        }
    }

    #[test]
    fn the_most_specific_price_counts() {
        let price = |input| Price { input, output: 2.0 * input, ..Price::default() };
        let prices = [("*", 1.0), ("claude-*", 3.0), ("claude-small*", 0.08)];
        let prices = Prices::new(&prices.map(|(name, input)| (name.to_owned(), price(input))).into());
        let tokens = Tokens { input: 1_000_000, output: 10, reasoning: 5, cache_read: 100, ..Tokens::default() };
        assert_eq!(prices.cost_nano("claude-large", &tokens), Some(nano(3.0) + 60_000));
        assert_eq!(prices.cost_nano("claude-small-1", &tokens), Some(nano(0.08) + 1_600));
        assert_eq!(prices.cost_nano("gpt", &tokens), Some(nano(1.0) + 20_000));
        assert_eq!(Prices::new(&BTreeMap::new()).cost_nano("gpt", &tokens), None);
    }
}
