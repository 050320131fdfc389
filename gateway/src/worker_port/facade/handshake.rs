//! How a connection introduces itself: HELLO, AUTH, CLIENT.

use bytes::Bytes;
use ledger::{Ready, Standing};

use super::super::command::upper;
use super::super::nonce;
use super::super::reply::{Reply, Version};
use super::{Facade, Stop, clean, no_permission, wrong_number};

/// The user that shows a nonce.
const USER: &[u8] = b"rekindle";
/// Longest name of a connection that is kept.
const MOST_NAME_BYTES: usize = 256;

impl Facade<'_> {
    /// `HELLO [2|3 [AUTH user password] [SETNAME name]]`
    pub(super) async fn hello(&mut self, args: &[Bytes]) -> Result<Reply, Stop> {
        let mut version = self.version;
        let mut rest = args;
        if let [asked, more @ ..] = rest {
            version = match &asked[..] {
                b"2" => Version::Two,
                b"3" => Version::Three,
                _ => return Ok(Reply::error("NOPROTO unsupported protocol version")),
            };
            rest = more;
        }
        let (mut name, mut credentials) = (None, None);
        while let [option, more @ ..] = rest {
            rest = match (upper(option).as_str(), more) {
                ("AUTH", [user, password, more @ ..]) => {
                    credentials = Some((user, password));
                    more
                }
                ("SETNAME", [given, more @ ..]) => {
                    name = Some(given);
                    more
                }
                _ => return Ok(Reply::error("ERR Syntax error in HELLO")),
            };
        }
        if let Some((user, password)) = credentials {
            let answer = self.show(user, password).await?;
            if answer.is_error() {
                return Ok(answer);
            }
        }
        if let Some(name) = name {
            let answer = self.set_name(name);
            if answer.is_error() {
                return Ok(answer);
            }
        }
        self.version = version;
        let pair = |name: &'static str, value| (Reply::bulk(name), value);
        let proto = if version == Version::Three { 3 } else { 2 };
        Ok(Reply::Map(vec![
            pair("server", Reply::bulk("redis")),
            pair("version", Reply::bulk("7.0.0")),
            pair("proto", Reply::Number(proto)),
            pair("id", self.number()),
            pair("mode", Reply::bulk("standalone")),
            pair("role", Reply::bulk("master")),
            pair("modules", Reply::Array(vec![])),
        ]))
    }

    /// `AUTH [user] password`
    pub(super) async fn auth(&mut self, args: &[Bytes]) -> Result<Reply, Stop> {
        match args {
            [password] => self.show(USER, password).await,
            [user, password] => self.show(user, password).await,
            _ => Ok(wrong_number("auth")),
        }
    }

    async fn show(&mut self, user: &[u8], password: &[u8]) -> Result<Reply, Stop> {
        let (uid, generation) = (&self.claims.unit, self.claims.generation);
        let current = self.port.ledger.current(uid, generation).await?;
        if matches!(current.standing, Standing::Over) {
            return Err(Stop::Over);
        }
        let kept = current.nonce_hash.as_deref().unwrap_or_default();
        if user != USER || !nonce::matches(password, kept) {
            return Ok(Reply::error("WRONGPASS invalid username-password pair or user is disabled."));
        }
        self.shown = true;
        Ok(Reply::OK)
    }

    /// `CLIENT SETNAME|GETNAME|SETINFO|ID|CLAIM …`
    pub(super) async fn client(&mut self, args: &[Bytes]) -> Result<Reply, Stop> {
        let Some(verb) = args.first() else {
            return Ok(wrong_number("client"));
        };
        Ok(match (upper(verb).as_str(), &args[1..]) {
            ("SETNAME", [name]) => self.set_name(name),
            ("GETNAME", []) if self.name.is_empty() => Reply::NoBulk,
            ("GETNAME", []) => Reply::Bulk(self.name.clone()),
            ("SETINFO", [_, _]) => Reply::OK,
            ("ID", []) => self.number(),
            ("CLAIM", [boot_ms]) => self.claim(boot_ms).await?,
            (known @ ("SETNAME" | "GETNAME" | "SETINFO" | "ID" | "CLAIM"), _) => {
                wrong_number(&format!("client|{}", clean(known)))
            }
            (other, _) => no_permission(&format!("client|{}", clean(other))),
        })
    }

    /// The generation is claimed once. When the answer is lost on its way the worker cannot know its nonce: it ends, and
    /// the next generation claims anew.
    async fn claim(&mut self, boot_ms: &[u8]) -> Result<Reply, Stop> {
        let boot_ms = std::str::from_utf8(boot_ms).ok().and_then(|t| t.parse::<u64>().ok());
        let Some(boot_ms) = boot_ms else {
            return Ok(Reply::error("ERR boot_ms is a number of milliseconds"));
        };
        let nonce = nonce::new();
        let hash = nonce::hash(nonce.as_bytes());
        let (uid, generation) = (&self.claims.unit, self.claims.generation);
        match self.port.ledger.ready(uid, generation, Some(&hash), boot_ms).await? {
            Ready::Live => {
                self.shown = true;
                Ok(Reply::bulk(nonce))
            }
            Ready::AlreadyClaimed => Ok(Reply::error("NOPERM generation is claimed")),
            Ready::Over => Err(Stop::Over),
        }
    }

    fn set_name(&mut self, name: &Bytes) -> Reply {
        if name.len() > MOST_NAME_BYTES || !name.iter().all(|b| (b'!'..=b'~').contains(b)) {
            return Reply::error("ERR Client names cannot contain spaces, newlines or special characters.");
        }
        self.name = Bytes::copy_from_slice(name);
        Reply::OK
    }

    fn number(&self) -> Reply {
        Reply::Number(i64::try_from(self.seat.number()).unwrap_or(i64::MAX))
    }
}
