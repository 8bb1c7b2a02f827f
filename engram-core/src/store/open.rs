//! Opening: lock, recover, take v0.1.0 files over, start the threads.

use std::path::Path;
use std::sync::Arc;

use super::directory::Directory;
use super::options::Durability;
use super::{Inner, Options, takeover};
use crate::disk::Lock;
use crate::driver::{Driver, Parts, check_writable, replay};
use crate::episode::limits;
use crate::error::{Error, Result};
use crate::record::{Keys, LegacyImported};
use crate::storage::wal::env::Env;
use crate::storage::wal::recover::{RecoverOptions, Recovered, Recovery};
use crate::storage::wal::report::{RecoveryMode, RecoveryReport};
use crate::sync::Mutex;

/// The lock file's name.
pub(crate) const LOCK_NAME: &str = "LOCK";

pub(super) fn open(dir: &Path, options: Options) -> Result<Inner> {
    check_options(&options)?;
    let env = Arc::new(Env {
        disk: Arc::clone(&options.disk),
        clock: Arc::clone(&options.clock),
        rng: Arc::clone(&options.rng),
        metrics: Arc::clone(&options.metrics),
        scale: options.scale,
        dir: dir.to_owned(),
    });
    env.disk.create_dir(dir).map_err(|e| Error::io("make the data directory", dir, &e))?;
    let lock = take_lock(&env)?;
    check_writable(&env)?;
    let recovery = Recovery::begin(
        Arc::clone(&env),
        RecoverOptions {
            mode: options.recovery,
            accepted: options.accept_loss.clone(),
            segment_bytes_max: options.segment_bytes,
            syncs_each: options.durability == Durability::Always,
            dry: false,
        },
    )?;
    let mut directory = Directory::default();
    let recovery = replay(&env, recovery, &mut directory, &options)?;
    if options.recovery == RecoveryMode::Strict {
        let last = |file: &LegacyImported| recovery.last_imported(|known| known == file);
        takeover::check_strict(&env, |file| directory.has_imported(file) || last(file))?;
    }
    let Recovered { mut writer, segments, quarantine, identity, mut report } =
        recovery.finish(&mut directory)?;
    let keys = Keys::new(identity.secret);
    directory = takeover::take_over(&env, &keys, &mut writer, directory, &quarantine, &mut report)?;
    env.metrics.recovered(&report);
    let parts = Parts { env, options, segments, quarantine, directory, writer };
    let driver = Driver::start(parts)?;
    report.compaction = driver.shared.next_compaction();
    log_summary(&report);
    let report = Arc::new(report);
    Ok(Inner { driver, keys, report, lock: Mutex::new(Some(lock)) })
}

fn check_options(options: &Options) -> Result<()> {
    let (min, max) = (options.scale.segment_bytes_min, limits::SEGMENT_BYTES_MAX);
    if (min..=max).contains(&options.segment_bytes) {
        return Ok(());
    }
    Err(Error::Limit {
        field: "segment-bytes",
        problem: "out of range",
        bound: format!("{min} to {max} bytes"),
        value: format!("{} bytes", options.segment_bytes),
        too_large: options.segment_bytes > max,
    })
}

fn take_lock(env: &Env) -> Result<Box<dyn Lock>> {
    let path = env.dir.join(LOCK_NAME);
    match env.disk.lock(&path) {
        Ok(Some(lock)) => Ok(lock),
        Ok(None) => Err(Error::Locked { path }),
        Err(e) => Err(Error::io("lock", path, &e)),
    }
}

/// One line, whatever happened.
fn log_summary(report: &RecoveryReport) {
    tracing::info!(
        recovered = report.recovered,
        failed = report.failed.total(),
        damaged = report.failed.damaged,
        undecodable = report.failed.undecodable,
        tail = report.failed.tail,
        corruption_rate = report.corruption_rate,
        duration_seconds = report.duration_seconds,
        bytes_per_second = report.bytes_per_second,
        compaction = report.compaction,
        "recovered the log"
    );
}
