//! Logs: `tracing` events on standard error, as text or JSON; panics become events too.

use std::panic::PanicHookInfo;

use tracing_subscriber::filter::LevelFilter;

use crate::args::LogFormat;

/// Sends every event of at least `level` to standard error.
pub(crate) fn init(format: LogFormat, level: LevelFilter) {
    let builder = tracing_subscriber::fmt().with_max_level(level).with_writer(std::io::stderr);
    match format {
        LogFormat::Text => builder.with_ansi(false).init(),
        LogFormat::Json => builder.json().flatten_event(true).init(),
    }
    std::panic::set_hook(Box::new(log_panic));
}

fn log_panic(panic: &PanicHookInfo<'_>) {
    let message = panic.payload_as_str().unwrap_or("(no message)");
    let place = panic.location().map(ToString::to_string).unwrap_or_default();
    let thread = std::thread::current().name().unwrap_or("unnamed").to_owned();
    let backtrace = std::backtrace::Backtrace::capture();
    if backtrace.status() == std::backtrace::BacktraceStatus::Captured {
        tracing::error!(place, thread, %backtrace, "panic: {message}");
    } else {
        tracing::error!(place, thread, "panic: {message}");
    }
}
