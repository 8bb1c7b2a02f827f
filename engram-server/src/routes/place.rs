//! The table of paths: which one a request means, and which methods it takes.

use percent_encoding::percent_decode_str;

use crate::problem::{Kind, Problem};
use crate::request::Names;

/// What a path means.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Place {
    Root,
    Live,
    Ready,
    Metrics,
    Spaces,
    Space,
    Episodes,
    /// `batch` is an id as good as any other, except to POST.
    Batch,
    Episode,
    Recall,
    Reembed,
    Wal,
    Recovery,
    Incidents,
    Compact,
    Quarantine,
    Restore,
    Unknown,
}

/// Every place with its template, in the order of [`Place`], and the methods that it takes.
pub(super) const TABLE: [(Place, &str, &str); 18] = [
    (Place::Root, "/", "GET,HEAD"),
    (Place::Live, "/livez", "GET,HEAD"),
    (Place::Ready, "/readyz", "GET,HEAD"),
    (Place::Metrics, "/metrics", "GET,HEAD"),
    (Place::Spaces, "/v1/spaces", "GET,HEAD"),
    (Place::Space, "/v1/spaces/{space}", "DELETE"),
    (Place::Episodes, "/v1/spaces/{space}/episodes", "POST,GET,HEAD"),
    (Place::Batch, "/v1/spaces/{space}/episodes/batch", "POST,GET,HEAD,DELETE"),
    (Place::Episode, "/v1/spaces/{space}/episodes/{id}", "GET,HEAD,DELETE"),
    (Place::Recall, "/v1/spaces/{space}/recall", "POST"),
    (Place::Reembed, "/v1/spaces/{space}/reembed", "POST,GET,HEAD"),
    (Place::Wal, "/v1/wal", "GET,HEAD"),
    (Place::Recovery, "/v1/wal/recovery", "GET,HEAD"),
    (Place::Incidents, "/v1/wal/incidents", "GET,HEAD"),
    (Place::Compact, "/v1/wal/compact", "POST"),
    (Place::Quarantine, "/v1/wal/quarantine", "GET,HEAD"),
    (Place::Restore, "/v1/wal/quarantine/{name}/restore", "POST"),
    (Place::Unknown, "unknown", ""),
];

/// Segments of the longest path.
const SEGMENTS_MAX: usize = 5;

/// A path's place, and the names in it as they stand there, not decoded.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Found<'p> {
    pub(super) place: Place,
    space: Option<&'p str>,
    /// An id, or a quarantined item.
    last: Option<&'p str>,
}

/// Looks a path up.
pub(super) fn find(path: &str) -> Found<'_> {
    const UNKNOWN: Found<'_> = Found { place: Place::Unknown, space: None, last: None };
    let Some(path) = path.strip_prefix('/') else { return UNKNOWN };
    let mut segments = [""; SEGMENTS_MAX];
    let mut count = 0;
    for segment in path.split('/') {
        let Some(slot) = segments.get_mut(count) else { return UNKNOWN };
        *slot = segment;
        count += 1;
    }
    let (place, space, last) = match *segments.get(..count).unwrap_or_default() {
        [""] => (Place::Root, None, None),
        ["livez"] => (Place::Live, None, None),
        ["readyz"] => (Place::Ready, None, None),
        ["metrics"] => (Place::Metrics, None, None),
        ["v1", "spaces"] => (Place::Spaces, None, None),
        ["v1", "spaces", space] => (Place::Space, Some(space), None),
        ["v1", "spaces", space, "episodes"] => (Place::Episodes, Some(space), None),
        ["v1", "spaces", space, "episodes", "batch"] => (Place::Batch, Some(space), Some("batch")),
        ["v1", "spaces", space, "episodes", id] => (Place::Episode, Some(space), Some(id)),
        ["v1", "spaces", space, "recall"] => (Place::Recall, Some(space), None),
        ["v1", "spaces", space, "reembed"] => (Place::Reembed, Some(space), None),
        ["v1", "wal"] => (Place::Wal, None, None),
        ["v1", "wal", "recovery"] => (Place::Recovery, None, None),
        ["v1", "wal", "incidents"] => (Place::Incidents, None, None),
        ["v1", "wal", "compact"] => (Place::Compact, None, None),
        ["v1", "wal", "quarantine"] => (Place::Quarantine, None, None),
        ["v1", "wal", "quarantine", name, "restore"] => (Place::Restore, None, Some(name)),
        _ => return UNKNOWN,
    };
    // A name is never empty.
    if space == Some("") || last == Some("") { UNKNOWN } else { Found { place, space, last } }
}

impl Found<'_> {
    /// The names, decoded.
    ///
    /// # Errors
    /// When they are no UTF-8 once decoded.
    pub(super) fn names(&self) -> Result<Names, Problem> {
        let decoded = |which: &str, name: Option<&str>| {
            let decoded = percent_decode_str(name.unwrap_or_default()).decode_utf8();
            decoded.map(String::from).map_err(|_| {
                let (problem, bound) = ("not understood", "percent-encoded UTF-8");
                Problem::of_field(Kind::Malformed, which, problem, bound, name.unwrap_or_default())
            })
        };
        let last = if self.place == Place::Restore { "name" } else { "id" };
        Ok(Names { space: decoded("space", self.space)?, last: decoded(last, self.last)? })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_table_has_every_place_where_it_is_looked_for() {
        for (at, (place, template, allowed)) in TABLE.iter().enumerate() {
            assert_eq!(*place as usize, at, "{template}");
            if *place == Place::Unknown {
                continue;
            }
            assert!(!allowed.is_empty(), "{template}");
            // A name in braces is a name like any other.
            assert_eq!(find(template).place, *place, "{template}");
        }
    }

    #[test]
    fn names_come_decoded() {
        let names = find("/v1/spaces/a%2Fb/episodes/%C3%A4").names().unwrap();
        assert_eq!((names.space.as_str(), names.last.as_str()), ("a/b", "ä"));
        let names = find("/v1/wal/quarantine/a-b/restore").names().unwrap();
        assert_eq!((names.space.as_str(), names.last.as_str()), ("", "a-b"));
        assert_eq!(find("/v1/spaces/s/episodes/batch").names().unwrap().last, "batch");
        // Whoever encodes the word means the id.
        let encoded = find("/v1/spaces/s/episodes/%62atch");
        assert_eq!(encoded.place, Place::Episode);
        assert_eq!(encoded.names().unwrap().last, "batch");
        assert!(find("/v1/spaces/%FF").names().is_err());
    }

    #[test]
    fn other_paths_are_unknown() {
        let paths = [
            "",
            "*",
            "livez",
            "//",
            "/livez/",
            "/v1",
            "/v1/",
            "/v1/spaces/",
            "/v1/spaces//recall",
            "/v1/spaces/s/episodes/",
            "/v1/spaces/s/recall/",
            "/v1/spaces/s/episodes/i/j",
            "/v1/wal/quarantine//restore",
            "/v1/wal/quarantine/a/restore/b",
            "/V1/wal",
        ];
        for path in paths {
            assert_eq!(find(path).place, Place::Unknown, "{path}");
        }
    }
}
