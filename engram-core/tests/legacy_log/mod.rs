//! Writes logs as v0.1.0 did, in all of its layouts, for the tests that read them.

use engram_core::storage::legacy::Layout;

/// A record before it is damaged.
pub(crate) struct Record {
    pub(crate) entry_type: u32,
    pub(crate) payload: Vec<u8>,
}

pub(crate) fn crc(bytes: &[u8]) -> u32 {
    crc_fast::crc32_iscsi(bytes)
}

impl Record {
    pub(crate) fn bytes(&self, sequence: u64) -> Vec<u8> {
        let mut raw = 0xDEAD_BEEF_u32.to_le_bytes().to_vec();
        raw.extend(sequence.to_le_bytes());
        raw.extend(1_760_000_000_000_000_000_u64.to_le_bytes());
        raw.extend(self.entry_type.to_le_bytes());
        raw.extend(u32::try_from(self.payload.len()).unwrap().to_le_bytes());
        raw.extend(crc(&self.payload).to_le_bytes());
        let covered = [raw.as_slice(), &[0; 20]].concat();
        raw.extend(crc(&covered).to_le_bytes());
        raw.extend([0; 28]);
        raw.extend(&self.payload);
        raw
    }
}

pub(crate) fn string(text: &str) -> Vec<u8> {
    [&(text.len() as u64).to_le_bytes(), text.as_bytes()].concat()
}

fn option(value: Option<Vec<u8>>) -> Vec<u8> {
    value.map_or(vec![0], |value| [vec![1], value].concat())
}

fn pairs(pairs: &[(&str, &str)]) -> Vec<u8> {
    let items = pairs.iter().flat_map(|(key, value)| [string(key), string(value)]);
    [vec![(pairs.len() as u64).to_le_bytes().to_vec()], items.collect()].concat().concat()
}

fn provenance() -> Vec<u8> {
    [
        string("minilm"),
        string("2.1"),
        768_u64.to_le_bytes().to_vec(),
        option(Some(string("en"))),
        1_750_000_003_u64.to_le_bytes().to_vec(),
        option(Some(0.3_f32.to_le_bytes().to_vec())),
        pairs(&[("k", "v")]),
    ]
    .concat()
}

/// What can be chosen of an episode.
#[derive(Clone)]
pub(crate) struct Sketch {
    pub(crate) id: String,
    pub(crate) what: String,
    pub(crate) when: &'static str,
    pub(crate) who: Vec<String>,
    pub(crate) confidence: f32,
    pub(crate) first: f32,
    pub(crate) provenance: bool,
    pub(crate) decay: bool,
}

pub(crate) fn sketch(id: &str) -> Sketch {
    Sketch {
        id: id.into(),
        what: format!("what happened to {id}"),
        when: "2023-11-14T22:13:20.123456789Z",
        who: vec!["alice".into(), "Çelik".into()],
        confidence: 0.7,
        first: 0.5,
        provenance: false,
        decay: true,
    }
}

impl Sketch {
    pub(crate) fn payload(&self, layout: Layout) -> Vec<u8> {
        let who = self.who.iter().map(|name| string(name)).collect::<Vec<_>>().concat();
        let who = [(self.who.len() as u64).to_le_bytes().to_vec(), who].concat();
        let mut raw = [
            string(&self.id),
            string(self.when),
            option(None),
            option(Some(who)),
            string(&self.what),
            768_u64.to_le_bytes().to_vec(),
            self.first.to_le_bytes().to_vec(),
        ]
        .concat();
        (1..768_u16).for_each(|at| raw.extend((f32::from(at) / 768.0 - 0.5).to_le_bytes()));
        let provenance = self.provenance.then(provenance);
        match (layout, provenance) {
            (Layout::G0, _) | (Layout::G1 | Layout::G2, None) => {}
            (_, provenance) => raw.extend(option(provenance)),
        }
        for confidence in [self.confidence, 0.6, 0.9] {
            raw.extend(confidence.to_le_bytes());
        }
        raw.extend(string("2025-10-09T08:53:26.000000005Z"));
        raw.extend(6_u32.to_le_bytes());
        raw.extend(0.02_f32.to_le_bytes());
        if layout >= Layout::G2 {
            let power_law = [1_u32.to_le_bytes(), 0.18_f32.to_le_bytes()].concat();
            raw.extend(option(self.decay.then_some(power_law)));
        }
        if layout >= Layout::G4 {
            raw.extend(pairs(&[("mood", "good"), ("app", "x\"y")]));
        }
        raw
    }

    pub(crate) fn record(&self, layout: Layout) -> Record {
        Record { entry_type: 1, payload: self.payload(layout) }
    }
}

/// A log of these records, and where each begins.
pub(crate) fn joined(records: &[Record]) -> (Vec<u8>, Vec<usize>) {
    let (mut log, mut starts) = (Vec::new(), Vec::new());
    for (sequence, record) in (0..).zip(records) {
        starts.push(log.len());
        log.extend(record.bytes(sequence));
    }
    (log, starts)
}
