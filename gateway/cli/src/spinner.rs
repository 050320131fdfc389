//! What one waits for while a unit starts: on stderr, and only where that is a terminal.

use std::io::IsTerminal;
use std::time::Duration;

use contract::{EventBody, UnitEvent};
use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};

use crate::render::printable;

/// A spinner, or nothing.
#[derive(Debug)]
pub struct Spinner {
    bar: Option<ProgressBar>,
}

impl Spinner {
    /// Spins with this text if stderr is a terminal.
    pub fn new(text: &str) -> Self {
        let bar = std::io::stderr().is_terminal().then(|| {
            let bar = ProgressBar::with_draw_target(None, ProgressDrawTarget::stderr());
            if let Ok(style) = ProgressStyle::with_template("{spinner} {msg} {elapsed:.dim}") {
                bar.set_style(style);
            }
            bar.set_message(text.to_owned());
            bar.enable_steady_tick(Duration::from_millis(100));
            bar
        });
        Self { bar }
    }

    /// Says what is waited for now.
    pub fn say(&self, text: &str) {
        if let Some(bar) = &self.bar {
            bar.set_message(printable(text));
        }
    }

    /// Takes it off the screen; it does not come back.
    pub fn clear(&mut self) {
        if let Some(bar) = self.bar.take() {
            bar.finish_and_clear();
        }
    }
}

impl Drop for Spinner {
    fn drop(&mut self) {
        self.clear();
    }
}

/// What an event says about the wait; none when the wait is over or the event says nothing of it.
pub fn waiting_for(event: &UnitEvent) -> Option<String> {
    match &event.body {
        EventBody::Queued { reason, position: 0 } => Some(format!("waiting for {reason}")),
        EventBody::Queued { reason, position } => Some(format!("waiting for {reason}, {position} before it")),
        EventBody::WorkerReady { boot_ms } => {
            Some(format!("the worker is ready ({boot_ms} ms); handing over the turn"))
        }
        EventBody::WorkerExit { reason, .. } => Some(format!("the last worker is gone ({reason}); starting another")),
        EventBody::TurnAccepted { .. } => Some("the agent works".into()),
        EventBody::ThinkingDelta { .. } => Some("the model thinks".into()),
        EventBody::ToolCall { tool, .. } => Some(format!("the agent uses {tool}")),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn say(json: &str) -> Option<String> {
        waiting_for(&serde_json::from_str(json).unwrap())
    }

    #[test]
    fn it_says_what_is_waited_for() {
        assert_eq!(
            say(r#"{"type":"queued","reason":"workspace notes","position":2}"#).unwrap(),
            "waiting for workspace notes, 2 before it"
        );
        assert!(say(r#"{"type":"worker-ready","boot_ms":40}"#).unwrap().contains("40 ms"));
        assert_eq!(say(r#"{"type":"message-delta","text":"x"}"#), None);
    }
}
