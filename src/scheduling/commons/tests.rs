use super::*;
use crate::scheduling::request::RequestFacts;

/// Returns a prompt: a text of so many blocks, and then another.
fn prompt(start: (u64, usize), rest: (u64, usize)) -> Vec<BlockHash> {
    let mut blocks = Vec::new();
    let mut last = BlockHash(0);
    for (text, length) in [start, rest] {
        for _ in 0..length {
            last = last.followed_by(&text.to_le_bytes());
            blocks.push(last);
        }
    }
    blocks
}

fn note(commons: &Commons, blocks: &[BlockHash], endpoints: usize) -> Option<Mark> {
    let facts = RequestFacts { prefix: blocks.to_vec(), ..RequestFacts::default() };
    commons.note(&facts.attempt(&[]), endpoints)
}

fn mark(commons: &Commons, blocks: &[BlockHash], endpoints: usize) -> Option<BlockHash> {
    note(commons, blocks, endpoints).map(|mark| mark.block)
}

#[test]
fn what_a_client_says_counts_before_what_its_prompt_tells() {
    let commons = Commons::default();
    let said = Some(BlockHash(5));
    for (prefix, is_familiar) in [(prompt((1, 3), (2, 1)), false), (Vec::new(), true)] {
        let facts = RequestFacts { prefix, mark: said, ..RequestFacts::default() };
        assert_eq!(commons.note(&facts.attempt(&[]), 4), Some(Mark { block: BlockHash(5), is_familiar }));
    }
}

#[test]
fn the_mark_is_where_a_prompt_leaves_what_all_have() {
    let commons = Commons::default();
    for request in 0..1000 {
        note(&commons, &prompt((1, 10), (100 + request, 5)), 4);
    }
    let new = prompt((1, 10), (7, 5));
    assert_eq!(note(&commons, &new, 4), Some(Mark { block: new[10], is_familiar: false }));
    let longer = prompt((1, 10), (7, 50));
    let found = note(&commons, &longer, 4);
    assert_eq!(found, Some(Mark { block: new[10], is_familiar: true }), "a later turn has the same mark");
    assert_eq!(note(&commons, &prompt((1, 10), (7, 0)), 4), None, "it is common as a whole");
}

#[test]
fn tenants_have_marks_of_their_own_while_an_endpoint_can_serve_one() {
    let commons = Commons::default();
    for request in 0..1000 {
        note(&commons, &prompt((request % 20, 100), (100 + request, 5)), 8);
    }
    let tenant = prompt((3, 100), (7, 5));
    assert_eq!(mark(&commons, &tenant, 8), Some(tenant[0]), "a twentieth of the requests is less than an eighth");
    assert_ne!(mark(&commons, &tenant, 64), Some(tenant[0]), "and more than a sixty-fourth");
}

#[test]
fn what_was_common_once_is_forgotten() {
    let commons = Commons::default();
    let old = prompt((1, 10), (2, 5));
    for _ in 0..WINDOW / 2 {
        note(&commons, &old, 4);
    }
    assert_eq!(mark(&commons, &old, 4), None);
    for request in 0..5 * WINDOW {
        note(&commons, &prompt((u64::from(request) + 10, 3), (0, 0)), 4);
    }
    assert_eq!(mark(&commons, &old, 4), Some(old[0]));
}

#[test]
fn marks_that_come_back_are_remembered_among_many_that_do_not() {
    let commons = Commons::default();
    let tenants: Vec<_> = (0..100).map(|tenant| prompt((tenant, 3), (0, 0))).collect();
    for round in 0..3_u64 {
        for (place, tenant) in (0..).zip(&tenants) {
            note(&commons, tenant, 8);
            note(&commons, &prompt((1_000_000 + round * 1000 + place, 3), (0, 0)), 8);
        }
    }
    let marks = commons.marks();
    let known = tenants.iter().filter(|tenant| marks.contains(&tenant[0])).count();
    assert_eq!((known, marks.len()), (100, 100));
    assert!((0.3..0.5).contains(&commons.familiarity()), "{}", commons.familiarity());
}

#[test]
fn a_few_hundred_tenants_come_back_and_prompts_that_nobody_repeats_do_not() {
    for (case, marks, requests, likely) in [
        ("300 tenants, of whom some were seen twice", 300, 100, true),
        ("each of them often", 300, 3000, true),
        ("no prompt is repeated", u64::MAX, 300, false),
    ] {
        let commons = Commons::default();
        // A walk through the tenants that is not in their order: some come back before others were seen.
        for request in 0..requests {
            note(&commons, &prompt((u64::pow(request, 2) % marks, 3), (0, 0)), 8);
        }
        assert_eq!(commons.return_chance() > 0.5, likely, "{case}: {}", commons.return_chance());
        assert_eq!(commons.marks().is_empty(), !likely, "{case}");
    }
}

#[test]
fn nothing_is_common_at_first() {
    let commons = Commons::default();
    let first = prompt((1, 3), (2, 1));
    assert_eq!((commons.marks(), commons.familiarity()), (Vec::new(), 1.0));
    assert_eq!(mark(&commons, &first, 4), Some(first[0]));
    assert_eq!(mark(&commons, &[], 4), None);
}

#[test]
fn depths_are_dense_first_and_few() {
    let all: Vec<_> = depths(16 * 1024).collect();
    assert!(all.len() < 120 && all[..64].iter().copied().eq(1..=64), "{all:?}");
    assert!(all.windows(2).all(|pair| pair[0] < pair[1]) && depths(0).next().is_none());
}
