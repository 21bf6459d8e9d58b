use std::thread;

use proptest::prelude::*;

use super::*;

/// A chain of blocks that begins with `start`.
fn chain(start: u64, length: usize) -> Vec<BlockHash> {
    let first = BlockHash(0).followed_by(&start.to_le_bytes());
    std::iter::successors(Some(first), |block| Some(block.followed_by(b"more"))).take(length).collect()
}

#[test]
fn what_was_sent_is_held_and_nothing_else() {
    let table = PrefixTable::new(1024);
    assert_eq!(table.held(&chain(1, 10), u32::MAX), 0, "nothing was sent");
    for length in [1, 2, 3, 7, 8, 9, 100] {
        table.note(&chain(1, length), u32::MAX);
        assert_eq!(table.held(&chain(1, 200), u32::MAX), length);
        assert_eq!(table.held(&chain(1, 2), u32::MAX), length.min(2));
        assert_eq!(table.held(&chain(2, 200), u32::MAX), 0, "another prompt");
    }
    assert_eq!(table.held(&[], u32::MAX), 0);
}

#[test]
fn blocks_that_a_cache_of_this_size_has_lost_are_not_held() {
    let table = PrefixTable::new(4096);
    table.note(&chain(1, 10), u32::MAX);
    table.note(&chain(2, 100), u32::MAX);
    assert_eq!(table.held(&chain(1, 10), 200), 10);
    assert_eq!(table.held(&chain(1, 10), 100), 0, "100 newer blocks fill the cache");
    table.note(&chain(1, 10), u32::MAX);
    assert_eq!(table.held(&chain(1, 10), 100), 10, "sent again");
    table.pass(100);
    assert_eq!(table.held(&chain(1, 10), 100), 0, "answers take room as well");
}

#[test]
fn the_beginning_of_a_prompt_outlives_its_end() {
    let table = PrefixTable::new(4096);
    table.note(&chain(1, 100), u32::MAX);
    table.note(&chain(2, 50), u32::MAX);
    let held = table.held(&chain(1, 100), 100);
    assert!((40..=60).contains(&held), "{held}");
}

#[test]
fn a_table_that_overflows_forgets_and_stays_within_its_bounds() {
    let table = PrefixTable::new(64);
    for start in 0..1000 {
        table.note(&chain(start, 16), u32::MAX);
    }
    let held: usize = (0..1000).map(|start| table.held(&chain(start, 16), u32::MAX)).sum();
    assert!(held <= table.room(), "{held}");
    assert!(table.held(&chain(999, 16), u32::MAX) > 8, "the newest is there");
}

#[test]
fn threads_that_share_a_table_find_what_each_of_them_noted() {
    let table = PrefixTable::new(64 * 1024);
    thread::scope(|scope| {
        for start in 0..4 {
            let table = &table;
            scope.spawn(move || {
                for prompt in 0..50 {
                    let prompt = chain(start * 1000 + prompt, 40);
                    table.note(&prompt, u32::MAX);
                    assert!(table.held(&prompt, u32::MAX) >= 39, "at most one entry may be lost to a race");
                }
            });
        }
    });
    let found = (0..4).flat_map(|start| (0..50).map(move |prompt| start * 1000 + prompt));
    let found = found.filter(|start| table.held(&chain(*start, 40), u32::MAX) == 40).count();
    assert!(found > 190, "{found} of 200");
}

proptest! {
    #[test]
    fn no_more_is_held_than_was_sent(
        prompts in prop::collection::vec((0_u64..8, 0_usize..60), 1..30),
        asked in (0_u64..8, 0_usize..80),
    ) {
        let table = PrefixTable::new(8192);
        for (start, length) in &prompts {
            table.note(&chain(*start, *length), u32::MAX);
        }
        let sent = prompts.iter().filter(|(start, _)| *start == asked.0).map(|(_, length)| *length).max().unwrap_or(0);
        prop_assert_eq!(table.held(&chain(asked.0, asked.1), u32::MAX), sent.min(asked.1));
    }
}
