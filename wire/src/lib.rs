//! How messages of HTTP/1.1 are framed: where a head ends, where a body does, and how chunks are written.
//!
//! The server and the client read the same bytes by the same rules. Source: RFC 9112. What is ambiguous there is refused:
//! whoever reads on after a guess may take a part of one message for the beginning of another.

mod chunks;
mod framing;
mod head_end;

pub use chunks::{CHUNK_END, LAST_CHUNK, chunk_begin};
pub use framing::{Decoded, Framing};
pub use head_end::{HeadEnd, length_of};
