//! Progress on standard error, where a person watches; nothing where none does.

use std::io::IsTerminal as _;
use std::time::Duration;

use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};

/// A bar over `total` units, or a counter where the total is not known.
pub(crate) fn bar(what: &str, total: Option<u64>, bytes: bool) -> ProgressBar {
    if !std::io::stderr().is_terminal() {
        return ProgressBar::hidden();
    }
    let bar = ProgressBar::with_draw_target(total, ProgressDrawTarget::stderr());
    let template = match (total.is_some(), bytes) {
        (true, true) => "{prefix} [{bar:30}] {binary_bytes}/{binary_total_bytes} {msg} (ETA {eta})",
        (true, false) => "{prefix} [{bar:30}] {human_pos}/{human_len} {msg} (ETA {eta})",
        (false, true) => "{prefix} {spinner} {binary_bytes} {msg}",
        (false, false) => "{prefix} {spinner} {human_pos} {msg}",
    };
    // The templates are constants; one that did not parse would only look plainer.
    if let Ok(style) = ProgressStyle::with_template(template) {
        bar.set_style(style.progress_chars("=> "));
    }
    bar.set_prefix(what.to_owned());
    bar.enable_steady_tick(Duration::from_millis(250));
    bar
}
