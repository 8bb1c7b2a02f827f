//! What a client is told when a request fails: RFC 9457 `application/problem+json`.
//!
//! One row of [`Kind`] per way to fail; its `type` is a stable relative URI,
//! `/problems/<slug>`, for programs to tell cases apart, and `detail` is a sentence for people
//! that names the field, the bound and the value. Deliberately absent: error texts of our own
//! for what the engine refuses (its sentences are passed on), and matching on them.

use engram_core::Error;
use hyper::StatusCode;
use hyper::header::{CONTENT_TYPE, HeaderValue, RETRY_AFTER};
use serde::Serialize;

use crate::body::Response;
use crate::json::JsonError;

/// How long a client should wait before it tries again, in seconds.
const RETRY_AFTER_SECONDS: u32 = 1;
/// The same, when only an operator can help.
const RETRY_AFTER_OPERATOR_SECONDS: u32 = 30;

/// A way for a request to fail.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kind {
    Malformed,
    NoRoute,
    NoEpisode,
    NoSpace,
    NoSuch,
    MethodNotAllowed,
    Timeout,
    Dimension,
    Model,
    GivenVectors,
    NoEmbedder,
    Embedder,
    NoVectors,
    KeyCollision,
    Precondition,
    TooLarge,
    UnsupportedMediaType,
    Limit,
    Busy,
    Recovering,
    Poisoned,
    Closing,
    Gap,
    CannotOpen,
    DiskFull,
    Unreadable,
    Io,
    Internal,
}

impl Kind {
    /// Slug of the `type`, status, title, and seconds after which trying again may help.
    fn row(self) -> (&'static str, u16, &'static str, Option<u32>) {
        let soon = Some(RETRY_AFTER_SECONDS);
        let later = Some(RETRY_AFTER_OPERATOR_SECONDS);
        match self {
            Self::Malformed => ("malformed", 400, "The request is malformed", None),
            Self::NoRoute => ("no-route", 404, "There is nothing at this path", None),
            Self::NoEpisode => ("no-episode", 404, "No such episode", None),
            Self::NoSpace => ("no-space", 404, "No such space", None),
            Self::NoSuch => ("not-found", 404, "Not found", None),
            Self::MethodNotAllowed => {
                ("method-not-allowed", 405, "The path does not take this method", None)
            }
            Self::Timeout => ("timeout", 408, "The request came too slowly", soon),
            Self::Dimension => ("dimension", 409, "The space has another dimension", None),
            Self::Model => ("model", 409, "The space has another embedding model", None),
            Self::GivenVectors => {
                ("given-vectors", 409, "The space has its callers' vectors", None)
            }
            Self::NoEmbedder => ("no-embedder", 409, "Nothing embeds texts", None),
            Self::Embedder => ("embedder", 503, "The embedder does not answer", later),
            Self::NoVectors => ("no-vectors", 409, "The space has no embeddings", None),
            Self::KeyCollision => ("key-collision", 409, "The id cannot be used", None),
            Self::Precondition => ("precondition", 412, "The precondition does not hold", None),
            Self::TooLarge => ("too-large", 413, "Too large", None),
            Self::UnsupportedMediaType => {
                ("unsupported-media-type", 415, "The body's type is not understood", None)
            }
            Self::Limit => ("limit", 422, "A value breaks its limit", None),
            Self::Busy => ("busy", 429, "Busy, try again soon", soon),
            Self::Recovering => ("recovering", 503, "The log is being recovered", soon),
            Self::Poisoned => ("poisoned", 503, "The log takes no writes", later),
            Self::Closing => ("closing", 503, "The server is stopping", soon),
            Self::Gap => ("gap", 503, "The log has a gap", later),
            Self::CannotOpen => ("cannot-open", 503, "The data cannot be opened as it is", later),
            Self::DiskFull => ("disk-full", 507, "The disk is full", later),
            Self::Unreadable => ("unreadable", 500, "The stored bytes cannot be read", None),
            Self::Io => ("io", 500, "The operating system refused", None),
            Self::Internal => ("internal", 500, "A defect in the server", None),
        }
    }
}

/// A problem document, ready to be sent. Boxed, for it travels as the error of nearly everything.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[serde(transparent)]
pub(crate) struct Problem(Box<Document>);

#[derive(Debug, Clone, PartialEq, Serialize)]
struct Document {
    r#type: String,
    title: &'static str,
    status: u16,
    detail: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    field: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    bound: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    value: Option<String>,
    /// `unknown` when the change that was refused may yet be found after a restart.
    #[serde(skip_serializing_if = "Option::is_none")]
    outcome: Option<&'static str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    progress: Option<Progress>,
    #[serde(skip)]
    retry_after: Option<u32>,
}

/// How far recovery is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub(crate) struct Progress {
    pub(crate) bytes_done: u64,
    pub(crate) bytes_total: u64,
}

impl Problem {
    pub(crate) fn new(kind: Kind, detail: impl Into<String>) -> Self {
        let (slug, status, title, retry_after) = kind.row();
        Self(Box::new(Document {
            r#type: format!("/problems/{slug}"),
            title,
            status,
            detail: detail.into(),
            field: None,
            bound: None,
            value: None,
            outcome: None,
            progress: None,
            retry_after,
        }))
    }

    /// A problem with one field of the request: what is wrong, what it may be, what it is.
    pub(crate) fn of_field(
        kind: Kind,
        field: impl Into<String>,
        problem: &str,
        bound: impl Into<String>,
        value: impl Into<String>,
    ) -> Self {
        let (field, bound, value) = (field.into(), bound.into(), value.into());
        let detail = format!("{field}: {problem} (wanted {bound}; this is {value})");
        Self::new(kind, detail).field(&field, bound, value)
    }

    pub(crate) fn with_progress(mut self, progress: Progress) -> Self {
        self.0.progress = Some(progress);
        self
    }

    /// Says that the refused change may yet be found after a restart.
    pub(crate) fn with_unknown_outcome(mut self) -> Self {
        self.0.outcome = Some("unknown");
        self
    }

    pub(crate) fn status(&self) -> StatusCode {
        StatusCode::from_u16(self.0.status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR)
    }

    fn field(mut self, field: &str, bound: String, value: String) -> Self {
        self.0.field = Some(field.into());
        self.0.bound = Some(bound);
        self.0.value = Some(value);
        self
    }
}

impl From<Error> for Problem {
    fn from(error: Error) -> Self {
        let detail = error.to_string();
        let of = |kind| Self::new(kind, detail);
        match error {
            Error::Limit { field, bound, value, too_large, .. } => {
                let kind = if too_large { Kind::TooLarge } else { Kind::Limit };
                of(kind).field(field, bound, value)
            }
            Error::NoEpisode { .. } => of(Kind::NoEpisode),
            Error::NoSpace { .. } => of(Kind::NoSpace),
            Error::NoSuch { .. } => of(Kind::NoSuch),
            Error::Dimension { expected, found, .. } => of(Kind::Dimension).field(
                "embedding",
                format!("{expected} dimensions"),
                format!("{found} dimensions"),
            ),
            Error::Model { expected, found, .. } => {
                of(Kind::Model).field("embedding_model", expected, found)
            }
            Error::GivenVectors { dimension, .. } => of(Kind::GivenVectors).field(
                "replace_given",
                "true".into(),
                format!("false, and {dimension} dimensions"),
            ),
            Error::NoEmbedder => of(Kind::NoEmbedder),
            Error::Embedder { .. } => of(Kind::Embedder),
            Error::NoVectors { found, .. } => of(Kind::NoVectors).field(
                "embedding",
                "none, or text".into(),
                format!("{found} dimensions"),
            ),
            Error::KeyCollision { id } => {
                of(Kind::KeyCollision).field("id", "an id whose key is free".into(), id)
            }
            Error::Precondition { .. } => of(Kind::Precondition),
            Error::Busy { queued, bound, unit } => {
                of(Kind::Busy).field("queue", format!("{bound} {unit}"), format!("{queued} {unit}"))
            }
            Error::DiskFull { available, needed, .. } => of(Kind::DiskFull).field(
                "disk",
                format!("{needed} bytes needed"),
                format!("{available} bytes free"),
            ),
            Error::Poisoned { .. } => of(Kind::Poisoned).with_unknown_outcome(),
            Error::Closed => of(Kind::Closing),
            Error::Missing { .. } | Error::Unreadable { .. } => of(Kind::Gap),
            Error::Locked { .. }
            | Error::FormatTooNew { .. }
            | Error::Misnamed { .. }
            | Error::Strict { .. } => of(Kind::CannotOpen),
            Error::Damaged { .. } | Error::Undecodable { .. } => of(Kind::Unreadable),
            Error::Io { .. } => of(Kind::Io),
            _ => of(Kind::Internal),
        }
    }
}

impl From<JsonError> for Problem {
    fn from(error: JsonError) -> Self {
        let detail = error.to_string();
        match error {
            JsonError::Refused(error) => error.into(),
            JsonError::Malformed(malformed) => Self::new(Kind::Malformed, detail).field(
                &malformed.field,
                malformed.bound,
                malformed.value,
            ),
        }
    }
}

impl From<Problem> for Response {
    fn from(problem: Problem) -> Self {
        let body = serde_json::to_vec(&problem.0).unwrap_or_default();
        let mut response = Self::new(body.into());
        *response.status_mut() = problem.status();
        let headers = response.headers_mut();
        headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/problem+json"));
        if let Some(seconds) = problem.0.retry_after {
            headers.insert(RETRY_AFTER, HeaderValue::from(seconds));
        }
        response
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(error: Error, status: u16, slug: &str, field: Option<&str>) {
        let told = error.to_string();
        let problem = Problem::from(error);
        assert_eq!(problem.0.status, status, "{told}");
        assert_eq!(problem.0.r#type, format!("/problems/{slug}"), "{told}");
        assert_eq!(problem.0.detail, told);
        assert_eq!(problem.0.field.as_deref(), field, "{told}");
        let retry = matches!(status, 408 | 429 | 503 | 507);
        let unknown = slug == "poisoned";
        assert_eq!(problem.0.outcome == Some("unknown"), unknown, "{told}");
        let response = Response::from(problem);
        assert_eq!(response.headers().contains_key(RETRY_AFTER), retry, "{told}");
        assert_eq!(response.headers()[CONTENT_TYPE], "application/problem+json");
    }

    fn limit(too_large: bool) -> Error {
        let (bound, value) = ("256 bytes".into(), "300 bytes".into());
        Error::Limit { field: "id", problem: "too long", bound, value, too_large }
    }

    #[test]
    fn a_refusal_by_a_limit_names_field_bound_and_value() {
        check(limit(true), 413, "too-large", Some("id"));
        check(limit(false), 422, "limit", Some("id"));
        let dimension = Error::Dimension {
            space: "s".into(),
            expected: 8,
            found: 4,
            model: Some("m".into()),
            brought: None,
        };
        check(dimension, 409, "dimension", Some("embedding"));
        let model = Error::Model { space: "s".into(), expected: "m".into(), found: "n".into() };
        check(model, 409, "model", Some("embedding_model"));
        let given = Error::GivenVectors { space: "s".into(), dimension: 4 };
        check(given, 409, "given-vectors", Some("replace_given"));
        check(Error::NoEmbedder, 409, "no-embedder", None);
        check(Error::Embedder { cause: "c".into() }, 503, "embedder", None);
        let none = Error::NoVectors { space: "s".into(), found: 4 };
        check(none, 409, "no-vectors", Some("embedding"));
    }

    #[test]
    fn each_error_has_its_status_and_type() {
        let (space, id) = (String::from("s"), String::from("i"));
        let path = std::path::PathBuf::from("p");
        let cause = String::from("c");
        check(Error::NoEpisode { space: space.clone(), id: id.clone() }, 404, "no-episode", None);
        check(Error::NoSpace { space }, 404, "no-space", None);
        check(Error::NoSuch { what: "q".into() }, 404, "not-found", None);
        check(Error::KeyCollision { id }, 409, "key-collision", Some("id"));
        let precondition = Error::Precondition { wanted: "a".into(), found: "b".into() };
        check(precondition, 412, "precondition", None);
        check(Error::Busy { queued: 1, bound: 1, unit: "changes" }, 429, "busy", Some("queue"));
        let full = Error::DiskFull { available: 1, needed: 2, dir: path.clone() };
        check(full, 507, "disk-full", Some("disk"));
        check(Error::Poisoned { cause: cause.clone() }, 503, "poisoned", None);
        check(Error::Closed, 503, "closing", None);
        check(Error::Locked { path: path.clone() }, 503, "cannot-open", None);
        let newer = Error::FormatTooNew { path: path.clone(), found: 2, known: 1 };
        check(newer, 503, "cannot-open", None);
        let misnamed = Error::Misnamed { path: path.clone(), says: "1.seg".into() };
        check(misnamed, 503, "cannot-open", None);
        let missing = Error::Missing { first: 1, last: 2, why: cause.clone() };
        check(missing, 503, "gap", None);
        let unreadable = Error::Unreadable {
            path: path.clone(),
            offset: 0,
            first: 1,
            last: 2,
            cause: cause.clone(),
        };
        check(unreadable, 503, "gap", None);
        check(Error::Strict { count: 1, first: cause.clone() }, 503, "cannot-open", None);
        let damaged = Error::Damaged { file: "f".into(), offset: 0, lsn: 1 };
        check(damaged, 500, "unreadable", None);
        check(Error::Undecodable { lsn: 1, kind: 9, schema: 9 }, 500, "unreadable", None);
        check(Error::Io { action: "read", path, cause }, 500, "io", None);
    }
}
