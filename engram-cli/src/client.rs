//! A small blocking HTTP client for Engram's own routes.
//!
//! Deliberately absent: TLS (the server speaks plain HTTP behind whatever the site has) and
//! proxies (a memory on this machine is not behind one).

use std::io::Read as _;
use std::time::Duration;

use serde::de::DeserializeOwned;
use ureq::Agent;
use ureq::http::Response;

use crate::failure::{Failure, Outcome};

/// Longest that a server may take to begin an answer (compaction of a large log takes a while), and to send it.
const ANSWER_TIMEOUT: Duration = Duration::from_mins(10);
/// Largest answer that is read.
const ANSWER_BYTES_MAX: u64 = 2 << 30;

/// A connection to one server, kept alive between requests.
#[derive(Debug, Clone)]
pub(crate) struct Client {
    agent: Agent,
    base: String,
}

/// A server's answer, read whole.
#[derive(Debug)]
pub(crate) struct Answer {
    /// The HTTP status.
    pub(crate) status: u16,
    /// `Retry-After`, in seconds.
    pub(crate) retry_after: Option<Duration>,
    /// The body.
    pub(crate) body: Vec<u8>,
}

/// What is asked of the server.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Method {
    /// `GET`.
    Get,
    /// `DELETE`.
    Delete,
    /// `POST`, with a body of this media type.
    Post(&'static str),
}

/// Why there is no answer.
#[derive(Debug)]
pub(crate) struct NoAnswer {
    /// Whether the server was never reached, so that surely nothing happened.
    pub(crate) unreachable: bool,
    /// In words.
    pub(crate) message: String,
}

impl From<NoAnswer> for Failure {
    fn from(none: NoAnswer) -> Self {
        Self::failed(none.message)
    }
}

/// The problem of an `application/problem+json`.
#[derive(Debug, Default, serde::Deserialize)]
struct Problem {
    #[serde(default)]
    title: String,
    #[serde(default)]
    detail: String,
}

impl Client {
    /// A client of the server at `url`.
    pub(crate) fn new(url: &str) -> Outcome<Self> {
        let base = url.trim_end_matches('/').to_owned();
        let Some(authority) = base.strip_prefix("http://").filter(|rest| !rest.is_empty()) else {
            let message = format!("--server {url:?}: say http://HOST:PORT (https is not spoken)");
            return Err(Failure::usage(message));
        };
        if authority.contains(['?', '#', ' ']) {
            return Err(Failure::usage(format!("--server {url:?}: say http://HOST:PORT")));
        }
        let agent = Agent::config_builder()
            .http_status_as_error(false)
            .proxy(None)
            .max_redirects(0)
            .user_agent(concat!("engram/", env!("CARGO_PKG_VERSION")))
            .timeout_connect(Some(Duration::from_secs(10)))
            .timeout_recv_response(Some(ANSWER_TIMEOUT))
            .timeout_recv_body(Some(ANSWER_TIMEOUT))
            .build()
            .new_agent();
        Ok(Self { agent, base })
    }

    /// Sends one request; every status is an answer.
    pub(crate) fn send(
        &self,
        method: Method,
        path: &str,
        headers: &[(&str, &str)],
        body: &[u8],
    ) -> Result<Answer, NoAnswer> {
        let url = format!("{}{path}", self.base);
        let sent = match method {
            Method::Get => with(self.agent.get(url), headers).call(),
            Method::Delete => with(self.agent.delete(url), headers).call(),
            Method::Post(media) => {
                with(self.agent.post(url), headers).content_type(media).send(body)
            }
        };
        let mut response = sent.map_err(|e| self.no_answer(&e))?;
        let status = response.status().as_u16();
        let retry_after = retry_after(&response);
        let mut body = Vec::new();
        response
            .body_mut()
            .as_reader()
            .take(ANSWER_BYTES_MAX)
            .read_to_end(&mut body)
            .map_err(|e| self.no_answer(&ureq::Error::Io(e)))?;
        Ok(Answer { status, retry_after, body })
    }

    /// `GET`; anything but success is a failure.
    pub(crate) fn get(&self, path: &str) -> Outcome<Answer> {
        self.send(Method::Get, path, &[], &[])?.success()
    }

    fn no_answer(&self, error: &ureq::Error) -> NoAnswer {
        let server = &self.base;
        match error {
            ureq::Error::Io(e) if e.kind() == std::io::ErrorKind::ConnectionRefused => NoAnswer {
                unreachable: true,
                message: format!(
                    "no server answers at {server}; start one with `engram start`, or name \
                     another with --server URL"
                ),
            },
            ureq::Error::HostNotFound | ureq::Error::ConnectionFailed => NoAnswer {
                unreachable: true,
                message: format!("cannot reach {server}: {error}; check --server URL"),
            },
            ureq::Error::BadUri(_) | ureq::Error::Http(_) => NoAnswer {
                unreachable: true,
                message: format!("--server {server:?}: {error}; say http://HOST:PORT"),
            },
            _ => NoAnswer {
                unreachable: false,
                message: format!(
                    "the server at {server} did not finish its answer: {error}; whether it acted \
                     is unknown, so look before you try again"
                ),
            },
        }
    }
}

fn with<Body>(
    mut request: ureq::RequestBuilder<Body>,
    headers: &[(&str, &str)],
) -> ureq::RequestBuilder<Body> {
    for (name, value) in headers {
        request = request.header(*name, *value);
    }
    request
}

fn retry_after(response: &Response<ureq::Body>) -> Option<Duration> {
    let seconds = response.headers().get("retry-after")?.to_str().ok()?.parse().ok()?;
    Some(Duration::from_secs(seconds))
}

impl Answer {
    /// Whether the server did what was asked.
    pub(crate) fn ok(&self) -> bool {
        (200..300).contains(&self.status)
    }

    /// The answer, or the server's reason against it.
    pub(crate) fn success(self) -> Outcome<Self> {
        if self.ok() { Ok(self) } else { Err(Failure::failed(self.problem())) }
    }

    /// What the server says is wrong, in one sentence.
    pub(crate) fn problem(&self) -> String {
        let problem: Problem = serde_json::from_slice(&self.body).unwrap_or_default();
        let said = if problem.detail.is_empty() { problem.title } else { problem.detail };
        if said.is_empty() {
            return format!("the server answered with status {} and no reason", self.status);
        }
        said
    }

    /// The body as a value.
    pub(crate) fn json<T: DeserializeOwned>(&self) -> Outcome<T> {
        serde_json::from_slice(&self.body).map_err(|e| not_ours(&e))
    }
}

/// The server's answer is not one of Engram's.
pub(crate) fn not_ours(error: &serde_json::Error) -> Failure {
    Failure::failed(format!(
        "the server's answer is not Engram's ({error}); check --server URL, and that server and \
         program are of one version"
    ))
}

/// A name as one segment of a path.
pub(crate) fn segment(name: &str) -> String {
    // "." and ".." mean other places even to servers that decode late.
    let dots = name.bytes().all(|byte| byte == b'.');
    let mut text = String::with_capacity(name.len());
    for byte in name.bytes() {
        if byte.is_ascii_alphanumeric()
            || matches!(byte, b'-' | b'_' | b'~')
            || (byte == b'.' && !dots)
        {
            text.push(char::from(byte));
        } else {
            text.push('%');
            for half in [byte >> 4, byte & 15] {
                text.extend(char::from_digit(u32::from(half), 16).map(|c| c.to_ascii_uppercase()));
            }
        }
    }
    text
}

/// `?a=b&c=d` of those parameters that have a value.
pub(crate) fn query(parameters: &[(&str, Option<&str>)]) -> String {
    let mut text = String::new();
    for (name, value) in parameters {
        if let Some(value) = value {
            text.push(if text.is_empty() { '?' } else { '&' });
            text.push_str(name);
            text.push('=');
            text.push_str(&segment(value));
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_become_one_segment() {
        assert_eq!(segment("a-b_c.9"), "a-b_c.9");
        assert_eq!(segment("a/b c"), "a%2Fb%20c");
        assert_eq!(segment("ä"), "%C3%A4");
        assert_eq!(segment(".."), "%2E%2E");
        assert_eq!(query(&[("a", None), ("b", Some("1+2")), ("c", Some(""))]), "?b=1%2B2&c=");
    }

    #[test]
    fn only_plain_http_urls_are_servers() {
        for bad in ["", "127.0.0.1:7432", "https://x", "http://", "http://a?b"] {
            assert!(Client::new(bad).is_err(), "{bad}");
        }
        assert!(Client::new("http://127.0.0.1:7432/").is_ok());
    }
}
