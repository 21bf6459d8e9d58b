use std::pin::Pin;

use http::Response;
use http_body_util::Full;
use tokio::io::DuplexStream;

use super::*;

struct Silent;

impl Service for Silent {
    type Body = Full<Bytes>;

    fn handle(
        self: Rc<Self>,
        _: Rc<Connection>,
        _: Request<Incoming>,
    ) -> Pin<Box<dyn Future<Output = Response<Self::Body>>>> {
        Box::pin(std::future::pending())
    }

    fn refuse(&self, _: &Connection, _: &Refused<'_>) -> Response<Self::Body> {
        Response::default()
    }
}

fn size<A, B, C, F>(_: impl Fn(A, B, C) -> F) -> usize {
    size_of::<F>()
}

#[test]
fn a_connection_is_small() {
    let size = size(serve::<DuplexStream, Silent>);
    assert!(size <= 1024, "{size} bytes beside the request");
}
