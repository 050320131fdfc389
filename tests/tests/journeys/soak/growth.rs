//! Whether a series of counts grows.

use std::collections::BTreeMap;

use super::census::Quantity;

/// What may be more at the end than at the beginning: once, whatever the length, and for each round.
#[derive(Debug, Clone, Copy)]
struct Allowance {
    once: f64,
    a_round: f64,
}

fn allowance(quantity: &Quantity) -> Allowance {
    match quantity {
        // Allocators keep what they were given, in pieces of up to a mebibyte. A round is some ten turns.
        Quantity::Memory(_) => Allowance { once: 2_f64 * 1024.0 * 1024.0, a_round: 4096.0 },
        Quantity::RedisMemory => Allowance { once: 256_f64 * 1024.0, a_round: 256.0 },
        // The executor keeps as many for what blocks as were ever busy at one time, which is more on a busy machine.
        Quantity::Threads(_) => Allowance { once: 8.0, a_round: 0.0 },
        // Pools and timers come and go; one that is lost in every third round is seen within 3 minutes.
        Quantity::Count(_) => Allowance { once: 3.0, a_round: 0.0 },
    }
}

/// A line for each quantity that grows by more than is allowed.
///
/// Of what comes after the warm-up, the lowest count of the first third is held against the lowest of the last third: what is
/// only there for a moment is in neither, what is lost is in all that come after it.
pub(super) fn growing(series: &BTreeMap<Quantity, Vec<f64>>, warm_up: usize) -> Vec<String> {
    let grows = |(quantity, counts): (&Quantity, &Vec<f64>)| {
        let counts = counts.get(warm_up..).unwrap_or_default();
        let third = counts.len().div_ceil(3);
        assert!(third >= 2, "{quantity}: {} rounds are too few to judge", counts.len());
        let lowest = |part: &[f64]| part.iter().copied().fold(f64::INFINITY, f64::min);
        let (first, last) = (lowest(&counts[..third]), lowest(&counts[counts.len() - third..]));
        let rounds = (counts.len() - third) as f64;
        let Allowance { once, a_round } = allowance(quantity);
        (last - first > once + a_round * rounds).then(|| {
            format!("{quantity}: from {first} to {last} within {rounds} rounds, at most {once} and {a_round} a round")
        })
    };
    series.iter().filter_map(grows).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    const ROUNDS: usize = 60;

    fn verdict(quantity: Quantity, count: impl Fn(usize) -> f64) -> bool {
        let series = BTreeMap::from([(quantity, (0..ROUNDS).map(count).collect())]);
        !growing(&series, 6).is_empty()
    }

    #[test]
    fn one_in_three_rounds_is_seen() {
        assert!(verdict(Quantity::Count("files".into()), |round| 100.0 + (round / 3) as f64));
        assert!(verdict(Quantity::Count("mounts".into()), |round| round as f64));
        assert!(verdict(Quantity::Threads("gateway".into()), |round| 4.0 + (round / 3) as f64));
    }

    #[test]
    fn what_comes_and_goes_is_not() {
        assert!(!verdict(Quantity::Threads("runtime".into()), |round| if round < 30 { 6.0 } else { 10.0 }));
        assert!(!verdict(Quantity::Count("files".into()), |round| 100.0 + (round % 7) as f64 * 50.0));
        assert!(!verdict(Quantity::Count("files".into()), |round| if round < 6 { round as f64 } else { 6.0 }));
        assert!(!verdict(Quantity::Count("files".into()), |round| 1_000.0 - round as f64));
    }

    #[test]
    fn memory_may_settle_once_and_not_grow_for_ever() {
        let mib = f64::from(1 << 20);
        let memory = || Quantity::Memory("gateway".into());
        assert!(!verdict(memory(), |round| 30.0 * mib + if round > 20 { 1.5 * mib } else { 0.0 }));
        assert!(!verdict(memory(), |round| 30.0 * mib + (round % 2) as f64 * 8.0 * mib));
        // 10 KiB a turn, at ten turns a round.
        assert!(verdict(memory(), |round| 30.0 * mib + round as f64 * 100.0 * 1024.0));
    }
}
