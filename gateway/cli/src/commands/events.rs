//! `rekindle events`: what happened in a unit, and with `-f` what happens.

use std::time::Duration;

use contract::{UnitEvent, UnitName};
use tokio::signal::unix::{SignalKind, signal};

use crate::api::{Api, Call};
use crate::failure::Failure;
use crate::follow::Follow;
use crate::render::{Renderer, Style};
use crate::target::Target;

/// The stream has no end; without `-f` it is left when nothing more is replayed for this long.
const QUIET: Duration = Duration::from_secs(1);

#[derive(Debug, clap::Args)]
pub struct Args {
    /// Which unit
    unit: UnitName,
    /// Go on with what happens
    #[arg(short, long)]
    follow: bool,
    /// Begin after the event of this id [default: with the oldest that is kept]
    #[arg(long, value_name = "ID")]
    from: Option<String>,
    /// One line of JSON for each event
    #[arg(long)]
    json: bool,
}

pub async fn run(args: Args, target: &Target) -> Result<(), Failure> {
    let api = Api::new(target.reach()?)?;
    let opening = Call::get(format!("/v1/units/{}/events", args.unit));
    let mut follow = Follow::new(api, args.unit.as_str(), opening, args.from);
    let style = if args.json { Style::Json } else { Style::Unit };
    let mut renderer = Renderer::new(std::io::stdout(), style);
    let mut interrupts = signal(SignalKind::interrupt())?;
    follow.open().await?;
    loop {
        let message = tokio::select! {
            message = follow.next() => message?,
            _ = interrupts.recv() => return Ok(()),
            () = tokio::time::sleep(QUIET), if !args.follow => return Ok(()),
        };
        if let Ok(event) = serde_json::from_str::<UnitEvent>(&message.data) {
            renderer.event(&event, &message.data)?;
        }
    }
}
