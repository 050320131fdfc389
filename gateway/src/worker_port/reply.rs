//! Answers, in either version of the protocol.

use bytes::{Bytes, BytesMut};
use redis_protocol::error::RedisProtocolError;
use redis_protocol::{resp2, resp3};

/// Version of the protocol that a connection speaks.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(super) enum Version {
    /// RESP2: what a connection begins with.
    #[default]
    Two,
    /// RESP3: after `HELLO 3`.
    Three,
}

/// An answer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Reply {
    /// A short fixed text.
    Simple(&'static str),
    /// An error: a word in capitals, then a text.
    Error(String),
    /// A number.
    Number(i64),
    /// A text of any length.
    Bulk(Bytes),
    /// No text.
    NoBulk,
    /// No array: what a read answers when nothing came in time.
    NoArray,
    /// A list.
    Array(Vec<Reply>),
    /// Names and values; a flat list in RESP2.
    Map(Vec<(Reply, Reply)>),
}

impl Reply {
    /// `+OK`.
    pub(super) const OK: Self = Self::Simple("OK");

    /// A text.
    pub(super) fn bulk(text: impl Into<Bytes>) -> Self {
        Self::Bulk(text.into())
    }

    /// An error. What came from outside and cannot stand in one line is taken out of it.
    pub(super) fn error(text: impl AsRef<str>) -> Self {
        Self::Error(text.as_ref().chars().map(|c| if c.is_control() { ' ' } else { c }).take(512).collect())
    }

    /// Whether it is an error.
    pub(super) fn is_error(&self) -> bool {
        matches!(self, Self::Error(_))
    }

    /// Writes it.
    pub(super) fn encode(self, version: Version, out: &mut BytesMut) -> Result<(), RedisProtocolError> {
        match (version, self) {
            // Redis' RESP2 has two kinds of nothing; the codec writes only the other.
            (Version::Two, Self::NoArray) => out.extend_from_slice(b"*-1\r\n"),
            (Version::Two, reply) => {
                resp2::encode::extend_encode(out, &reply.into_resp2(), false)?;
            }
            (Version::Three, reply) => {
                resp3::encode::complete::extend_encode(out, &reply.into_resp3(), false)?;
            }
        }
        Ok(())
    }

    fn into_resp2(self) -> resp2::types::BytesFrame {
        use resp2::types::BytesFrame as Frame;
        match self {
            Self::Simple(text) => Frame::SimpleString(Bytes::from_static(text.as_bytes())),
            Self::Error(text) => Frame::Error(text.into()),
            Self::Number(number) => Frame::Integer(number),
            Self::Bulk(text) => Frame::BulkString(text),
            Self::NoBulk | Self::NoArray => Frame::Null,
            Self::Array(items) => Frame::Array(items.into_iter().map(Self::into_resp2).collect()),
            Self::Map(pairs) => Frame::Array(
                pairs.into_iter().flat_map(|(name, value)| [name.into_resp2(), value.into_resp2()]).collect(),
            ),
        }
    }

    fn into_resp3(self) -> resp3::types::BytesFrame {
        use resp3::types::BytesFrame as Frame;
        let attributes = None;
        match self {
            Self::Simple(text) => Frame::SimpleString { data: Bytes::from_static(text.as_bytes()), attributes },
            Self::Error(text) => Frame::SimpleError { data: text.into(), attributes },
            Self::Number(data) => Frame::Number { data, attributes },
            Self::Bulk(data) => Frame::BlobString { data, attributes },
            Self::NoBulk | Self::NoArray => Frame::Null,
            Self::Array(items) => Frame::Array { data: items.into_iter().map(Self::into_resp3).collect(), attributes },
            Self::Map(pairs) => Frame::Map {
                data: pairs.into_iter().map(|(name, value)| (name.into_resp3(), value.into_resp3())).collect(),
                attributes,
            },
        }
    }
}

/// The answer to a command with too few words, or too many.
pub(super) fn wrong_number(command: &str) -> Reply {
    Reply::error(format!("ERR wrong number of arguments for '{command}' command"))
}

/// The answer to whoever names another stream than its own.
pub(super) fn not_its_key() -> Reply {
    Reply::error(
        "NOPERM this user has no permissions to access one of the keys used as arguments; a worker reads its own \
         in-stream and writes its own out-stream",
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    fn written(reply: Reply, version: Version) -> String {
        let mut out = BytesMut::new();
        reply.encode(version, &mut out).unwrap();
        String::from_utf8(out.to_vec()).unwrap()
    }

    #[test]
    fn answers_have_redis_own_bytes() {
        let map = || Reply::Map(vec![(Reply::bulk("proto"), Reply::Number(3))]);
        for (reply, two, three) in [
            (Reply::OK, "+OK\r\n", "+OK\r\n"),
            (Reply::NoArray, "*-1\r\n", "_\r\n"),
            (Reply::NoBulk, "$-1\r\n", "_\r\n"),
            (Reply::Number(-1), ":-1\r\n", ":-1\r\n"),
            (Reply::error("ERR a\r\nb"), "-ERR a  b\r\n", "-ERR a  b\r\n"),
            (Reply::bulk("a\0b"), "$3\r\na\0b\r\n", "$3\r\na\0b\r\n"),
            (Reply::Array(vec![]), "*0\r\n", "*0\r\n"),
            (map(), "*2\r\n$5\r\nproto\r\n:3\r\n", "%1\r\n$5\r\nproto\r\n:3\r\n"),
        ] {
            assert_eq!(written(reply.clone(), Version::Two), two);
            assert_eq!(written(reply, Version::Three), three);
        }
    }
}
