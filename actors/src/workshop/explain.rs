//! Asks a running router where a request would go that is not sent, and why.

use std::io::{self, Read, Write};
use std::net::{IpAddr, Ipv4Addr, SocketAddr, TcpStream};
use std::path::Path;
use std::process::ExitCode;
use std::time::Duration;

use kthena_router::explain::Explanation;
use kthena_router::plan::Plan;
use kthena_router::scheduling::profiles::Profiles;
use thiserror::Error;

use crate::dry_run::{Asked, snapshot_of};
use crate::serve::complain;
use crate::workshop::cli::{Explain, RequestOptions};

/// How long the router may take to answer.
const PATIENCE: Duration = Duration::from_secs(10);

/// Why nothing can be explained.
#[derive(Debug, Error)]
pub(super) enum ExplainError {
    /// The body cannot be read.
    #[error("the body `{path}` cannot be read")]
    Body {
        /// Where it should be.
        path: String,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// No router answers.
    #[error("no router answers on the debug port {port} of this machine")]
    Router {
        /// The port.
        port: u16,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// Something else than a router answers, or a router that does not explain.
    #[error("what answers on the debug port {port} explains nothing: {answer}")]
    Answer {
        /// The port.
        port: u16,
        /// The first line of the answer.
        answer: String,
    },
}

/// Asks the router, and prints its answer.
pub fn explain(options: &Explain) -> ExitCode {
    let printed = ask(options).map(|(json, explanation)| {
        let text = if options.json { json + "\n" } else { explanation.to_string() };
        io::stdout().lock().write_all(text.as_bytes())
    });
    match printed {
        Ok(Ok(())) => ExitCode::SUCCESS,
        // Nobody is there to read it.
        Ok(Err(_)) => ExitCode::FAILURE,
        Err(error) => {
            complain(&error);
            ExitCode::FAILURE
        }
    }
}

/// Says where a request would go if these objects were served, as far as that can be said without engines.
pub(super) fn explain_offline(
    plan: Plan,
    profiles: &Profiles,
    body: &Path,
    request: &RequestOptions,
) -> Result<Explanation, ExplainError> {
    let snapshot = snapshot_of(plan, profiles);
    Ok(asked(request, Some(body))?.explain(&snapshot, IpAddr::V4(Ipv4Addr::UNSPECIFIED)))
}

fn asked(request: &RequestOptions, body: Option<&Path>) -> Result<Asked, ExplainError> {
    let read = |path: &Path| match path.to_str() {
        Some("-") => io::read_to_string(io::stdin().lock()),
        Some(_) | None => std::fs::read_to_string(path),
    };
    let body =
        body.map(|path| read(path).map_err(|source| ExplainError::Body { path: path.display().to_string(), source }));
    let RequestOptions { path, port, host, method, headers } = request.clone();
    Ok(Asked { port, method, host, path, headers, body: body.transpose()?.unwrap_or_default() })
}

fn ask(options: &Explain) -> Result<(String, Explanation), ExplainError> {
    let asked = asked(&options.request, options.body.as_deref())?;
    let port = options.debug_port;
    let answer = post(port, &serde_json::json!(asked).to_string());
    let answer = answer.map_err(|source| ExplainError::Router { port, source })?;
    let (head, body) = answer.split_once("\r\n\r\n").unwrap_or((&answer, ""));
    serde_json::from_str(body)
        .map(|explanation| (body.to_owned(), explanation))
        .map_err(|_| ExplainError::Answer { port, answer: head.lines().next().unwrap_or_default().to_owned() })
}

/// Sends a question to the debug port, in a version of HTTP whose answers end with the connection.
fn post(port: u16, question: &str) -> io::Result<String> {
    let address = SocketAddr::from((Ipv4Addr::LOCALHOST, port));
    let mut stream = TcpStream::connect_timeout(&address, PATIENCE)?;
    stream.set_read_timeout(Some(PATIENCE))?;
    let length = question.len();
    write!(
        stream,
        "POST /debug/explain HTTP/1.0\r\nhost: localhost\r\ncontent-type: application/json\r\n\
         content-length: {length}\r\n\r\n{question}"
    )?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer)?;
    Ok(answer)
}
