//! Where the Redis is that routers and the engines' sidecars share.

use clap::Args;

/// A Redis server; it is only asked where the scheduler's file names the plugin kvcache-aware.
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
    pub redis_password: Option<String>,
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
    fn a_port_may_be_what_kubernetes_makes_of_it() {
        assert_eq!((port("6379"), port("tcp://10.0.0.7:6380"), port("tcp://[::1]:1")), (Ok(6379), Ok(6380), Ok(1)));
        for wrong in ["", "0", "70000", "tcp://redis"] {
            assert!(port(wrong).is_err(), "{wrong}");
        }
    }
}
