//! The shapes in which the APIs tell errors: OpenAI's, and Anthropic's for its messages API.
//!
//! Sources: OpenAI API reference, "Error codes", and what its clients read,
//! `{"error":{"message","type","param","code"}}`; Anthropic API reference, "Errors",
//! `{"type":"error","error":{"type","message"}}`.

use serde_json::{Value, json};

use super::api::Api;

/// An error as clients get to know it.
#[derive(Clone, Copy, Debug)]
pub struct ApiError<'e> {
    /// The HTTP status.
    pub status: u16,
    /// Why, in one word for programs.
    pub code: &'e str,
    /// The field of the request that is at fault.
    pub param: Option<&'e str>,
    /// Why, in a sentence for people.
    pub message: &'e str,
}

impl ApiError<'_> {
    /// Returns the body of an answer to a request of an API, if it is one.
    pub fn body(&self, api: Option<Api>) -> String {
        let Self { status, message, .. } = *self;
        if api.is_some_and(Api::is_of_anthropic) {
            let kind = match status {
                401 => "authentication_error",
                403 => "permission_error",
                404 => "not_found_error",
                413 => "request_too_large",
                429 => "rate_limit_error",
                503 | 529 => "overloaded_error",
                400..500 => "invalid_request_error",
                _ => "api_error",
            };
            return json!({"type": "error", "error": {"type": kind, "message": message}}).to_string();
        }
        json!({"error": self.of_openai()}).to_string()
    }

    fn of_openai(&self) -> Value {
        let Self { status, code, param, message } = *self;
        let kind = match status {
            401 => "authentication_error",
            403 => "permission_error",
            429 => "rate_limit_error",
            400..500 => "invalid_request_error",
            _ => "server_error",
        };
        json!({"message": message, "type": kind, "param": param, "code": code})
    }

    /// Returns the event that tells the error within a stream of an API, in which `sequence` events went before where
    /// they are counted.
    ///
    /// The event of the Responses API has the fields of its specification, and those of an error beside them: clients
    /// that pass over the type `error` stumble over a field `error`.
    pub fn event(&self, api: Api, sequence: u64) -> String {
        if api == Api::Responses {
            let Self { code, param, message, .. } = *self;
            let event = json!({
                "type": "error",
                "code": code,
                "message": message,
                "param": param,
                "sequence_number": sequence,
                "error": self.of_openai(),
            });
            return format!("event: error\ndata: {event}\n\n");
        }
        let name = if api.is_of_anthropic() { "event: error\n" } else { "" };
        format!("{name}data: {}\n\n", self.body(Some(api)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn errors_have_the_shape_that_clients_of_the_api_parse() {
        for (status, openai, anthropic) in [
            (400, "invalid_request_error", "invalid_request_error"),
            (404, "invalid_request_error", "not_found_error"),
            (413, "invalid_request_error", "request_too_large"),
            (429, "rate_limit_error", "rate_limit_error"),
            (502, "server_error", "api_error"),
            (503, "server_error", "overloaded_error"),
        ] {
            let error = ApiError { status, code: "c", param: None, message: "say \"m\"" };
            let read = |api| serde_json::from_str::<Value>(&error.body(api)).unwrap();
            let (chat, messages) = (read(Some(Api::ChatCompletions)), read(Some(Api::Messages)));
            assert_eq!((&chat["error"]["type"], &chat["error"]["code"]), (&json!(openai), &json!("c")), "{status}");
            let said = json!({"type": "error", "error": {"type": anthropic, "message": "say \"m\""}});
            assert_eq!((&messages, &read(Some(Api::CountTokens))), (&said, &said), "{status}");
            assert_eq!(read(None), chat, "{status}: what is no call of an API");
        }
    }
}
