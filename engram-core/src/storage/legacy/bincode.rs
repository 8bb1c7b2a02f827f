//! The part of bincode 1.3 that v0.1.0's payloads use, read by hand: fixed-width little-endian
//! integers, strings and sequences with a u64 length, options with a one-byte tag.
//!
//! Every length is checked against the bytes that remain before anything is allocated for it.
#![deny(clippy::indexing_slicing, clippy::arithmetic_side_effects, clippy::as_conversions)]

use std::fmt;

/// Why bytes are not what a layout expects, and where.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Misfit {
    /// The field that was being read.
    pub(super) field: &'static str,
    /// Where in the payload.
    pub(super) at: usize,
    /// What was found there.
    pub(super) why: Why,
}

/// What was found instead of a value.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum Why {
    /// The payload ends first.
    Cut,
    /// An option's tag that is neither 0 nor 1 (bincode's `InvalidTagEncoding`).
    Tag(u8),
    /// A length that goes past the end.
    Length(u64),
    /// A string that is not UTF-8.
    Utf8,
    /// The number of a variant that does not exist.
    Variant(u32),
    /// A confidence outside 0 to 1.
    Confidence(f32),
    /// No moment in RFC 3339, in UTC, in the range of today's clock.
    Time(String),
    /// An embedding of another dimension than 768.
    Dimension(u64),
    /// Bytes after the last field.
    Trailing(usize),
}

impl fmt::Display for Misfit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} at byte {} of the payload: ", self.field, self.at)?;
        match &self.why {
            Why::Cut => write!(f, "the payload ends first"),
            Why::Tag(tag) => write!(f, "invalid option tag {tag}"),
            Why::Length(length) => write!(f, "length {length} goes past the end"),
            Why::Utf8 => write!(f, "not UTF-8"),
            Why::Variant(number) => write!(f, "no variant {number}"),
            Why::Confidence(value) => write!(f, "confidence {value} is not within 0 to 1"),
            Why::Time(text) => write!(f, "{text:?} is no time that can be kept"),
            Why::Dimension(found) => write!(f, "{found} dimensions instead of 768"),
            Why::Trailing(bytes) => write!(f, "{bytes} bytes after the last field"),
        }
    }
}

/// A place in a payload, with the field that is read there.
#[derive(Debug, Clone)]
pub(super) struct Cursor<'a> {
    rest: &'a [u8],
    at: usize,
    field: &'static str,
}

type Read<T> = Result<T, Misfit>;

impl<'a> Cursor<'a> {
    /// At the first byte.
    pub(super) fn new(bytes: &'a [u8]) -> Self {
        Self { rest: bytes, at: 0, field: "id" }
    }

    /// Names the field that comes next.
    pub(super) fn field(&mut self, field: &'static str) -> &mut Self {
        self.field = field;
        self
    }

    /// How many bytes were read.
    pub(super) fn at(&self) -> usize {
        self.at
    }

    /// A misfit here.
    pub(super) fn misfit(&self, why: Why) -> Misfit {
        Misfit { field: self.field, at: self.at, why }
    }

    /// That the payload ends here.
    pub(super) fn end(&mut self) -> Read<()> {
        match self.rest.len() {
            0 => Ok(()),
            bytes => Err(self.field("end").misfit(Why::Trailing(bytes))),
        }
    }

    /// The next `bytes` bytes.
    pub(super) fn take(&mut self, bytes: usize) -> Read<&'a [u8]> {
        let (head, rest) = self.rest.split_at_checked(bytes).ok_or(self.misfit(Why::Cut))?;
        self.rest = rest;
        self.at = self.at.saturating_add(bytes);
        Ok(head)
    }

    fn array<const N: usize>(&mut self) -> Read<[u8; N]> {
        let (head, rest) = self.rest.split_first_chunk().ok_or(self.misfit(Why::Cut))?;
        self.rest = rest;
        self.at = self.at.saturating_add(N);
        Ok(*head)
    }

    /// A u32.
    pub(super) fn u32(&mut self) -> Read<u32> {
        self.array().map(u32::from_le_bytes)
    }

    /// A u64.
    pub(super) fn u64(&mut self) -> Read<u64> {
        self.array().map(u64::from_le_bytes)
    }

    /// An f32, any bits.
    pub(super) fn f32(&mut self) -> Read<f32> {
        self.array().map(f32::from_le_bytes)
    }

    /// A length, of things that take at least `bytes_min` bytes each.
    fn length(&mut self, bytes_min: usize) -> Read<usize> {
        let before = self.clone();
        let length = self.u64()?;
        let fits = usize::try_from(length).ok().filter(|length| {
            length.checked_mul(bytes_min).is_some_and(|bytes| bytes <= self.rest.len())
        });
        fits.ok_or(before.misfit(Why::Length(length)))
    }

    /// A string.
    pub(super) fn string(&mut self) -> Read<String> {
        let length = self.length(1)?;
        let mut place = self.clone();
        let text = std::str::from_utf8(self.take(length)?).map_err(|error| {
            place.at = place.at.saturating_add(error.valid_up_to());
            place.misfit(Why::Utf8)
        })?;
        Ok(text.to_owned())
    }

    /// An option's tag.
    pub(super) fn some(&mut self) -> Read<bool> {
        let before = self.clone();
        match self.array()? {
            [0] => Ok(false),
            [1] => Ok(true),
            [tag] => Err(before.misfit(Why::Tag(tag))),
        }
    }

    /// An option.
    pub(super) fn option<T>(
        &mut self,
        value: impl FnOnce(&mut Self) -> Read<T>,
    ) -> Read<Option<T>> {
        if self.some()? { value(self).map(Some) } else { Ok(None) }
    }

    /// A sequence of things that take at least `bytes_min` bytes each.
    pub(super) fn sequence<T, C: FromIterator<T>>(
        &mut self,
        bytes_min: usize,
        mut item: impl FnMut(&mut Self) -> Read<T>,
    ) -> Read<C> {
        (0..self.length(bytes_min)?).map(|_| item(self)).collect()
    }
}
