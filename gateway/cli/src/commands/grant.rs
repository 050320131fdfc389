//! `rekindle grant`: who else may use a workspace of yours.

use contract::Owner;
use serde_json::{Value, json};

use crate::api::{Api, Call, segment};
use crate::failure::Failure;
use crate::render::{json_line, printable};
use crate::table::table;
use crate::target::Target;

/// What to do with grants.
#[derive(Debug, clap::Subcommand)]
pub enum Command {
    /// Let another owner use a workspace, or change how
    Add(Add),
    /// List to whom a workspace is granted
    Ls(Ls),
    /// End a grant, and the workers that use it
    Revoke(Revoke),
}

#[derive(Debug, clap::Args)]
pub struct Of {
    /// Which workspace
    workspace: String,
    /// It is the own workspace of the unit of this name
    #[arg(long)]
    unit: bool,
}

#[derive(Debug, clap::Args)]
pub struct Add {
    #[command(flatten)]
    of: Of,
    /// Who: the `sub` of its token
    owner: Owner,
    /// ro or rw
    #[arg(long, default_value = "ro", value_parser = ["ro", "rw"])]
    mode: String,
}

#[derive(Debug, clap::Args)]
pub struct Ls {
    #[command(flatten)]
    of: Of,
    /// One line of JSON for each grant
    #[arg(long)]
    json: bool,
}

#[derive(Debug, clap::Args)]
pub struct Revoke {
    #[command(flatten)]
    of: Of,
    /// Whose
    owner: Owner,
}

pub async fn run(command: Command, target: &Target) -> Result<(), Failure> {
    let api = Api::new(target.reach()?)?;
    match command {
        Command::Add(args) => {
            let path = format!("{}/{}", grants(&api, &args.of).await?, segment(args.owner.as_str()));
            api.json::<Value>(&Call::put(path, &json!({ "mode": args.mode }))).await?;
            println!("{}: {} for {}", printable(&args.of.workspace), args.mode, printable(args.owner.as_str()));
            Ok(())
        }
        Command::Ls(args) => ls(args, &api).await,
        Command::Revoke(args) => {
            let path = format!("{}/{}", grants(&api, &args.of).await?, segment(args.owner.as_str()));
            api.json::<Value>(&Call::delete(path)).await?;
            println!("{}: not for {} any more", printable(&args.of.workspace), printable(args.owner.as_str()));
            Ok(())
        }
    }
}

/// The route of a workspace's grants.
async fn grants(api: &Api, of: &Of) -> Result<String, Failure> {
    let named = segment(&of.workspace);
    if !of.unit {
        return Ok(format!("/v1/workspaces/{named}/grants"));
    }
    // A unit's own workspace has the unit's uid as its id.
    let unit: Value = api.json(&Call::get(format!("/v1/units/{named}"))).await?;
    match unit["uid"].as_str() {
        Some(uid) => Ok(format!("/v1/workspaces/{uid}/grants")),
        None => Err(Failure::Unreachable("the unit has no uid: this is another version of the gateway".into())),
    }
}

async fn ls(args: Ls, api: &Api) -> Result<(), Failure> {
    let mut list: Value = api.json(&Call::get(grants(api, &args.of).await?)).await?;
    let Value::Array(grants) = list["grants"].take() else {
        return Err(Failure::Unreachable("the answer has no grants: this is another version of the gateway".into()));
    };
    if args.json {
        grants.iter().for_each(|grant| println!("{}", json_line(grant)));
        return Ok(());
    }
    let text = |grant: &Value, field: &str| printable(grant[field].as_str().unwrap_or("-"));
    let rows: Vec<_> = grants.iter().map(|grant| [text(grant, "owner"), text(grant, "mode")]).collect();
    print!("{}", table(["OWNER", "MODE"], &rows));
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn any_owner_is_one_segment() {
        assert_eq!(segment("auth0|1/../ü@x.org"), "auth0%7C1%2F%2E%2E%2F%C3%BC%40x%2Eorg");
        assert_eq!(segment("plain-1_2~"), "plain-1_2~");
    }
}
