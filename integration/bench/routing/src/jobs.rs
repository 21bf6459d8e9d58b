//! Workloads as JSON lines, so that a fleet behind HTTP is asked the same as one in virtual time.
//!
//! The first line tells of the workload, each further one of a session. A block of a prompt is written as its hash, 16
//! hexadecimal digits; [`text`] makes the words of it.

use std::io::Write;

use anyhow::Result;
use kthena_router::scheduling::endpoint::Role;
use serde::Serialize;

use crate::engine::BLOCK;
use crate::workloads::{Arrival, Turn, Workload};

/// Bytes of the text of a token.
pub const TOKEN_BYTES: usize = 4;
/// Bytes of the text of a block.
pub const BLOCK_BYTES: usize = BLOCK as usize * TOKEN_BYTES;
/// Digits of a hash.
const DIGITS: usize = 16;
/// Bytes of a word, a space and digits.
const WORD: usize = 8;

#[derive(Serialize)]
struct Head<'w> {
    workload: &'w str,
    engines: usize,
    /// What each engine works on, where some compute prompts for others.
    roles: &'w [Role],
    sessions: usize,
    /// How many clients take one session after the other; without them, sessions begin at their times.
    clients: Option<usize>,
}

#[derive(Serialize)]
struct Session<'w> {
    at: Option<f64>,
    turns: Vec<Request<'w>>,
}

#[derive(Serialize)]
struct Request<'w> {
    blocks: Vec<String>,
    /// Tokens beside the blocks.
    rest: u32,
    output: u32,
    /// Whether the engine keeps the answer in its cache, because the next turn begins with it.
    is_kept: bool,
    adapter: Option<u16>,
    pause: &'w f64,
}

/// Writes a workload.
///
/// # Errors
/// What cannot be written.
pub fn write(workload: &Workload, out: &mut impl Write) -> Result<()> {
    let (times, clients) = match &workload.arrival {
        Arrival::Open(times) => (Some(times), None),
        Arrival::Closed(clients) => (None, Some(*clients)),
    };
    let (engines, sessions) = (workload.fleet.len(), workload.sessions.len());
    line(out, &Head { workload: workload.name, engines, roles: &workload.roles, sessions, clients })?;
    for (place, turns) in workload.sessions.iter().enumerate() {
        let at = times.map(|times| times[place]);
        line(out, &Session { at, turns: turns.iter().map(Request::of).collect() })?;
    }
    Ok(())
}

fn line(out: &mut impl Write, value: &impl Serialize) -> Result<()> {
    serde_json::to_writer(&mut *out, value)?;
    Ok(out.write_all(b"\n")?)
}

impl<'w> Request<'w> {
    fn of(Turn { prompt, pause }: &'w Turn) -> Self {
        let tokens = u32::try_from(prompt.blocks.len()).unwrap_or(u32::MAX).saturating_mul(BLOCK);
        Self {
            blocks: prompt.blocks.iter().map(|block| format!("{block:016x}")).collect(),
            rest: prompt.tokens.saturating_sub(tokens),
            output: prompt.output,
            is_kept: !prompt.answer.is_empty(),
            adapter: prompt.adapter,
            pause,
        }
    }
}

/// Returns the text of blocks: of each its hash, and words made of it, because a text without spaces would be an image.
pub fn text(blocks: &[u64]) -> String {
    let words = |hash: &str| format!(" {}", &hash[..WORD - 1]).repeat((BLOCK_BYTES - DIGITS) / WORD);
    blocks.iter().map(|block| format!("{block:016x}")).map(|hash| hash.clone() + &words(&hash)).collect()
}

/// Returns the whole blocks of a text; `None` if it is not made of blocks.
pub fn blocks(text: &str) -> Option<Vec<u64>> {
    let block = |text: &[u8]| u64::from_str_radix(std::str::from_utf8(&text[..DIGITS]).ok()?, 16).ok();
    text.as_bytes().chunks_exact(BLOCK_BYTES).map(block).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::workloads::Maker;

    #[test]
    fn a_text_has_the_blocks_that_it_was_made_of() {
        let prompt = [0, 1, u64::MAX, 0x0123_4567_89ab_cdef];
        let mut words = text(&prompt);
        assert_eq!(words.len(), 4 * BLOCK_BYTES);
        assert!(words.starts_with("0000000000000000 0000000 0000000 "), "{words}");
        words.push_str("the rest is no block");
        assert_eq!(blocks(&words).as_deref(), Some(&prompt[..]));
        assert_eq!(blocks(&"no block ".repeat(100)), None);
    }

    #[test]
    fn a_workload_has_a_line_for_each_session() -> Result<()> {
        for workload in Maker::new(1, 0.01).all() {
            let mut out = Vec::new();
            write(&workload, &mut out)?;
            let lines = std::str::from_utf8(&out)?.lines().map(serde_json::from_str::<serde_json::Value>);
            let lines = lines.collect::<Result<Vec<_>, _>>()?;
            assert_eq!(lines.len(), 1 + workload.sessions.len(), "{}", workload.name);
            assert_eq!(lines[0]["engines"], workload.fleet.len());
            assert_eq!(lines[0]["roles"].as_array().map(Vec::len), Some(workload.roles.len()));
            assert_eq!(lines[1]["turns"].as_array().map(Vec::len), Some(workload.sessions[0].len()));
        }
        Ok(())
    }
}
