use std::cell::RefCell;
use std::rc::Rc;

use tempfile::TempDir;

use super::*;
use crate::control::overseer::{Farewell, Overseer, Ward};
use crate::supervision_tests::{Bystander, Panic, casualties, config, until};

type Told = Rc<RefCell<Vec<Result<String, String>>>>;

/// Notes what it is told: the scheduler's own profile in words, or the fault.
struct Registry(Told);

impl Actor for Registry {
    type Context = Context<Self>;
}

impl Handler<SetProfiles> for Registry {
    type Result = ();

    fn handle(&mut self, SetProfiles(read): SetProfiles, _: &mut Self::Context) {
        self.0.borrow_mut().push(read.map(|profiles| profiles.words()[""].clone()));
    }
}

fn scoring(score: &str) -> String {
    format!("scheduler: {{plugins: {{Score: {{enabled: [{{name: {score}, weight: 1}}]}}}}}}\n")
}

#[actix_web::test]
async fn a_change_is_followed_and_a_bad_file_is_not() {
    let directory = TempDir::new().unwrap();
    let path = directory.path().join("scheduler.yaml");
    std::fs::write(&path, scoring("random")).unwrap();
    let (told, metrics) = (Told::default(), Metrics::new());
    let registry = Registry(Rc::clone(&told)).start().recipient();
    let loads = |outcome| metrics.plans.scheduler_config_loads.get_or_create(&LoadLabels { outcome }).get();
    let last = || told.borrow().last().cloned();
    let says = |score: &str| last().is_some_and(|told| told.is_ok_and(|words| words.contains(score)));
    SchedulerFile::new(path.clone(), registry, &metrics).start();
    until("it is read at the start", || says("random")).await;
    std::fs::write(&path, format!("{}nonsense: 1\n", scoring("gpu-usage"))).unwrap();
    until("a fault is told", || last().is_some_and(|told| told.is_err())).await;
    let fault = last().unwrap().unwrap_err();
    assert!(fault.contains("nonsense") && fault.contains("line 2"), "{fault}");
    assert_eq!((loads("ok"), loads("fault")), (1, 1));
    // Another file takes its place, as Kubernetes does it.
    let other = directory.path().join("other");
    std::fs::write(&other, scoring("least-request")).unwrap();
    std::fs::rename(&other, &path).unwrap();
    until("the next good one is followed", || says("least-request")).await;
    std::fs::write(&path, "").unwrap();
    until("an empty file is a fault", || last() == Some(Err("the file is empty".to_owned()))).await;
    std::fs::remove_file(&path).unwrap();
    until("so is a missing one", || last().is_some_and(|told| told.is_err_and(|fault| fault.contains("read")))).await;
}

#[actix_web::test]
async fn a_dead_reader_is_replaced_by_one_that_reads_the_file() {
    let directory = TempDir::new().unwrap();
    let path = directory.path().join("scheduler.yaml");
    std::fs::write(&path, scoring("random")).unwrap();
    let (told, metrics, address) = (Told::default(), Metrics::new(), SchedulerFileAddress::default());
    let registry = Registry(Rc::clone(&told)).start().recipient();
    let (started, ward_metrics) = (address.clone(), Arc::clone(&metrics));
    let ward = Ward::replaceable(SchedulerFile::NAME, move || {
        let reader = SchedulerFile::new(path.clone(), registry.clone(), &ward_metrics).start();
        started.lead_to(reader.clone());
        reader
    });
    let fleet = Bystander.start().recipient();
    Overseer::new(vec![ward], config(&[]).drain, fleet, None, Farewell::default(), &metrics).start();
    until("the file is read", || told.borrow().len() == 1).await;
    address.0.load().as_ref().unwrap().do_send(Panic(SchedulerFile::NAME));
    until("a fresh one has taken its place", || casualties(&metrics, SchedulerFile::NAME) == (1, 1)).await;
    until("and has read the file", || told.borrow().len() == 2).await;
}
