//! Which addresses a client may have packets relayed to. Whoever relays for strangers must not lend them its place in the network: by default only the
//! public internet is a peer, in whatever spelling an address comes.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use arc_swap::ArcSwap;
use ipnet::IpNet;

/// The rules for peers.
pub struct PeerRules {
    allow: Vec<IpNet>,
    deny: Vec<IpNet>,
    /// The addresses of this machine, and those by which others know it.
    own: ArcSwap<Vec<IpAddr>>,
}

/// What the rules say of an address.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// Any port of it is a peer.
    Peer,
    /// It is this server's: nothing there is a peer but what it relays for another client.
    Own,
    /// Nothing there is a peer.
    Refused,
}

/// What is no peer, as IANA's registries of special-purpose addresses have it (RFC 6890), and what clouds keep for themselves.
const REFUSED: [&str; 21] = [
    // "This network", unspecified.
    "0.0.0.0/8",
    // Private.
    "10.0.0.0/8",
    "172.16.0.0/12",
    "192.168.0.0/16",
    // Carrier-grade NAT; among them is Alibaba's metadata service.
    "100.64.0.0/10",
    // Loopback.
    "127.0.0.0/8",
    // Link-local; among them are the metadata services of most clouds.
    "169.254.0.0/16",
    // Azure's wire server, which looks like any public address.
    "168.63.129.16/32",
    // Protocol assignments; among them is Oracle's metadata service.
    "192.0.0.0/24",
    // Documentation.
    "192.0.2.0/24",
    "198.51.100.0/24",
    "203.0.113.0/24",
    // Relays of 6to4.
    "192.88.99.0/24",
    // Benchmarking.
    "198.18.0.0/15",
    // Multicast.
    "224.0.0.0/4",
    // Reserved, broadcast.
    "240.0.0.0/4",
    // Protocol assignments: Teredo, benchmarking, identifiers that are no addresses.
    "2001::/23",
    // Documentation.
    "2001:db8::/32",
    "3fff::/20",
    // Unique local, link-local and all else that is not global unicast is outside of 2000::/3; these two name it for who reads this.
    "fc00::/7",
    "fe80::/10",
];

impl PeerRules {
    /// What is in `deny` is refused, what else is in `allow` is not. These addresses are the server's own, which a block does not open: in `allow` each of
    /// them has to be named alone.
    pub fn new(allow: Vec<IpNet>, deny: Vec<IpNet>, own: Vec<IpAddr>) -> Self {
        Self { allow, deny, own: ArcSwap::from_pointee(own) }
    }

    /// From now on these are the server's own.
    pub fn set_own(&self, own: Vec<IpAddr>) {
        self.own.store(own.into());
    }

    /// What is this address?
    pub fn judge(&self, address: IpAddr) -> Verdict {
        let hidden = embedded(address);
        let spellings = || [Some(address), hidden].into_iter().flatten();
        if spellings().any(|address| contains(&self.deny, address)) {
            return Verdict::Refused;
        }
        if self.allow.contains(&address.into()) {
            return Verdict::Peer;
        }
        let own = self.own.load();
        if own.contains(&address) {
            return Verdict::Own;
        }
        // An address with another one inside leads to that.
        if spellings().any(|address| is_here(address) || own.contains(&address)) {
            return Verdict::Refused;
        }
        if !contains(&self.allow, address) && spellings().any(is_special) { Verdict::Refused } else { Verdict::Peer }
    }
}

/// Does the whole internet reach this address?
pub fn is_public(address: IpAddr) -> bool {
    ![Some(address), embedded(address)].into_iter().flatten().any(|address| is_here(address) || is_special(address))
}

fn contains(blocks: &[IpNet], address: IpAddr) -> bool {
    blocks.iter().any(|block| block.contains(&address))
}

/// On every machine that is the machine itself: loopback, and what systems take for it.
fn is_here(address: IpAddr) -> bool {
    match address {
        IpAddr::V4(address) => address.is_loopback() || address.octets()[0] == 0,
        IpAddr::V6(address) => address.is_loopback() || address.is_unspecified(),
    }
}

fn is_special(address: IpAddr) -> bool {
    static REFUSED_BLOCKS: std::sync::LazyLock<Vec<IpNet>> =
        std::sync::LazyLock::new(|| REFUSED.iter().map(|block| block.parse().expect("it is a block")).collect());
    let is_outside = match address {
        IpAddr::V4(_) => false,
        // NAT64 leads to what is embedded, of which more is said by whoever asks.
        IpAddr::V6(address) => address.segments()[0] & 0xe000 != 0x2000 && !is_nat64(address),
    };
    is_outside || contains(&REFUSED_BLOCKS, address)
}

/// The well-known prefix 64:ff9b::/96 (RFC 6052).
fn is_nat64(address: Ipv6Addr) -> bool {
    address.segments()[..6] == [0x64, 0xff9b, 0, 0, 0, 0]
}

/// The IPv4 address that is inside one of IPv6: `::ffff:a.b.c.d`, `::a.b.c.d`, NAT64, 6to4 and Teredo (there the client's, which is inverted).
fn embedded(address: IpAddr) -> Option<IpAddr> {
    let IpAddr::V6(address) = address else { return None };
    let last = Ipv4Addr::from_bits(address.to_bits() as u32);
    match address.segments() {
        [0, 0, 0, 0, 0, 0 | 0xffff, ..] => Some(last),
        _ if is_nat64(address) => Some(last),
        [0x2002, high, low, ..] => Some(Ipv4Addr::from_bits(u32::from(high) << 16 | u32::from(low))),
        [0x2001, 0, ..] => Some(Ipv4Addr::from_bits(!last.to_bits())),
        _ => None,
    }
    .map(IpAddr::V4)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ip(text: &str) -> IpAddr {
        text.parse().unwrap()
    }

    fn blocks(texts: &[&str]) -> Vec<IpNet> {
        texts.iter().map(|text| text.parse().unwrap()).collect()
    }

    #[test]
    fn only_the_public_internet_is_a_peer_in_whatever_spelling() {
        let rules = PeerRules::new(vec![], vec![], vec![ip("9.9.9.9"), ip("2620:fe::fe")]);
        for address in
            ["8.8.8.8", "1.1.1.1", "172.32.0.1", "100.128.0.1", "2606:4700::1111", "2a00::1", "2002:808:808::1", "64:ff9b::808:808"]
        {
            assert_eq!(rules.judge(ip(address)), Verdict::Peer, "{address}");
        }
        let inner = [
            "0.0.0.0",
            "0.1.2.3",
            "10.0.0.1",
            "100.64.0.1",
            "100.100.100.200",
            "127.0.0.1",
            "127.255.0.1",
            "168.63.129.16",
            "169.254.169.254",
            "172.16.0.1",
            "172.31.255.255",
            "192.0.0.192",
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
        ];
        for inner in inner {
            let [a, b, c, d] = inner.parse::<Ipv4Addr>().unwrap().octets();
            let [high, low] = [u16::from_be_bytes([a, b]), u16::from_be_bytes([c, d])];
            let spellings = [
                inner.to_owned(),
                format!("::ffff:{inner}"),
                format!("::{inner}"),
                format!("64:ff9b::{inner}"),
                format!("2002:{high:x}:{low:x}::1"),
                format!("2001:0:808:808:0:0:{:x}:{:x}", !high, !low),
            ];
            for spelling in spellings {
                assert_eq!(rules.judge(ip(&spelling)), Verdict::Refused, "{spelling}");
            }
        }
        for address in [
            "::",
            "::1",
            "::2",
            "100::1",
            "64:ff9b:1::1",
            "2001::1",
            "2001:2::1",
            "2001:10::1",
            "2001:db8::1",
            "3fff::1",
            "5f00::1",
            "fc00::1",
            "fd00:ec2::254",
            "fe80::1",
            "fec0::1",
            "ff02::1",
            "ff0e::1",
            "::ffff:8.8.8.8",
            "::8.8.8.8",
            "2002:909:909::1",
        ] {
            assert_eq!(rules.judge(ip(address)), Verdict::Refused, "{address}");
        }
        assert_eq!(rules.judge(ip("9.9.9.9")), Verdict::Own);
        assert_eq!(rules.judge(ip("2620:fe::fe")), Verdict::Own);
        rules.set_own(vec![]);
        assert_eq!(rules.judge(ip("9.9.9.9")), Verdict::Peer);
    }

    #[test]
    fn an_address_of_the_servers_own_is_a_peer_only_where_it_is_named_itself() {
        let own = || vec![ip("10.1.0.9"), ip("9.9.9.9"), ip("fd00::9")];
        let wide = PeerRules::new(blocks(&["0.0.0.0/0", "::/0"]), vec![], own());
        for (address, verdict) in [
            ("10.1.0.8", Verdict::Peer),
            ("fd00::8", Verdict::Peer),
            ("10.1.0.9", Verdict::Own),
            ("9.9.9.9", Verdict::Own),
            ("fd00::9", Verdict::Own),
            ("127.0.0.1", Verdict::Refused),
            ("0.0.0.0", Verdict::Refused),
            ("0.0.0.1", Verdict::Refused),
            ("::1", Verdict::Refused),
            ("::", Verdict::Refused),
            ("::ffff:127.0.0.1", Verdict::Refused),
            ("::ffff:10.1.0.9", Verdict::Refused),
            ("64:ff9b::9.9.9.9", Verdict::Refused),
            ("2002:a01:9::1", Verdict::Refused),
        ] {
            assert_eq!(wide.judge(ip(address)), verdict, "{address}");
        }
        let named = PeerRules::new(blocks(&["10.1.0.9/32", "fd00::9/128", "127.0.0.1/32"]), blocks(&["fd00::9/128"]), own());
        for (address, verdict) in [
            ("10.1.0.9", Verdict::Peer),
            ("127.0.0.1", Verdict::Peer),
            ("127.0.0.2", Verdict::Refused),
            ("9.9.9.9", Verdict::Own),
            ("fd00::9", Verdict::Refused),
        ] {
            assert_eq!(named.judge(ip(address)), verdict, "{address}");
        }
    }

    #[test]
    fn lists_of_the_operator_come_first_and_what_is_denied_is_not_allowed() {
        let rules = PeerRules::new(blocks(&["10.1.0.0/16", "127.0.0.0/8"]), blocks(&["10.1.1.0/24", "8.8.8.8/32"]), vec![ip("127.0.0.1")]);
        for (address, verdict) in [
            ("10.1.2.3", Verdict::Peer),
            ("127.0.0.1", Verdict::Own),
            ("127.0.0.2", Verdict::Refused),
            ("10.1.1.1", Verdict::Refused),
            ("8.8.8.8", Verdict::Refused),
            ("2002:808:808::1", Verdict::Refused),
            ("64:ff9b::8.8.8.8", Verdict::Refused),
            ("10.2.0.1", Verdict::Refused),
            ("::ffff:10.1.2.3", Verdict::Refused),
            ("8.8.4.4", Verdict::Peer),
        ] {
            assert_eq!(rules.judge(ip(address)), verdict, "{address}");
        }
    }
}
