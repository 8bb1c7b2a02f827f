//! Any OpenAI-compatible `POST /v1/embeddings`: one request a call.
//!
//! Deliberately absent: waiting before a retry, and knowing when to give up. The engine does that,
//! for every embedder. One request is sent a second time at once where a kept connection turns out
//! to have been closed meanwhile. Redirects are not followed: they would carry the key elsewhere.

use std::fmt;
use std::io::Read as _;
use std::time::Duration;

use engram_core::embedder::{Embedder, NotEmbedded, Purpose, Reach};
use serde::Serialize;
use ureq::Agent;
use ureq::http::Response;

use super::answer;
use crate::failure::{Failure, Outcome};

/// Bytes that a number takes in an answer, at most: 25 digits, and the blanks of a pretty print.
const NUMBER_BYTES_MAX: u64 = 48;

/// Bytes of an answer beside its numbers.
const ENVELOPE_BYTES_MAX: u64 = 64 << 10;

/// What an endpoint is asked with.
pub(super) struct Settings<'a> {
    pub(super) url: &'a str,
    pub(super) model: &'a str,
    pub(super) dimension: u32,
    pub(super) batch: usize,
    pub(super) timeout: Duration,
    pub(super) cue_timeout: Duration,
    pub(super) key: Option<String>,
}

/// An endpoint.
pub(super) struct OpenAi {
    agent: Agent,
    url: String,
    model: String,
    dimension: u32,
    batch: usize,
    timeout: Duration,
    cue_timeout: Duration,
    /// Never printed.
    key: Option<String>,
}

impl fmt::Debug for OpenAi {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("OpenAi")
            .field("url", &self.url)
            .field("model", &self.model)
            .field("dimension", &self.dimension)
            .finish_non_exhaustive()
    }
}

#[derive(Serialize)]
struct Request<'a> {
    model: &'a str,
    input: &'a [&'a str],
    encoding_format: &'static str,
}

impl OpenAi {
    pub(super) fn new(settings: Settings<'_>) -> Outcome<Self> {
        let Settings { url, model, dimension, batch, timeout, cue_timeout, key } = settings;
        let agent = Agent::config_builder()
            .http_status_as_error(false)
            .proxy(None)
            .max_redirects(0)
            .max_redirects_will_error(false)
            .user_agent(concat!("engram/", env!("CARGO_PKG_VERSION")))
            .build()
            .new_agent();
        let (url, model) = (endpoint(url)?, model.to_owned());
        Ok(Self { agent, url, model, dimension, batch, timeout, cue_timeout, key })
    }

    fn send(&self, body: &[u8], timeout: Duration) -> Result<Response<ureq::Body>, ureq::Error> {
        let mut request = self
            .agent
            .post(&self.url)
            .config()
            .timeout_global(Some(timeout))
            .build()
            .content_type("application/json");
        if let Some(key) = &self.key {
            request = request.header("authorization", format!("Bearer {key}"));
        }
        request.send(body)
    }

    fn ask(&self, texts: &[&str], timeout: Duration) -> Result<Vec<u8>, NotEmbedded> {
        let request = Request { model: &self.model, input: texts, encoding_format: "float" };
        let body = serde_json::to_vec(&request)
            .map_err(|e| self.unavailable(&format!("a request cannot be written: {e}"), None))?;
        let sent = match self.send(&body, timeout) {
            Err(e) if may_be_stale(&e) => self.send(&body, timeout),
            sent => sent,
        };
        let mut response = sent.map_err(|e| self.unavailable(&in_words(&e), None))?;
        let numbers = u64::from(self.dimension).saturating_mul(texts.len() as u64);
        let most = numbers.saturating_mul(NUMBER_BYTES_MAX).saturating_add(ENVELOPE_BYTES_MAX);
        let status = response.status().as_u16();
        let retry_after = retry_after(&response);
        let mut bytes = Vec::new();
        let read = response.body_mut().as_reader().take(most + 1).read_to_end(&mut bytes);
        if let Err(e) = read {
            let e = ureq::Error::from(e);
            return Err(self.unavailable(&format!("its answer broke off: {}", in_words(&e)), None));
        }
        if bytes.len() as u64 > most {
            return Err(self.unavailable(&format!("its answer has more than {most} bytes"), None));
        }
        if status == 200 {
            return Ok(bytes);
        }
        let words = self.without_key(&answer::words(&bytes));
        let said = if words.is_empty() { words } else { format!(" ({words})") };
        match status {
            // The texts, or the settings: whoever asks finds out by asking with another text.
            400 | 413 | 422 => {
                let url = &self.url;
                Err(NotEmbedded::Refused { cause: format!("{url}: status {status}{said}") })
            }
            401 | 403 => {
                let cause = format!(
                    "status {status}; correct the key ({} or --embedder-key-file)",
                    super::KEY_VARIABLE
                );
                Err(self.unavailable(&cause, retry_after))
            }
            300..=399 => {
                let cause = format!("status {status}, a redirect; give --embedder-url its target");
                Err(self.unavailable(&cause, None))
            }
            404 | 405 => {
                let cause =
                    format!("status {status}{said}; correct --embedder-url or --embedder-model");
                Err(self.unavailable(&cause, retry_after))
            }
            _ => Err(self.unavailable(&format!("status {status}{said}"), retry_after)),
        }
    }

    fn unavailable(&self, cause: &str, retry_after: Option<Duration>) -> NotEmbedded {
        NotEmbedded::Unavailable { cause: format!("{}: {cause}", self.url), retry_after }
    }

    /// Some endpoints repeat what they were sent.
    fn without_key(&self, words: &str) -> String {
        match &self.key {
            Some(key) => words.replace(key.as_str(), "…"),
            None => words.to_owned(),
        }
    }
}

impl Embedder for OpenAi {
    fn model(&self) -> &str {
        &self.model
    }

    fn reach(&self) -> Reach {
        Reach::Far { dimension: self.dimension, batch: self.batch }
    }

    fn embed(
        &self,
        texts: &[&str],
        purpose: Purpose,
    ) -> Result<Vec<Option<Vec<f32>>>, NotEmbedded> {
        let timeout = match purpose {
            Purpose::Cue => self.cue_timeout,
            Purpose::Episodes => self.timeout,
        };
        let bytes = self.ask(texts, timeout)?;
        answer::parse(&bytes, texts.len()).map_err(|cause| self.unavailable(&cause, None))
    }
}

/// The address of the endpoint: as given, with `/embeddings` behind it unless it is there.
fn endpoint(url: &str) -> Outcome<String> {
    let wrong = |problem: &str| {
        Failure::usage(format!(
            "--embedder-url: {problem}; say http://HOST:PORT/v1 or https://HOST/v1 (for example \
             http://127.0.0.1:11434/v1)"
        ))
    };
    let rest = url.strip_prefix("http://").or_else(|| url.strip_prefix("https://"));
    let Some(rest) = rest else { return Err(wrong("no http or https URL")) };
    let authority = rest.split('/').next().unwrap_or_default();
    if authority.contains('@') {
        // Not repeated: it may be a password.
        return Err(wrong("names a user; a key goes into ENGRAM_EMBEDDER_KEY"));
    }
    let legal = |c: char| c.is_ascii_graphic() && !matches!(c, '?' | '#');
    if authority.is_empty() || !url.chars().all(legal) {
        return Err(wrong("no plain URL"));
    }
    let url = url.trim_end_matches('/');
    if url.ends_with("/embeddings") {
        return Ok(url.to_owned());
    }
    Ok(format!("{url}/embeddings"))
}

/// Whether a kept connection may have been closed since, so that nobody heard the request.
fn may_be_stale(error: &ureq::Error) -> bool {
    use std::io::ErrorKind as Kind;
    let ureq::Error::Io(e) = error else { return false };
    matches!(
        e.kind(),
        Kind::ConnectionReset | Kind::ConnectionAborted | Kind::BrokenPipe | Kind::UnexpectedEof
    )
}

fn in_words(error: &ureq::Error) -> String {
    match error {
        ureq::Error::Io(e) if e.kind() == std::io::ErrorKind::ConnectionRefused => {
            "nobody answers there".into()
        }
        ureq::Error::Timeout(_) => "no answer in time".into(),
        e => e.to_string(),
    }
}

/// `Retry-After` in seconds; dates are not read.
fn retry_after(response: &Response<ureq::Body>) -> Option<Duration> {
    let seconds = response.headers().get("retry-after")?.to_str().ok()?.trim().parse().ok()?;
    Some(Duration::from_secs(seconds))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_endpoint_is_a_plain_url() {
        let secure = "https://api.openai.com/v1";
        assert_eq!(endpoint(secure).unwrap(), format!("{secure}/embeddings"));
        let whole = "http://127.0.0.1:11434/v1/embeddings";
        for url in ["http://127.0.0.1:11434/v1", "http://127.0.0.1:11434/v1/", whole] {
            assert_eq!(endpoint(url).unwrap(), whole);
        }
        for (url, said) in [
            ("api.openai.com", "no http or https URL"),
            ("https://", "no plain URL"),
            ("http://", "no plain URL"),
            ("http://a/v1?x=1", "no plain URL"),
            ("http://a b/v1", "no plain URL"),
            ("http://me:secret@host/v1", "names a user"),
        ] {
            let refused = endpoint(url).unwrap_err();
            assert!(refused.message().contains(said), "{}", refused.message());
            assert!(!refused.message().contains("secret"));
        }
    }

    #[test]
    fn the_key_is_in_no_text() {
        let settings = Settings {
            url: "http://127.0.0.1:1/v1",
            model: "m",
            dimension: 2,
            batch: 1,
            timeout: Duration::from_secs(1),
            cue_timeout: Duration::from_secs(1),
            key: Some("sk-secret".into()),
        };
        let embedder = OpenAi::new(settings).unwrap();
        assert!(!format!("{embedder:?}").contains("secret"));
        assert_eq!(embedder.without_key("bad key sk-secret"), "bad key …");
        let refused = embedder.embed(&["x"], Purpose::Cue).unwrap_err();
        let expected = "http://127.0.0.1:1/v1/embeddings: nobody answers there";
        assert_eq!(refused.to_string(), expected);
    }
}
