//! What the HTTP server asks for answers.

use std::future::Future;
use std::pin::Pin;
use std::rc::Rc;

use http::{Request, Response};
use kthena_router_downstream::{Connection, Incoming, Refused, Service};

use super::handle::handle;
use super::worker::Worker;
use crate::edge::answers::{ReplyBody, failed};
use crate::edge::bodies::Inbound;
use crate::edge::errors::ProxyError;
use crate::edge::exchange::Exchange;
use crate::ops::metrics::RefusedLabels;
use crate::ops::requests::facts::Facts;

/// Answers the requests of one worker thread.
pub struct InferenceService(pub Rc<Worker>);

impl Service for InferenceService {
    type Body = ReplyBody;

    fn handle(
        self: Rc<Self>,
        connection: Rc<Connection>,
        request: Request<Incoming>,
    ) -> Pin<Box<dyn Future<Output = Response<ReplyBody>>>> {
        let (head, incoming) = request.into_parts();
        let body = Inbound::new(incoming, &connection, self.0.limits().max_body_bytes);
        // Made where it stays: `Box::pin` would make it on the stack, and move all the room that it has for later.
        let handled = Box::write(Box::new_uninit(), handle(Rc::clone(&self.0), connection, head, body));
        Box::into_pin(handled)
    }

    fn refuse(&self, connection: &Connection, refused: &Refused<'_>) -> Response<ReplyBody> {
        let error = ProxyError::Refused(refused.why);
        let labels = RefusedLabels { reason: refused.why.reason() };
        self.0.door.serving.metrics.edge.refused.get_or_create(&labels).inc();
        let nothing = Request::new(()).into_parts().0;
        let facts = Facts::of(connection.client(), refused.head.unwrap_or(&nothing));
        let mut exchange = Exchange::begin(&self.0.observer, facts);
        failed(&error, &mut exchange)
    }
}
