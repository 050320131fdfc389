//! One file for each command.

use clap::Subcommand;

use crate::failure::Failure;
use crate::target::Target;

mod cancel;
mod doctor;
mod events;
mod grant;
mod invoke;
mod key;
mod ps;
mod rm;
mod stop;
mod token;
mod turns;
mod up;
mod usage;

/// What to do.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Start everything on this machine: redis-server, runtime, gateway and reaper
    Up(up::Args),
    /// Call a unit and stream what it does
    Invoke(invoke::Args),
    /// List your units
    Ps(ps::Args),
    /// What models were used for, and what that cost
    Usage(usage::Args),
    /// What happened in a unit
    Events(events::Args),
    /// A unit's conversation
    Turns(turns::Args),
    /// End a turn; its unit's worker stays warm
    Cancel(cancel::Args),
    /// End a unit's worker; its workspace and its session stay
    Stop(stop::Args),
    /// Erase a unit, with its workspace unless asked to keep it
    Rm(rm::Args),
    /// Make a bearer token with this deployment's secret
    Token(token::Args),
    /// API keys, for callers that can store one string
    #[command(subcommand)]
    Key(key::Command),
    /// Let another owner use a workspace
    #[command(subcommand)]
    Grant(grant::Command),
    /// What is installed, what answers, and what to do about what does not
    Doctor(doctor::Args),
}

impl Command {
    /// Does it.
    ///
    /// # Errors
    /// [`Failure`], which has the exit status.
    pub async fn run(self, target: &Target) -> Result<(), Failure> {
        match self {
            Self::Up(args) => up::run(args, target).await,
            Self::Invoke(args) => invoke::run(args, target).await,
            Self::Ps(args) => ps::run(args, target).await,
            Self::Usage(args) => usage::run(args, target).await,
            Self::Events(args) => events::run(args, target).await,
            Self::Turns(args) => turns::run(args, target).await,
            Self::Cancel(args) => cancel::run(args, target).await,
            Self::Stop(args) => stop::run(args, target).await,
            Self::Rm(args) => rm::run(args, target).await,
            Self::Key(command) => key::run(command, target).await,
            Self::Grant(command) => grant::run(command, target).await,
            Self::Token(args) => token::run(args, target),
            Self::Doctor(args) => doctor::run(args, target).await,
        }
    }
}
