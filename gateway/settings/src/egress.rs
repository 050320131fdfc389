//! `[egress]`, and what `profiles.<name>.egress` and `[egress_presets]` are made of: hosts that sandboxes may reach.

use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::str::FromStr;

use serde::{Deserialize, Serialize};

/// Longest name of a host (RFC 1035, 2.3.4).
const NAME_BYTES: usize = 253;
/// Longest label of one.
const LABEL_BYTES: usize = 63;
/// The port of a host that is named without one.
const HTTPS: u16 = 443;
const HTTP: u16 = 80;

/// `[egress]`: bounds of what sandboxes have open to the outside.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Egress {
    /// Most connections that one unit's worker has open to allowed hosts.
    pub connections_per_unit: usize,
    /// Seconds for a name to be resolved and a connection to be made.
    pub connect_sec: u64,
    /// Seconds after which a connection that carries nothing is closed.
    pub idle_sec: u64,
    /// MiB that one connection may carry, both ways together.
    pub connection_mb: u64,
    /// MiB that all connections of one turn may carry.
    pub turn_mb: u64,
}

impl Default for Egress {
    fn default() -> Self {
        Self { connections_per_unit: 32, connect_sec: 15, idle_sec: 120, connection_mb: 2_048, turn_mb: 8_192 }
    }
}

/// Why a host or a rule is none.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum EgressError {
    /// The host is not spelled as a host is.
    #[error("`{0}` is not a host: write a name in ASCII, an IPv4 address as four decimal numbers or `[IPv6]`")]
    Host(String),
    /// The port is no port.
    #[error("`{0}` has no port from 1 to 65535 where one is expected")]
    Port(String),
    /// The rule has parts that no rule has.
    #[error(
        "`{0}` is not a rule: write `host`, `host:port`, `*.domain`, `http://host` (port 80) or `preset:name`, nothing more"
    )]
    Rule(String),
}

/// A host in its one spelling: lower case, no dot at the end, addresses as addresses.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum EgressHost {
    /// A literal address.
    Address(IpAddr),
    /// A name.
    Name(String),
}

impl FromStr for EgressHost {
    type Err = EgressError;

    fn from_str(text: &str) -> Result<Self, EgressError> {
        let wrong = || EgressError::Host(shown(text));
        if let Some(inner) = text.strip_prefix('[').and_then(|rest| rest.strip_suffix(']')) {
            // The parser knows no zones, so that `fe80::1%eth0` is none.
            return inner.parse::<Ipv6Addr>().map(|ip| Self::Address(ip.into())).map_err(|_| wrong());
        }
        let name = text.strip_suffix('.').unwrap_or(text).to_ascii_lowercase();
        let legal = |label: &str| {
            (1..=LABEL_BYTES).contains(&label.len())
                && label.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-' || b == b'_')
        };
        if name.len() > NAME_BYTES || !name.split('.').all(legal) {
            return Err(wrong());
        }
        let last = name.rsplit('.').next().unwrap_or_default();
        let hex = last.strip_prefix("0x").is_some_and(|rest| rest.bytes().all(|b| b.is_ascii_hexdigit()));
        if hex || last.bytes().all(|b| b.is_ascii_digit()) {
            // What ends in a number is read as an address by resolvers, in octal, hexadecimal or with parts left out: only the
            // one spelling that everybody reads alike is taken.
            return name.parse::<Ipv4Addr>().map(|ip| Self::Address(ip.into())).map_err(|_| wrong());
        }
        Ok(Self::Name(name))
    }
}

impl fmt::Display for EgressHost {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Address(IpAddr::V6(ip)) => write!(f, "[{ip}]"),
            Self::Address(ip) => write!(f, "{ip}"),
            Self::Name(name) => f.write_str(name),
        }
    }
}

/// Where a sandbox wants to connect to.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct EgressTarget {
    /// The host.
    pub host: EgressHost,
    /// The port.
    pub port: u16,
}

impl EgressTarget {
    /// Reads `host:port`; `host` alone where there is a default.
    ///
    /// # Errors
    /// [`EgressError`] for anything else, such as names of users.
    pub fn parse(text: &str, default_port: Option<u16>) -> Result<Self, EgressError> {
        let (host, port) = split_port(text);
        let no_port = || EgressError::Port(shown(text));
        let port = match port {
            Some(port) => parse_port(port).ok_or_else(no_port)?,
            None => default_port.ok_or_else(no_port)?,
        };
        Ok(Self { host: host.parse()?, port })
    }
}

/// As rules write it: without the port where that is the usual one.
impl fmt::Display for EgressTarget {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.port {
            HTTPS => write!(f, "{}", self.host),
            port => write!(f, "{}:{port}", self.host),
        }
    }
}

/// One entry of an `egress` list.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub enum EgressRule {
    /// This host at this port.
    Host(EgressTarget),
    /// Every name below this one, not itself, at this port.
    Below(String, u16),
    /// What a package manager is configured with, or `[egress_presets]` says.
    Preset(String),
}

impl EgressRule {
    /// Whether it allows this. A preset by itself allows nothing: it stands for other rules.
    pub fn allows(&self, target: &EgressTarget) -> bool {
        match (self, &target.host) {
            (Self::Host(allowed), _) => allowed == target,
            (Self::Below(domain, port), EgressHost::Name(name)) => {
                target.port == *port
                    && name.strip_suffix(domain.as_str()).is_some_and(|sub| sub.len() > 1 && sub.ends_with('.'))
            }
            (Self::Below(..), EgressHost::Address(_)) | (Self::Preset(_), _) => false,
        }
    }
}

impl FromStr for EgressRule {
    type Err = EgressError;

    /// Reads `host`, `host:port`, `*.domain`, `*.domain:port`, any of them behind `https://` or `http://`, or `preset:name`.
    fn from_str(text: &str) -> Result<Self, EgressError> {
        let wrong = || EgressError::Rule(shown(text));
        if let Some(preset) = text.strip_prefix("preset:") {
            let legal = |b: u8| b.is_ascii_alphanumeric() || b == b'-' || b == b'_';
            let good = (1..=LABEL_BYTES).contains(&preset.len()) && preset.bytes().all(legal);
            return good.then(|| Self::Preset(preset.into())).ok_or_else(wrong);
        }
        let (authority, usual) = match text.split_once("://") {
            Some(("https", rest)) => (rest, HTTPS),
            Some(("http", rest)) => (rest, HTTP),
            Some(_) => return Err(wrong()),
            None => (text, HTTPS),
        };
        let Some(below) = authority.strip_prefix("*.") else {
            return EgressTarget::parse(authority, Some(usual)).map(Self::Host);
        };
        match EgressTarget::parse(below, Some(usual))? {
            EgressTarget { host: EgressHost::Name(domain), port } => Ok(Self::Below(domain, port)),
            EgressTarget { host: EgressHost::Address(_), .. } => Err(wrong()),
        }
    }
}

impl TryFrom<String> for EgressRule {
    type Error = EgressError;
    fn try_from(text: String) -> Result<Self, EgressError> {
        text.parse()
    }
}

impl From<EgressRule> for String {
    fn from(rule: EgressRule) -> Self {
        rule.to_string()
    }
}

impl fmt::Display for EgressRule {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Host(target) => write!(f, "{target}"),
            Self::Below(domain, HTTPS) => write!(f, "*.{domain}"),
            Self::Below(domain, port) => write!(f, "*.{domain}:{port}"),
            Self::Preset(name) => write!(f, "preset:{name}"),
        }
    }
}

/// Host and port of `host:port`, `[v6]:port`, `host` or `[v6]`.
fn split_port(text: &str) -> (&str, Option<&str>) {
    let bracket = text.find(']').map_or(0, |at| at + 1);
    match text.get(bracket..).and_then(|rest| rest.rfind(':')) {
        Some(colon) => (&text[..bracket + colon], Some(&text[bracket + colon + 1..])),
        None => (text, None),
    }
}

fn parse_port(text: &str) -> Option<u16> {
    let plain = !text.is_empty() && text.bytes().all(|b| b.is_ascii_digit()) && !text.starts_with('0');
    if plain { text.parse().ok() } else { None }
}

/// Short, and fit for a message.
fn shown(text: &str) -> String {
    text.chars().take(100).map(|c| if c.is_control() { '?' } else { c }).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn allows(rule: &str, target: &str) -> bool {
        rule.parse::<EgressRule>().unwrap().allows(&EgressTarget::parse(target, None).unwrap())
    }

    #[test]
    fn a_rule_allows_what_it_names_and_nothing_else() {
        for (rule, target) in [
            ("api.example.com", "api.example.com:443"),
            ("api.example.com", "API.Example.COM.:443"),
            ("API.example.com.", "api.example.com:443"),
            ("api.example.com:8443", "api.example.com:8443"),
            ("https://api.example.com", "api.example.com:443"),
            ("http://api.example.com", "api.example.com:80"),
            ("http://api.example.com:8080", "api.example.com:8080"),
            ("*.example.org", "a.example.org:443"),
            ("*.example.org", "a.b.example.org:443"),
            ("*.example.org:8443", "a.example.org:8443"),
            ("203.0.113.7", "203.0.113.7:443"),
            ("[2001:db8::1]:8443", "[2001:0db8:0:0::1]:8443"),
        ] {
            assert!(allows(rule, target), "{rule} {target}");
        }
        for (rule, target) in [
            ("api.example.com", "api.example.com:80"),
            ("api.example.com", "example.com:443"),
            ("api.example.com", "x.api.example.com:443"),
            ("api.example.com", "api.example.com.evil.test:443"),
            ("http://api.example.com", "api.example.com:443"),
            ("*.example.org", "example.org:443"),
            ("*.example.org", "evilexample.org:443"),
            ("*.example.org", "a.example.org:8443"),
            ("*.0.0.7.example", "203.0.0.7:443"),
            ("preset:npm", "registry.example:443"),
        ] {
            assert!(!allows(rule, target), "{rule} {target}");
        }
    }

    #[test]
    fn what_is_no_rule_is_refused() {
        for wrong in [
            "",
            "*",
            "*.",
            "a*.example.org",
            "*.*.org",
            "*.10.0.0.1",
            "a b",
            "a/b",
            "https://a.example/path",
            "https://a.example/",
            "ftp://a.example",
            "me@a.example",
            "a.example:0",
            "a.example:65536",
            "a.example:+80",
            "a.example:080",
            "a.example:",
            "a..example",
            ".example",
            "ä.example",
            "::1",
            "[fe80::1%eth0]",
            "127.1",
            "0x7f000001",
            "0177.0.0.1",
            "2130706433",
            "preset:",
            "preset:a b",
        ] {
            assert!(wrong.parse::<EgressRule>().is_err(), "{wrong}");
        }
        assert!("a.example".parse::<EgressRule>().is_ok());
        assert!(format!("{}.example", "a".repeat(64)).parse::<EgressRule>().is_err());
        assert!("a.".repeat(127).parse::<EgressRule>().is_ok(), "253 bytes and the last dot");
        assert!("a.".repeat(128).parse::<EgressRule>().is_err());
    }

    #[test]
    fn a_target_needs_its_port_and_hosts_have_one_spelling() {
        assert!(EgressTarget::parse("a.example", None).is_err());
        assert_eq!(EgressTarget::parse("A.example.", Some(80)).unwrap().to_string(), "a.example:80");
        assert_eq!(EgressTarget::parse("a.example:443", None).unwrap().to_string(), "a.example");
        assert_eq!("127.0.0.1.".parse(), Ok(EgressHost::Address(Ipv4Addr::LOCALHOST.into())));
        for odd in ["127.0.0.01", "127.0.1", "0x7f.0.0.1", "1.2.3.0x4", "[127.0.0.1]", "[::1", "::1]", "1.2.3.4.5"] {
            assert!(odd.parse::<EgressHost>().is_err(), "{odd}");
        }
        for rule in ["a.example", "a.example:80", "*.b.example", "*.b.example:1", "preset:npm", "[::1]:2"] {
            assert_eq!(rule.parse::<EgressRule>().unwrap().to_string(), rule);
        }
    }
}
