use actix::Actor;
use tempfile::TempDir;

use super::*;
use crate::supervision_tests::until;

fn start(path: &str) -> (AccessLog, Arc<Metrics>) {
    let (log, metrics) = (AccessLog::default(), Metrics::new());
    log.lead_to(AccessLogger::new(path.to_owned(), &metrics).start());
    (log, metrics)
}

#[actix_web::test]
async fn lines_are_bounded_by_their_bytes_and_not_by_their_number() {
    let directory = TempDir::new().unwrap();
    let path = directory.path().join("log");
    let (log, _) = start(path.to_str().unwrap());
    // Nobody writes before the test waits.
    let line = [vec![b'x'; (1 << 20) - 1], vec![b'\n']].concat();
    let taken = (0..20).filter(|_| log.send(line.clone())).count();
    assert_eq!(taken, WAITING_BYTES >> 20, "memory is bounded whatever clients send");
    log.flush().await.unwrap();
    for _ in 0..10_000 {
        assert!(log.send(b"a short line\n".to_vec()), "many short lines are not too many");
    }
    log.flush().await.unwrap();
    assert_eq!(std::fs::metadata(path).unwrap().len(), u64::try_from(WAITING_BYTES + 130_000).unwrap());
    assert_eq!(log.waiting.load(Ordering::Relaxed), 0);
}

#[actix_web::test]
async fn a_file_that_was_moved_away_is_opened_anew() {
    let directory = TempDir::new().unwrap();
    let (path, moved) = (directory.path().join("log"), directory.path().join("log.1"));
    let (log, _) = start(path.to_str().unwrap());
    assert!(log.send(b"before\n".to_vec()));
    log.flush().await.unwrap();
    std::fs::rename(&path, &moved).unwrap();
    assert!(log.send(b"moved\n".to_vec()));
    log.reopen();
    assert!(log.send(b"after\n".to_vec()));
    log.flush().await.unwrap();
    assert_eq!(std::fs::read_to_string(moved).unwrap(), "before\nmoved\n");
    assert_eq!(std::fs::read_to_string(path).unwrap(), "after\n");
}

#[actix_web::test]
async fn lines_that_a_full_disk_does_not_take_are_counted() {
    let (log, metrics) = start("/dev/full");
    assert!(log.send(b"one\ntwo\n".to_vec()));
    until("both lines are counted as lost", || metrics.access_log_dropped.get() == 2).await;
}
