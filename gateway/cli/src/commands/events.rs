//! `rekindle events`: what happened in a unit, and with `-f` what happens.

use contract::{UnitEvent, UnitName};
use tokio::signal::unix::{SignalKind, signal};

use crate::api::{Api, Call};
use crate::failure::Failure;
use crate::follow::Follow;
use crate::render::{Renderer, Style};
use crate::target::Target;

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
    let mut follow = if args.follow {
        Follow::new(api, args.unit.as_str(), opening, args.from)
    } else {
        Follow::up_to_now(api, args.unit.as_str(), args.from)
    };
    let style = if args.json { Style::Json } else { Style::Unit };
    let mut renderer = Renderer::new(std::io::stdout(), style);
    let mut interrupts = signal(SignalKind::interrupt())?;
    follow.open().await?;
    loop {
        let message = tokio::select! {
            message = follow.next_or_end() => match message? {
                Some(message) => message,
                None => return Ok(()),
            },
            _ = interrupts.recv() => return Ok(()),
        };
        if let Ok(event) = serde_json::from_str::<UnitEvent>(&message.data) {
            renderer.event(&event, &message.data)?;
        }
    }
}
