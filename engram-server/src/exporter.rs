//! Where figures go and how they come out: Prometheus text, `OpenMetrics` when asked for.
//!
//! The recorder is a value that is handed around, never the process's global one, so that two
//! servers in one process do not share figures. Deliberately absent: the engine's series, which
//! the engine registers itself, through [`MetricsExporter::recorder`].

mod text;

use std::fmt::Write as _;
use std::sync::Arc;

use engram_core::metrics::schema;
use metrics::{Level, Metadata, Recorder, Unit};
use metrics_exporter_prometheus::{
    Matcher, PrometheusBuilder, PrometheusHandle, PrometheusRecorder,
};

/// Content type of Prometheus text.
const TYPE_PROMETHEUS: &str = "text/plain; version=0.0.4; charset=utf-8";
/// Content type of `OpenMetrics`.
const TYPE_OPENMETRICS: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";

/// Bounds of a histogram that says nothing about its own: durations, in seconds.
const BUCKETS_DEFAULT: [f64; 15] = [
    0.000_1, 0.000_25, 0.000_5, 0.001, 0.002_5, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5,
    10.0,
];

/// The histogram of HTTP latencies.
pub(crate) const HTTP_REQUEST_DURATION_SECONDS: &str = "engram_http_request_duration_seconds";
/// Connections that are open.
pub(crate) const HTTP_CONNECTIONS: &str = "engram_http_connections";

/// What callers of [`Recorder::register_histogram`] must say about themselves.
pub(crate) const METADATA: Metadata<'static> =
    Metadata::new("engram_server", Level::INFO, Some(module_path!()));

/// A recorder, and the way to print what it recorded. Cheap to clone.
#[derive(Debug, Clone)]
pub struct MetricsExporter {
    recorder: Arc<PrometheusRecorder>,
    handle: PrometheusHandle,
}

impl Default for MetricsExporter {
    fn default() -> Self {
        Self::new([])
    }
}

impl MetricsExporter {
    /// An exporter without series yet. `buckets` gives the bounds of histograms, by name.
    #[must_use]
    pub fn new<'b>(buckets: impl IntoIterator<Item = (&'b str, &'b [f64])>) -> Self {
        // Bounds are refused only when there are none; then the default's stay.
        let builder = PrometheusBuilder::new().set_buckets(&BUCKETS_DEFAULT).unwrap_or_default();
        let given = buckets.into_iter().filter(|(_, bounds)| !bounds.is_empty());
        let builder = given.fold(builder, |builder, (name, bounds)| {
            builder
                .set_buckets_for_metric(Matcher::Full(name.to_owned()), bounds)
                .unwrap_or_default()
        });
        let recorder = builder.build_recorder();
        let exporter = Self { handle: recorder.handle(), recorder: Arc::new(recorder) };
        exporter.describe();
        exporter
    }

    /// Where the engine and others register their series.
    #[must_use]
    pub fn recorder(&self) -> &dyn Recorder {
        &*self.recorder
    }

    /// Everything recorded, as the `Accept` header of a scrape wants it: content type and text.
    #[must_use]
    pub fn render(&self, accept: Option<&str>) -> (&'static str, String) {
        self.render_with(accept, &[])
    }

    /// The same, with a gauge for each space: made anew each time, so that the series of a
    /// space that was forgotten are gone too.
    pub(crate) fn render_with(
        &self,
        accept: Option<&str>,
        spaces: &[SpaceFigures],
    ) -> (&'static str, String) {
        let mut plain = self.handle.render();
        write_spaces(&mut plain, spaces);
        if accept.is_some_and(wants_openmetrics) {
            (TYPE_OPENMETRICS, text::openmetrics(&plain))
        } else {
            (TYPE_PROMETHEUS, text::sorted(&plain))
        }
    }

    /// Moves samples into their histograms; to be called every few seconds, else they pile up.
    pub(crate) fn upkeep(&self) {
        self.handle.run_upkeep();
    }

    fn describe(&self) {
        let recorder = self.recorder();
        recorder.describe_histogram(
            HTTP_REQUEST_DURATION_SECONDS.into(),
            Some(Unit::Seconds),
            "How long a request took, by method, route template and status class.".into(),
        );
        recorder.describe_gauge(
            HTTP_CONNECTIONS.into(),
            Some(Unit::Count),
            "HTTP connections that are open.".into(),
        );
    }
}

/// Whether a scrape prefers `OpenMetrics`.
fn wants_openmetrics(accept: &str) -> bool {
    accept.split(',').any(|choice| {
        let mut parts = choice.split(';').map(str::trim);
        let named = parts.next() == Some("application/openmetrics-text");
        named && !parts.any(|part| matches!(part, "q=0" | "q=0.0"))
    })
}

/// The figures of one space.
#[derive(Debug)]
pub(crate) struct SpaceFigures {
    pub(crate) name: String,
    pub(crate) episodes: u64,
    pub(crate) index_bytes: u64,
    pub(crate) unembedded: u64,
}

type Figure = fn(&SpaceFigures) -> u64;

fn write_spaces(out: &mut String, spaces: &[SpaceFigures]) {
    if spaces.is_empty() {
        return;
    }
    let families: [(&str, Figure); 3] = [
        (schema::SPACE_EPISODES, |space| space.episodes),
        (schema::SPACE_INDEX_BYTES, |space| space.index_bytes),
        (schema::SPACE_UNEMBEDDED_EPISODES, |space| space.unembedded),
    ];
    for (family, figure) in families {
        let help = schema::ALL.iter().find(|it| it.name == family).map_or("", |it| it.help);
        // Writing to a string cannot fail.
        let _written = writeln!(out, "# HELP {family} {help}\n# TYPE {family} gauge");
        for space in spaces {
            let name = space.name.replace('\\', "\\\\").replace('"', "\\\"").replace('\n', "\\n");
            let _written = writeln!(out, "{family}{{space=\"{name}\"}} {}", figure(space));
        }
    }
}

#[cfg(test)]
mod tests {
    use metrics::Key;

    use super::*;

    fn space(name: &str, episodes: u64) -> SpaceFigures {
        SpaceFigures { name: name.into(), episodes, index_bytes: 7, unembedded: 2 }
    }

    #[test]
    fn a_forgotten_space_leaves_no_series() {
        let exporter = MetricsExporter::default();
        let (_, before) = exporter.render_with(None, &[space("a", 3), space("b", 4)]);
        assert!(before.contains("engram_space_episodes{space=\"a\"} 3\n"), "{before}");
        assert!(before.contains("engram_space_index_bytes{space=\"b\"} 7\n"), "{before}");
        let (_, after) = exporter.render_with(None, &[space("b", 5)]);
        assert!(!after.contains("space=\"a\""), "{after}");
        assert!(after.contains("engram_space_episodes{space=\"b\"} 5\n"), "{after}");
    }

    #[test]
    fn openmetrics_comes_only_when_asked_for() {
        let exporter = MetricsExporter::default();
        exporter.recorder().describe_counter("engram_x_total".into(), None, "X.".into());
        let key = Key::from_name("engram_x_total");
        exporter.recorder().register_counter(&key, &METADATA).increment(2);
        for accept in
            [None, Some("*/*"), Some("text/plain"), Some("application/openmetrics-text;q=0")]
        {
            let (kind, plain) = exporter.render(accept);
            assert_eq!(kind, TYPE_PROMETHEUS, "{accept:?}");
            assert!(plain.contains("# TYPE engram_x_total counter\n"), "{plain}");
            assert!(!plain.contains("# EOF"), "{plain}");
        }
        let (kind, open) =
            exporter.render(Some("application/openmetrics-text;version=1.0.0,text/plain;q=0.5"));
        assert_eq!(kind, TYPE_OPENMETRICS);
        assert!(open.contains("# TYPE engram_x counter\n"), "{open}");
        assert!(open.contains("# HELP engram_x X.\n"), "{open}");
        assert!(open.contains("\nengram_x_total 2\n"), "{open}");
        assert!(open.ends_with("# EOF\n"), "{open}");
    }

    #[test]
    fn a_histogram_has_the_buckets_it_was_given() {
        let exporter = MetricsExporter::new([("engram_z_bytes", [64.0].as_slice())]);
        for name in ["engram_y_seconds", "engram_z_bytes"] {
            let key = Key::from_name(name);
            exporter.recorder().register_histogram(&key, &METADATA).record(0.000_2);
        }
        let (_, plain) = exporter.render(None);
        assert!(plain.contains("engram_z_bytes_bucket{le=\"64\"} 1\n"), "{plain}");
        assert!(plain.contains("# TYPE engram_y_seconds histogram\n"), "{plain}");
        assert!(plain.contains("engram_y_seconds_bucket{le=\"0.0001\"} 0\n"), "{plain}");
        assert!(plain.contains("engram_y_seconds_bucket{le=\"0.00025\"} 1\n"), "{plain}");
    }
}
