//! The scalars of a JSON document that comes in pieces, with the names that lead to them.

use super::super::json::{Json, Scalar, Token};

/// Objects that are looked into; what lies deeper is passed over.
const DEPTH: usize = 6;
/// A provider's answer that is nested more deeply is not read.
const MOST_DEPTH: usize = 4096;

/// The document. What is not JSON is not read from there on.
#[derive(Debug)]
pub(super) struct Document {
    json: Json,
    /// Of each container that is open and looked into, the name whose value comes or came last; none in an array.
    open: Vec<Option<String>>,
    /// Containers that are open below those.
    deeper: usize,
    failed: bool,
}

impl Document {
    pub(super) fn new() -> Self {
        Self { json: Json::new(MOST_DEPTH), open: Vec::new(), deeper: 0, failed: false }
    }

    /// The next document begins.
    pub(super) fn reset(&mut self) {
        self.json.reset();
        self.open.clear();
        (self.deeper, self.failed) = (0, false);
    }

    /// Takes the next piece, of any size. `found` is told each scalar that only objects lead to.
    pub(super) fn feed(&mut self, bytes: &[u8], found: &mut dyn FnMut(&[&str], Scalar<'_>)) {
        let Self { json, open, deeper, failed } = self;
        if !*failed {
            *failed = json.feed(bytes, &mut |token| take(open, deeper, token, found)).is_err();
        }
    }
}

fn take(
    open: &mut Vec<Option<String>>,
    deeper: &mut usize,
    token: Token<'_>,
    found: &mut dyn FnMut(&[&str], Scalar<'_>),
) {
    match token {
        Token::Begin { .. } if *deeper > 0 || open.len() == DEPTH => *deeper += 1,
        Token::Begin { object } => open.push(object.then(String::new)),
        Token::End if *deeper > 0 => *deeper -= 1,
        Token::End => drop(open.pop()),
        _ if *deeper > 0 => {}
        Token::Name(name) => {
            if let Some(Some(at)) = open.last_mut() {
                name.unwrap_or_default().clone_into(at);
            }
        }
        Token::Scalar(scalar) => {
            let mut path = [""; DEPTH];
            for (at, name) in path.iter_mut().zip(open.iter()) {
                match name {
                    Some(name) => *at = name,
                    None => return,
                }
            }
            found(&path[..open.len()], scalar);
        }
    }
}
