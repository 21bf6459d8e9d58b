//! What tells the client of a silent engine that its stream is alive.
//!
//! Sources: WHATWG HTML, section 9.2.6: a line that begins with a colon is a comment, and an event without data is none;
//! Anthropic API reference, "Streaming": any number of `ping` events may stand in a stream, and every client knows them.
//! The streams of OpenAI have no such event: a chunk without content would be counted, and a comment is not.

use super::api::Api;
use crate::kinds::model_server::HeartbeatForm;

const COMMENT: &str = ": heartbeat\n\n";
const PING: &str = "event: ping\ndata: {\"type\": \"ping\"}\n\n";

/// Returns what is sent between two events of a stream of `api`.
pub fn heartbeat(form: HeartbeatForm, api: Api) -> &'static str {
    match form {
        HeartbeatForm::Ping if api.is_of_anthropic() => PING,
        HeartbeatForm::Ping | HeartbeatForm::Comment => COMMENT,
    }
}
