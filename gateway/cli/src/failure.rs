//! What a command ends with, and the exit status that goes with it.

use std::io::Write;
use std::process::ExitCode;

use crate::render::printable;

/// Why a command did not do what it was asked. The text says what to do about it.
#[derive(Debug, thiserror::Error)]
pub enum Failure {
    /// The turn failed: status 1. What there is to say was said with its events.
    #[error("the turn failed: {0}")]
    Turn(String),
    /// Something that is needed is missing, or a check failed: status 1.
    #[error("{0}")]
    Unfit(String),
    /// The gateway refused the call, or it makes no sense: status 2.
    #[error("{0}")]
    Refused(String),
    /// The gateway or what is behind it cannot be reached: status 3.
    #[error("{0}")]
    Unreachable(String),
    /// The wait was over before the turn, which goes on: status 4.
    #[error("{0}")]
    StillRunning(String),
    /// Ctrl-C: status 130.
    #[error("{0}")]
    Interrupted(String),
    /// Anything else: status 1.
    #[error("{0:#}")]
    Other(#[from] anyhow::Error),
}

impl Failure {
    /// The process' exit status.
    pub fn status(&self) -> u8 {
        match self {
            Self::Turn(_) | Self::Unfit(_) | Self::Other(_) => 1,
            Self::Refused(_) => 2,
            Self::Unreachable(_) => 3,
            Self::StillRunning(_) => 4,
            Self::Interrupted(_) => 130,
        }
    }
}

/// Says on stderr what went wrong; the status to exit with.
pub fn report(result: Result<(), Failure>) -> ExitCode {
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => {
            let text = failure.to_string();
            if !text.is_empty() {
                let _ = writeln!(std::io::stderr(), "rekindle: {}", printable(&text));
            }
            ExitCode::from(failure.status())
        }
    }
}

impl From<std::io::Error> for Failure {
    fn from(error: std::io::Error) -> Self {
        Self::Other(error.into())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_status_tells_whose_fault_it_was() {
        let text = || String::from("x");
        assert_eq!(Failure::Turn(text()).status(), 1);
        assert_eq!(Failure::Refused(text()).status(), 2);
        assert_eq!(Failure::Unreachable(text()).status(), 3);
        assert_eq!(Failure::StillRunning(text()).status(), 4);
        assert_eq!(Failure::Interrupted(text()).status(), 130);
        assert_eq!(Failure::from(anyhow::anyhow!("x")).status(), 1);
    }
}
