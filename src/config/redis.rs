//! Where the Redis is that routers and the engines' sidecars share, and how limits are counted in it.

use std::convert::Infallible;
use std::fmt;
use std::str::FromStr;
use std::sync::Arc;

use clap::{ArgAction, Args};

/// How certificates begin.
const CERTIFICATE: &[u8] = b"-----BEGIN CERTIFICATE-----";
/// The longest namespace, in bytes.
const MOST_NAMESPACE: usize = 63;

/// A Redis server; it is only asked where the scheduler's file names the plugin kvcache-aware. A ModelRoute's limit names its
/// own, which is told user and password if it is this one.
#[derive(Args, Clone, Debug)]
#[group(skip)]
pub struct RedisConfig {
    /// Host of the Redis that the plugin kvcache-aware asks which Pods hold a prompt
    #[arg(long, env = "REDIS_HOST", default_value = "redis-server", value_name = "HOST")]
    pub redis_host: String,

    /// Port of that Redis
    #[arg(long, env = "REDIS_PORT", default_value = "6379", value_parser = port, value_name = "PORT")]
    pub redis_port: u16,

    /// Password of that Redis
    #[arg(long, env = "REDIS_PASSWORD", hide_env_values = true, value_name = "PASSWORD")]
    pub redis_password: Option<Secret>,

    /// ACL user of that Redis [default: the default user]
    #[arg(long, env = "REDIS_USERNAME", requires = "redis_password", value_name = "NAME")]
    pub redis_username: Option<String>,

    /// Speak TLS to that Redis
    #[arg(
        long, env = "REDIS_TLS", value_name = "BOOL", num_args = 0..=1, require_equals = true,
        default_value_t = false, default_missing_value = "true", action = ArgAction::Set
    )]
    pub redis_tls: bool,

    /// That Redis is a node of a Redis Cluster
    #[arg(
        long, env = "REDIS_CLUSTER", value_name = "BOOL", num_args = 0..=1, require_equals = true,
        default_value_t = false, default_missing_value = "true", action = ArgAction::Set
    )]
    pub redis_cluster: bool,

    /// File with the certificates (PEM) that vouch for every Redis that is spoken to in TLS [default: the system's]
    #[arg(long, env = "REDIS_CA_FILE", value_parser = authorities, value_name = "FILE")]
    pub redis_ca_file: Option<Arc<[u8]>>,

    /// What the names of limits' keys begin with, followed by a colon, where routers of several clusters share a Redis
    #[arg(long, env = "REDIS_KEY_NAMESPACE", value_parser = namespace, value_name = "NAME")]
    pub redis_key_namespace: Option<String>,
}

/// A text that is not shown where options are logged.
#[derive(Clone, PartialEq, Eq)]
pub struct Secret(String);

impl Secret {
    /// Returns the text, for whom it is meant.
    pub fn expose(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("(hidden)")
    }
}

impl FromStr for Secret {
    type Err = Infallible;

    fn from_str(text: &str) -> Result<Self, Infallible> {
        Ok(Self(text.to_owned()))
    }
}

/// Reads the certificates of authorities.
fn authorities(path: &str) -> Result<Arc<[u8]>, String> {
    let pem = std::fs::read(path).map_err(|error| error.to_string())?;
    let has_one = pem.windows(CERTIFICATE.len()).any(|window| window == CERTIFICATE);
    if has_one { Ok(pem.into()) } else { Err("there is no certificate in it".to_owned()) }
}

/// Reads the beginning of keys.
fn namespace(name: &str) -> Result<String, String> {
    let is_plain = |byte: u8| byte.is_ascii_alphanumeric() || b"-_.".contains(&byte);
    if !name.is_empty() && name.len() <= MOST_NAMESPACE && name.bytes().all(is_plain) {
        Ok(name.to_owned())
    } else {
        Err(format!("expected 1 to {MOST_NAMESPACE} letters, digits, `-`, `_` and `.`"))
    }
}

/// Reads a port. In a Pod beside a Service called `redis`, Kubernetes sets `REDIS_PORT=tcp://ADDRESS:PORT`.
fn port(text: &str) -> Result<u16, String> {
    let number = text.strip_prefix("tcp://").and_then(|place| place.rsplit_once(':')).map_or(text, |(_, port)| port);
    number.parse().ok().filter(|port| *port > 0).ok_or_else(|| format!("`{text}` is no port"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_password_is_not_in_a_log_of_the_options() {
        let redis_password = Some("hunter2".parse().unwrap());
        let config = RedisConfig {
            redis_host: "h".to_owned(),
            redis_port: 1,
            redis_password,
            redis_username: None,
            redis_tls: false,
            redis_cluster: false,
            redis_ca_file: None,
            redis_key_namespace: None,
        };
        let told = format!("{config:?}");
        assert!(told.contains("hidden") && !told.contains("hunter2"), "{told}");
    }

    #[test]
    fn a_namespace_is_a_plain_word_and_a_file_of_authorities_has_one() {
        assert_eq!(namespace("eu-1.prod").as_deref(), Ok("eu-1.prod"));
        for wrong in ["", "a:b", "{a}", "a b", &"a".repeat(64)] {
            assert!(namespace(wrong).is_err(), "{wrong}");
        }
        assert!(authorities("/nowhere/ca.pem").is_err());
    }

    #[test]
    fn a_port_may_be_what_kubernetes_makes_of_it() {
        assert_eq!((port("6379"), port("tcp://10.0.0.7:6380"), port("tcp://[::1]:1")), (Ok(6379), Ok(6380), Ok(1)));
        for wrong in ["", "0", "70000", "tcp://redis"] {
            assert!(port(wrong).is_err(), "{wrong}");
        }
    }
}
