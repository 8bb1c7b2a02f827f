//! HTTP latencies, by route template, method and status class.

use std::sync::{Arc, OnceLock};
use std::time::Duration;

use hyper::{Method, StatusCode};
use metrics::{Histogram, Key, Label};

use crate::exporter::{HTTP_REQUEST_DURATION_SECONDS, METADATA, MetricsExporter};

const METHODS: [&str; 6] = ["GET", "HEAD", "POST", "PUT", "DELETE", "other"];
const CLASSES: [&str; 5] = ["1xx", "2xx", "3xx", "4xx", "5xx"];

/// The histograms of one route, each made when it is first needed and then kept at hand.
#[derive(Debug, Clone)]
pub(crate) struct RouteTimer(Arc<Route>);

struct Route {
    exporter: MetricsExporter,
    path: &'static str,
    cells: [[OnceLock<Histogram>; CLASSES.len()]; METHODS.len()],
}

impl std::fmt::Debug for Route {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Route").field("path", &self.path).finish_non_exhaustive()
    }
}

impl RouteTimer {
    pub(crate) fn new(exporter: MetricsExporter, path: &'static str) -> Self {
        Self(Arc::new(Route { exporter, path, cells: Default::default() }))
    }

    pub(crate) fn record(&self, method: &Method, status: StatusCode, took: Duration) {
        let name = method.as_str();
        let row = METHODS.iter().position(|known| *known == name).unwrap_or(METHODS.len() - 1);
        let column = usize::from(status.as_u16() / 100).clamp(1, CLASSES.len()) - 1;
        let cell = self.0.cells.get(row).and_then(|cells| cells.get(column));
        if let Some(cell) = cell {
            cell.get_or_init(|| self.histogram(METHODS[row], CLASSES[column]))
                .record(took.as_secs_f64());
        }
    }

    fn histogram(&self, method: &'static str, class: &'static str) -> Histogram {
        let labels = vec![
            Label::from_static_parts("route", self.0.path),
            Label::from_static_parts("method", method),
            Label::from_static_parts("status", class),
        ];
        let key = Key::from_parts(HTTP_REQUEST_DURATION_SECONDS, labels);
        self.0.exporter.recorder().register_histogram(&key, &METADATA)
    }
}
