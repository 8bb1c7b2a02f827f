//! What filters look for: people, places, and members of the metadata, each as a hash.
//!
//! A hash may be shared by two values, once in 2^64: whoever reads the episode compares again,
//! so a filter never lets a wrong one through.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::hash::Hasher as _;

use serde_json::value::RawValue;
use serde_json::{Map, Value};
use siphasher::sip::SipHasher13;

use super::bits::Bits;

/// Which episodes have which facet.
#[derive(Debug, Default)]
pub struct Facets {
    slots: HashMap<u64, BTreeSet<u32>>,
    /// By slot: what it has.
    of: Vec<Box<[u64]>>,
}

impl Facets {
    /// Says what a new slot has.
    pub fn set(&mut self, slot: u32, facets: Box<[u64]>) {
        for &facet in &facets {
            self.slots.entry(facet).or_default().insert(slot);
        }
        let at = slot as usize;
        if self.of.len() <= at {
            self.of.resize_with(at + 1, Box::default);
        }
        if let Some(place) = self.of.get_mut(at) {
            *place = facets;
        }
    }

    /// Forgets a slot.
    pub fn remove(&mut self, slot: u32) {
        let Some(place) = self.of.get_mut(slot as usize) else { return };
        for facet in std::mem::take(place) {
            if let Some(slots) = self.slots.get_mut(&facet) {
                slots.remove(&slot);
                if slots.is_empty() {
                    self.slots.remove(&facet);
                }
            }
        }
    }

    /// The slots that have all of these facets; `None` when none is asked for.
    #[must_use]
    pub fn with_all(&self, facets: &[u64]) -> Option<Bits> {
        let mut sets: Vec<Option<&BTreeSet<u32>>> =
            facets.iter().map(|facet| self.slots.get(facet)).collect();
        sets.sort_by_key(|set| set.map_or(0, BTreeSet::len));
        let (first, others) = sets.split_first()?;
        let slots = first.iter().flat_map(|set| set.iter().copied());
        Some(slots.filter(|slot| others.iter().flatten().all(|set| set.contains(slot))).collect())
    }

    /// Memory that it takes, in bytes, about.
    #[must_use]
    pub fn bytes(&self) -> usize {
        let facets: usize = self.of.iter().map(|facets| facets.len()).sum();
        // A facet of a slot stands in its list (8) and in a tree (about 6); each tree is a node.
        self.of.capacity() * size_of::<Box<[u64]>>() + facets * 14 + self.slots.len() * 96
    }
}

/// The facet of a person.
#[must_use]
pub fn who(name: &str) -> u64 {
    hash(&[b"who", name.as_bytes()])
}

/// The facet of a place.
#[must_use]
pub fn place(name: &str) -> u64 {
    hash(&[b"where", name.as_bytes()])
}

/// The facet of a member of the metadata.
#[must_use]
pub fn member(name: &str, value: &Value) -> u64 {
    hash(&[b"metadata", name.as_bytes(), canonical(value).as_bytes()])
}

/// The facets of all members of some metadata, a JSON object as text.
#[must_use]
pub fn of_metadata(metadata: Option<&str>) -> Vec<u64> {
    metadata.into_iter().flat_map(members).map(|(name, value)| member(&name, &value)).collect()
}

/// The members of metadata whose values can be held: half a character, or a number beyond all floats,
/// costs its own member alone.
fn members(metadata: &str) -> BTreeMap<String, Value> {
    let raw = serde_json::from_str::<BTreeMap<String, &RawValue>>(metadata).unwrap_or_default();
    let held =
        |(name, raw): (String, &RawValue)| Some((name, serde_json::from_str(raw.get()).ok()?));
    raw.into_iter().filter_map(held).collect()
}

/// Whether metadata, a JSON object as text, has all of these members with equal values.
#[must_use]
pub fn has_members(metadata: Option<&str>, wanted: &Map<String, Value>) -> bool {
    let has = |metadata| {
        let members = members(metadata);
        wanted.iter().all(|(name, value)| {
            members.get(name).is_some_and(|has| canonical(has) == canonical(value))
        })
    };
    wanted.is_empty() || metadata.is_some_and(has)
}

/// A value as text that is the same for equal values: members sorted, 1.0 as 1.
fn canonical(value: &Value) -> String {
    match value {
        Value::Number(number) => match number.as_f64() {
            // Beyond 2^53 floats skip whole numbers: those keep their own digits.
            Some(float) if number.is_f64() && float.fract() == 0.0 && float.abs() < 9e15 => {
                format!("{float:.0}").replace("-0", "0")
            }
            _ => number.to_string(),
        },
        Value::Array(values) => {
            let values: Vec<String> = values.iter().map(canonical).collect();
            format!("[{}]", values.join(","))
        }
        Value::Object(members) => {
            let mut members: Vec<(&String, &Value)> = members.iter().collect();
            members.sort_by_key(|(name, _)| *name);
            let members: Vec<String> = members
                .iter()
                .map(|(name, value)| format!("{name:?}:{}", canonical(value)))
                .collect();
            format!("{{{}}}", members.join(","))
        }
        other => other.to_string(),
    }
}

fn hash(parts: &[&[u8]]) -> u64 {
    let mut hasher = SipHasher13::new();
    for part in parts {
        hasher.write(part);
        hasher.write_u8(0xFF);
    }
    hasher.finish()
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn slots_are_found_by_all_that_is_asked_of_them() {
        let mut facets = Facets::default();
        facets.set(0, Box::new([who("ann"), place("Rome")]));
        facets.set(3, Box::new([who("ann"), who("bob")]));
        facets.set(7, Box::new([who("bob"), place("Rome")]));
        let found = |facets: &Facets, wanted: &[u64]| -> Option<Vec<u32>> {
            facets.with_all(wanted).map(|bits| bits.iter().collect())
        };
        assert_eq!(found(&facets, &[]), None);
        assert_eq!(found(&facets, &[who("ann")]), Some(vec![0, 3]));
        assert_eq!(found(&facets, &[who("bob"), place("Rome")]), Some(vec![7]));
        assert_eq!(found(&facets, &[who("Rome")]), Some(vec![]));
        facets.remove(3);
        facets.remove(99);
        assert_eq!(found(&facets, &[who("ann")]), Some(vec![0]));
        facets.remove(0);
        facets.remove(7);
        assert!(facets.slots.is_empty());
    }

    #[test]
    fn equal_values_are_one_facet_however_they_are_written() {
        let same = [
            (json!(1), json!(1.0)),
            (json!({"a": 1, "b": [true]}), json!({"b": [true], "a": 1.0})),
            (json!("x"), json!("x")),
            (json!(-0.0), json!(0)),
        ];
        for (a, b) in same {
            assert_eq!(member("m", &a), member("m", &b), "{a} {b}");
        }
        let different =
            [(json!(1), json!("1")), (json!(null), json!("null")), (json!(1.5), json!(1))];
        for (a, b) in different {
            assert_ne!(member("m", &a), member("m", &b), "{a} {b}");
        }
        let wanted = json!({"a": 1, "c": null}).as_object().unwrap().clone();
        assert!(has_members(Some(r#"{"c":null,"b":2,"a":1.0}"#), &wanted));
        assert!(!has_members(Some(r#"{"b":2,"a":1.0}"#), &wanted));
        assert!(!has_members(None, &wanted) && has_members(None, &Map::new()));
    }

    /// What is not looked at is passed over by the parser, and so was accepted before.
    #[test]
    fn a_value_that_cannot_be_held_costs_its_own_member_alone() {
        let deep = format!("{}{}", "[".repeat(200), "]".repeat(200));
        let wanted = json!({"mood": "calm"}).as_object().unwrap().clone();
        for odd in [r#""\ud83d""#, "1e400", &deep] {
            let text = format!(r#"{{"a":{odd},"mood":"calm"}}"#);
            assert_eq!(of_metadata(Some(&text)), [member("mood", &json!("calm"))], "{odd}");
            assert!(has_members(Some(&text), &wanted), "{odd}");
            assert!(!has_members(Some(&text), json!({"a": 1}).as_object().unwrap()), "{odd}");
        }
    }
}
