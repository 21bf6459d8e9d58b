//! The right to send one request to an endpoint.

use std::net::SocketAddr;
use std::sync::Arc;

use actix::WeakRecipient;
use actix_web::http::uri::Authority;
use kthena_router::inference::picker::PickError;
use kthena_router::inference::pool::Endpoint;

use crate::pool_keeper::ConnectionRefused;
use crate::published::{Member, Pool};

/// A reservation of an endpoint, given back when it is dropped: at the end of the answer, on an error, and when the
/// asker is gone before the reply reaches it.
#[derive(Debug)]
pub struct Lease {
    pool: Arc<Pool>,
    member: Member,
}

impl Lease {
    /// Reserves a member of a pool.
    pub(crate) fn new(pool: Arc<Pool>, member: Member) -> Self {
        member.cell.reserve();
        Self { pool, member }
    }

    /// Reserves the first of the wanted endpoints that the pool has and that was not tried yet.
    pub(crate) fn first_of(pool: &Arc<Pool>, wanted: &[SocketAddr], tried: &[SocketAddr]) -> Result<Self, PickError> {
        let view = pool.view();
        let member = |wanted: &SocketAddr| view.members.iter().find(|member| member.endpoint.socket() == *wanted);
        let mut there = wanted.iter().filter_map(member).peekable();
        if there.peek().is_none() {
            return Err(PickError::NoEndpoints);
        }
        let untried = there.find(|member| !tried.contains(&member.endpoint.socket()));
        untried.map(|member| Self::new(Arc::clone(pool), member.clone())).ok_or(PickError::AllTried)
    }

    /// Returns the reserved endpoint.
    pub fn endpoint(&self) -> &Arc<Endpoint> {
        &self.member.endpoint
    }

    /// Returns where the endpoint is, as part of a URI.
    pub fn authority(&self) -> &Authority {
        &self.member.authority
    }

    /// Notes that the endpoint answered, whatever it said.
    pub fn note_answer(&self) {
        self.member.cell.note_answer();
    }

    /// Notes that the endpoint refused the connection, and tells the pool's keeper.
    pub fn note_refusal(&self) {
        let in_a_row = self.member.cell.note_refusal();
        if let Some(keeper) = self.pool.view().keeper.as_ref().and_then(WeakRecipient::upgrade) {
            keeper.do_send(ConnectionRefused { address: self.member.endpoint.socket(), in_a_row });
        }
    }
}

impl Drop for Lease {
    fn drop(&mut self) {
        self.member.cell.give_back();
    }
}
