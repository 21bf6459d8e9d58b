//! A real Redis for one test.

use std::net::Ipv4Addr;
use std::process::{Child, Command, Stdio};

use redis::aio::MultiplexedConnection;
use tempfile::TempDir;

use crate::harness::{free_port, until};

/// A Redis server that ends with its test.
pub(crate) struct Redis {
    pub(crate) server: Child,
    pub(crate) port: u16,
}

impl Redis {
    pub(crate) async fn start() -> (Self, MultiplexedConnection) {
        Self::start_with(&[]).await
    }

    /// Starts one with further options, as it is started on the command line.
    pub(crate) async fn start_with(options: &[&str]) -> (Self, MultiplexedConnection) {
        let port = free_port(Ipv4Addr::LOCALHOST.into());
        let (server, connection) = Self::serve(port, options).await;
        (Self { server, port }, connection)
    }

    pub(crate) async fn start_on(port: u16) -> (Child, MultiplexedConnection) {
        Self::serve(port, &[]).await
    }

    /// Starts a server on a port, as it is started on the command line.
    pub(crate) async fn serve(port: u16, options: &[&str]) -> (Child, MultiplexedConnection) {
        let server = Command::new("redis-server")
            .args(["--bind", "127.0.0.1", "--save", "", "--appendonly", "no", "--port", &port.to_string()])
            .args(options)
            .stdout(Stdio::null())
            .spawn()
            .expect("Debian's package redis-server is installed");
        let client = redis::Client::open(("127.0.0.1", port)).unwrap();
        until("redis answers", async || client.get_multiplexed_async_connection().await.is_ok()).await;
        (server, client.get_multiplexed_async_connection().await.unwrap())
    }
}

/// Makes a certificate for Redis on this machine, which vouches for itself. Returns the files of it and of its key, and the
/// directory that they go with.
pub(crate) fn certificate() -> (TempDir, [String; 2]) {
    let pair = rcgen::generate_simple_self_signed(["127.0.0.1".to_owned()]).unwrap();
    let directory = tempfile::tempdir().unwrap();
    let files =
        [("redis.crt", pair.cert.pem()), ("redis.key", pair.signing_key.serialize_pem())].map(|(name, text)| {
            let path = directory.path().join(name);
            std::fs::write(&path, text).unwrap();
            path.to_str().unwrap().to_owned()
        });
    (directory, files)
}

impl Drop for Redis {
    fn drop(&mut self) {
        drop(self.server.kill());
        drop(self.server.wait());
    }
}
