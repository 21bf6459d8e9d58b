//! Where a Redis is, as a ModelRoute writes it.

/// Where a Redis is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RedisAddress<'a> {
    /// A name or an address; one of IPv6 without its brackets.
    pub host: &'a str,
    /// The port, which is not 0.
    pub port: u16,
    /// Whether TLS is spoken.
    pub tls: bool,
    /// Whether it is a node of a Redis Cluster, which tells where the others are.
    pub cluster: bool,
}

/// How addresses may begin, and what that says of TLS and of a cluster.
const SCHEMES: [(&str, bool, bool); 4] = [
    ("redis://", false, false),
    ("rediss://", true, false),
    ("redis+cluster://", false, true),
    ("rediss+cluster://", true, true),
];

impl<'a> RedisAddress<'a> {
    /// What an address looks like, for people.
    pub const FORM: &'static str = "`host:port`, or `rediss://host:port` for TLS; a node of a Redis Cluster is \
                                    `redis+cluster://host:port`, or `rediss+cluster://host:port` for TLS";

    /// Reads an address; `None` if it is not one.
    pub fn read(address: &'a str) -> Option<Self> {
        let said = SCHEMES.iter().find_map(|(scheme, tls, cluster)| {
            let rest = address.strip_prefix(scheme)?;
            Some((rest, *tls, *cluster))
        });
        let (place, tls, cluster) = said.unwrap_or((address, false, false));
        let (host, port) = place.rsplit_once(':')?;
        let host = host.trim_start_matches('[').trim_end_matches(']');
        let port = port.parse().ok().filter(|port| *port > 0)?;
        (!host.is_empty()).then_some(Self { host, port, tls, cluster })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_says_how_it_is_spoken_to() {
        for (address, expected) in [
            ("redis:6379", Some(("redis", 6379, false, false))),
            ("redis://redis:6379", Some(("redis", 6379, false, false))),
            ("rediss://redis.team-a:6380", Some(("redis.team-a", 6380, true, false))),
            ("rediss://[::1]:6380", Some(("::1", 6380, true, false))),
            ("redis+cluster://redis:6379", Some(("redis", 6379, false, true))),
            ("rediss+cluster://redis:6379", Some(("redis", 6379, true, true))),
            ("redis", None),
            ("redis:70000", None),
            ("redis:0", None),
            ("redis+cluster://:1", None),
        ] {
            let read = RedisAddress::read(address);
            let read = read.map(|RedisAddress { host, port, tls, cluster }| (host, port, tls, cluster));
            assert_eq!(read, expected, "{address}");
        }
    }
}
