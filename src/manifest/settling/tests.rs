use super::*;

/// The time between two looks, in milliseconds.
const LOOK: u64 = 25;

/// Looks at a directory whose files are, at each millisecond, what `files` says: names, numbers and lengths. Returns when it is
/// read, in milliseconds, and the files that are left out then.
#[expect(clippy::disallowed_methods, reason = "the library is given a time, and a test is who gives it")]
fn readings(until: u64, files: impl Fn(u64) -> Vec<(&'static str, u64, u64)>) -> Vec<(u64, Vec<String>)> {
    let (mut settling, start) = (Settling::default(), Instant::now());
    let (mut readings, mut has_files) = (Vec::new(), false);
    for at in (0..=until).step_by(usize::try_from(LOOK).unwrap()) {
        let now = start + Duration::from_millis(at);
        let found: Fingerprint = files(at)
            .into_iter()
            .map(|(name, inode, length)| (PathBuf::from(name), Seen { inode, modified: None, length }))
            .collect();
        let is_empty = found.is_empty();
        settling.compare(found, now);
        if let Due::Read(unfinished) = settling.due(has_files, now) {
            has_files = !is_empty;
            readings.push((at, unfinished.into_iter().map(|path| path.display().to_string()).collect()));
        }
    }
    readings
}

fn whole(at: u64) -> (u64, Vec<String>) {
    (at, Vec::new())
}

#[test]
fn a_directory_is_read_at_once_when_it_is_seen_first_and_not_again() {
    assert_eq!(readings(5000, |_| vec![("a", 1, 10)]), [whole(0)]);
    assert_eq!(readings(5000, |_| Vec::new()), [whole(0)], "an empty one as well");
}

#[test]
fn a_change_is_read_once_the_directory_is_quiet() {
    let grown = readings(2000, |at| vec![("a", 1, if at >= 1000 { 20 } else { 10 })]);
    assert_eq!(grown, [whole(0), whole(1100)]);
    let added = readings(2000, |at| if at >= 1000 { vec![("a", 1, 10), ("b", 2, 10)] } else { vec![("a", 1, 10)] });
    assert_eq!(added, [whole(0), whole(1100)]);
}

#[test]
fn a_file_that_goes_on_being_written_is_left_out_until_it_is_whole() {
    let readings = readings(3000, |at| vec![("a", 1, at.clamp(500, 1700)), ("b", 2, 10)]);
    let unfinished = |at| (at, vec!["a".to_owned()]);
    // Each of its looks from 525 to 1700 sees it grow.
    assert_eq!(readings, [whole(0), unfinished(1025), unfinished(1525), whole(1800)]);
}

#[test]
fn a_file_that_others_take_the_place_of_without_pause_is_whole() {
    let readings = readings(2000, |at| vec![("a", 1 + at / 50, 10)]);
    assert!(readings.len() >= 4, "{readings:?}");
    assert!(readings.iter().all(|(_, unfinished)| unfinished.is_empty()), "{readings:?}");
}

#[test]
fn a_directory_that_loses_all_of_its_files_has_time_to_get_them_back() {
    let away = |from: u64, until: u64| {
        readings(8000, move |at| if (from..until).contains(&at) { Vec::new() } else { vec![("a", 1, 10)] })
    };
    assert_eq!(away(1000, 9000), [whole(0), whole(3000)], "it is read empty in the end");
    let left_out = (2000, vec!["a".to_owned()]);
    assert_eq!(away(1000, 2000), [whole(0), left_out, whole(2100)], "it is not read while it is empty");
}
