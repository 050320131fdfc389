//! Short log lines on stderr, which land in the container's log. Nothing secret is ever given to a log macro.

use std::fmt::{self, Write as _};
use std::io::Write as _;

use tracing::field::{Field, Visit};
use tracing::span::{Attributes, Id, Record};
use tracing::{Event, Level, Metadata, Subscriber};

struct Stderr {
    most: Level,
}

/// Sends log lines of this process to stderr; `REKINDLE_LOG=debug` shows more of them.
pub fn install() {
    let most = match std::env::var("REKINDLE_LOG").as_deref() {
        Ok("debug") => Level::DEBUG,
        _ => Level::INFO,
    };
    // Only fails when there is one already, which then stays.
    let _ = tracing::subscriber::set_global_default(Stderr { most });
}

impl Subscriber for Stderr {
    fn enabled(&self, metadata: &Metadata<'_>) -> bool {
        let ours =
            ["worker", "relay", "workspace", "rekindle"].iter().any(|crate_| metadata.target().starts_with(crate_));
        ours && *metadata.level() <= self.most
    }

    fn event(&self, event: &Event<'_>) {
        let mut line = format!("{:>5} ", event.metadata().level());
        event.record(&mut Line(&mut line));
        line.push('\n');
        // Nobody could be told that the log is gone.
        let _ = std::io::stderr().write_all(line.as_bytes());
    }

    // Spans are not used here: one worker runs one turn, and its log is its own.
    fn new_span(&self, _: &Attributes<'_>) -> Id {
        Id::from_u64(1)
    }
    fn record(&self, _: &Id, _: &Record<'_>) {}
    fn record_follows_from(&self, _: &Id, _: &Id) {}
    fn enter(&self, _: &Id) {}
    fn exit(&self, _: &Id) {}
}

struct Line<'a>(&'a mut String);

impl Visit for Line<'_> {
    fn record_debug(&mut self, field: &Field, value: &dyn fmt::Debug) {
        let start = self.0.len();
        let _ = match field.name() {
            "message" => write!(self.0, "{value:?} "),
            name => write!(self.0, "{name}={value:?} "),
        };
        // One event is one line, whatever is in it.
        if self.0[start..].contains('\n') {
            let flat = self.0.split_off(start).replace('\n', " ");
            self.0.push_str(&flat);
        }
    }
}
