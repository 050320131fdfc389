//! `rekindle doctor`: what is installed, what answers, and what to do about what does not.

mod checks;
mod model;

use std::path::PathBuf;

use crate::deployment::Deployment;
use crate::failure::Failure;
use crate::model_key::ModelKey;
use crate::table::table;
use crate::target::Target;
use crate::up::folders;

#[derive(Debug, clap::Args)]
pub struct Args {
    /// Also ask the model for one token, with the key that is found
    #[arg(long)]
    model: bool,
    /// The settings file
    #[arg(long, value_name = "FILE")]
    config: Option<PathBuf>,
}

/// How a check went.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Verdict {
    /// As it should be.
    Ok,
    /// Not there, and not needed as things are.
    Optional,
    /// Needed and missing.
    Missing,
}

/// One line of the table.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Check {
    what: &'static str,
    verdict: Verdict,
    detail: String,
    /// What to do; empty when there is nothing.
    remedy: String,
}

impl Check {
    fn ok(what: &'static str, detail: impl Into<String>) -> Self {
        Self { what, verdict: Verdict::Ok, detail: detail.into(), remedy: String::new() }
    }

    fn not(what: &'static str, needed: bool, detail: impl Into<String>, remedy: impl Into<String>) -> Self {
        let verdict = if needed { Verdict::Missing } else { Verdict::Optional };
        Self { what, verdict, detail: detail.into(), remedy: remedy.into() }
    }
}

pub async fn run(args: Args, target: &Target) -> Result<(), Failure> {
    let mut deployment = Deployment::find(target.home(), args.config.as_deref())?;
    folders::choose_paths(&mut deployment);
    deployment.settle()?;
    let key = ModelKey::find(&deployment, |name| std::env::var(name).ok());
    let mut checks = checks::installed(&deployment).await?;
    checks.extend(checks::answering(&deployment, target).await);
    checks.push(match (&key.key, key.problems.first()) {
        (Some((from, _)), _) => Check::ok("model key", format!("from {from}, for {}", key.base_url)),
        (None, problem) => {
            let file = deployment.home.secrets().join("anthropic_api_key");
            let remedy = format!("set ANTHROPIC_API_KEY, or put it into {}", file.display());
            Check::not("model key", false, problem.map_or("none found", |p| p.as_str()), remedy)
        }
    });
    if args.model {
        checks.push(model::check(&deployment, &key).await);
    }
    print!("{}", shown(&checks));
    let missing: Vec<_> = checks.iter().filter(|c| c.verdict == Verdict::Missing).map(|c| c.what).collect();
    match missing.is_empty() {
        true => Ok(()),
        false => Err(Failure::Unfit(format!("needed and not there: {}", missing.join(", ")))),
    }
}

fn shown(checks: &[Check]) -> String {
    let rows: Vec<_> = checks
        .iter()
        .map(|check| {
            let verdict = match check.verdict {
                Verdict::Ok => "ok",
                Verdict::Optional => "-",
                Verdict::Missing => "MISSING",
            };
            let detail = match check.remedy.as_str() {
                "" => check.detail.clone(),
                remedy => format!("{}; to do: {remedy}", check.detail),
            };
            [check.what.to_owned(), verdict.to_owned(), crate::render::printable(&detail).replace('\n', " ")]
        })
        .collect();
    table(["WHAT", "", "FOUND"], &rows)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_line_says_what_to_do() {
        let checks = [
            Check::ok("redis-server", "7.0"),
            Check::not("worker", true, "not built", "make up"),
            Check::not("bwrap", false, "not installed", "apt-get install -y bubblewrap"),
        ];
        let text = shown(&checks);
        let lines: Vec<_> = text.lines().collect();
        assert_eq!(lines[1], "redis-server  ok       7.0");
        assert_eq!(lines[2], "worker        MISSING  not built; to do: make up");
        assert!(lines[3].contains("-        not installed; to do: apt-get"));
    }
}
