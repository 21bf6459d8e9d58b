//! Connections that share a thread.

use std::cell::Cell;
use std::future::ready;
use std::rc::Rc;

use http::StatusCode;
use kthena_router_downstream::Limits;
use tokio::io::{AsyncReadExt, AsyncWriteExt, DuplexStream};

use crate::frames::{self, END_STREAM, RawClient, WINDOW_UPDATE, get};
use crate::site::{Site, local, text, until};

/// Makes a site that answers all at once, and counts the requests under each path.
fn counting() -> (Site, Rc<Cell<usize>>) {
    let served = Rc::new(Cell::new(0));
    let count = Rc::clone(&served);
    let site = Site::new(Limits::default(), move |_, request| {
        count.set(count.get() + usize::from(request.uri().path() == "/flood"));
        ready(text(StatusCode::NOT_FOUND, "nothing"))
    });
    (site, served)
}

/// Returns how many requests of a flood are served before one of somebody else is.
async fn passed_by(site: &Site, served: &Cell<usize>) -> usize {
    let (mut quiet, _) = site.connect();
    let before = served.get();
    quiet.write_all(b"GET /quiet HTTP/1.1\r\nhost: x\r\n\r\n").await.unwrap();
    until(&mut quiet, "nothing").await;
    served.get() - before
}

async fn drain(mut client: impl AsyncReadExt + Unpin) {
    let mut buffer = vec![0; 64 << 10];
    while client.read(&mut buffer).await.is_ok_and(|read| read > 0) {}
}

#[tokio::test(start_paused = true)]
async fn pipelining_connections_do_not_starve_others() {
    let (site, served) = counting();
    local(async {
        for _ in 0..2 {
            let (client, _) = site.connect_wide(8 << 20);
            let (reader, mut writer) = tokio::io::split(client);
            let flood = b"GET /flood HTTP/1.1\r\nhost: x\r\n\r\n".repeat(1000);
            tokio::task::spawn_local(async move { while writer.write_all(&flood).await.is_ok() {} });
            tokio::task::spawn_local(drain(reader));
        }
        while served.get() < 1000 {
            tokio::task::yield_now().await;
        }
        for _ in 0..10 {
            let passed_by = passed_by(&site, &served).await;
            assert!(passed_by < 400, "{passed_by} requests of the flood come first");
        }
    })
    .await;
}

#[tokio::test(start_paused = true)]
async fn a_flood_of_http2_does_not_starve_others() {
    let (site, served) = counting();
    local(async {
        for _ in 0..2 {
            let (io, _) = site.connect_wide(8 << 20);
            let client = RawClient::begin(io, &[]).await;
            let (reader, mut writer): (_, tokio::io::WriteHalf<DuplexStream>) = tokio::io::split(client.io);
            tokio::task::spawn_local(async move {
                for stream in (1..).step_by(2) {
                    let mut request =
                        frames::frame(frames::HEADERS, 4 | END_STREAM, stream, &frames::block(&get("/flood")));
                    request.extend(frames::frame(WINDOW_UPDATE, 0, 0, &7_u32.to_be_bytes()));
                    if writer.write_all(&request).await.is_err() {
                        break;
                    }
                }
            });
            tokio::task::spawn_local(drain(reader));
        }
        while served.get() < 1000 {
            tokio::task::yield_now().await;
        }
        for _ in 0..10 {
            let passed_by = passed_by(&site, &served).await;
            assert!(passed_by < 1000, "{passed_by} requests of the flood come first");
        }
    })
    .await;
}
