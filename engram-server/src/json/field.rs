//! The fields of an episode in JSON, and what each may be.

/// A field as a refusal tells it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Told {
    /// Its name; of a field within a field, both with a dot between.
    pub(super) name: &'static str,
    /// What its value may be.
    pub(super) wanted: &'static str,
}

/// An episode as a whole.
pub(super) const EPISODE: Told = Told { name: "episode", wanted: "a JSON object, an episode" };

/// A field that a caller may write, or that an answer adds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Field {
    Id,
    What,
    When,
    Where,
    Who,
    Embedding,
    EmbeddingModel,
    Confidence,
    Metadata,
    Space,
    Lsn,
    RecordedAt,
}

impl Field {
    pub(super) fn named(name: &str) -> Option<Self> {
        Some(match name {
            "id" => Self::Id,
            "what" => Self::What,
            "when" => Self::When,
            "where" => Self::Where,
            "who" => Self::Who,
            "embedding" => Self::Embedding,
            "embedding_model" => Self::EmbeddingModel,
            "confidence" => Self::Confidence,
            "metadata" => Self::Metadata,
            "space" => Self::Space,
            "lsn" => Self::Lsn,
            "recorded_at" => Self::RecordedAt,
            _ => return None,
        })
    }

    /// The field of that name, if a caller may write it.
    pub(super) fn writable(name: &str) -> Option<Self> {
        Self::named(name).filter(|field| !field.of_answers())
    }

    pub(super) fn told(self) -> Told {
        Told { name: self.name(), wanted: self.wanted() }
    }

    pub(super) fn name(self) -> &'static str {
        match self {
            Self::Id => "id",
            Self::What => "what",
            Self::When => "when",
            Self::Where => "where",
            Self::Who => "who",
            Self::Embedding => "embedding",
            Self::EmbeddingModel => "embedding_model",
            Self::Confidence => "confidence",
            Self::Metadata => "metadata",
            Self::Space => "space",
            Self::Lsn => "lsn",
            Self::RecordedAt => "recorded_at",
        }
    }

    /// What its value may be.
    pub(super) fn wanted(self) -> &'static str {
        match self {
            Self::Id => "a string of 1 to 256 bytes",
            Self::What => "a string of 1 byte to 1 MiB",
            Self::When => "an RFC 3339 time such as \"2026-01-31T12:00:00Z\"",
            Self::Where => "a string of at most 256 bytes",
            Self::Who => "a list of at most 64 strings",
            Self::EmbeddingModel => "a string of 1 to 256 bytes, beside an embedding",
            Self::Embedding => "a list of 1 to 4096 finite 32-bit floats, or their base64",
            Self::Confidence => "a number from 0 to 1",
            Self::Metadata => "a JSON object of at most 64 KiB",
            Self::Space => "a string of 1 to 64 bytes",
            Self::Lsn => "a whole number",
            Self::RecordedAt => "an RFC 3339 time",
        }
    }

    /// Whether only answers have it.
    fn of_answers(self) -> bool {
        matches!(self, Self::Space | Self::Lsn | Self::RecordedAt)
    }

    /// Its bit in a set of fields.
    pub(super) fn bit(self) -> u16 {
        1 << (self as u16)
    }
}

/// The fields that a caller may write, for messages.
pub(super) const WRITABLE: &str =
    "one of id, what, when, where, who, embedding, embedding_model, confidence, metadata";
