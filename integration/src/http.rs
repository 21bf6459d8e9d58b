//! Requests to the router and to other pages, as ordinary clients make them: over pooled connections.

use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};
use http_body_util::{BodyExt, Full};
use hyper::body::{Bytes, Incoming};
use hyper::{Request, Response};
use hyper_util::client::legacy::Client;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::{TokioExecutor, TokioTimer};
use serde_json::{Value, json};

/// What is asked for where a test says nothing else.
pub const PROMPT: &str = "What is Kubernetes?";
/// How long one answer may take.
const ANSWER_LIMIT: Duration = Duration::from_secs(15);

/// A client with connections that it keeps and uses again.
#[derive(Clone, Debug)]
pub struct HttpClient {
    client: Client<HttpConnector, Full<Bytes>>,
    limit: Duration,
}

/// An answer, read whole.
#[derive(Clone, Debug)]
pub struct Answer {
    /// The status.
    pub status: u16,
    /// Whether the server says that it closes the connection.
    pub closes: bool,
    /// The body.
    pub body: Bytes,
}

impl Default for HttpClient {
    fn default() -> Self {
        Self::new()
    }
}

impl HttpClient {
    /// Makes a client without connections.
    pub fn new() -> Self {
        Self::with_limit(ANSWER_LIMIT)
    }

    /// Makes a client that waits this long for an answer.
    pub fn with_limit(limit: Duration) -> Self {
        let mut connector = HttpConnector::new();
        connector.set_connect_timeout(Some(Duration::from_secs(5)));
        connector.set_nodelay(true);
        let client = Client::builder(TokioExecutor::new()).pool_timer(TokioTimer::new()).build(connector);
        Self { client, limit }
    }

    /// Fetches a page.
    ///
    /// # Errors
    ///
    /// Returns an error when there is no answer, whatever its status.
    pub async fn get(&self, url: &str) -> Result<Answer> {
        self.read(Request::get(url).body(Full::default())?).await
    }

    /// Sends a command without a body.
    ///
    /// # Errors
    ///
    /// Returns an error when there is no answer, whatever its status.
    pub async fn post(&self, url: &str) -> Result<Answer> {
        self.read(Request::post(url).body(Full::default())?).await
    }

    /// Asks for a completion.
    ///
    /// # Errors
    ///
    /// Returns an error when there is no answer, whatever its status.
    pub async fn complete(&self, base: &str, model: &str) -> Result<Answer> {
        self.complete_prompt(base, model, PROMPT).await
    }

    /// Asks for a completion of a prompt.
    ///
    /// # Errors
    ///
    /// Returns an error when there is no answer, whatever its status.
    pub async fn complete_prompt(&self, base: &str, model: &str, prompt: &str) -> Result<Answer> {
        self.read(completion(base, model, prompt, false)?).await
    }

    /// Sends a JSON body, and reads the answer to its end, a stream, too.
    ///
    /// # Errors
    ///
    /// Returns an error when there is no answer, whatever its status.
    pub async fn ask(&self, url: &str, body: &Value) -> Result<Answer> {
        self.read(json_request(url, body)?).await
    }

    /// Asks for a completion, and fails unless the model `expected` answers.
    ///
    /// # Errors
    ///
    /// Returns an error that says what was answered instead.
    pub async fn ensure_answer(&self, base: &str, model: &str, expected: &str) -> Result<()> {
        let answer = self.complete(base, model).await?;
        let answered_by = answer.answered_by()?;
        ensure!(answered_by == expected, "`{model}` was answered by `{answered_by}`, not by `{expected}`");
        Ok(())
    }

    /// Asks for a completion, and fails unless it is refused with this status.
    ///
    /// # Errors
    ///
    /// Returns an error that says what was answered instead.
    pub async fn ensure_refusal(&self, base: &str, model: &str, status: u16) -> Result<Value> {
        let answer = self.complete(base, model).await?;
        ensure!(answer.status == status, "expected status {status} for `{model}`: {}", answer.said());
        Ok(answer.json())
    }

    /// Asks for a completion as a stream, and returns once its head is there.
    ///
    /// # Errors
    ///
    /// Returns an error when there is no answer, or none with status 200.
    pub async fn stream(&self, base: &str, model: &str) -> Result<Response<Incoming>> {
        let sent = tokio::time::timeout(self.limit, self.client.request(completion(base, model, PROMPT, true)?)).await;
        let response = sent.context("no answer in time")??;
        ensure!(response.status() == 200, "the stream is refused with status {}", response.status());
        Ok(response)
    }

    async fn read(&self, request: Request<Full<Bytes>>) -> Result<Answer> {
        let whole = async {
            let response = self.client.request(request).await?;
            let status = response.status().as_u16();
            let connection = response.headers().get("connection").map(|value| value.as_bytes().to_ascii_lowercase());
            let closes = connection.is_some_and(|value| value == b"close");
            let body = response.into_body().collect().await.context("the answer breaks off")?.to_bytes();
            Ok(Answer { status, closes, body })
        };
        tokio::time::timeout(self.limit, whole).await.context("no whole answer in time")?
    }
}

impl Answer {
    /// Returns the body as text.
    pub fn text(&self) -> String {
        String::from_utf8_lossy(&self.body).into_owned()
    }

    /// Returns the body as JSON; null if it is not.
    pub fn json(&self) -> Value {
        serde_json::from_slice(&self.body).unwrap_or_default()
    }

    /// Returns the model that the text of a completion says has answered.
    ///
    /// # Errors
    ///
    /// Returns what was answered if it is no completion.
    pub fn answered_by(&self) -> Result<String> {
        let json = self.json();
        let text = json["choices"][0]["text"].as_str().unwrap_or_default();
        match text.strip_prefix("This is simulated message from ").and_then(|rest| rest.strip_suffix('!')) {
            Some(model) if self.status == 200 => Ok(model.to_owned()),
            _ => bail!("{}", self.said()),
        }
    }

    /// Says in one line what was answered.
    pub fn said(&self) -> String {
        let text: String = self.text().chars().take(300).collect();
        format!("status {}: {text}", self.status)
    }
}

fn completion(base: &str, model: &str, prompt: &str, stream: bool) -> Result<Request<Full<Bytes>>> {
    let body = json!({"model": model, "prompt": prompt, "max_tokens": 100, "stream": stream});
    json_request(&format!("{base}/v1/completions"), &body)
}

fn json_request(url: &str, body: &Value) -> Result<Request<Full<Bytes>>> {
    let request = Request::post(url).header("content-type", "application/json");
    Ok(request.body(Full::from(body.to_string()))?)
}
