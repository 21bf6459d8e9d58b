use super::*;

fn text(text: &str) -> Value {
    Value::from(text)
}

fn map(fields: &[(&str, Value)]) -> Value {
    Value::Map(fields.iter().map(|(name, value)| (text(name), value.clone())).collect())
}

fn list<V: Into<Value> + Clone>(values: &[V]) -> Value {
    Value::Array(values.iter().cloned().map(Into::into).collect())
}

fn message(batch: &Value) -> Vec<u8> {
    let mut message = Vec::new();
    rmpv::encode::write_value(&mut message, batch).unwrap();
    message
}

fn read(events: Vec<Value>) -> Batch {
    Batch::read(&message(&Value::Array(vec![1.5.into(), Value::Array(events), 0.into()]))).unwrap()
}

fn stored(batch: &Batch) -> &Stored {
    match &batch.events[..] {
        [Event::Stored(stored)] => stored,
        events => panic!("{events:?}"),
    }
}

/// The event of an engine that was captured: vLLM 0.26.
fn captured() -> Vec<(&'static str, Value)> {
    vec![
        ("type", text("BlockStored")),
        ("block_hashes", list(&[15_760_518_052_499_183_552_u64])),
        ("parent_block_hash", Value::Nil),
        ("token_ids", list(&[1, 2, 3, 4])),
        ("block_size", 4.into()),
        ("lora_id", Value::Nil),
        ("medium", text("GPU")),
        ("lora_name", Value::Nil),
        ("extra_keys", list(&[Value::Nil])),
        ("group_idx", 0.into()),
        ("kv_cache_spec_kind", text("full_attention")),
    ]
}

/// The same event as an array, with so many of its fields.
fn as_array(fields: usize) -> Value {
    Value::Array(captured().into_iter().map(|(_, value)| value).take(fields).collect())
}

#[test]
fn maps_and_arrays_of_every_length_tell_the_same() {
    let expected = read(vec![map(&captured())]);
    let block = StoredBlock { hash: EngineHash(15_760_518_052_499_183_552), tokens: vec![1, 2, 3, 4], extras: vec![] };
    assert_eq!(*stored(&expected), Stored { blocks: vec![block], block_size: 4, ..Stored::default() });
    assert_eq!((expected.time, expected.rank, expected.unread), (1.5, Some(0), 0));
    for fields in 5..=11 {
        assert_eq!(read(vec![as_array(fields)]), expected, "{fields} fields");
    }
    let batch =
        map(&[("events", Value::Array(vec![as_array(5)])), ("data_parallel_rank", 0.into()), ("ts", 1.5.into())]);
    assert_eq!(Batch::read(&message(&batch)).unwrap(), expected, "a batch that is a map");
}

#[test]
fn events_without_a_tag_are_told_by_their_fields() {
    let expected = read(vec![as_array(9)]);
    let Value::Array(fields) = as_array(9) else { unreachable!() };
    assert_eq!(read(vec![Value::Array(fields[1..].to_vec())]), expected);
    assert_eq!(read(vec![map(&captured()[1..])]), expected);
    let removed = read(vec![Value::Array(vec![list(&[7])]), map(&[("block_hashes", list(&[7]))])]);
    let event = Event::Removed { hashes: vec![EngineHash(7)], place: Place::default() };
    assert_eq!(removed.events, [event.clone(), event]);
}

#[test]
fn what_is_not_known_is_passed_over_and_spoils_nothing() {
    let mut fields = captured();
    fields.insert(3, ("a_field_of_2030", map(&[("deep", list(&[list(&[1])]))])));
    let strange = [text("BlockTeleported"), Value::Array(vec![text("BlockTeleported")]), Value::Nil, 7.into()];
    let batch = read(strange.into_iter().chain([map(&fields)]).collect());
    assert_eq!((batch.events.len(), batch.unread), (1, 4));
    let cleared = read(vec![Value::Array(vec![text("AllBlocksCleared")]), map(&[("type", text("AllBlocksCleared"))])]);
    assert_eq!(cleared.events, [Event::Cleared, Event::Cleared]);
    for (case, message) in [
        ("no msgpack", vec![0xc1]),
        ("cut", message(&as_array(9))[..20].to_vec()),
        ("empty", vec![]),
        ("a text", message(&text("hello"))),
        ("no events", message(&list(&[1.5]))),
    ] {
        assert!(Batch::read(&message).is_err(), "{case}");
    }
    assert_eq!(Batch::read(&vec![0; MOST_BYTES + 1]), Err(WireError::TooLarge(MOST_BYTES + 1)));
}

#[test]
fn a_hash_is_the_same_as_number_and_as_bytes() {
    for value in [
        Value::from(u64::MAX - 1),
        Value::from(-2_i64),
        Value::from(&[0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xfe][..]),
        Value::from(&[1, 2, 3, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xfe][..]),
    ] {
        assert_eq!(EngineHash::of(&value), Some(EngineHash(u64::MAX - 1)), "{value}");
    }
    assert_eq!(EngineHash::of(&Value::from(&[1, 0][..])), Some(EngineHash(256)));
    assert_eq!(EngineHash::of(&Value::from(&[][..])), None);
    assert_eq!(EngineHash::of(&text("7")), None);
}

#[test]
fn tiers_groups_windows_adapters_and_salts_are_read() {
    let mut fields = captured();
    fields[1].1 = list(&[1, 2]);
    fields[2].1 = 9.into();
    fields[3].1 = list(&[1, 2, 3, 4, 5, 6, 7, 8, 9]);
    fields[6].1 = text("CPU");
    fields[7].1 = text("ada");
    fields[8].1 = list(&[list(&[text("ada"), text("salt")]), list(&[text("ada"), list(&[text("image"), 3.into()])])]);
    fields[9].1 = 1.into();
    fields[10].1 = text("sliding_window");
    fields.push(("kv_cache_spec_sliding_window", 1024.into()));
    let batch = read(vec![map(&fields)]);
    let stored = stored(&batch);
    assert_eq!(stored.parent, Some(EngineHash(9)));
    assert_eq!(stored.place, Place { group: 1, tier: Tier::Elsewhere });
    assert_eq!((stored.adapter.as_deref(), stored.attention), (Some("ada"), Attention::Window(1024)));
    let extras: Vec<Vec<&str>> =
        stored.blocks.iter().map(|block| block.extras.iter().map(|key| &**key).collect()).collect();
    assert_eq!(extras, [["salt"], ["image"]]);
    assert_eq!(stored.blocks[1].tokens, [5, 6, 7, 8], "the ninth token makes no block");
    let removed = [text("BlockRemoved"), list(&[1]), text("FS"), 1.into()];
    let removed = read(vec![Value::Array(removed.to_vec())]);
    let place = Place { group: 1, tier: Tier::Elsewhere };
    assert_eq!(removed.events, [Event::Removed { hashes: vec![EngineHash(1)], place }]);
}

#[test]
fn sglang_tells_the_salt_in_a_map_of_facts() {
    let facts = map(&[("cache_salt", text("tenant"))]);
    let event = |parent: Value| {
        let tokens = list(&[1, 2]);
        Value::Array(vec![
            text("BlockStored"),
            list(&[5]),
            parent,
            tokens,
            2.into(),
            Value::Nil,
            text("GPU"),
            facts.clone(),
        ])
    };
    let extras = |parent| stored(&read(vec![event(parent)])).blocks[0].extras.clone();
    assert_eq!(extras(Value::Nil), ["tenant".into()]);
    assert!(extras(4.into()).is_empty(), "a block that has a parent has its salt from there");
}

#[test]
fn an_adapter_without_a_name_is_nobodys() {
    let mut fields = captured();
    fields[5].1 = 3.into();
    assert_eq!(stored(&read(vec![map(&fields)])).adapter.as_deref(), Some("lora_id 3"));
}

#[test]
fn blocks_whose_tokens_cannot_be_told_are_not_read() {
    let mut fields = captured();
    fields[3].1 = list(&[1, 2, 3, 4, 5, 6, 7, 8]);
    assert_eq!(read(vec![map(&fields)]).unread, 1, "two blocks of tokens and one hash");
    fields.push(("block_offsets", list(&[1])));
    assert_eq!(read(vec![map(&fields)]).unread, 1, "the block before is missing");
}
