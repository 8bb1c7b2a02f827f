//! The episode of v0.1.0 in its five layouts, told apart by shape, and turned into today's.
//!
//! No version field says which layout a payload has. Each is tried, newest first, and fits only if
//! every value is in range and the payload is consumed to its last byte.
#![deny(clippy::indexing_slicing, clippy::arithmetic_side_effects, clippy::as_conversions)]

use std::collections::BTreeMap;

use jiff::Timestamp;
use serde::{Serialize, Serializer};

use super::Layout;
use super::bincode::{Cursor, Misfit, Why};
use crate::Episode;
use crate::episode::limits;

/// Dimensions of every embedding that v0.1.0 wrote.
const DIMENSIONS: u64 = 768;
/// The fewest bytes of a string: its length.
const STRING_BYTES_MIN: usize = 8;

type Read<T> = Result<T, Misfit>;

/// A payload read as one layout.
#[derive(Debug, Clone)]
pub(super) struct Fit {
    /// The layout.
    pub(super) layout: Layout,
    /// How many bytes of the payload it took.
    pub(super) consumed: usize,
    tail: Tail,
}

/// A payload whose layout is still to be decided.
#[derive(Debug)]
pub(super) struct Candidates {
    head: Head,
    /// How many bytes were read to know as much.
    pub(super) head_bytes: usize,
    /// The layouts whose values are in range, newest first; some may leave bytes over.
    pub(super) fits: Vec<Fit>,
    /// Where the newest layouts did not fit.
    misfit: Option<Misfit>,
}

/// An episode of v0.1.0 as one of today's.
#[derive(Debug)]
pub(super) struct Decoded {
    /// The layout it was read in.
    pub(super) layout: Layout,
    /// The episode.
    pub(super) episode: Episode,
    /// Whether an older layout fits too.
    pub(super) ambiguous: bool,
    /// What does not fit today's limits.
    pub(super) notes: Vec<String>,
}

/// The fields that all layouts begin with.
#[derive(Debug)]
struct Head {
    id: String,
    when: Moment,
    place: Option<String>,
    who: Option<Vec<String>>,
    what: String,
    embedding: Vec<f32>,
}

/// The fields after the embedding, as they go into the metadata.
#[derive(Debug, Clone, Serialize)]
struct Tail {
    embedding_provenance: Option<Provenance>,
    #[serde(skip)]
    encoding_confidence: f32,
    vividness_confidence: Number,
    reliability_confidence: Number,
    last_recall: String,
    recall_count: u32,
    decay_rate: Number,
    decay_function: Option<DecayFunction>,
    #[serde(skip_serializing_if = "Option::is_none")]
    metadata: Option<BTreeMap<String, String>>,
    /// The time as it was written, where today's clock cannot hold it exactly.
    #[serde(skip_serializing_if = "Option::is_none")]
    when: Option<String>,
}

#[derive(Debug, Clone, Serialize)]
struct Provenance {
    model: Model,
    language: Option<String>,
    created_at: u64,
    quality_score: Option<Number>,
    metadata: BTreeMap<String, String>,
}

#[derive(Debug, Clone, Serialize)]
struct Model {
    name: String,
    version: String,
    dimension: u64,
}

#[derive(Debug, Clone, Serialize)]
enum DecayFunction {
    Exponential { tau_hours: Number },
    PowerLaw { beta: Number },
    TwoComponent { consolidation_threshold: u64 },
    Hybrid { short_term_tau: Number, long_term_beta: Number, transition_point: u64 },
}

/// An f32 that JSON keeps exactly: widened to the f64 of the same value, or, where JSON has no
/// number for it, its bits in words.
#[derive(Debug, Clone, Copy)]
struct Number(f32);

impl Serialize for Number {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        if self.0.is_finite() {
            return serializer.serialize_f64(f64::from(self.0));
        }
        serializer.serialize_str(&format!("{} (bits {:#010x})", self.0, self.0.to_bits()))
    }
}

/// A moment, and how it was written.
#[derive(Debug)]
struct Moment {
    at: Timestamp,
    text: String,
    leap: bool,
}

/// The episode in a payload, which must be consumed exactly.
pub(super) fn decode(payload: &[u8]) -> Read<Decoded> {
    candidates(payload)?.choose(|fit| fit.consumed == payload.len())
}

/// Reads a payload as far as the layouts go; bytes may follow it.
pub(super) fn candidates(payload: &[u8]) -> Read<Candidates> {
    let mut cursor = Cursor::new(payload);
    let head = head(&mut cursor)?;
    let (mut fits, mut misfit) = (Vec::new(), None::<Misfit>);
    for layout in [Layout::G4, Layout::G3, Layout::G2, Layout::G1, Layout::G0] {
        let mut cursor = cursor.clone();
        let read = tail(&mut cursor, layout).and_then(|tail| {
            fits.push(Fit { layout, consumed: cursor.at(), tail });
            cursor.end()
        });
        // The older ones have no tags to stumble over; where they do is luck, and tells nothing.
        if let Err(found) = read
            && layout >= Layout::G3
            && misfit.as_ref().is_none_or(|known| found.at > known.at)
        {
            misfit = Some(found);
        }
    }
    Ok(Candidates { head, head_bytes: cursor.at(), fits, misfit })
}

impl Candidates {
    /// The newest layout that is acceptable, or why none is.
    pub(super) fn choose(self, mut accept: impl FnMut(&Fit) -> bool) -> Read<Decoded> {
        let mut fits = self.fits.into_iter().filter(|fit| accept(fit));
        let Some(fit) = fits.next() else {
            let why = Misfit { field: "end", at: 0, why: Why::Cut };
            return Err(self.misfit.unwrap_or(why));
        };
        let ambiguous = fits.next().is_some();
        Ok(modern(self.head, fit, ambiguous))
    }
}

fn head(cursor: &mut Cursor<'_>) -> Read<Head> {
    let id = cursor.field("id").string()?;
    let when = moment(cursor.field("when"))?;
    let place = cursor.field("where_location").option(Cursor::string)?;
    let names = |cursor: &mut Cursor<'_>| cursor.sequence(STRING_BYTES_MIN, Cursor::string);
    let who = cursor.field("who").option(names)?;
    let what = cursor.field("what").string()?;
    let before = cursor.field("embedding").clone();
    match cursor.u64()? {
        DIMENSIONS => {}
        other => return Err(before.misfit(Why::Dimension(other))),
    }
    let raw = cursor.take(768 * 4)?;
    let embedding = raw.as_chunks().0.iter().map(|bytes| f32::from_le_bytes(*bytes)).collect();
    Ok(Head { id, when, place, who, what, embedding })
}

fn tail(cursor: &mut Cursor<'_>, layout: Layout) -> Read<Tail> {
    cursor.field("embedding_provenance");
    let embedding_provenance = match layout {
        // Without one nothing was written; with one, G2 is byte for byte G3.
        Layout::G0 | Layout::G2 => None,
        // Without one G1 is byte for byte G0.
        Layout::G1 => match cursor.option(provenance)? {
            None => return Err(cursor.misfit(Why::Tag(0))),
            some => some,
        },
        Layout::G3 | Layout::G4 => cursor.option(provenance)?,
    };
    let encoding_confidence = confidence(cursor.field("encoding_confidence"))?;
    let vividness_confidence = Number(confidence(cursor.field("vividness_confidence"))?);
    let reliability_confidence = Number(confidence(cursor.field("reliability_confidence"))?);
    let last_recall = moment(cursor.field("last_recall"))?.text;
    let recall_count = cursor.field("recall_count").u32()?;
    let decay_rate = number(cursor.field("decay_rate"))?;
    let decay_function = match layout {
        Layout::G0 | Layout::G1 => None,
        _ => cursor.field("decay_function").option(decay_function)?,
    };
    let metadata = match layout {
        Layout::G4 => Some(map(cursor.field("metadata"))?),
        _ => None,
    };
    Ok(Tail {
        embedding_provenance,
        encoding_confidence,
        vividness_confidence,
        reliability_confidence,
        last_recall,
        recall_count,
        decay_rate,
        decay_function,
        metadata,
        when: None,
    })
}

fn provenance(cursor: &mut Cursor<'_>) -> Read<Provenance> {
    let model =
        Model { name: cursor.string()?, version: cursor.string()?, dimension: cursor.u64()? };
    Ok(Provenance {
        model,
        language: cursor.option(Cursor::string)?,
        created_at: cursor.u64()?,
        quality_score: cursor.option(number)?,
        metadata: map(cursor)?,
    })
}

fn decay_function(cursor: &mut Cursor<'_>) -> Read<DecayFunction> {
    let before = cursor.clone();
    Ok(match cursor.u32()? {
        0 => DecayFunction::Exponential { tau_hours: number(cursor)? },
        1 => DecayFunction::PowerLaw { beta: number(cursor)? },
        2 => DecayFunction::TwoComponent { consolidation_threshold: cursor.u64()? },
        3 => DecayFunction::Hybrid {
            short_term_tau: number(cursor)?,
            long_term_beta: number(cursor)?,
            transition_point: cursor.u64()?,
        },
        other => return Err(before.misfit(Why::Variant(other))),
    })
}

fn map(cursor: &mut Cursor<'_>) -> Read<BTreeMap<String, String>> {
    let pair = |cursor: &mut Cursor<'_>| Ok((cursor.string()?, cursor.string()?));
    cursor.sequence(STRING_BYTES_MIN * 2, pair)
}

fn number(cursor: &mut Cursor<'_>) -> Read<Number> {
    cursor.f32().map(Number)
}

fn confidence(cursor: &mut Cursor<'_>) -> Read<f32> {
    let before = cursor.clone();
    let value = cursor.f32()?;
    if (0.0..=1.0).contains(&value) {
        Ok(value)
    } else {
        Err(before.misfit(Why::Confidence(value)))
    }
}

fn moment(cursor: &mut Cursor<'_>) -> Read<Moment> {
    let before = cursor.clone();
    let text = cursor.string()?;
    match parse_moment(&text) {
        Some((at, leap)) => Ok(Moment { at, text, leap }),
        None => Err(before.misfit(Why::Time(text.chars().take(40).collect()))),
    }
}

/// A moment as chrono writes it in UTC: `[±]YYYY-MM-DDThh:mm:ss[.fraction]Z`, and whether it is a
/// leap second (second 60), which today's clock does not have.
fn parse_moment(text: &str) -> Option<(Timestamp, bool)> {
    let (date, time) = text.strip_suffix('Z')?.split_once('T')?;
    let (sign, date) = match date.strip_prefix('-') {
        Some(rest) => (-1, rest),
        None => (1, date.strip_prefix('+').unwrap_or(date)),
    };
    let [year, month, day] = parts(date, '-')?;
    let (time, fraction) = time.split_once('.').unwrap_or((time, "0"));
    let [hour, minute, second] = parts(time, ':')?;
    if year.len() < 4 || [month, day, hour, minute, second].iter().any(|part| part.len() != 2) {
        return None;
    }
    if fraction.is_empty() || fraction.len() > 9 {
        return None;
    }
    let nanos: i32 = digits(&format!("{fraction:0<9}"))?;
    let year = digits::<i16>(year)?.checked_mul(sign)?;
    let (written, leap) = (digits::<i8>(second)?, second == "60");
    let second = if leap { 59 } else { written };
    let (month, day) = (digits(month)?, digits(day)?);
    let (hour, minute) = (digits(hour)?, digits(minute)?);
    let civil = jiff::civil::DateTime::new(year, month, day, hour, minute, second, nanos).ok()?;
    Some((jiff::tz::Offset::UTC.to_timestamp(civil).ok()?, leap))
}

fn parts(text: &str, separator: char) -> Option<[&str; 3]> {
    let mut parts = text.split(separator);
    let three = [parts.next()?, parts.next()?, parts.next()?];
    if parts.next().is_none() { Some(three) } else { None }
}

/// A number of digits alone: no sign, no space.
fn digits<T: std::str::FromStr>(text: &str) -> Option<T> {
    if text.bytes().all(|byte| byte.is_ascii_digit()) { text.parse().ok() } else { None }
}

#[derive(Serialize)]
struct Metadata<'a> {
    v0_1: &'a Tail,
}

fn modern(head: Head, fit: Fit, ambiguous: bool) -> Decoded {
    let Fit { layout, mut tail, .. } = fit;
    let mut notes = Vec::new();
    if head.when.leap {
        notes.push(format!("when: leap second {:?} kept as second 59", head.when.text));
        tail.when = Some(head.when.text);
    }
    let episode = Episode {
        id: head.id,
        what: head.what,
        when: head.when.at,
        place: head.place,
        who: head.who.unwrap_or_default(),
        embedding: head.embedding,
        confidence: f64::from(tail.encoding_confidence),
        // Strings and numbers alone: this cannot fail.
        metadata: serde_json::to_string(&Metadata { v0_1: &tail }).ok(),
    };
    over_limits(&episode, &mut notes);
    Decoded { layout, episode, ambiguous, notes }
}

/// Names what is over the limits of id.
pub(super) fn id_over_limits(id: &str, notes: &mut Vec<String>) {
    length("id", id, 1, limits::ID_BYTES_MAX, notes);
}

fn over_limits(episode: &Episode, notes: &mut Vec<String>) {
    id_over_limits(&episode.id, notes);
    length("what", &episode.what, 1, limits::WHAT_BYTES_MAX, notes);
    if let Some(place) = &episode.place {
        length("where", place, 0, limits::WHERE_BYTES_MAX, notes);
    }
    if episode.who.len() > limits::WHO_MAX {
        notes.push(format!("who: {} names, over {}", episode.who.len(), limits::WHO_MAX));
    }
    // The first is named: a list of thousands would drown the rest.
    let legal = |name: &&String| (1..=limits::WHO_BYTES_MAX).contains(&name.len());
    if let Some(name) = episode.who.iter().find(|name| !legal(name)) {
        length("who", name, 1, limits::WHO_BYTES_MAX, notes);
    }
    if let Some(at) = episode.embedding.iter().position(|value| !value.is_finite()) {
        notes.push(format!("embedding: not finite at index {at}"));
    }
    if let Some(metadata) = &episode.metadata {
        length("metadata", metadata, 0, limits::METADATA_BYTES_MAX, notes);
    }
}

fn length(field: &str, text: &str, min: usize, max: usize, notes: &mut Vec<String>) {
    if text.len() < min {
        notes.push(format!("{field}: empty"));
    } else if text.len() > max {
        notes.push(format!("{field}: {} bytes, over {max}", text.len()));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(text: &str) -> Option<String> {
        parse_moment(text).map(|(at, leap)| format!("{at}{}", if leap { " leap" } else { "" }))
    }

    #[test]
    fn times_are_read_to_the_nanosecond_in_the_forms_that_chrono_writes() {
        for same in [
            "2023-11-14T22:13:20Z",
            "2023-11-14T22:13:20.123Z",
            "2023-11-14T22:13:20.456789Z",
            "2025-10-09T08:53:26.000000005Z",
            "1969-12-31T23:59:59.999999999Z",
            "0000-01-01T00:00:00Z",
        ] {
            assert_eq!(at(same).as_deref(), Some(same));
        }
        assert_eq!(at("-0001-01-01T00:00:00Z").unwrap(), "-000001-01-01T00:00:00Z");
        assert_eq!(at("2016-12-31T23:59:60.5Z").unwrap(), "2016-12-31T23:59:59.5Z leap");
    }

    #[test]
    fn what_is_no_time_is_refused() {
        for bad in [
            "",
            "Z",
            "T",
            "2023-11-14T22:13:20",
            "2023-11-14 22:13:20Z",
            "2023-11-14T22:13:20+00:00",
            "2023-13-14T22:13:20Z",
            "2023-02-29T22:13:20Z",
            "2023-11-14T24:13:20Z",
            "2023-11-14T22:13:61Z",
            "2023-11-14T22:13Z",
            "2023-11-14T22:13:20.Z",
            "2023-11-14T22:13:20.1234567890Z",
            "2023-1-14T22:13:20Z",
            "2023-11-+4T22:13:20Z",
            "+12345-01-01T00:00:00Z",
            "99999999999-01-01T00:00:00Z",
        ] {
            assert_eq!(at(bad), None, "{bad}");
        }
    }
}
