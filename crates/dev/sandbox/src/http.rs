//! Plain HTTP requests with a deadline, for readiness, tests and demo data.

use std::time::Duration;

use anyhow::Context as _;
use serde_json::Value;

const LIMIT: Duration = Duration::from_secs(10);

/// An HTTP answer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HttpAnswer {
    /// The status code.
    pub status: u16,
    /// The body as text.
    pub body: String,
}

impl HttpAnswer {
    /// The body as JSON.
    ///
    /// # Errors
    /// It is not JSON.
    pub fn json(&self) -> anyhow::Result<Value> {
        serde_json::from_str(&self.body)
            .with_context(|| format!("not JSON ({}): {}", self.status, self.body))
    }
}

/// Sends a GET request; waits up to ten seconds.
///
/// # Errors
/// There is no complete answer in this time. An answer with any status is a success.
pub async fn http_get(url: &str) -> anyhow::Result<HttpAnswer> {
    send(client()?.get(url)).await
}

/// Sends a POST request with a JSON body; waits up to ten seconds.
///
/// # Errors
/// There is no complete answer in this time. An answer with any status is a success.
pub async fn http_post_json(url: &str, body: &Value) -> anyhow::Result<HttpAnswer> {
    send(client()?.post(url).json(body)).await
}

/// Sends a POST request with a JSON body and an API key or token; waits up to ten seconds.
///
/// # Errors
/// There is no complete answer in this time. An answer with any status is a success.
pub async fn http_post_json_as(
    bearer: &str,
    url: &str,
    body: &Value,
) -> anyhow::Result<HttpAnswer> {
    send(client()?.post(url).bearer_auth(bearer).json(body)).await
}

/// Sends a PUT request with a JSON body; waits up to ten seconds.
///
/// # Errors
/// There is no complete answer in this time. An answer with any status is a success.
pub async fn http_put_json(url: &str, body: &Value) -> anyhow::Result<HttpAnswer> {
    send(client()?.put(url).json(body)).await
}

fn client() -> anyhow::Result<reqwest::Client> {
    // All servers are on this machine, so a proxy from the environment must not be used.
    Ok(reqwest::Client::builder().no_proxy().timeout(LIMIT).build()?)
}

async fn send(request: reqwest::RequestBuilder) -> anyhow::Result<HttpAnswer> {
    let response = request.send().await?;
    let status = response.status().as_u16();
    Ok(HttpAnswer { status, body: response.text().await? })
}
