//! Quantiles, their ratios, and how far these may be trusted.

use rand::rngs::StdRng;
use rand::{Rng as _, SeedableRng as _};

use crate::figure::Figure;

/// How often rounds are drawn anew.
const DRAWS: usize = 2_000;

/// A value and the interval that holds it with 95 %.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Estimate {
    /// Of the samples themselves.
    pub value: f64,
    /// The interval's lower end.
    pub low: f64,
    /// The interval's upper end.
    pub high: f64,
}

/// The q-quantile, between the two samples around it; 0 of none.
pub fn quantile(samples: &[f64], q: f64) -> f64 {
    let mut sorted = samples.to_vec();
    sorted.sort_by(f64::total_cmp);
    let Some(last) = sorted.len().checked_sub(1) else { return 0.0 };
    let at = q * last as f64;
    let (below, above) = (sorted[at.floor() as usize], sorted[at.ceil() as usize]);
    below + (above - below) * at.fract()
}

/// The figure's quantile, or its ratio to that of what stands beside it, with a percentile bootstrap over rounds: rounds are
/// drawn with replacement, each with both of its samples, so that what slowed a round down slowed both.
///
/// Source: Efron and Tibshirani, "An Introduction to the Bootstrap", chapter 13. Of five rounds it is the span from the smallest
/// to the largest; of one it is no interval at all.
pub fn estimate(figure: &Figure) -> Estimate {
    let rounds: Vec<usize> = (0..figure.samples.len()).collect();
    let value = of_rounds(figure, &rounds);
    let mut dice = StdRng::seed_from_u64(1);
    let mut drawn: Vec<f64> = (0..DRAWS)
        .map(|_| {
            let rounds: Vec<usize> = rounds.iter().map(|_| dice.random_range(0..rounds.len())).collect();
            of_rounds(figure, &rounds)
        })
        .collect();
    drawn.sort_by(f64::total_cmp);
    Estimate { value, low: quantile(&drawn, 0.025), high: quantile(&drawn, 0.975) }
}

fn of_rounds(figure: &Figure, rounds: &[usize]) -> f64 {
    let of =
        |samples: &[f64]| quantile(&rounds.iter().map(|round| samples[*round]).collect::<Vec<_>>(), figure.quantile);
    let own = of(&figure.samples);
    if figure.beside.is_empty() { own } else { own / of(&figure.beside) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quantiles_lie_between_the_samples_around_them() {
        assert_eq!(quantile(&[3.0, 1.0, 2.0], 0.5), 2.0);
        assert_eq!(quantile(&[1.0, 2.0, 3.0, 4.0], 0.5), 2.5);
        assert_eq!(quantile(&[1.0, 2.0], 0.99), 1.99);
        assert_eq!(quantile(&[], 0.5), 0.0);
    }

    /// A machine that gets three times slower in every other round is no news about the ratio.
    #[test]
    fn what_slows_a_round_slows_both() {
        let slow = |round: usize| if round % 2 == 0 { 1.0 } else { 3.0 };
        let beside: Vec<f64> = (0..40).map(|round| 10.0 * slow(round)).collect();
        let samples = beside.iter().map(|b| b * 2.0).collect();
        let ratio = estimate(&Figure::beside("x", samples, beside.clone()));
        assert!((ratio.value, ratio.low, ratio.high) == (2.0, 2.0, 2.0), "{ratio:?}");
        let alone = estimate(&Figure::alone("x", beside));
        assert!(alone.low < 15.0 && alone.high > 25.0, "{alone:?}");
    }

    /// The interval of the median of normal noise is about 1.96 × 1.25 σ / √n.
    #[test]
    fn the_interval_is_as_wide_as_theory_says() {
        let mut dice = StdRng::seed_from_u64(7);
        let mut normal = || (0..12).map(|_| dice.random::<f64>()).sum::<f64>() - 6.0;
        let samples: Vec<f64> = (0..400).map(|_| 100.0 + normal()).collect();
        let estimate = estimate(&Figure::alone("x", samples));
        let width = estimate.high - estimate.low;
        assert!((0.15..0.36).contains(&width), "{estimate:?}");
        assert!(estimate.low <= estimate.value && estimate.value <= estimate.high);
    }
}
