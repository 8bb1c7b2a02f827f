//! A recorder that keeps every figure where a test can read it.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};

use metrics::{
    Counter, Gauge, Histogram, HistogramFn, Key, KeyName, Metadata, Recorder, SharedString, Unit,
};

#[derive(Debug, Default)]
struct Samples(Mutex<Vec<f64>>);

impl HistogramFn for Samples {
    fn record(&self, value: f64) {
        self.0.lock().unwrap().push(value);
    }
}

/// Every series by name and labels: `name{label=value}`.
#[derive(Debug, Default, Clone)]
pub struct Figures {
    numbers: Arc<Mutex<BTreeMap<String, Arc<AtomicU64>>>>,
    gauges: Arc<Mutex<BTreeMap<String, Arc<AtomicU64>>>>,
    samples: Arc<Mutex<BTreeMap<String, Arc<Samples>>>>,
}

fn name_of(key: &Key) -> String {
    let labels: Vec<String> =
        key.labels().map(|label| format!("{}={}", label.key(), label.value())).collect();
    if labels.is_empty() {
        key.name().to_owned()
    } else {
        format!("{}{{{}}}", key.name(), labels.join(","))
    }
}

impl Figures {
    /// A counter's value.
    pub fn count(&self, series: &str) -> u64 {
        let numbers = self.numbers.lock().unwrap();
        let Some(number) = numbers.get(series) else {
            panic!("no counter {series}, only {:?}", numbers.keys())
        };
        number.load(Ordering::Relaxed)
    }

    /// A gauge's value.
    pub fn gauge(&self, series: &str) -> f64 {
        let gauges = self.gauges.lock().unwrap();
        let Some(gauge) = gauges.get(series) else {
            panic!("no gauge {series}, only {:?}", gauges.keys())
        };
        f64::from_bits(gauge.load(Ordering::Relaxed))
    }

    /// How many values a histogram was given.
    pub fn samples(&self, series: &str) -> usize {
        self.samples.lock().unwrap()[series].0.lock().unwrap().len()
    }
}

impl Recorder for Figures {
    fn describe_counter(&self, _: KeyName, _: Option<Unit>, _: SharedString) {}
    fn describe_gauge(&self, _: KeyName, _: Option<Unit>, _: SharedString) {}
    fn describe_histogram(&self, _: KeyName, _: Option<Unit>, _: SharedString) {}

    fn register_counter(&self, key: &Key, _: &Metadata<'_>) -> Counter {
        let mut numbers = self.numbers.lock().unwrap();
        Counter::from_arc(Arc::clone(numbers.entry(name_of(key)).or_default()))
    }

    fn register_gauge(&self, key: &Key, _: &Metadata<'_>) -> Gauge {
        let mut gauges = self.gauges.lock().unwrap();
        Gauge::from_arc(Arc::clone(gauges.entry(name_of(key)).or_default()))
    }

    fn register_histogram(&self, key: &Key, _: &Metadata<'_>) -> Histogram {
        let mut samples = self.samples.lock().unwrap();
        Histogram::from_arc(Arc::clone(samples.entry(name_of(key)).or_default()))
    }
}
