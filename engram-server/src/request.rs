//! What handlers take from a request besides its body: names in the path, the query, and
//! preconditions. Each refusal is a problem document that names the parameter.

use hyper::header::{HeaderName, IF_MATCH, IF_NONE_MATCH};
use hyper::{HeaderMap, Uri};

use engram_core::Condition;

use crate::problem::{Kind, Problem};

/// The names in a path.
#[derive(Debug)]
pub(crate) struct Names {
    pub(crate) space: String,
    /// The id, or the name of a quarantined item.
    pub(crate) last: String,
}

/// A query whose parameters are taken out one by one.
#[derive(Debug)]
pub(crate) struct Query(Vec<(String, String)>);

impl Query {
    /// The query of a request.
    ///
    /// # Errors
    /// When it is no UTF-8 once decoded.
    pub(crate) fn of(uri: &Uri) -> Result<Self, Problem> {
        let query = uri.query().unwrap_or_default();
        if let Some(pair) = query.split('&').find(|pair| !decodes(pair)) {
            let name = pair.split_once('=').map_or("query", |(name, _)| name);
            let problem = "query parameter not understood";
            let bound = "percent-encoded UTF-8";
            return Err(Problem::of_field(Kind::Malformed, name, problem, bound, "other bytes"));
        }
        let pairs = form_urlencoded::parse(query.as_bytes());
        Ok(Self(pairs.map(|(key, value)| (key.into_owned(), value.into_owned())).collect()))
    }

    /// A parameter's value; it may be there once.
    pub(crate) fn take(&mut self, name: &str) -> Result<Option<String>, Problem> {
        let Some(at) = self.0.iter().position(|(key, _)| key == name) else { return Ok(None) };
        let (_, value) = self.0.swap_remove(at);
        if self.0.iter().any(|(key, _)| key == name) {
            let (problem, bound) = ("query parameter given twice", "each parameter once");
            return Err(Problem::of_field(Kind::Malformed, name, problem, bound, "2 times"));
        }
        Ok(Some(value))
    }

    /// Refuses what is left; `known` names the parameters that may be there.
    pub(crate) fn done(self, known: &str) -> Result<(), Problem> {
        match self.0.into_iter().next() {
            None => Ok(()),
            Some((name, value)) => {
                let problem = "unknown query parameter";
                Err(Problem::of_field(Kind::Malformed, name, problem, known, value))
            }
        }
    }
}

/// The precondition of a change.
pub(crate) fn condition(headers: &HeaderMap) -> Result<Condition, Problem> {
    let absent = match text(headers, &IF_NONE_MATCH)? {
        None => false,
        Some("*") => true,
        Some(other) => {
            return Err(refused(&IF_NONE_MATCH, "* when it goes with a change", other));
        }
    };
    match (text(headers, &IF_MATCH)?, absent) {
        (None, false) => Ok(Condition::Any),
        (None, true) => Ok(Condition::Absent),
        (Some(tag), false) => match lsn_of(tag) {
            Some(lsn) => Ok(Condition::Lsn(lsn)),
            None => Err(refused(&IF_MATCH, "one ETag, an LSN in quotes", tag)),
        },
        (Some(tag), true) => Err(refused(&IF_MATCH, "no If-None-Match beside it", tag)),
    }
}

/// Refuses preconditions where nothing can hold them: one that was passed over in silence would
/// let a change happen that the client had forbidden.
pub(crate) fn no_condition(headers: &HeaderMap) -> Result<(), Problem> {
    for name in [IF_MATCH, IF_NONE_MATCH] {
        if let Some(value) = headers.get(&name) {
            let value = String::from_utf8_lossy(value.as_bytes());
            let problem = "cannot hold for a whole space";
            return Err(Problem::of_field(
                Kind::Malformed,
                name.as_str(),
                problem,
                "nothing",
                value,
            ));
        }
    }
    Ok(())
}

/// Whether a reader has the episode of this LSN already (`If-None-Match` of a GET).
pub(crate) fn has_already(headers: &HeaderMap, lsn: u64) -> bool {
    headers.get_all(IF_NONE_MATCH).iter().filter_map(|value| value.to_str().ok()).any(|list| {
        list.split(',')
            .map(str::trim)
            .any(|tag| tag == "*" || lsn_of(tag.strip_prefix("W/").unwrap_or(tag)) == Some(lsn))
    })
}

/// The `ETag` of an LSN.
pub(crate) fn etag(lsn: u64) -> String {
    format!("\"{lsn}\"")
}

/// Whether a part of a query is UTF-8 once its percent signs are taken out; what is not would
/// otherwise be looked for as another text than the client meant.
fn decodes(pair: &str) -> bool {
    let mut bytes = Vec::with_capacity(pair.len());
    let mut rest = pair.as_bytes();
    while let [first, more @ ..] = rest {
        let hex =
            more.get(..2).filter(|hex| *first == b'%' && hex.iter().all(u8::is_ascii_hexdigit));
        let byte = hex
            .and_then(|hex| std::str::from_utf8(hex).ok())
            .and_then(|hex| u8::from_str_radix(hex, 16).ok());
        bytes.push(byte.unwrap_or(*first));
        rest = if byte.is_some() { more.get(2..).unwrap_or_default() } else { more };
    }
    std::str::from_utf8(&bytes).is_ok()
}

fn lsn_of(tag: &str) -> Option<u64> {
    let digits = tag.strip_prefix('"')?.strip_suffix('"')?;
    let plain = digits.bytes().all(|byte| byte.is_ascii_digit());
    digits.parse().ok().filter(|_| plain)
}

fn text<'h>(headers: &'h HeaderMap, name: &HeaderName) -> Result<Option<&'h str>, Problem> {
    let mut values = headers.get_all(name).iter();
    let Some(value) = values.next() else { return Ok(None) };
    if values.next().is_some() {
        return Err(refused(name, "one value", "more than one"));
    }
    let value = value.to_str().map_err(|_| refused(name, "ASCII text", "other bytes"))?;
    Ok(Some(value.trim()))
}

fn refused(name: &HeaderName, bound: &str, value: &str) -> Problem {
    Problem::of_field(Kind::Malformed, name.as_str(), "header not understood", bound, value)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(pairs: &[(HeaderName, &'static str)]) -> HeaderMap {
        pairs.iter().map(|(name, value)| (name.clone(), value.parse().unwrap())).collect()
    }

    #[test]
    fn preconditions_are_absent_or_one_lsn() {
        assert_eq!(condition(&of(&[])).unwrap(), Condition::Any);
        assert_eq!(condition(&of(&[(IF_NONE_MATCH, "*")])).unwrap(), Condition::Absent);
        assert_eq!(condition(&of(&[(IF_MATCH, "\"17\"")])).unwrap(), Condition::Lsn(17));
        for bad in ["17", "*", "\"a\"", "\"1\", \"2\"", "W/\"1\"", "\"+1\"", "\"\""] {
            assert!(condition(&of(&[(IF_MATCH, bad)])).is_err(), "{bad}");
        }
        assert!(condition(&of(&[(IF_NONE_MATCH, "\"17\"")])).is_err());
        assert!(condition(&of(&[(IF_NONE_MATCH, "*"), (IF_MATCH, "\"17\"")])).is_err());
    }

    #[test]
    fn queries_are_utf_8_once_decoded() {
        for good in ["", "who=a", "who=%C3%A4+%zz%", "who=ä", "%41=%"] {
            assert!(decodes(good), "{good}");
        }
        for bad in ["who=%FF", "who=%C3", "%ff", "who=%C3%zz%A4"] {
            assert!(!decodes(bad), "{bad}");
        }
    }

    #[test]
    fn a_reader_that_has_the_lsn_needs_no_body() {
        for has in ["*", "\"5\"", "\"4\", \"5\"", "W/\"5\""] {
            assert!(has_already(&of(&[(IF_NONE_MATCH, has)]), 5), "{has}");
        }
        for lacks in ["\"4\"", "5", ""] {
            assert!(!has_already(&of(&[(IF_NONE_MATCH, lacks)]), 5), "{lacks}");
        }
    }
}
