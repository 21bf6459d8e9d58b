use std::net::{IpAddr, Ipv4Addr};
use std::thread;
use std::time::Duration;

use futures::future::{join, join_all};
use kthena_router::flow::identity::FlowId;
use kthena_router::object::{Kind, ObjectKey, PoolKey};
use kthena_router::scheduling::endpoint::Endpoint;
use tokio::time::timeout;

use super::*;
use crate::pools::lease::Lease;
use crate::pools::published::PoolView;

const PATIENT: Settings = Settings {
    enabled: true,
    time_to_live: Duration::from_secs(600),
    most_requests: 10_000,
    most_bytes: usize::MAX,
    most_flows: 16,
    priority_weight: 8,
    weights: kthena_router::flow::settings::Weights { input: 1.0, output: 2.0, request: 0.0 },
    kept_percent: 0,
    per_endpoint: Some(1),
    per_pool: None,
    hold: Duration::ZERO,
    most_held: 0,
    most_sessions: 0,
};

fn pool(settings: Settings) -> Arc<Pool> {
    let key = PoolKey { kind: Kind::ModelServer, object: ObjectKey::new("default", "s"), port: None };
    let endpoint = Endpoint::new(ObjectKey::new("default", "p"), IpAddr::V4(Ipv4Addr::LOCALHOST), 8000);
    Pool::new(key, &[endpoint], settings)
}

fn request(flow: u64) -> Request {
    let asked = Asked {
        rank: Rank::default(),
        flow: FlowId(flow),
        cost: 0,
        bytes: 100,
        arrived: Duration::ZERO,
        work: Duration::ZERO,
    };
    Request { asked, prompt_tokens: 10, deadline: None }
}

fn lease(pool: &Arc<Pool>) -> Lease {
    Lease::new(Arc::clone(pool), pool.view().members[0].clone())
}

fn in_flight(pool: &Pool) -> u32 {
    pool.view().members[0].cell.in_flight()
}

fn is_open(pool: &Arc<Pool>) -> bool {
    !matches!(pool.enter(), Entrance::Full)
}

/// Looks once at a future.
async fn look<F: Future + Unpin>(future: &mut F) -> Option<F::Output> {
    timeout(Duration::ZERO, future).await.ok()
}

#[actix::test]
async fn a_lease_that_ends_lets_the_next_one_pass() {
    let pool = pool(PATIENT);
    assert!(is_open(&pool));
    let held = lease(&pool);
    assert!(!is_open(&pool));
    let (mut first, mut second) = (Box::pin(pool.wait_for_turn(request(1))), Box::pin(pool.wait_for_turn(request(1))));
    assert!(look(&mut first).await.is_none() && look(&mut second).await.is_none());
    assert_eq!(pool.turnstile.waiting(), 2);
    drop(held);
    let mut turn = look(&mut first).await.unwrap().unwrap();
    assert!(look(&mut second).await.is_none(), "a turn counts until its endpoint is reserved");
    let held = lease(&pool);
    turn.note_reserved();
    assert!(look(&mut second).await.is_none(), "and then the endpoint does");
    turn.settle(10, 20);
    drop(held);
    drop(look(&mut second).await.unwrap().unwrap());
    assert!(is_open(&pool));
}

#[actix::test]
async fn of_those_who_come_together_no_more_pass_than_there_is_room_for() {
    let pool = pool(PATIENT);
    let first = pool.enter();
    assert!(matches!(&first, Entrance::Turn(_)) && !is_open(&pool), "no endpoint is reserved yet, and it counts");
    drop(first);
    assert!(is_open(&pool));
}

#[actix::test]
async fn a_turn_that_nobody_takes_is_the_next_ones() {
    let pool = pool(PATIENT);
    let held = lease(&pool);
    let (mut gone, mut next) = (Box::pin(pool.wait_for_turn(request(1))), Box::pin(pool.wait_for_turn(request(2))));
    assert!(look(&mut next).await.is_none() && look(&mut gone).await.is_none());
    // The flow that came last goes first.
    drop(held);
    drop(gone);
    assert!(look(&mut next).await.is_some());
    assert_eq!((pool.turnstile.waiting(), is_open(&pool)), (0, true));
}

#[actix::test]
async fn whoever_cannot_wait_is_told_why() {
    let tight = pool(Settings { most_requests: 1, ..PATIENT });
    let _held = lease(&tight);
    let mut first = Box::pin(tight.wait_for_turn(request(1)));
    assert!(look(&mut first).await.is_none());
    assert_eq!(tight.wait_for_turn(request(1)).await.unwrap_err(), Dropped::Saturated);
    drop(first);
    let hurried = Request { deadline: Some(Instant::now()), ..request(1) };
    assert_eq!(tight.wait_for_turn(hurried).await.unwrap_err(), Dropped::PastDeadline);
    let hasty = pool(Settings { time_to_live: Duration::ZERO, ..PATIENT });
    let _held = lease(&hasty);
    assert_eq!(hasty.wait_for_turn(request(1)).await.unwrap_err(), Dropped::Expired);
    let roomy = pool(Settings { most_requests: 2, ..PATIENT });
    let _held = lease(&roomy);
    let (mut first, mut second) =
        (Box::pin(roomy.wait_for_turn(request(1))), Box::pin(roomy.wait_for_turn(request(1))));
    assert!(look(&mut first).await.is_none() && look(&mut second).await.is_none());
    let mut other = Box::pin(roomy.wait_for_turn(request(2)));
    assert!(look(&mut other).await.is_none());
    assert_eq!(look(&mut second).await.unwrap().unwrap_err(), Dropped::DrivenOut);
}

#[actix::test]
async fn a_pool_without_endpoints_is_waited_for_as_long_as_is_said() {
    let pool = pool(Settings { hold: Duration::from_secs(600), most_held: 1, ..PATIENT });
    let members = pool.view().members.clone();
    pool.publish(PoolView::default());
    let mut held = Box::pin(pool.wait_for_turn(request(1)));
    assert!(look(&mut held).await.is_none());
    assert_eq!(pool.wait_for_turn(request(2)).await.unwrap_err(), Dropped::NoEndpoints);
    pool.publish(PoolView { members, ..PoolView::default() });
    pool.let_pass();
    assert!(look(&mut held).await.unwrap().is_ok());
    let nobody = self::pool(PATIENT);
    nobody.publish(PoolView::default());
    assert!(is_open(&nobody), "without such a setting it is refused at once, by the pick");
}

#[tokio::test(start_paused = true)]
async fn fifty_requests_are_held_for_twenty_seconds_until_the_first_endpoint_is_ready() {
    let held = Settings { hold: Duration::from_secs(30), most_held: 50, per_endpoint: None, ..PATIENT };
    let pool = pool(held);
    let members = pool.view().members.clone();
    pool.publish(PoolView::default());
    let turns = join_all((0..50).map(|flow| pool.wait_for_turn(request(flow))));
    let comes = async {
        tokio::time::sleep(Duration::from_secs(20)).await;
        assert_eq!(pool.turnstile.waiting(), 50);
        assert_eq!(pool.wait_for_turn(request(50)).await.unwrap_err(), Dropped::NoEndpoints, "no more are held");
        pool.publish(PoolView { members, ..PoolView::default() });
        pool.let_pass();
    };
    let (turns, ()) = join(turns, comes).await;
    assert_eq!(turns.iter().filter(|turn| turn.is_ok()).count(), 50);

    let hasty = self::pool(Settings { hold: Duration::from_secs(10), ..held });
    hasty.publish(PoolView::default());
    assert_eq!(hasty.wait_for_turn(request(1)).await.unwrap_err(), Dropped::NoEndpoints);
}

#[actix::test]
async fn a_pool_that_is_gone_keeps_nobody_waiting() {
    let pool = pool(PATIENT);
    let _held = lease(&pool);
    let mut waiting = Box::pin(pool.wait_for_turn(request(1)));
    assert!(look(&mut waiting).await.is_none());
    pool.close();
    assert!(look(&mut waiting).await.unwrap().is_ok());
}

/// Every request of many threads gets its turn or leaves, whatever the order of their steps, and no place is left
/// behind.
#[test]
fn no_turn_is_lost_between_threads() {
    let pool = pool(Settings { per_endpoint: Some(2), ..PATIENT });
    thread::scope(|scope| {
        for number in 0..4 {
            let pool = &pool;
            scope.spawn(move || {
                let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap();
                runtime.block_on(async {
                    for round in 0..2000_u64 {
                        let entrance = if round % 7 == 0 { Entrance::Full } else { pool.enter() };
                        if let Entrance::Turn(mut turn) = entrance {
                            let lease = lease(pool);
                            turn.note_reserved();
                            assert!(in_flight(pool) <= 2, "no more pass than there is room for");
                            drop(lease);
                            continue;
                        }
                        let mut waiting = Box::pin(pool.wait_for_turn(request(number)));
                        if round % 5 == 0 {
                            drop(look(&mut waiting).await);
                            continue;
                        }
                        let mut turn = waiting.await.unwrap();
                        let lease = lease(pool);
                        turn.note_reserved();
                        assert!(in_flight(pool) <= 2, "no more pass than there is room for");
                        tokio::task::yield_now().await;
                        drop(lease);
                        turn.settle(1, 1);
                    }
                });
            });
        }
    });
    let given = pool.turnstile.given.load(Ordering::SeqCst);
    assert_eq!((pool.turnstile.waiting(), given, in_flight(&pool)), (0, 0, 0));
    assert_eq!(pool.turnstile.lock().queue.bytes(), 0);
}
