//! Traces in Mooncake's format: one JSON object on each line, whose `hash_ids` name blocks of 512 tokens.

use std::fs;
use std::path::Path;

use anyhow::{Context, Result};
use kthena_router::inference::prompt::BlockHash;
use serde::Deserialize;

use crate::engine::{BLOCK, LARGE};
use crate::fleet::prompt;
use crate::workloads::{Arrival, Turn, Workload};

/// Tokens of a block of the trace.
const TRACE_BLOCK: u32 = 512;

#[derive(Deserialize)]
struct Line {
    /// Milliseconds since the trace began.
    timestamp: u64,
    input_length: u32,
    output_length: u32,
    hash_ids: Vec<u64>,
}

/// Reads a trace, to be replayed so many times as fast, as far as `part` of it goes.
///
/// # Errors
///
/// Fails for a file that cannot be read or has another format.
pub fn read(name: &'static str, path: &Path, speed: f64, part: f64) -> Result<Workload> {
    let text = fs::read_to_string(path).with_context(|| format!("{} cannot be read", path.display()))?;
    let lines: Vec<Line> = text.lines().map(serde_json::from_str).collect::<Result<_, _>>().context("not a trace")?;
    let count = (lines.len() as f64 * part) as usize;
    let times = lines.iter().take(count).map(|line| line.timestamp as f64 / 1000.0 / speed).collect();
    let sessions = lines.iter().take(count).map(|line| vec![turn(line)]).collect();
    Ok(Workload::new(name, vec![LARGE; 8], sessions, Arrival::Open(times)))
}

fn turn(line: &Line) -> Turn {
    let mut blocks = Vec::new();
    for id in &line.hash_ids {
        for place in 0..TRACE_BLOCK / BLOCK {
            blocks.push(BlockHash(*id).followed_by(&place.to_le_bytes()).0);
        }
    }
    blocks.truncate((line.input_length / BLOCK) as usize);
    let rest = line.input_length - u32::try_from(blocks.len()).unwrap_or(u32::MAX) * BLOCK;
    Turn { prompt: prompt(blocks, rest, line.output_length, Vec::new()), pause: 0.0 }
}
