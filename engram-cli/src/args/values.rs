//! Values that flags, the environment and `engram.toml` share: each parser's error names the bound.

use std::time::Duration;

use engram_core::Durability;
use engram_core::episode::limits::{MODEL_BYTES_MAX, SEGMENT_BYTES_MAX, SEGMENT_BYTES_MIN};
use serde_json::value::RawValue;

/// Shortest and longest time between two syncs.
const INTERVAL_BOUNDS: (Duration, Duration) = (Duration::from_millis(1), Duration::from_hours(1));
/// Fewest and most changes that may wait.
const QUEUE_BOUNDS: (usize, usize) = (1, 1 << 20);
/// Fewest and most texts that are sent to an embedder at a time.
const EMBEDDER_BATCH_BOUNDS: (usize, usize) = (1, 2048);
/// Shortest and longest time for the vectors of episodes.
const EMBEDDER_TIMEOUT_BOUNDS: (Duration, Duration) =
    (Duration::from_millis(100), Duration::from_mins(10));
/// Shortest and longest time for the vector of a cue.
const CUE_TIMEOUT_BOUNDS: (Duration, Duration) =
    (Duration::from_millis(10), Duration::from_mins(1));

/// `always`, `interval=20ms` or `never`.
pub(crate) fn durability(text: &str) -> Result<Durability, String> {
    match text {
        "always" => Ok(Durability::Always),
        "never" => Ok(Durability::Never),
        _ => {
            let time = text
                .strip_prefix("interval=")
                .ok_or("say always, never, or interval=TIME (for example interval=20ms)")?;
            let time = duration(time)?;
            if time < INTERVAL_BOUNDS.0 || time > INTERVAL_BOUNDS.1 {
                return Err("the interval must be 1ms to 1h".into());
            }
            Ok(Durability::Interval(time))
        }
    }
}

/// `FIRST-LAST`, or one LSN.
pub(crate) fn lsn_range(text: &str) -> Result<(u64, u64), String> {
    let (first, last) = text.split_once('-').unwrap_or((text, text));
    let number = |part: &str| part.trim().parse::<u64>().ok().filter(|lsn| *lsn > 0);
    match (number(first), number(last)) {
        (Some(first), Some(last)) if first <= last => Ok((first, last)),
        (Some(_), Some(_)) => Err("the first LSN must not be above the last".into()),
        _ => Err("say FIRST-LAST, two LSNs from 1 up (for example 120-180)".into()),
    }
}

/// `HOST:PORT`, or `:PORT` on this machine; whether the host exists shows when it is bound.
pub(crate) fn listen(text: &str) -> Result<String, String> {
    match text.rsplit_once(':').map(|(host, port)| (host, port.parse::<u16>())) {
        Some(("", Ok(port))) => Ok(format!("127.0.0.1:{port}")),
        Some((_, Ok(_))) => Ok(text.to_owned()),
        Some((_, Err(_))) => Err("the port must be 0 to 65535 (0 takes a free one)".into()),
        None => Err("say HOST:PORT (for example 127.0.0.1:7432)".into()),
    }
}

/// A number of bytes: `1048576`, `1MiB`, `64 MB`.
pub(crate) fn bytes(text: &str) -> Result<u64, String> {
    let (number, unit) = split_unit(text);
    let factor: u64 = match unit {
        "" | "B" => 1,
        "kB" | "KB" => 1_000,
        "K" | "KiB" => 1 << 10,
        "MB" => 1_000_000,
        "M" | "MiB" => 1 << 20,
        "GB" => 1_000_000_000,
        "G" | "GiB" => 1 << 30,
        _ => return Err(format!("{unit:?} is no unit of bytes: say KiB, MiB or GiB")),
    };
    number
        .parse::<u64>()
        .ok()
        .and_then(|number| number.checked_mul(factor))
        .ok_or_else(|| "say a whole number of bytes (for example 1048576, or 1MiB)".into())
}

/// The size of a segment.
pub(crate) fn segment_bytes(text: &str) -> Result<u64, String> {
    let bytes = bytes(text)?;
    if !(SEGMENT_BYTES_MIN..=SEGMENT_BYTES_MAX).contains(&bytes) {
        return Err(format!(
            "a segment must have {SEGMENT_BYTES_MIN} (1MiB) to {SEGMENT_BYTES_MAX} (1GiB) bytes"
        ));
    }
    Ok(bytes)
}

/// The length of the queue.
pub(crate) fn queue_max(text: &str) -> Result<usize, String> {
    let (min, max) = QUEUE_BOUNDS;
    text.parse()
        .ok()
        .filter(|changes| (min..=max).contains(changes))
        .ok_or_else(|| format!("the queue must hold {min} to {max} changes"))
}

/// The name of an embedding model.
pub(crate) fn model(text: &str) -> Result<String, String> {
    if text.is_empty() || text.len() > MODEL_BYTES_MAX || text.chars().any(char::is_control) {
        return Err(format!("a model's name has 1 to {MODEL_BYTES_MAX} bytes, on one line"));
    }
    Ok(text.to_owned())
}

/// Texts that are sent to an embedder at a time.
pub(crate) fn embedder_batch(text: &str) -> Result<usize, String> {
    let (min, max) = EMBEDDER_BATCH_BOUNDS;
    text.parse()
        .ok()
        .filter(|texts| (min..=max).contains(texts))
        .ok_or_else(|| format!("a batch must have {min} to {max} texts"))
}

/// How long an embedder may take for episodes.
pub(crate) fn embedder_timeout(text: &str) -> Result<Duration, String> {
    let (min, max) = EMBEDDER_TIMEOUT_BOUNDS;
    let time = duration(text)?;
    if time < min || time > max { Err("the time must be 100ms to 10m".into()) } else { Ok(time) }
}

/// How long an embedder may take for a cue.
pub(crate) fn cue_timeout(text: &str) -> Result<Duration, String> {
    let (min, max) = CUE_TIMEOUT_BOUNDS;
    let time = duration(text)?;
    if time < min || time > max { Err("the time must be 10ms to 1m".into()) } else { Ok(time) }
}

/// A length of time: `20ms`, `30s`, `5m`, `24h`, `7d`.
pub(crate) fn duration(text: &str) -> Result<Duration, String> {
    let (number, unit) = split_unit(text);
    let number: u64 =
        number.parse().map_err(|_| "say a number and a unit (for example 20ms, 30s, 24h)")?;
    let seconds = |factor: u64| number.checked_mul(factor).map(Duration::from_secs);
    let time = match unit {
        "us" => Some(Duration::from_micros(number)),
        "ms" => Some(Duration::from_millis(number)),
        "s" => seconds(1),
        "m" | "min" => seconds(60),
        "h" => seconds(3_600),
        "d" => seconds(86_400),
        "" if number == 0 => Some(Duration::ZERO),
        "" => return Err("a time needs a unit: ms, s, m, h or d".into()),
        _ => return Err(format!("{unit:?} is no unit of time: say ms, s, m, h or d")),
    };
    // A bound that no clock overflows on, and that nobody reaches.
    time.filter(|time| *time <= Duration::from_hours(24 * 36_500))
        .ok_or_else(|| "the longest time is 36500d".into())
}

/// How sure a memory is.
pub(crate) fn confidence(text: &str) -> Result<f64, String> {
    // NaN is in no range.
    text.parse()
        .ok()
        .filter(|number| (0.0..=1.0).contains(number))
        .ok_or_else(|| "say a number from 0 to 1 (for example 0.5)".into())
}

/// A JSON object, kept as it was written.
pub(crate) fn json_object(text: &str) -> Result<Box<RawValue>, String> {
    let raw = RawValue::from_string(text.trim().to_owned()).map_err(|e| format!("no JSON: {e}"))?;
    if raw.get().starts_with('{') { Ok(raw) } else { Err("say a JSON object: {…}".into()) }
}

fn split_unit(text: &str) -> (&str, &str) {
    let text = text.trim();
    let end = text.find(|c: char| !c.is_ascii_digit()).unwrap_or(text.len());
    let (number, unit) = text.split_at(end);
    (number, unit.trim())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durability_is_said_in_three_ways() {
        assert_eq!(durability("always"), Ok(Durability::Always));
        assert_eq!(durability("never"), Ok(Durability::Never));
        let interval = Durability::Interval(Duration::from_millis(20));
        assert_eq!(durability("interval=20ms"), Ok(interval));
        for bad in ["", "Always", "interval", "interval=", "interval=20", "interval=2h", "20ms"] {
            assert!(durability(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn bytes_take_units() {
        assert_eq!(bytes("1048576"), Ok(1 << 20));
        assert_eq!(bytes("1MiB"), Ok(1 << 20));
        assert_eq!(bytes("64 MB"), Ok(64_000_000));
        for bad in ["", "-1", "1.5MiB", "1XB", "99999999999GiB"] {
            assert!(bytes(bad).is_err(), "{bad}");
        }
        assert!(segment_bytes("1048575").is_err());
        assert!(segment_bytes("1048576").is_ok());
        assert!(segment_bytes("2GiB").is_err());
    }

    #[test]
    fn confidence_is_a_number_from_0_to_1() {
        for (good, number) in [("0", 0.0), ("1", 1.0), ("0.25", 0.25), ("1e-3", 0.001)] {
            assert_eq!(confidence(good), Ok(number));
        }
        for bad in ["", "NaN", "inf", "-inf", "3", "-0.1", "1.0001", "x"] {
            assert!(confidence(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn lsn_ranges_rise() {
        assert_eq!(lsn_range("3-9"), Ok((3, 9)));
        assert_eq!(lsn_range("7"), Ok((7, 7)));
        for bad in ["", "9-3", "0-3", "a-b", "1-", "-1"] {
            assert!(lsn_range(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn times_need_a_unit() {
        assert_eq!(duration("24h"), Ok(Duration::from_hours(24)));
        assert_eq!(duration("0"), Ok(Duration::ZERO));
        for bad in ["", "5", "5 years", "h", "99999999999999999999d", "9999999999d"] {
            assert!(duration(bad).is_err(), "{bad}");
        }
    }
}
