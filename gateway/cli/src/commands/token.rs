//! `rekindle token`: a bearer token, made with this deployment's secret.

use std::path::PathBuf;
use std::time::Duration;

use contract::Owner;

use crate::deployment::Deployment;
use crate::failure::Failure;
use crate::mint::mint;
use crate::target::Target;

#[derive(Debug, clap::Args)]
pub struct Args {
    /// Whom it is for: the owner of what is done with it
    #[arg(long, default_value = "local")]
    sub: Owner,
    /// How long it is good for: 90s, 15m, 12h, 30d
    #[arg(long, default_value = "30d", value_parser = ttl)]
    ttl: Duration,
    /// What it allows besides calling one's own units and looking at them
    #[arg(long = "scope", value_name = "SCOPE", value_parser = ["units:admin", "units:impersonate", "triggers:write",
        "units:invoke", "units:read"])]
    scopes: Vec<String>,
    /// The settings file
    #[arg(long, value_name = "FILE")]
    config: Option<PathBuf>,
}

pub(super) fn ttl(text: &str) -> Result<Duration, String> {
    let wrong = || format!("`{text}` is no time; say 90s, 15m, 12h or 30d");
    let (number, unit) = text.split_at(text.find(|c: char| !c.is_ascii_digit()).ok_or_else(wrong)?);
    let seconds = match unit {
        "s" => 1,
        "m" => 60,
        "h" => 3_600,
        "d" => 86_400,
        _ => return Err(wrong()),
    };
    let number: u64 = number.parse().map_err(|_| wrong())?;
    match number.checked_mul(seconds) {
        // A hundred years is no bound that anybody meant.
        Some(all @ 1..=3_153_600_000) => Ok(Duration::from_secs(all)),
        _ => Err(wrong()),
    }
}

pub fn run(args: Args, target: &Target) -> Result<(), Failure> {
    let mut deployment = Deployment::find(target.home(), args.config.as_deref())?;
    let secret = deployment.home.secrets().join("jwt_hs256");
    deployment.choose("auth.jwt_secret_file", secret.to_string_lossy().into_owned());
    deployment.settle()?;
    println!("{}", mint(&deployment.settings.auth, args.sub.as_str(), args.ttl, &args.scopes)?);
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_have_units() {
        assert_eq!(ttl("90s"), Ok(Duration::from_secs(90)));
        assert_eq!(ttl("30d"), Ok(Duration::from_secs(30 * 86_400)));
        for bad in ["", "30", "d", "0s", "1w", "-1h", "99999999999999999999d", "18446744073709551615d"] {
            assert!(ttl(bad).is_err(), "{bad}");
        }
    }
}
