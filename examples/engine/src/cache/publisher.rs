//! Sends the changes of a cache to whoever subscribes, and again to whoever asks.
//!
//! A message has three frames: an empty topic, its number (8 bytes, most significant first), and the events. Who asks for
//! a replay sends an empty frame and the number to begin with, and gets the messages from there on and one numbered -1.

use std::{
    collections::VecDeque,
    convert::Infallible,
    net::SocketAddr,
    time::{SystemTime, UNIX_EPOCH},
};

use actix_web::web::Bytes;
use tokio::sync::{mpsc, oneshot};
use zeromq::{Endpoint, PubSocket, RouterSocket, Socket, SocketRecv, SocketSend, ZmqError, ZmqMessage};

use super::event::{Event, message};
use crate::config::Dialect;

/// Messages that are kept for replays, as many as vLLM keeps.
const KEPT: usize = 10_000;

/// Where an engine tells of its cache.
pub(crate) struct Publisher {
    events: PubSocket,
    replays: Option<RouterSocket>,
    dialect: Dialect,
    sent: VecDeque<(u64, Vec<u8>)>,
    next: u64,
}

impl Publisher {
    /// Opens the sockets, and returns their ports as well; a port 0 lets the system choose.
    pub(crate) async fn open(
        events: SocketAddr,
        replays: Option<SocketAddr>,
        dialect: Dialect,
    ) -> Result<(Self, u16, Option<u16>), ZmqError> {
        let mut publisher = Self { events: PubSocket::new(), replays: None, dialect, sent: VecDeque::new(), next: 0 };
        let port = port(&publisher.events.bind(&format!("tcp://{events}")).await?);
        let mut replay_port = None;
        if let Some(replays) = replays {
            let mut socket = RouterSocket::new();
            replay_port = Some(self::port(&socket.bind(&format!("tcp://{replays}")).await?));
            publisher.replays = Some(socket);
        }
        Ok((publisher, port, replay_port))
    }

    /// Sends what comes until `closing` is gone, then closes the sockets.
    pub(crate) async fn run(
        mut self,
        mut changes: mpsc::UnboundedReceiver<Vec<Event>>,
        mut closing: oneshot::Receiver<Infallible>,
    ) {
        loop {
            let question = async {
                match &mut self.replays {
                    Some(socket) => socket.recv().await,
                    None => std::future::pending().await,
                }
            };
            tokio::select! {
                _ = &mut closing => break,
                events = changes.recv() => match events {
                    Some(events) => self.send(&events).await,
                    None => break,
                },
                Ok(question) = question => self.replay(question).await,
            }
        }
        self.events.close().await;
        if let Some(replays) = self.replays {
            replays.close().await;
        }
    }

    async fn send(&mut self, events: &[Event]) {
        let time = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_secs_f64();
        let message = message(events, time, self.dialect);
        // A subscriber that is gone, or too slow, misses it.
        drop(self.events.send(frames(vec![Vec::new(), number(self.next), message.clone()])).await);
        self.sent.push_back((self.next, message));
        if self.sent.len() > KEPT {
            self.sent.pop_front();
        }
        self.next += 1;
    }

    async fn replay(&mut self, question: ZmqMessage) {
        let (Ok([asker, empty, first]), Some(socket)) = (<[_; 3]>::try_from(question.into_vec()), &mut self.replays)
        else {
            return;
        };
        let first = first.as_ref().try_into().map_or(u64::MAX, u64::from_be_bytes);
        let kept = self.sent.iter().filter(|(number, _)| *number >= first);
        let end = (u64::MAX, Vec::new());
        for (number, message) in kept.chain([&end]) {
            let frames = frames(vec![asker.to_vec(), empty.to_vec(), self::number(*number), message.clone()]);
            if socket.send(frames).await.is_err() {
                return;
            }
        }
    }
}

fn number(number: u64) -> Vec<u8> {
    number.to_be_bytes().to_vec()
}

fn frames(frames: Vec<Vec<u8>>) -> ZmqMessage {
    let frames: Vec<Bytes> = frames.into_iter().map(Bytes::from).collect();
    ZmqMessage::try_from(frames).expect("a message has frames")
}

fn port(endpoint: &Endpoint) -> u16 {
    match endpoint {
        Endpoint::Tcp(_, port) => *port,
        _ => 0,
    }
}
