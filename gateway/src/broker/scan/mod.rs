//! What a provider says of itself in an answer: the model and the tokens, read as the bytes pass by.
//!
//! Nothing is held back and nothing is kept but the figures. They are cumulative in every API, so the highest counts; and the
//! same bytes give the same figures however they are cut into pieces.

mod document;
mod sse;
#[cfg(test)]
mod tests;

use http::{HeaderMap, header};
use ledger::Tokens;
use settings::Api;

use super::json::Scalar;
use super::model::model_name;
use document::Document;
use sse::{Part, Sse};

#[derive(Debug)]
enum Form {
    Events(Sse),
    Document,
    /// Nothing that is understood.
    Opaque,
}

/// Reads an answer.
#[derive(Debug)]
pub(super) struct Scanner {
    form: Form,
    document: Document,
    seen: Seen,
}

/// What was read so far.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Seen {
    api: Api,
    pub(super) model: Option<String>,
    /// The final figures were among it.
    pub(super) complete: bool,
    /// Events, if it has events.
    pub(super) events: u64,
    pub(super) bytes: u64,
    input: u64,
    output: u64,
    cache_read: u64,
    /// Of either lifetime.
    cache_write: u64,
    cache_write_5m: u64,
    cache_write_1h: u64,
    reasoning: u64,
}

impl Scanner {
    /// For an answer with these headers.
    pub(super) fn new(api: Api, headers: &HeaderMap) -> Self {
        let text = |name| headers.get(name).and_then(|v| v.to_str().ok()).unwrap_or_default().to_ascii_lowercase();
        let (kind, coding) = (text(header::CONTENT_TYPE), text(header::CONTENT_ENCODING));
        let plain = matches!(coding.as_str(), "" | "identity");
        let form = match kind.split(';').next().unwrap_or_default().trim() {
            "text/event-stream" if plain => Form::Events(Sse::new()),
            "application/json" if plain => Form::Document,
            _ => Form::Opaque,
        };
        Self { form, document: Document::new(), seen: Seen::new(api) }
    }

    /// Takes the next piece.
    pub(super) fn feed(&mut self, bytes: &[u8]) {
        let Self { form, document, seen } = self;
        seen.bytes += bytes.len() as u64;
        match form {
            Form::Opaque => {}
            Form::Document => document.feed(bytes, &mut |path, scalar| seen.take(path, scalar)),
            Form::Events(sse) => sse.feed(bytes, &mut |part| match part {
                Part::Data(data) => document.feed(data, &mut |path, scalar| seen.take(path, scalar)),
                Part::End => {
                    document.reset();
                    seen.events += 1;
                }
            }),
        }
    }

    pub(super) fn seen(&self) -> &Seen {
        &self.seen
    }
}

impl Seen {
    fn new(api: Api) -> Self {
        Self {
            api,
            model: None,
            complete: false,
            events: 0,
            bytes: 0,
            input: 0,
            output: 0,
            cache_read: 0,
            cache_write: 0,
            cache_write_5m: 0,
            cache_write_1h: 0,
            reasoning: 0,
        }
    }

    fn take(&mut self, path: &[&str], scalar: Scalar<'_>) {
        // The first and the last event of a stream have what a whole answer has, one step deeper.
        let (wrapped, path) = match (self.api, path) {
            (Api::Anthropic, ["message", rest @ ..]) | (Api::OpenAi, ["response", rest @ ..]) => (true, rest),
            _ => (false, path),
        };
        if let (["model"], Scalar::Text(name, _), None) = (path, scalar, &self.model) {
            self.model = model_name(name);
        }
        let (["usage", kind @ ..], Scalar::Number(count)) = (path, scalar) else {
            return;
        };
        let figure = match kind {
            ["input_tokens" | "prompt_tokens"] => &mut self.input,
            ["output_tokens" | "completion_tokens"] => {
                // `message_start` has the first token, `message_delta` all of them; OpenAI says it once, at the end.
                self.complete |= self.api == Api::OpenAi || !wrapped;
                &mut self.output
            }
            ["cache_read_input_tokens"] | ["input_tokens_details" | "prompt_tokens_details", "cached_tokens"] => {
                &mut self.cache_read
            }
            ["cache_creation_input_tokens"] => &mut self.cache_write,
            ["cache_creation", "ephemeral_5m_input_tokens"] => &mut self.cache_write_5m,
            ["cache_creation", "ephemeral_1h_input_tokens"] => &mut self.cache_write_1h,
            ["output_tokens_details" | "completion_tokens_details", "reasoning_tokens" | "thinking_tokens"] => {
                &mut self.reasoning
            }
            _ => return,
        };
        *figure = (*figure).max(count);
    }

    /// The tokens, each of one kind only.
    pub(super) fn tokens(&self) -> Tokens {
        let input = match self.api {
            Api::Anthropic => self.input,
            // There what was read from a cache is a part of the input.
            Api::OpenAi => self.input.saturating_sub(self.cache_read),
        };
        Tokens {
            input,
            output: self.output,
            cache_read: self.cache_read,
            // Where the lifetime is not said it is the short one.
            cache_write_5m: self.cache_write_5m.max(self.cache_write.saturating_sub(self.cache_write_1h)),
            cache_write_1h: self.cache_write_1h,
            reasoning: self.reasoning,
        }
    }
}
