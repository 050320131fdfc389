//! What a request asks for, read as its body passes by and before anybody acts on it.
//!
//! A body is JSON in UTF-8, strictly, so that there is one way to read it; the members that mean something here stand once in
//! their object. What refers to something that lies with the provider, or has the provider do more than answer, is refused
//! unless the settings allow it. Texts, arguments of tools and their schemas are not looked into.

mod places;
#[cfg(test)]
mod tests;
mod utf8;

use super::json::{Json, Scalar, Token};
use super::model::model_name;
use places::{Place, known, refused_item, refused_tool};
use utf8::Utf8;

/// What is nested more deeply is refused; as serde_json does it.
const MOST_DEPTH: usize = 127;
/// Characters of what a refusal repeats.
const SHOWN_CHARS: usize = 64;

/// What the settings let a provider do beside answering: kinds of tools and of references.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Allowed(pub(super) Vec<String>);

impl Allowed {
    fn has(&self, kind: &str) -> bool {
        self.0.iter().any(|allowed| allowed == kind)
    }
}

/// Why a body is not passed on.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Unasked {
    /// It is no JSON object in UTF-8, or too deep.
    NotJson,
    /// A member that means something stands twice in its object.
    Twice(&'static str),
    /// The value of such a member is not of the type that it has.
    Type(&'static str),
    /// `background` is neither `false` nor `null`: the answer would come without figures, and be worked on after its end.
    Background,
    /// It refers to something that lies with the provider, or has it kept there.
    Stored {
        what: String,
        /// The word in `allow` that opens it.
        kind: String,
    },
    /// It has the provider reach others or run something.
    AtProvider { what: String, kind: String },
}

/// The reader.
#[derive(Debug)]
pub(super) struct Asked {
    allowed: Allowed,
    utf8: Utf8,
    json: Json,
    read: Read,
}

/// What was read so far.
#[derive(Debug, Default)]
struct Read {
    open: Vec<Open>,
    model: Option<String>,
    refused: Option<Unasked>,
}

/// A container that is open.
#[derive(Debug)]
enum Open {
    Object(Object),
    /// An array, as the value of what its own place is.
    Array(Context),
}

/// An object, as far as it was read.
#[derive(Debug)]
struct Object {
    place: Place,
    /// The member whose value comes or came last.
    member: &'static str,
    /// Members that came, as bits in the order of [`places::KNOWN`], and those whose value is not `null`.
    seen: u64,
    filled: u64,
    /// Its `type`.
    kind: Option<String>,
}

/// Whose value something is: of which member of an object at which place.
#[derive(Debug, Clone, Copy)]
struct Context {
    place: Place,
    member: &'static str,
}

/// What a value is.
#[derive(Debug, Clone, Copy, PartialEq)]
enum Value<'a> {
    Scalar(Scalar<'a>),
    Object,
    Array,
}

impl Asked {
    pub(super) fn new(allowed: Allowed) -> Self {
        Self { allowed, utf8: Utf8::default(), json: Json::new(MOST_DEPTH), read: Read::default() }
    }

    /// The model that it asks for, once that was read.
    pub(super) fn model(&self) -> Option<&String> {
        self.read.model.as_ref()
    }

    /// Takes the next piece, of any size; the last one when nothing follows. After an error nothing more is to be fed.
    ///
    /// # Errors
    /// [`Unasked`]: nothing of the piece shall be passed on.
    pub(super) fn feed(&mut self, bytes: &[u8], last: bool) -> Result<(), Unasked> {
        let Self { allowed, utf8, json, read } = self;
        let fed = json.feed(bytes, &mut |token| {
            if read.refused.is_none() {
                read.refused = read.take(token, allowed).err();
            }
        });
        if !utf8.feed(bytes) || fed.is_err() || (last && !json.is_complete()) {
            return Err(Unasked::NotJson);
        }
        read.refused.clone().map_or(Ok(()), Err)
    }
}

impl Read {
    fn take(&mut self, token: Token<'_>, allowed: &Allowed) -> Result<(), Unasked> {
        match token {
            Token::Name(name) => match self.open.last_mut() {
                Some(Open::Object(object)) => object.name(name),
                _ => Ok(()),
            },
            Token::Begin { object: true } => {
                let place = self.value(Value::Object, allowed)?.map_or(Place::Top, |c| c.place.inside(c.member));
                let (seen, filled) = (0, 0);
                self.open.push(Open::Object(Object { place, member: "", seen, filled, kind: None }));
                Ok(())
            }
            Token::Begin { object: false } => {
                // A request is an object.
                let context = self.value(Value::Array, allowed)?.ok_or(Unasked::NotJson)?;
                self.open.push(Open::Array(context));
                Ok(())
            }
            Token::End => match self.open.pop() {
                Some(Open::Object(object)) => object.end(allowed),
                _ => Ok(()),
            },
            Token::Scalar(scalar) => {
                let context = self.value(Value::Scalar(scalar), allowed)?;
                if let (Some(Context { place: Place::Top, member: "model" }), Scalar::Text(name, _)) = (context, scalar)
                {
                    self.model = model_name(name);
                }
                Ok(())
            }
        }
    }

    /// Judges a value, and says whose it is; `None` for the document itself.
    fn value(&mut self, value: Value<'_>, allowed: &Allowed) -> Result<Option<Context>, Unasked> {
        let context = match self.open.last_mut() {
            None => return Ok(None),
            Some(Open::Array(context)) => *context,
            Some(Open::Object(object)) => {
                if value != Value::Scalar(Scalar::Null) {
                    object.filled |= bit(object.member);
                }
                if let ("type", Value::Scalar(Scalar::Text(kind, _))) = (object.member, value) {
                    object.kind = Some(kind.into());
                }
                Context { place: object.place, member: object.member }
            }
        };
        if value != Value::Scalar(Scalar::Null) {
            judge(context, value, allowed)?;
        }
        Ok(Some(context))
    }
}

impl Object {
    fn name(&mut self, name: Option<&str>) -> Result<(), Unasked> {
        self.member = "";
        if self.place == Place::Free {
            return Ok(());
        }
        // Half of a surrogate pair is read in more than one way.
        self.member = name.map(known).ok_or(Unasked::NotJson)?;
        let bit = bit(self.member);
        if self.seen & bit != 0 {
            return Err(Unasked::Twice(self.member));
        }
        self.seen |= bit;
        Ok(())
    }

    fn has(&self, member: &str) -> bool {
        self.filled & bit(member) != 0
    }

    /// What only the whole object tells: whether something is there, or is to be looked up by its id.
    fn end(self, allowed: &Allowed) -> Result<(), Unasked> {
        if self.place != Place::Item {
            return Ok(());
        }
        let looked_up = match self.kind.as_deref() {
            None => !self.has("role"),
            Some("reasoning") => self.has("id") && !self.has("encrypted_content"),
            Some("item_reference") => true,
            Some(kind) => return refused_item(kind).map_or(Ok(()), |by| at_provider(kind, by, allowed)),
        };
        if looked_up { stored("item_reference", "item_reference", allowed) } else { Ok(()) }
    }
}

/// What is refused of a value that is not `null`.
fn judge(context: Context, value: Value<'_>, allowed: &Allowed) -> Result<(), Unasked> {
    use Value::{Array, Object, Scalar as Is};
    let Context { place, member } = context;
    let inline =
        matches!(value, Is(Scalar::Text(text, _)) if text.get(..5).is_some_and(|b| b.eq_ignore_ascii_case("data:")));
    match (place, member, value) {
        (Place::Free, ..) => Ok(()),
        (Place::Top, "background" | "store", Is(Scalar::False)) => Ok(()),
        (Place::Top, "background", _) => Err(Unasked::Background),
        (Place::Top, "prompt", Object) | (Place::Top, "store" | "previous_response_id" | "conversation", _) => {
            stored(member, member, allowed)
        }
        (_, "container", Is(_) | Array) | (Place::Top, "container", _) => stored(member, member, allowed),
        (_, "container_id", _) => stored(member, "container", allowed),
        // Empty ones are what some clients always send.
        (_, "file_ids" | "vector_store_ids" | "skills" | "mcp_servers", Array) => Ok(()),
        (_, "file_id" | "file_ids" | "vector_store_ids" | "skills", _) => stored(member, member, allowed),
        (_, "mcp_servers", _) => at_provider(member, "mcp", allowed),
        (Place::Top, "web_search_options", _) => at_provider(member, "web_search", allowed),
        (Place::Source, "id", _) => stored("audio.id", "audio", allowed),
        (_, "file_url", _) | (Place::Source, "url", _) | (_, "image_url", Is(_) | Array) if !inline => {
            at_provider(member, "url", allowed)
        }
        // A tool by its name alone.
        (_, "tools", Is(Scalar::Text(kind, true))) | (Place::Tool, "type", Is(Scalar::Text(kind, true))) => {
            refused_tool(kind).map_or(Ok(()), |by| at_provider(kind, by, allowed))
        }
        (_, "tools", Is(_)) => Err(Unasked::Type("tools")),
        (Place::Tool | Place::Item, "type", value) if !matches!(value, Is(Scalar::Text(_, true))) => {
            Err(Unasked::Type("type"))
        }
        _ => Ok(()),
    }
}

fn stored(what: &str, kind: &str, allowed: &Allowed) -> Result<(), Unasked> {
    if allowed.has(kind) { Ok(()) } else { Err(Unasked::Stored { what: shown(what), kind: shown(kind) }) }
}

fn at_provider(what: &str, kind: &str, allowed: &Allowed) -> Result<(), Unasked> {
    if allowed.has(kind) { Ok(()) } else { Err(Unasked::AtProvider { what: shown(what), kind: shown(kind) }) }
}

/// A word of the request's as it may stand in a message, and in the settings.
fn shown(word: &str) -> String {
    let plain = |c: char| if c.is_ascii_alphanumeric() || "-._".contains(c) { c } else { '_' };
    word.chars().take(SHOWN_CHARS).map(plain).collect()
}

fn bit(member: &str) -> u64 {
    places::KNOWN.iter().position(|known| *known == member).map_or(0, |at| 1 << at)
}
