//! An HTTP client that returns the whole answer, and one that sends arbitrary bytes.

use std::time::Duration;

use reqwest::{Method, header::HeaderMap};
use serde_json::Value;
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpStream,
};

#[derive(Clone)]
pub struct Client {
    http: reqwest::Client,
    pub address: String,
}

#[derive(Debug)]
pub struct ApiAnswer {
    pub status: u16,
    pub headers: HeaderMap,
    pub text: String,
}

impl ApiAnswer {
    pub fn json(&self) -> Value {
        serde_json::from_str(&self.text).unwrap_or_else(|_| panic!("not JSON: {}", self.text))
    }

    pub fn header(&self, name: &str) -> &str {
        self.headers.get(name).map_or("", |value| value.to_str().unwrap())
    }

    /// The body of a problem, which must be complete and of the right type.
    pub fn problem(&self) -> Value {
        assert_eq!(self.header("content-type"), "application/problem+json", "{self:?}");
        let problem = self.json();
        assert_eq!(problem["status"], self.status, "{self:?}");
        for member in ["type", "title", "detail", "request_id"] {
            assert!(problem[member].as_str().is_some_and(|text| !text.is_empty()), "{self:?}");
        }
        assert_eq!(problem["request_id"], self.header("x-request-id"));
        let again = !self.header("retry-after").is_empty();
        assert_eq!(again, matches!(self.status, 429 | 503), "{self:?}");
        problem
    }

    /// The names of the wrong fields, sorted.
    pub fn wrong_fields(&self) -> Vec<String> {
        let problem = self.problem();
        let errors = problem["errors"].as_array().cloned().unwrap_or_default();
        let mut fields: Vec<_> =
            errors.iter().map(|error| error["field"].as_str().unwrap().to_owned()).collect();
        fields.sort_unstable();
        fields
    }
}

impl Client {
    pub fn new(address: &str) -> Self {
        let http = reqwest::Client::builder()
            .timeout(Duration::from_secs(30))
            .redirect(reqwest::redirect::Policy::none())
            .build()
            .unwrap();
        Self { http, address: address.to_owned() }
    }

    pub async fn get(&self, path: &str) -> ApiAnswer {
        self.send(Method::GET, path, &[], "").await
    }

    pub async fn delete(&self, path: &str) -> ApiAnswer {
        self.send(Method::DELETE, path, &[], "").await
    }

    pub async fn post(&self, path: &str, body: &Value) -> ApiAnswer {
        self.json(Method::POST, path, body.to_string()).await
    }

    pub async fn put(&self, path: &str, body: &Value) -> ApiAnswer {
        self.json(Method::PUT, path, body.to_string()).await
    }

    pub async fn json(
        &self,
        method: Method,
        path: &str,
        body: impl Into<reqwest::Body>,
    ) -> ApiAnswer {
        self.send(method, path, &[("content-type", "application/json")], body).await
    }

    pub async fn send(
        &self,
        method: Method,
        path: &str,
        headers: &[(&str, &str)],
        body: impl Into<reqwest::Body>,
    ) -> ApiAnswer {
        self.try_send(method, path, headers, body).await.unwrap()
    }

    /// The same; an error if the connection ended before the answer.
    pub async fn try_send(
        &self,
        method: Method,
        path: &str,
        headers: &[(&str, &str)],
        body: impl Into<reqwest::Body>,
    ) -> reqwest::Result<ApiAnswer> {
        let mut request = self.http.request(method, format!("http://{}{path}", self.address));
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        let response = request.body(body).send().await?;
        Ok(ApiAnswer {
            status: response.status().as_u16(),
            headers: response.headers().clone(),
            text: response.text().await?,
        })
    }

    /// Sends bytes, and reads until the server closes the connection or for `limit`.
    pub async fn raw(&self, request: &[u8], limit: Duration) -> Raw {
        self.raw_in_parts(&[request], limit).await
    }

    /// The same, in parts that arrive one after another.
    pub async fn raw_in_parts(&self, parts: &[&[u8]], limit: Duration) -> Raw {
        let mut stream = TcpStream::connect(&self.address).await.unwrap();
        stream.set_nodelay(true).unwrap();
        for part in parts {
            // The server may answer and close before it has read everything.
            let _ = stream.write_all(part).await;
            tokio::task::yield_now().await;
        }
        Self::rest(stream, limit).await
    }

    /// The same in one part. When the client has an answer, it closes its sending side.
    pub async fn raw_and_end(&self, request: &[u8], limit: Duration) -> Raw {
        let mut stream = TcpStream::connect(&self.address).await.unwrap();
        let _ = stream.write_all(request).await;
        let mut first = vec![0; 64 * 1024];
        let patience = Duration::from_millis(50);
        let read = tokio::time::timeout(patience, stream.read(&mut first)).await;
        let read = read.map_or(0, |read| read.unwrap_or(0));
        let _ = stream.shutdown().await;
        let mut raw = Self::rest(stream, limit).await;
        raw.text.insert_str(0, &String::from_utf8_lossy(&first[..read]));
        raw
    }

    async fn rest(mut stream: TcpStream, limit: Duration) -> Raw {
        let mut text = Vec::new();
        let closed = tokio::time::timeout(limit, stream.read_to_end(&mut text)).await.is_ok();
        Raw { text: String::from_utf8_lossy(&text).into_owned(), closed }
    }
}

#[derive(Debug)]
pub struct Raw {
    pub text: String,
    pub closed: bool,
}

impl Raw {
    /// The statuses of all answers.
    pub fn statuses(&self) -> Vec<u16> {
        self.text.split("HTTP/1.1 ").skip(1).map(|answer| answer[..3].parse().unwrap()).collect()
    }
}
