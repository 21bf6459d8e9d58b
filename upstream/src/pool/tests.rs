use std::net::Ipv4Addr;

use tokio::net::{TcpListener, TcpStream};

use super::*;
use crate::stream::Stream;

/// Returns a slot whose only connection, which its peer keeps for so many seconds, has waited for so many ticks.
async fn waiting(peer: &Peer, kept_for: Option<u64>, ticks: u64) -> Slot {
    let clock = Clock::default();
    let slot = Slot::new(peer.clone(), clock.clone(), Crowds::default());
    let mut connection = Connection::new(Stream::Plain(TcpStream::connect(peer.address).await.unwrap()));
    connection.keep_for(kept_for);
    slot.give_back(connection);
    clock.0.set(ticks);
    slot
}

#[tokio::test(flavor = "local")]
async fn a_request_that_may_be_sent_once_only_is_put_on_no_connection_that_was_idle_for_long() {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
    let peer = Peer { address: listener.local_addr().unwrap(), transport: Transport::Http1 };
    for (once_only, ticks, is_taken) in [
        (true, 0, true),
        (true, FRESH_TICKS - 1, true),
        (true, FRESH_TICKS, false),
        (false, FRESH_TICKS, true),
        (false, KEPT_TICKS - 1, true),
        (false, KEPT_TICKS, false),
    ] {
        let slot = waiting(&peer, None, ticks).await;
        assert_eq!(slot.take_kept(once_only, false).is_some(), is_taken, "once only: {once_only}, {ticks} ticks");
    }
}

#[tokio::test(flavor = "local")]
async fn a_connection_is_given_up_before_its_peer_does_so() {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
    let peer = Peer { address: listener.local_addr().unwrap(), transport: Transport::Http1 };
    for (kept_for, ticks, is_taken) in [
        (Some(0), 0, false),
        (Some(1), 0, true),
        (Some(1), 1, false),
        (Some(2), 2, true),
        (Some(2), 3, false),
        (Some(60), KEPT_TICKS - 1, true),
        (Some(u64::MAX), KEPT_TICKS, false),
        (None, KEPT_TICKS - 1, true),
    ] {
        let slot = waiting(&peer, kept_for, ticks).await;
        assert_eq!(slot.take_kept(false, false).is_some(), is_taken, "kept for {kept_for:?} s, {ticks} ticks");
    }
}

#[tokio::test(flavor = "local")]
async fn connections_are_kept_as_a_request_wants_it() {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
    let peer = Peer { address: listener.local_addr().unwrap(), transport: Transport::Http1 };
    let (clock, progress) = (Clock::default(), Progress::default());
    let slot = Slot::new(peer.clone(), clock.clone(), Crowds::default());
    let connection = async || Connection::new(Stream::Plain(TcpStream::connect(peer.address).await.unwrap()));
    let keeping = Keeping { idle_timeout: Some(TICK), most_idle: Some(2), most_active: Some(1), together: None };
    let place = slot.keep(keeping, &progress).await;
    assert!(slot.keep(keeping, &progress).now_or_never().is_none(), "there is one place, and it is taken");
    drop(place);
    assert!(slot.keep(keeping, &progress).now_or_never().flatten().is_some());
    for _ in 0..3 {
        slot.give_back(connection().await);
    }
    assert_eq!(slot.idle.borrow().len(), 2);
    assert!(slot.take_kept(false, false).is_some());
    clock.0.set(1);
    assert!(slot.take_kept(false, false).is_none(), "it has waited for half a second");
    slot.close_old();
    assert!(slot.is_empty());
}

#[tokio::test(flavor = "local")]
async fn connections_that_wait_are_bounded_over_the_endpoints_that_belong_together() {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
    let address = listener.local_addr().unwrap();
    let (crowds, progress) = (Crowds::default(), Progress::default());
    let slot = |transport| Slot::new(Peer { address, transport }, Clock::default(), crowds.clone());
    let slots = [slot(Transport::Http1), slot(Transport::Http1), slot(Transport::Http1)];
    let connection = async || Connection::new(Stream::Plain(TcpStream::connect(address).await.unwrap()));
    let (few, others) = (Together { key: 1, most: 3 }, Together { key: 2, most: 1 });
    for (slot, together) in slots.iter().zip([few, few, others]) {
        slot.keep(Keeping { together: Some(together), ..Keeping::default() }, &progress).await;
        slot.give_back(connection().await);
        slot.give_back(connection().await);
    }
    let waiting = || slots.each_ref().map(|slot| slot.idle.borrow().len());
    assert_eq!(waiting(), [2, 1, 1], "three of one kind, and one of the other");
    assert!(slots[0].take_kept(false, false).is_some());
    slots[1].give_back(connection().await);
    assert_eq!(waiting(), [1, 2, 1], "a connection that is taken makes room");
    drop(slots);
    crowds.tidy();
    assert!(crowds.0.borrow().is_empty(), "nothing is kept of those that are gone");
}
