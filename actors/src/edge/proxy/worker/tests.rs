use std::net::{IpAddr, Ipv4Addr};

use kthena_router::object::{Kind, ObjectKey, PoolKey};
use kthena_router::scheduling::endpoint::Endpoint;

use kthena_router::flow::settings::Settings;

use super::*;
use crate::pools::published::{self, Pool};
use crate::supervision_tests::{Panic, casualties, config, serving};

const ADDRESS: IpAddr = IpAddr::V4(Ipv4Addr::LOCALHOST);

#[actix_web::test]
async fn a_scheduler_that_panics_costs_no_request() {
    let metrics = Metrics::new();
    let (_publisher, reader) = published::channel();
    let serving = Arc::new(serving(config(&[]), reader, &metrics));
    let worker = Worker::new(Door::new(Bind { address: ADDRESS, port: 8080 }, serving), Rc::default());
    let key = PoolKey { kind: Kind::ModelServer, object: ObjectKey::new("default", "s"), port: None };
    let endpoint = Endpoint::new(ObjectKey::new("default", "p"), ADDRESS, 8000);
    let pool = Pool::new(key, &[endpoint], Settings::default());
    let picker = Arc::default();
    let in_flight = || pool.view().members[0].cell.in_flight();

    let pick = async || {
        let any = (Among::Untried(Vec::new()), false);
        worker.pick((&pool, &picker), None, any, &mut None).await.unwrap().unwrap().into_answering()
    };
    let before = pick().await;
    for deaths in 1..=2 {
        // The next question waits behind what makes the scheduler panic.
        worker.scheduler.borrow().address().do_send(Panic(Scheduler::NAME));
        let after = pick().await;
        assert_eq!(casualties(&metrics, Scheduler::NAME), (deaths, deaths));
        assert_eq!(in_flight(), 2, "both reservations are held");
        assert_eq!(after.endpoint().port, 8000);
    }
    assert_eq!(in_flight(), 1, "what was reserved before the panics still is");
    drop(before);
    assert_eq!(in_flight(), 0);
}
