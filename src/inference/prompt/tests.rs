use super::*;
use crate::inference::request::read_fields;

fn read(body: &str, model: &str, adapter: Option<&str>) -> Prompt {
    let fields = read_fields(body.as_bytes(), PromptFields::note).unwrap();
    assert_eq!(fields.places(body.as_bytes()).values(body.as_bytes()), fields);
    Prompt::read(&fields, model, adapter)
}

const LONG: &str = "You are a helpful assistant that answers in one sentence. ";

fn blocks(body: &str) -> Vec<BlockHash> {
    read(body, "m", None).blocks
}

/// Returns how many leading blocks two bodies have in common.
fn common(first: &str, second: &str) -> usize {
    blocks(first).iter().zip(&blocks(second)).take_while(|(first, second)| first == second).count()
}

fn chat(messages: &[(&str, &str)]) -> String {
    let messages: Vec<_> =
        messages.iter().map(|(role, content)| format!(r#"{{"role":"{role}","content":"{content}"}}"#)).collect();
    format!(r#"{{"model":"m","messages":[{}]}}"#, messages.join(","))
}

#[test]
fn prompts_that_begin_alike_have_blocks_in_common() {
    let system = LONG.repeat(40);
    let first = chat(&[("system", &system), ("user", "one")]);
    let second = chat(&[("system", &system), ("user", "two")]);
    assert_eq!(common(&first, &second), system.len() / BLOCK_BYTES);
    assert_eq!(common(&first, &chat(&[("system", &format!("x{system}")), ("user", "one")])), 0);
}

#[test]
fn a_turn_of_a_chat_continues_the_one_before() {
    let question = LONG.repeat(10);
    let first = chat(&[("system", &question), ("user", &question)]);
    let second = chat(&[("system", &question), ("user", &question), ("assistant", &question), ("user", "and?")]);
    assert_eq!(common(&first, &second), blocks(&first).len());
}

#[test]
fn how_a_body_is_written_does_not_matter() {
    let text = LONG.repeat(20);
    let plain =
        format!(r#"{{"model":"m","messages":[{{"role":"user","content":"{text}"}}],"tools":[{{"name":"{text}"}}]}}"#);
    let spaced = format!(
        r#" {{ "tools" : [ {{ "name" : "{text}" }} ] , "stream": true, "messages" : [ {{ "role" : "user",
        "content": "{text}" , "cache_control": {{"type": "ephemeral"}} }} ], "model":"m" }} "#
    );
    assert_eq!(blocks(&plain), blocks(&spaced), "order of fields, white space, hints for caches");
    assert!(blocks(&plain).len() > 4);
    assert_eq!(blocks(&plain), blocks(&plain.replace("messages", r"mess\u0061ges")), "a key with an escape");
}

#[test]
fn every_api_has_a_prompt() {
    let text = LONG.repeat(20);
    for (api, body) in [
        ("completions", format!(r#"{{"prompt":"{text}"}}"#)),
        ("a list of prompts", format!(r#"{{"prompt":["{text}"]}}"#)),
        ("token ids", format!(r#"{{"prompt":[{}]}}"#, vec!["12345"; 200].join(","))),
        ("chat", chat(&[("user", &text)])),
        ("parts", format!(r#"{{"messages":[{{"role":"user","content":[{{"type":"text","text":"{text}"}}]}}]}}"#)),
        ("messages", format!(r#"{{"system":"{text}","messages":[]}}"#)),
        ("responses", format!(r#"{{"instructions":"{text}","input":"Hi"}}"#)),
        ("responses, a list", format!(r#"{{"input":[{{"role":"user","content":"{text}"}}]}}"#)),
    ] {
        let prompt = read(&body, "m", None);
        assert!((4..=6).contains(&prompt.blocks.len()), "{api}: {}", prompt.blocks.len());
        assert!((250..400).contains(&prompt.tokens), "{api}: {}", prompt.tokens);
    }
}

#[test]
fn models_adapters_and_salts_share_no_block() {
    let body = format!(r#"{{"prompt":"{}"}}"#, LONG.repeat(10));
    let salted = format!(r#"{{"cache_salt":"s",{}"#, &body[1..]);
    let prompts =
        [read(&body, "m", None), read(&body, "n", None), read(&body, "m", Some("a")), read(&salted, "m", None)];
    assert_eq!(
        read(&salted.replacen(':', " :\n ", 1), "m", None),
        prompts[3],
        "a salt is the same however it is written"
    );
    for (place, prompt) in prompts.iter().enumerate() {
        for other in &prompts[place + 1..] {
            assert_ne!(prompt.blocks[0], other.blocks[0]);
        }
    }
}

#[test]
fn an_image_counts_by_its_digest() {
    let body = |image: &str| {
        format!(
            r#"{{"messages":[{{"role":"user","content":[{{"type":"image_url","image_url":{{"url":"data:image/png;base64,{image}"}}}}]}}]}}"#
        )
    };
    let (first, second) = (body(&"iVBORw0K".repeat(100_000)), body(&"iVBORw0L".repeat(100_000)));
    let prompt = read(&first, "m", None);
    assert!(prompt.tokens < 400, "{}", prompt.tokens);
    assert_eq!(common(&first, &first), prompt.blocks.len());
    assert_eq!(common(&first, &second), 0);
}

#[test]
fn a_text_without_spaces_is_no_image() {
    let body =
        |end: &str| format!(r#"{{"prompt":"{}{end}"}}"#, "请用一句话总结下面的文章，并列出三个要点。".repeat(100));
    let (first, second) = (body("一"), body("二"));
    let prompt = read(&first, "m", None);
    assert!(prompt.tokens > 1_500, "{}", prompt.tokens);
    assert!(common(&first, &second) > 20, "{}", common(&first, &second));
}

#[test]
fn replicas_agree_on_hashes() {
    let hash = BlockHash(0).followed_by(b"block");
    assert_eq!(hash, BlockHash(0).followed_by(b"block"));
    assert_ne!(hash, BlockHash(1).followed_by(b"block"));
    assert_eq!(blocks(r#"{"prompt":"short"}"#), [], "only complete blocks count");
}

#[test]
fn a_value_that_is_broken_or_elsewhere_is_passed_over() {
    for value in ["", "\"", "\"x", "{\"a\\", "nonsense", "[{\"cache_control\":", "[{\"cache_control\":{"] {
        let mut fields = PromptFields::default();
        fields.note("messages", value);
        assert_eq!(Prompt::read(&fields, "m", None).blocks, [], "{value}");
        assert_eq!(fields.places(value.as_bytes()).values(b""), PromptFields::default());
    }
}

#[test]
fn a_client_may_say_which_prompts_belong_together() {
    let key = |body: &str, model| read(body, model, None).key;
    let first = key(r#"{"prompt_cache_key":"a","messages":[{"content":"x"}]}"#, "m");
    assert!(first.is_some());
    assert_eq!(first, key(r#"{"messages":[], "prompt_cache_key" : "a" ,"previous_response_id":"r"}"#, "m"));
    assert_ne!(first, key(r#"{"prompt_cache_key":"a"}"#, "n"), "models have caches of their own");
    assert_ne!(first, key(r#"{"prompt_cache_key":"b"}"#, "m"));
    assert!(key(r#"{"input":"x","previous_response_id":"resp_1"}"#, "m").is_some());
    for none in [r#"{"prompt_cache_key":""}"#, r#"{"prompt_cache_key":null}"#, "{}"] {
        assert_eq!(key(none, "m"), None, "{none}");
    }
}
