//! Where the Redis is that routers and the engines' sidecars share.

use std::convert::Infallible;
use std::fmt;
use std::str::FromStr;

use clap::Args;

/// A Redis server; it is only asked where the scheduler's file names the plugin kvcache-aware. A ModelRoute's limit names its
/// own, which is told the password if it is this one.
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
        let config = RedisConfig { redis_host: "h".to_owned(), redis_port: 1, redis_password };
        let told = format!("{config:?}");
        assert!(told.contains("hidden") && !told.contains("hunter2"), "{told}");
    }

    #[test]
    fn a_port_may_be_what_kubernetes_makes_of_it() {
        assert_eq!((port("6379"), port("tcp://10.0.0.7:6380"), port("tcp://[::1]:1")), (Ok(6379), Ok(6380), Ok(1)));
        for wrong in ["", "0", "70000", "tcp://redis"] {
            assert!(port(wrong).is_err(), "{wrong}");
        }
    }
}
