//! Which addresses are public: where a name that a stranger gave may lead the gateway.
//!
//! Judged is an address, never a name: what is checked here is connected to as it is, without another resolution, so that a
//! name that answers differently the next time (DNS rebinding) gains nothing. Everything that is not known to be public is
//! refused (the IANA special-purpose registries, RFC 6890 and its updates), addresses that carry another inside by that one too.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

/// Why an address is not public.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct NotPublic(&'static str);

/// Which addresses may be connected to on a stranger's behalf: public ones, and those that the operator named.
#[derive(Debug, Clone, Default)]
pub struct Guard {
    allowed: Vec<SocketAddr>,
}

impl Guard {
    /// With exceptions, for development and for services of one's own.
    pub fn new(allowed: &[SocketAddr]) -> Self {
        Self { allowed: allowed.iter().map(|at| SocketAddr::new(at.ip().to_canonical(), at.port())).collect() }
    }

    /// Whether this address may be connected to.
    ///
    /// # Errors
    /// [`NotPublic`]
    pub fn check(&self, at: SocketAddr) -> Result<(), NotPublic> {
        let plain = SocketAddr::new(at.ip().to_canonical(), at.port());
        if self.allowed.contains(&plain) { Ok(()) } else { judge(at.ip()) }
    }
}

/// Whether an address is public.
///
/// # Errors
/// [`NotPublic`], which says what it is instead.
pub fn judge(ip: IpAddr) -> Result<(), NotPublic> {
    let wrong = match ip {
        IpAddr::V4(ip) => special_v4(ip),
        IpAddr::V6(ip) => special_v6(ip),
    };
    wrong.map_or(Ok(()), |what| Err(NotPublic(what)))
}

fn special_v4(ip: Ipv4Addr) -> Option<&'static str> {
    let [a, b, c, d] = ip.octets();
    Some(match (a, b, c, d) {
        (0, ..) => "an address of this network",
        (127, ..) => "loopback",
        (10, ..) | (172, 16..=31, ..) | (192, 168, ..) => "a private address",
        (169, 254, ..) => "a link-local address, as cloud metadata has",
        // The one well-known address of a cloud's own services that lies in public space (Azure's WireServer).
        (168, 63, 129, 16) => "an address of cloud metadata",
        (100, 64..=127, ..) => "a carrier's private address",
        (192, 0, 0, _) => "an address of a protocol",
        (192, 0, 2, _) | (198, 51, 100, _) | (203, 0, 113, _) => "an address for documentation",
        (192, 88, 99, _) => "a 6to4 relay",
        (198, 18..=19, ..) => "an address for benchmarks",
        (224..=239, ..) => "a multicast address",
        (240..=255, ..) => "a reserved address",
        _ => return None,
    })
}

fn special_v6(ip: Ipv6Addr) -> Option<&'static str> {
    let s = ip.segments();
    let inner = |high: u16, low: u16| {
        let ([a, b], [c, d]) = (high.to_be_bytes(), low.to_be_bytes());
        special_v4(Ipv4Addr::new(a, b, c, d))
    };
    Some(match s {
        [0, 0, 0, 0, 0, 0, 0, 0] => "no address",
        [0, 0, 0, 0, 0, 0, 0, 1] => "loopback",
        // IPv4-mapped and NAT64 are as the address inside.
        [0, 0, 0, 0, 0, 0xffff, high, low] | [0x64, 0xff9b, 0, 0, 0, 0, high, low] => return inner(high, low),
        [0x2002, high, low, ..] => return inner(high, low).or_else(|| isatap(s, inner)),
        [0x2001, 0x0000..=0x01ff, ..] => "an address of a protocol",
        [0x2001, 0x0db8, ..] | [0x3fff, 0x0000..=0x0fff, ..] => "an address for documentation",
        [0xfc00..=0xfdff, ..] => "a private address",
        [0xfe80..=0xfebf, ..] => "a link-local address",
        [0xfec0..=0xfeff, ..] => "a site-local address",
        [0xff00..=0xffff, ..] => "a multicast address",
        [0x2000..=0x3fff, ..] => return isatap(s, inner),
        // Global unicast is 2000::/3; what else there is has a special purpose or none yet.
        _ => "not a global address",
    })
}

/// ISATAP (RFC 5214) has an IPv4 address in its last half.
fn isatap(s: [u16; 8], inner: impl Fn(u16, u16) -> Option<&'static str>) -> Option<&'static str> {
    match s {
        [.., 0x0000 | 0x0200, 0x5efe, high, low] => inner(high, low),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_public_addresses_are_public() {
        for public in [
            "1.1.1.1",
            "9.255.255.255",
            "11.0.0.0",
            "100.63.255.255",
            "100.128.0.0",
            "126.255.255.255",
            "128.0.0.1",
            "169.253.255.255",
            "172.15.255.255",
            "172.32.0.0",
            "192.167.255.255",
            "192.169.0.0",
            "198.17.255.255",
            "198.20.0.0",
            "223.255.255.255",
            "2606:4700::1111",
            "2a00:1450::1",
            "2001:4860::8888",
            "::ffff:1.1.1.1",
            "64:ff9b::101:101",
            "2002:101:101::1",
        ] {
            assert_eq!(judge(public.parse().unwrap()), Ok(()), "{public}");
        }
        for special in [
            "0.0.0.0",
            "0.1.2.3",
            "10.0.0.1",
            "10.255.255.255",
            "100.64.0.1",
            "100.100.100.200",
            "100.127.255.255",
            "127.0.0.1",
            "127.255.255.254",
            "168.63.129.16",
            "169.254.169.254",
            "169.254.170.2",
            "172.16.0.1",
            "172.31.255.255",
            "192.0.0.1",
            "192.0.2.1",
            "192.88.99.1",
            "192.168.1.1",
            "198.18.0.1",
            "198.19.255.255",
            "198.51.100.1",
            "203.0.113.1",
            "224.0.0.1",
            "239.255.255.255",
            "240.0.0.1",
            "255.255.255.255",
            "::",
            "::1",
            "::2",
            "::127.0.0.1",
            "::ffff:127.0.0.1",
            "::ffff:10.0.0.1",
            "::ffff:169.254.169.254",
            "::ffff:0:1.1.1.1",
            "64:ff9b::7f00:1",
            "64:ff9b::a9fe:a9fe",
            "64:ff9b:1::1",
            "100::1",
            "2001::1",
            "2001:1ff::1",
            "2001:db8::1",
            "2002:7f00:1::1",
            "2002:a00:1::1",
            "2606:4700::5efe:10.0.0.1",
            "2606:4700::200:5efe:127.0.0.1",
            "3fff::1",
            "4000::1",
            "5f00::1",
            "fc00::1",
            "fd00:ec2::254",
            "fe80::1",
            "febf::1",
            "fec0::1",
            "ff02::1",
        ] {
            assert!(judge(special.parse().unwrap()).is_err(), "{special}");
        }
    }

    #[test]
    fn exceptions_are_one_address_and_one_port() {
        let guard = Guard::new(&["127.0.0.1:4873".parse().unwrap()]);
        let check = |at: &str| guard.check(at.parse().unwrap()).is_ok();
        assert!(check("127.0.0.1:4873") && check("[::ffff:127.0.0.1]:4873") && check("1.1.1.1:443"));
        assert!(!check("127.0.0.1:4874") && !check("127.0.0.2:4873") && !check("[::1]:4873"));
        assert!(Guard::default().check("127.0.0.1:4873".parse().unwrap()).is_err());
    }
}
