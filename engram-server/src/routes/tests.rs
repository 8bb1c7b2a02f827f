//! What the router answers when there is no store: refusals, health, figures.

use std::convert::Infallible;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use bytes::Bytes;
use engram_core::{Error, Options, Store};
use http_body::Frame;
use http_body_util::{BodyExt as _, Full};
use serde_json::Value;

use super::*;
use crate::{Config, MetricsExporter};

fn app() -> App {
    App::new(Config::default(), MetricsExporter::default(), "always".into(), Arc::default())
}

async fn ask(app: &App, request: Request<Full<Bytes>>) -> (StatusCode, String, String) {
    let response = Router::new(app.clone()).respond(request).await;
    let status = response.status();
    let kind = response.headers().get(CONTENT_TYPE).map(|value| value.to_str().unwrap().to_owned());
    let body = response.into_body().collect().await.unwrap().to_bytes();
    (status, kind.unwrap_or_default(), String::from_utf8(body.to_vec()).unwrap())
}

fn request(method: &str, path: &str, headers: &[(&str, &str)]) -> Request<Full<Bytes>> {
    let mut request = Request::builder().method(method).uri(path);
    for (name, value) in headers {
        request = request.header(*name, *value);
    }
    request.body(Full::from("{\"what\":\"w\"}")).unwrap()
}

/// Asks for what must be refused; gives the problem document.
async fn refused(app: &App, request: Request<Full<Bytes>>, status: u16, slug: &str) -> Value {
    let told = format!("{} {}", request.method(), request.uri());
    let (got, kind, body) = ask(app, request).await;
    assert_eq!(got.as_u16(), status, "{told}: {body}");
    assert_eq!(kind, "application/problem+json", "{told}");
    let problem: Value = serde_json::from_str(&body).unwrap();
    assert_eq!(problem["type"], format!("/problems/{slug}"), "{told}: {body}");
    assert_eq!(problem["status"], status, "{told}: {body}");
    assert!(!problem["detail"].as_str().unwrap().is_empty(), "{told}: {body}");
    problem
}

#[tokio::test]
async fn unknown_paths_are_problems() {
    for path in ["/nowhere", "/v1", "/v1/spaces/s/recall/", "/mcp", "/openapi.json", "/v1/spaces/"]
    {
        let problem = refused(&app(), request("POST", path, &[]), 404, "no-route").await;
        assert_eq!(problem["value"], path);
    }
}

#[tokio::test]
async fn each_path_takes_the_methods_that_it_says_and_no_others() {
    let app = app();
    for (place, template, allowed) in
        TABLE.into_iter().filter(|(_, _, allowed)| !allowed.is_empty())
    {
        // A name in braces is a name like any other.
        let path = template.replace('{', "%7B").replace('}', "%7D");
        for method in ["GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS", "BREW"] {
            let told = format!("{method} {path}, {place:?}");
            let response = Router::new(app.clone()).respond(request(method, &path, &[])).await;
            if allowed.split(',').any(|one| one == method) {
                assert!(matches!(response.status().as_u16(), 200 | 503), "{told}: {response:?}");
                continue;
            }
            assert_eq!(response.headers()["allow"], allowed, "{told}");
            let refusal = request(method, &path, &[]);
            let problem = refused(&app, refusal, 405, "method-not-allowed").await;
            assert_eq!(problem["value"], method, "{told}");
        }
    }
}

#[tokio::test]
async fn other_media_types_are_problems() {
    let path = "/v1/spaces/s/episodes";
    let cases = [
        (path, "content-type", "text/plain"),
        (path, "content-type", "application/x-www-form-urlencoded"),
        (path, "content-type", "application/x-ndjson"),
        ("/v1/spaces/s/episodes/batch", "content-type", "text/csv"),
        ("/v1/spaces/s/recall", "content-type", "text/plain"),
        ("/v1/spaces/s/recall", "content-type", "application/x-ndjson"),
        ("/v1/spaces/s/recall", "content-encoding", "br"),
        (path, "content-encoding", "gzip"),
    ];
    for (path, header, value) in cases {
        let request = request("POST", path, &[(header, value)]);
        let problem = refused(&app(), request, 415, "unsupported-media-type").await;
        assert!(problem["field"].as_str().unwrap().eq_ignore_ascii_case(header));
    }
}

#[tokio::test]
async fn bad_queries_and_preconditions_are_problems_that_name_the_parameter() {
    let list = |query: &str| request("GET", &format!("/v1/spaces/s/episodes?{query}"), &[]);
    let cases = [
        ("limt=5", "limt"),
        ("limit=many", "limit"),
        ("limit=-1", "limit"),
        ("limit=1&limit=2", "limit"),
        ("from=yesterday", "from"),
        ("to=2026-01-31T12:00:00+01:00", "to"),
        ("embedding=hex", "embedding"),
    ];
    for (query, field) in cases {
        let problem = refused(&app(), list(query), 400, "malformed").await;
        assert_eq!(problem["field"], field, "{query}");
    }
    for (query, field) in [("limit=5", "limit"), ("embedding=hex", "embedding")] {
        let recall = request("POST", &format!("/v1/spaces/s/recall?{query}"), &[]);
        assert_eq!(refused(&app(), recall, 400, "malformed").await["field"], field, "{query}");
    }
    let tag = [("if-match", "17")];
    let problem =
        refused(&app(), request("POST", "/v1/spaces/s/episodes", &tag), 400, "malformed").await;
    assert_eq!(problem["field"], "if-match");
    let batch = request("POST", "/v1/spaces/s/episodes/batch", &[("if-match", "\"17\"")]);
    assert_eq!(refused(&app(), batch, 400, "malformed").await["field"], "if-match");
    for (path, field) in [("%ff/episodes", "space"), ("s/episodes/%ff", "id")] {
        let request = request("GET", &format!("/v1/spaces/{path}"), &[]);
        let problem = refused(&app(), request, 400, "malformed").await;
        assert_eq!((&problem["field"], &problem["value"]), (&field.into(), &"%ff".into()));
    }
}

#[tokio::test]
async fn while_the_log_is_recovered_health_and_log_answer_and_the_rest_is_503() {
    let app = app();
    assert_eq!(ask(&app, request("GET", "/livez", &[])).await.0, 200);
    let (status, _, body) = ask(&app, request("GET", "/v1/wal", &[])).await;
    let wal: Value = serde_json::from_str(&body).unwrap();
    assert_eq!((status.as_u16(), wal["state"].as_str()), (200, Some("recovering")));
    assert_eq!(wal["durability"], "always");
    let cases = [
        ("GET", "/readyz"),
        ("GET", "/v1/spaces"),
        ("POST", "/v1/spaces/s/episodes"),
        ("POST", "/v1/spaces/s/episodes/batch"),
        ("POST", "/v1/spaces/s/recall"),
        ("GET", "/v1/spaces/s/episodes/i"),
        ("DELETE", "/v1/spaces/s/episodes/i"),
        ("GET", "/v1/wal/recovery"),
    ];
    for (method, path) in cases {
        let problem = refused(&app, request(method, path, &[]), 503, "recovering").await;
        assert_eq!(problem["progress"]["bytes_total"], 0);
    }
}

#[tokio::test]
async fn a_log_with_a_gap_says_so_everywhere_but_at_livez() {
    let app = app();
    app.opened(Err(Error::Missing { first: 5, last: 9, why: "a file is gone".into() }));
    for path in ["/readyz", "/v1/spaces", "/v1/wal"] {
        let problem = refused(&app, request("GET", path, &[]), 503, "gap").await;
        assert!(problem["detail"].as_str().unwrap().contains("--accept-loss 5-9"), "{path}");
    }
    assert_eq!(ask(&app, request("GET", "/livez", &[])).await.0, 200);
}

#[tokio::test]
async fn latencies_are_counted_by_template_method_and_class() {
    let app = app();
    ask(&app, request("GET", "/livez", &[])).await;
    ask(&app, request("GET", "/v1/spaces/one/episodes/two", &[])).await;
    ask(&app, request("BREW", "/pot/of/coffee", &[])).await;
    let (status, kind, text) = ask(&app, request("GET", "/metrics", &[])).await;
    assert_eq!(status, 200);
    assert!(kind.starts_with("text/plain; version=0.0.4"), "{kind}");
    for labels in [
        "route=\"/livez\",method=\"GET\",status=\"2xx\"",
        "route=\"/v1/spaces/{space}/episodes/{id}\",method=\"GET\",status=\"5xx\"",
        "route=\"unknown\",method=\"other\",status=\"4xx\"",
    ] {
        let line = format!("engram_http_request_duration_seconds_count{{{labels}}} 1\n");
        assert!(text.contains(&line), "{line} is not in {text}");
    }
    assert!(!text.contains("coffee") && !text.contains("\"one\""), "{text}");
}

#[tokio::test]
async fn a_panic_is_a_problem_not_a_cut_connection() {
    /// A body that shows a defect of whoever reads it.
    struct Defect;

    impl http_body::Body for Defect {
        type Data = Bytes;
        type Error = Infallible;

        fn poll_frame(
            self: Pin<&mut Self>,
            _: &mut Context<'_>,
        ) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
            panic!("a defect")
        }
    }

    let app = app();
    let dir = tempfile::tempdir().unwrap();
    app.opened(Store::open(dir.path(), Options::default()));
    let request = Request::post("/v1/spaces/s/episodes").body(Defect).unwrap();
    let response = Router::new(app.clone()).respond(request).await;
    assert_eq!(response.status(), 500);
    assert_eq!(response.headers()[CONTENT_TYPE], "application/problem+json");
    let (_, _, figures) = ask(&app, self::request("GET", "/metrics", &[])).await;
    let labels = "route=\"/v1/spaces/{space}/episodes\",method=\"POST\",status=\"5xx\"";
    let line = format!("engram_http_request_duration_seconds_count{{{labels}}} 1\n");
    assert!(figures.contains(&line), "{figures}");
}
