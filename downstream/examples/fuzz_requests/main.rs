//! Throws broken requests at the server, over pipes in memory and with a clock that does not wait.
//!
//! `cargo run -p kthena-router-downstream --example fuzz_requests --release -- --seconds 60 [--seed N] [--only http1|http2]`
//!
//! Each round is one connection: valid requests or frames, mutated, in pieces of any size, of a client that reads at once or
//! slowly, at a port that may close. It must end by itself, panic nowhere, hold no more than its budget and give all of it
//! back, and every answer must be well-formed, whole, and that of its request. A round that does not prints its seed; with
//! it and `--rounds 1` it runs again.

#![expect(clippy::print_stdout, reason = "a program for people")]

use std::rc::Rc;
use std::time::{Duration, Instant};

use kthena_router_downstream::{Budget, CancellationToken, Limits, Server};
use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt, DuplexStream};
use tokio::time::sleep;

mod answers;
mod inputs;
mod service;
mod tls;

use service::Answering;

/// Bytes that all requests of a round may hold.
const BUDGET: usize = 4 << 20;
/// A round that takes longer, on the clock on the wall, hangs.
const LONGEST: Duration = Duration::from_secs(20);
/// Time of a round on its own clock: longer than any limit, so that whatever waits has an end.
const PATIENCE: Duration = Duration::from_secs(24 * 3600);

/// What a round is about.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Version {
    Http1,
    Http2,
}

/// What a run does.
struct Options {
    seconds: u64,
    rounds: u64,
    seed: u64,
    only: Option<Version>,
}

fn options() -> Options {
    let mut options = Options { seconds: 10, rounds: u64::MAX, seed: rand::random(), only: None };
    let mut arguments = std::env::args().skip(1);
    while let (Some(name), Some(value)) = (arguments.next(), arguments.next()) {
        let number = || value.parse().expect("a number");
        match name.as_str() {
            "--seconds" => options.seconds = number(),
            "--rounds" => options.rounds = number(),
            "--seed" => options.seed = number(),
            "--only" if value == "http1" => options.only = Some(Version::Http1),
            "--only" if value == "http2" => options.only = Some(Version::Http2),
            _ => panic!("unknown option `{name} {value}`"),
        }
    }
    options
}

fn main() {
    let Options { seconds, rounds, seed, only } = options();
    println!("seed {seed}");
    let start = Instant::now();
    let mut totals = [0_u64; 3];
    let mut round = 0;
    while round < rounds && start.elapsed() < Duration::from_secs(seconds) {
        let seed = seed.wrapping_add(round);
        let version = only.unwrap_or(if round % 2 == 0 { Version::Http1 } else { Version::Http2 });
        let (began, hook) = (Instant::now(), std::panic::take_hook());
        std::panic::set_hook(Box::new(move |panic| println!("round with --seed {seed} of {version:?}: {panic}")));
        let [handled, refused, answers] = run(seed, version);
        std::panic::set_hook(hook);
        assert!(began.elapsed() < LONGEST, "round with --seed {seed} took {:?}", began.elapsed());
        totals[0] += handled;
        totals[1] += refused;
        totals[2] += answers;
        round += 1;
    }
    let [handled, refused, answers] = totals;
    println!("{round} connections, {handled} requests handled, {refused} refused, {answers} answers read: clean");
}

/// Runs one round; returns the numbers of requests that were handled and refused, and of answers.
fn run(seed: u64, version: Version) -> [u64; 3] {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().start_paused(true).build();
    let runtime = runtime.expect("the system has timers");
    tokio::task::LocalSet::new().block_on(&runtime, async {
        let round = tokio::time::timeout(PATIENCE, connect(seed, version));
        round.await.expect("the connection ends by itself")
    })
}

async fn connect(seed: u64, version: Version) -> [u64; 3] {
    let mut random = StdRng::seed_from_u64(seed);
    let budget = Budget::new(BUDGET);
    let service = Rc::new(Answering::new(random.random()));
    let closing = CancellationToken::new();
    let has_tls = version == Version::Http1 && random.random_bool(0.2);
    let server = Rc::new(Server {
        service: Rc::clone(&service),
        limits: Limits { head_bytes: 16 << 10, ..Limits::default() },
        budget: budget.clone(),
        tls: has_tls.then(tls::server),
        closing: closing.clone(),
    });
    let (client, socket) = tokio::io::duplex(1 << random.random_range(4..16));
    let address = "127.0.0.1:1".parse().expect("an address");
    let served = tokio::task::spawn_local(server.serve(socket, address, address));
    let input = match version {
        Version::Http1 => inputs::http1(&mut random),
        Version::Http2 => inputs::http2(&mut random),
    };
    // A port that closes waits for no handshake.
    let Some(client) = begin(client, has_tls).await else { return [0; 3] };
    let (reader, mut writer) = tokio::io::split(client);
    let slow = if random.random_bool(0.3) { random.random_range(1..200) } else { 0 };
    let pauses = (0..slow).map(|_| Duration::from_millis(random.random_range(0..9000))).collect();
    if random.random_bool(0.2) {
        let (seconds, turns) = (random.random_range(0..40_u64).saturating_sub(20), random.random_range(0..100));
        tokio::task::spawn_local(async move {
            sleep(Duration::from_secs(seconds)).await;
            for _ in 0..turns {
                tokio::task::yield_now().await;
            }
            closing.cancel();
        });
    }
    let (output, leaves) = tokio::join!(read(reader, pauses), write(&mut writer, &input, &mut random));
    drop(writer);
    served.await.expect("the server does not panic");
    // Who reads a body elsewhere learns of its end.
    sleep(Duration::from_secs(200)).await;
    assert_eq!(budget.used(), 0, "what was held comes back");
    let (handled, refused) = (service.handled.get(), service.refused.get());
    let answers = match version {
        Version::Http1 => answers::http1(&output, leaves, handled + refused),
        Version::Http2 => answers::http2(&output),
    };
    [handled, refused, answers]
}

/// The client's end of a connection.
trait Duplex: AsyncRead + AsyncWrite + Unpin {}
impl<T: AsyncRead + AsyncWrite + Unpin> Duplex for T {}

/// Brings a connection to where HTTP begins; `None` if there is none.
async fn begin(pipe: DuplexStream, has_tls: bool) -> Option<Box<dyn Duplex>> {
    Some(if has_tls { Box::new(tls::connect(pipe).await?) } else { Box::new(pipe) })
}

/// Sends all of it in pieces of any size; returns whether the client leaves then. Others wait for what the server does.
async fn write(writer: &mut (impl AsyncWrite + Unpin), mut left: &[u8], random: &mut StdRng) -> bool {
    while !left.is_empty() {
        let piece = random.random_range(1..=left.len().min(5000));
        if writer.write_all(&left[..piece]).await.is_err() {
            break;
        }
        left = &left[piece..];
        if random.random_bool(0.05) {
            sleep(Duration::from_secs(random.random_range(0..20))).await;
        }
    }
    let leaves = random.random_bool(0.5);
    if leaves {
        writer.shutdown().await.ok();
    }
    leaves
}

/// Reads all that comes, with a pause before each read as long as there are any.
async fn read(mut reader: impl AsyncRead + Unpin, pauses: Vec<Duration>) -> Vec<u8> {
    let mut output = Vec::new();
    for pause in pauses {
        sleep(pause).await;
        // With less room, TLS would give out what it holds, and the socket would seem to stand still.
        output.reserve(32 << 10);
        if !matches!(reader.read_buf(&mut output).await, Ok(1..)) {
            return output;
        }
    }
    // TLS that is broken off ends with an error.
    reader.read_to_end(&mut output).await.ok();
    output
}
