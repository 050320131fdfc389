//! `rekindle rm`: erases a unit.

use std::io::{IsTerminal, Write};

use contract::UnitName;
use serde_json::Value;

use crate::api::{Api, Call};
use crate::failure::Failure;
use crate::spinner::Spinner;
use crate::target::Target;

const WAIT_SEC: u64 = 25;
const ATTEMPTS: u32 = 6;

#[derive(Debug, clap::Args)]
pub struct Args {
    /// Which unit
    unit: UnitName,
    /// Keep its own workspace; the conversation goes
    #[arg(long)]
    keep_workspace: bool,
    /// Do not ask
    #[arg(short, long)]
    yes: bool,
}

pub async fn run(args: Args, target: &Target) -> Result<(), Failure> {
    let unit = &args.unit;
    let api = Api::new(target.reach()?)?;
    // So that nobody confirms what is not there.
    api.json::<Value>(&Call::get(format!("/v1/units/{unit}"))).await?;
    let what = match args.keep_workspace {
        true => "its conversation (its workspace stays)",
        false => "its conversation and its own workspace",
    };
    if !args.yes && !confirmed(&format!("erase {unit}, {what}?"))? {
        return Err(Failure::Refused(format!("{unit} is kept")));
    }
    let spinner = Spinner::new("waiting until the worker is gone");
    let path = format!("/v1/units/{unit}?keep_workspace={}", args.keep_workspace);
    let call = Call::delete(path).header("prefer", format!("wait={WAIT_SEC}"));
    let mut attempt = 1;
    loop {
        // 409 while the worker has not ended: the same call goes on from there.
        let response = api.send(&call).await?;
        let status = response.status();
        let body = crate::api::body(response).await?;
        match status {
            _ if status.is_success() => break,
            http::StatusCode::CONFLICT if attempt < ATTEMPTS => attempt += 1,
            // An attempt before this one got through.
            http::StatusCode::NOT_FOUND if attempt > 1 => break,
            _ => return Err(crate::api::problem(status, &body)),
        }
    }
    drop(spinner);
    println!("{unit}: erased, {what}");
    Ok(())
}

fn confirmed(question: &str) -> Result<bool, Failure> {
    if !std::io::stdin().is_terminal() {
        return Err(Failure::Refused("nobody is there to ask; say -y to erase it".into()));
    }
    eprint!("{question} [y/N] ");
    std::io::stderr().flush()?;
    let mut answer = String::new();
    std::io::stdin().read_line(&mut answer)?;
    Ok(matches!(answer.trim(), "y" | "Y" | "yes"))
}
