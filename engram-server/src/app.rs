//! What every handler shares: the store once it is open, and why it is not.

use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, OnceLock};

use engram_core::store::RecoveryProgress;
use engram_core::{Error, Store};

use crate::config::Config;
use crate::exporter::MetricsExporter;
use crate::problem::{Kind, Problem, Progress};

/// Shared by all handlers; cheap to clone.
#[derive(Debug, Clone)]
pub(crate) struct App(Arc<Shared>);

#[derive(Debug)]
struct Shared {
    config: Config,
    metrics: MetricsExporter,
    durability: String,
    progress: Arc<RecoveryProgress>,
    opened: OnceLock<Result<Store, Error>>,
    closing: AtomicBool,
    body_bytes: AtomicUsize,
}

impl App {
    pub(crate) fn new(
        config: Config,
        metrics: MetricsExporter,
        durability: String,
        progress: Arc<RecoveryProgress>,
    ) -> Self {
        Self(Arc::new(Shared {
            config,
            metrics,
            durability,
            progress,
            opened: OnceLock::new(),
            closing: AtomicBool::new(false),
            body_bytes: AtomicUsize::new(0),
        }))
    }

    pub(crate) fn config(&self) -> &Config {
        &self.0.config
    }

    pub(crate) fn metrics(&self) -> &MetricsExporter {
        &self.0.metrics
    }

    /// The durability that is or will be in force.
    pub(crate) fn durability(&self) -> &str {
        &self.0.durability
    }

    /// Tells what opening the store came to; only the first time counts.
    pub(crate) fn opened(&self, outcome: Result<Store, Error>) {
        self.0.opened.get_or_init(|| outcome);
    }

    pub(crate) fn close(&self) {
        self.0.closing.store(true, Ordering::Relaxed);
    }

    pub(crate) fn closing(&self) -> bool {
        self.0.closing.load(Ordering::Relaxed)
    }

    /// The store, if it is open.
    pub(crate) fn open_store(&self) -> Option<&Store> {
        self.0.opened.get().and_then(|outcome| outcome.as_ref().ok())
    }

    /// The store, or why there is none (yet).
    pub(crate) fn store(&self) -> Result<&Store, Problem> {
        match self.0.opened.get() {
            Some(Ok(store)) => Ok(store),
            Some(Err(error)) => Err(error.clone().into()),
            None => {
                let progress = self.progress();
                let detail = format!(
                    "the log is being recovered: {} of {} bytes read; try again soon",
                    progress.bytes_done, progress.bytes_total
                );
                Err(Problem::new(Kind::Recovering, detail).with_progress(progress))
            }
        }
    }

    /// Whether opening the store is still under way.
    pub(crate) fn recovering(&self) -> bool {
        self.0.opened.get().is_none()
    }

    /// Counts bytes of a body that comes in, unless they are too many for all clients together.
    pub(crate) fn take_body_bytes(&self, bytes: usize) -> Result<(), Problem> {
        let bound = self.0.config.bodies_bytes_max;
        let held = self.0.body_bytes.fetch_add(bytes, Ordering::Relaxed) + bytes;
        if held <= bound {
            return Ok(());
        }
        self.give_body_bytes(bytes);
        Err(Problem::of_field(
            Kind::Busy,
            "body",
            "too many bytes of requests are being handled at once; nothing was stored",
            format!("{bound} bytes of all clients together"),
            format!("{held} bytes"),
        ))
    }

    pub(crate) fn give_body_bytes(&self, bytes: usize) {
        self.0.body_bytes.fetch_sub(bytes, Ordering::Relaxed);
    }

    fn progress(&self) -> Progress {
        Progress {
            bytes_done: self.0.progress.bytes_done.load(Ordering::Relaxed),
            bytes_total: self.0.progress.bytes_total.load(Ordering::Relaxed),
        }
    }
}
