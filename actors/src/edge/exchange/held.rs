//! What a request has taken and gives back at its end, however that comes about.

use crate::edge::ext_proc::Consultation;
use crate::edge::limits::Admission;
use crate::pools::lease::Lease;

/// Everything that gives itself back when a request ends: it rides with the answer's body, and is dropped with it.
#[derive(Default)]
pub(in crate::edge) struct Held {
    /// The place among the port's requests.
    pub admission: Option<Admission>,
    /// The reservation of the endpoint that answers.
    pub lease: Option<Lease>,
    /// The reservation of the endpoint that computes the prompt, where a sidecar has it do so, until the answer begins.
    pub prefill: Option<Box<Lease>>,
    /// The exchange with the picker that has chosen the endpoint; it ends at the same time.
    pub consultation: Option<Box<Consultation>>,
}
