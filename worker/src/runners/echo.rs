//! `echo`: answers with the prompt. It needs nothing, so that a first call works on any machine.

use contract::EventBody;

use super::{Context, Outcome};
use crate::events::Sink;

pub(super) async fn run(ctx: &Context<'_>, sink: &mut Sink) -> Outcome {
    sink.emit(EventBody::MessageDelta { text: ctx.prompt.to_owned() }).await;
    Outcome { ok: true, reply: ctx.prompt.to_owned(), ..Outcome::default() }
}
