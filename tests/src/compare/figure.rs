//! One figure: what was seen of it, and of what it is compared with, round by round.

/// Samples of one quantity; those of one round lie at one index.
#[derive(Debug, Clone, Default)]
pub struct Figure {
    /// Its row in the bounds file.
    pub name: &'static str,
    /// One a round, in the row's unit.
    pub samples: Vec<f64>,
    /// Of what stands beside it, in the same rounds and unit; empty when it stands alone.
    pub beside: Vec<f64>,
    /// Which part of the samples it is about: 0.5 is the median.
    pub quantile: f64,
}

impl Figure {
    /// By its median, and beside nothing.
    pub fn alone(name: &'static str, samples: Vec<f64>) -> Self {
        Self::beside(name, samples, Vec::new())
    }

    /// By its median, as a ratio to that of what was taken in turn with it.
    pub fn beside(name: &'static str, samples: Vec<f64>, beside: Vec<f64>) -> Self {
        Self { name, samples, beside, quantile: 0.5 }
    }
}
