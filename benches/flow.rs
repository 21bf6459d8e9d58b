//! What the queue of a pool costs: for a request that waits among ten thousand others, and for telling whose it is.

use std::hint::black_box;
use std::time::Duration;

use criterion::{Criterion, criterion_group, criterion_main};
use kthena_router::flow::identity::FlowId;
use kthena_router::flow::queue::{Asked, FlowQueue, Rank};
use kthena_router::flow::settings::Settings;

/// The program's own allocator.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn asked(number: u64) -> Asked {
    let priority = i32::try_from(number % 3).unwrap_or_default();
    Asked {
        rank: Rank { priority, boosted: false },
        flow: FlowId(1 + number % 500),
        cost: 1000 + number % 7,
        bytes: 100,
        arrived: Duration::from_micros(number),
        work: Duration::from_millis(number % 500),
    }
}

fn flow(criterion: &mut Criterion) {
    let settings = Settings { most_requests: usize::MAX, most_bytes: usize::MAX, ..Settings::default() };
    let mut queue = FlowQueue::default();
    for number in 0..10_000 {
        queue.push(asked(number), &settings, number);
    }
    let mut next = 10_000;
    criterion.bench_function("a request waits among 10 000, and another one goes", |bencher| {
        bencher.iter(|| {
            next += 1;
            black_box(queue.push(asked(next), &settings, next));
            if let Some((served, waiter)) = queue.pop(&settings) {
                queue.settle(served, served.charged + 3);
                black_box(waiter);
            }
        });
    });
    criterion.bench_function("a request waits among 10 000, and leaves", |bencher| {
        bencher.iter(|| {
            next += 1;
            let pushed = queue.push(asked(next), &settings, next);
            black_box(pushed.place.and_then(|place| queue.cancel(place)));
        });
    });
    criterion.bench_function("whose a request is", |bencher| {
        let header = |name: &'static str| (name == "authorization").then_some(&b"Bearer sk-0123456789abcdef"[..]);
        bencher.iter(|| black_box(FlowId::of(black_box(header))));
    });
}

criterion_group!(benches, flow);
criterion_main!(benches);
