//! Where bytes that left the log are kept, and the list of all incidents.
//!
//! Bytes are copied and synced here before anything removes them from the log. Names derive
//! from what is kept, so that an interrupted recovery run again makes no second copy. Each item
//! has a report beside it (`NAME.json`); the incident list (`incidents`) outlives a purge.
//!
//! Deliberately absent: a way to print a salt, or the store's secret. [`show`] blanks them.

use std::collections::{HashMap, HashSet};
use std::io;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, PoisonError};

use serde::{Deserialize, Serialize};

use super::env::{Env, remove_if_there};
use super::frame::{self, Header, Kind};
use super::plan::Loss;
use super::read::{HeaderRead, SpanReader, read_header};
use super::report::{Incident, IncidentKind, QuarantineItem};
use super::scan::{Scanner, Span};
use super::segment::{HEADER_COPY_BYTES, HEADER_OFFSETS, HeaderCopy, SegmentHeader};
use crate::disk::{
    Disk, Entry, File, Open, read_exact_at, read_file, read_up_to, write_all_at, write_file,
};
use crate::error::{Error, Result};
use crate::metrics::Metrics;
use crate::sim::{Broken, broken};
use crate::sync::Mutex;

/// The incident list's file.
pub const INCIDENTS_NAME: &str = "incidents";
const REPORT_SUFFIX: &str = ".json";
const COPY_BYTES: usize = 1 << 20;
/// A report is small; a longer file is none of ours.
const REPORT_BYTES_MAX: u64 = 16 << 20;
const INCIDENTS_BYTES_MAX: u64 = 1 << 30;

/// What stands beside each item: what interfaces may show, and what they may not.
#[derive(Debug, Clone, Serialize, Deserialize)]
struct Sidecar {
    item: QuarantineItem,
    /// Salt of the segment that the bytes come from.
    salt: Option<u64>,
}

/// What is to be kept.
#[derive(Debug, Clone)]
pub struct Keep<'a> {
    /// The log file's name.
    pub file: &'a str,
    /// The first byte.
    pub offset: u64,
    /// How many.
    pub bytes: u64,
    /// Why.
    pub verdict: IncidentKind,
    /// LSNs of intact frames in it.
    pub restorable: Vec<u64>,
    /// Salt of its segment.
    pub salt: Option<u64>,
}

impl<'a> Keep<'a> {
    /// A run of damage in a segment of this salt.
    #[must_use]
    pub fn of_damage(file: &'a str, loss: &Loss, salt: u64) -> Self {
        Self {
            file,
            offset: loss.offset,
            bytes: loss.bytes,
            verdict: IncidentKind::Damaged,
            restorable: loss.intact.clone(),
            salt: Some(salt),
        }
    }
}

/// The quarantine of one open store.
#[derive(Debug)]
pub struct Quarantine {
    env: Arc<Env>,
    incidents: Mutex<Incidents>,
    /// Bytes kept, when they were last counted.
    bytes: AtomicU64,
    /// How many files were there then, and their bytes.
    counted: Mutex<Option<(usize, u64)>>,
}

#[derive(Debug, Default)]
struct Incidents {
    list: Vec<Incident>,
    /// Where each id stands in the list.
    known: HashMap<String, usize>,
    /// Ids that could not be written yet.
    unwritten: HashSet<String>,
    end: u64,
    torn: bool,
    /// This process wrote and synced all of it, and its name.
    durable: bool,
}

impl Incidents {
    /// Adds one at the end, unless one of that id is there. Says whether it was not.
    fn add(&mut self, incident: &Incident) -> bool {
        if self.known.contains_key(&incident.id) {
            return false;
        }
        self.known.insert(incident.id.clone(), self.list.len());
        self.list.push(incident.clone());
        true
    }
}

impl Quarantine {
    /// Reads the incident list.
    ///
    /// # Errors
    /// What the disk said.
    pub fn open(env: Arc<Env>) -> Result<Self> {
        let incidents = load_incidents(&env)?;
        let quarantine = Self {
            env,
            incidents: Mutex::new(incidents),
            bytes: AtomicU64::default(),
            counted: Mutex::default(),
        };
        quarantine.bytes();
        Ok(quarantine)
    }

    /// Copies bytes of a log file here, synced. Gives their name.
    ///
    /// # Errors
    /// What the disk said; then the bytes must stay where they are.
    pub fn keep(&self, source: &dyn File, keep: &Keep<'_>) -> io::Result<String> {
        let stem = keep.file.trim_end_matches(".seg");
        let digest = digest_of(source, keep.offset, keep.bytes)?;
        let name = format!("{stem}-at-{}-{}-{digest:08x}", keep.offset, keep.bytes);
        let dir = self.env.quarantine_dir();
        if broken(Broken::NoQuarantine) {
            return Ok(name);
        }
        let disk = self.env.disk.as_ref();
        disk.create_dir(&dir)?;
        let report = dir.join(format!("{name}{REPORT_SUFFIX}"));
        let whole = disk.open(&dir.join(&name), Open::Read).and_then(|kept| kept.len());
        if disk.open(&report, Open::Read).is_ok() && whole.is_ok_and(|bytes| bytes == keep.bytes) {
            // Seen, but the names may have come from a process that died before this sync.
            disk.sync_dir(&dir)?;
            return Ok(name);
        }
        let temporary = dir.join(format!("{name}.tmp"));
        remove_if_there(disk, &temporary)?;
        let target = disk.open(&temporary, Open::New)?;
        copy(source, keep.offset, keep.bytes, target.as_ref())?;
        target.sync()?;
        disk.rename(&temporary, &dir.join(&name))?;
        let sidecar = Sidecar {
            item: QuarantineItem {
                name: name.clone(),
                bytes: keep.bytes,
                at: self.env.clock.now(),
                verdict: keep.verdict,
                file: keep.file.to_owned(),
                offset: keep.offset,
                restorable: keep.restorable.clone(),
            },
            salt: keep.salt,
        };
        let bytes = serde_json::to_vec(&sidecar).map_err(io::Error::other)?;
        write_file(disk, &report, &bytes)?;
        self.add_bytes(keep.bytes);
        Ok(name)
    }

    /// Whether a tail of this life of a log file (its salt tells it from others) is kept here.
    #[must_use]
    pub fn has_tail_of(&self, file: &str, salt: u64) -> bool {
        let disk = self.env.disk.as_ref();
        let dir = self.env.quarantine_dir();
        let items = list(disk, &self.env.dir).unwrap_or_default();
        let mut tails =
            items.iter().filter(|item| item.verdict == IncidentKind::Tail && item.file == file);
        tails.any(|item| {
            read_sidecar(disk, &dir, &item.name).is_ok_and(|kept| kept.salt == Some(salt))
        })
    }

    /// Moves a whole file here (a v0.1.0 log, byte for byte). Gives its name.
    ///
    /// # Errors
    /// What the disk said.
    pub fn take_file(
        &self,
        path: &Path,
        name: &str,
        item: &QuarantineItem,
        salt: Option<u64>,
    ) -> io::Result<()> {
        let dir = self.env.quarantine_dir();
        let disk = self.env.disk.as_ref();
        disk.create_dir(&dir)?;
        let sidecar = Sidecar { item: item.clone(), salt };
        let bytes = serde_json::to_vec(&sidecar).map_err(io::Error::other)?;
        write_file(disk, &dir.join(format!("{name}{REPORT_SUFFIX}")), &bytes)?;
        disk.rename(path, &dir.join(name))?;
        disk.sync_dir(&dir)?;
        self.add_bytes(item.bytes);
        disk.sync_dir(path.parent().unwrap_or(Path::new(".")))
    }

    /// This name, or one like it that no item has yet.
    ///
    /// # Errors
    /// What the disk said.
    pub fn free_name(&self, name: &str) -> io::Result<String> {
        let dir = self.env.quarantine_dir();
        let mut free = name.to_owned();
        for number in 2u64.. {
            match self.env.disk.open(&dir.join(&free), Open::Read) {
                Ok(_) => free = format!("{name}-{number}"),
                Err(e) if e.kind() == io::ErrorKind::NotFound => break,
                Err(e) => return Err(e),
            }
        }
        Ok(free)
    }

    /// Adds an incident to the list, synced, unless it is there. Says whether it is new.
    ///
    /// # Errors
    /// What the disk said; the incident is then known to this process only.
    pub fn record(&self, incident: &Incident) -> io::Result<bool> {
        let mut incidents = self.incidents.lock().unwrap_or_else(PoisonError::into_inner);
        let mut incident = incident.clone();
        let old = incidents.known.get(&incident.id).and_then(|&at| incidents.list.get(at));
        if let Some([first, _]) = old.and_then(|old| first_not_in(&incident.lsns, &old.lsns)) {
            // The same bytes, hit once more: now they cost other records.
            incident.id = format!("{}-lsn-{first}", incident.id);
        }
        let is_new = incidents.add(&incident);
        if !is_new && !incidents.unwritten.contains(&incident.id) {
            self.write_list(&mut incidents, "")?;
            return Ok(false);
        }
        if broken(Broken::IncidentForgotten) {
            return Ok(true);
        }
        if is_new {
            self.env.metrics.incident(incident.verdict);
        }
        incidents.unwritten.insert(incident.id.clone());
        let json = serde_json::to_string(&incident).map_err(io::Error::other)?;
        let start = if incidents.torn { "\n" } else { "" };
        let line = format!("{start}{:08x} {json}\n", frame::crc(json.as_bytes()));
        self.write_list(&mut incidents, &line)?;
        incidents.torn = false;
        incidents.unwritten.remove(&incident.id);
        Ok(is_new)
    }

    /// Adds a line to the list. The first time, what was read is written again before it, and the
    /// name synced: a process that died may have left both in the cache only.
    fn write_list(&self, incidents: &mut Incidents, line: &str) -> io::Result<()> {
        if incidents.durable && line.is_empty() {
            return Ok(());
        }
        let dir = self.env.quarantine_dir();
        let disk = self.env.disk.as_ref();
        disk.create_dir(&dir)?;
        let path = dir.join(INCIDENTS_NAME);
        let file = match disk.open(&path, Open::Write) {
            Err(e) if e.kind() == io::ErrorKind::NotFound => disk.open(&path, Open::New)?,
            opened => opened?,
        };
        if !incidents.durable {
            let mut old = vec![0; usize::try_from(incidents.end).unwrap_or(usize::MAX)];
            read_exact_at(file.as_ref(), &mut old, 0)?;
            write_all_at(file.as_ref(), &old, 0)?;
        }
        write_all_at(file.as_ref(), line.as_bytes(), incidents.end)?;
        file.sync()?;
        incidents.end += line.len() as u64;
        if !incidents.durable {
            disk.sync_dir(&dir)?;
            incidents.durable = true;
        }
        Ok(())
    }

    /// Whether an incident was found before.
    #[must_use]
    pub fn knows(&self, id: &str) -> bool {
        self.incidents.lock().unwrap_or_else(PoisonError::into_inner).known.contains_key(id)
    }

    /// All incidents, newest first.
    #[must_use]
    pub fn incidents(&self) -> Vec<Incident> {
        let incidents = self.incidents.lock().unwrap_or_else(PoisonError::into_inner);
        incidents.list.iter().rev().cloned().collect()
    }

    /// Counts what was just kept. To look at all that is there, each time, would take for ever where there
    /// is much.
    fn add_bytes(&self, bytes: u64) {
        // One that was there already may be kept once more: the next count tells.
        *self.counted.lock().unwrap_or_else(PoisonError::into_inner) = None;
        let all = self.bytes.fetch_add(bytes, Ordering::Relaxed) + bytes;
        Metrics::set(&self.env.metrics.quarantine_bytes, all);
    }

    /// Bytes kept now; sets the gauge too. Where the disk does not tell, what was counted last.
    pub fn bytes(&self) -> u64 {
        let entries = self.env.disk.list(&self.env.quarantine_dir()).unwrap_or_default();
        let seen = Some((entries.len(), entries.iter().map(|entry| entry.bytes).sum()));
        let mut counted = self.counted.lock().unwrap_or_else(PoisonError::into_inner);
        // Each item has a report to be read: not again while nothing came or went.
        if *counted != seen
            && let Ok(items) = list(self.env.disk.as_ref(), &self.env.dir)
        {
            self.bytes.store(items.iter().map(|item| item.bytes).sum(), Ordering::Relaxed);
            *counted = seen;
        }
        let bytes = self.bytes.load(Ordering::Relaxed);
        Metrics::set(&self.env.metrics.quarantine_bytes, bytes);
        bytes
    }
}

/// The first range that no range of `known` holds.
fn first_not_in(ranges: &[[u64; 2]], known: &[[u64; 2]]) -> Option<[u64; 2]> {
    let held = |range: &[u64; 2]| known.iter().any(|k| k[0] <= range[0] && range[1] <= k[1]);
    ranges.iter().copied().find(|range| !held(range))
}

fn load_incidents(env: &Env) -> Result<Incidents> {
    let path = env.quarantine_dir().join(INCIDENTS_NAME);
    let bytes = match read_file(env.disk.as_ref(), &path, INCIDENTS_BYTES_MAX) {
        Ok(bytes) => bytes,
        Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(Incidents::default()),
        Err(e) => return Err(Error::io("read the incident list", path, &e)),
    };
    let mut incidents = Incidents { end: bytes.len() as u64, ..Incidents::default() };
    incidents.torn = bytes.last().is_some_and(|&last| last != b'\n');
    let mut unreadable = 0u64;
    for line in bytes.split(|&byte| byte == b'\n').filter(|line| !line.is_empty()) {
        match parse_incident(line) {
            Some(incident) => {
                incidents.add(&incident);
            }
            None => unreadable += 1,
        }
    }
    if unreadable > 0 {
        tracing::info!(
            unreadable,
            "lines of the incident list cannot be read; they stay as they are"
        );
    }
    Ok(incidents)
}

fn parse_incident(line: &[u8]) -> Option<Incident> {
    let (checksum, json) = line.split_at_checked(9)?;
    let checksum = u32::from_str_radix(str::from_utf8(checksum).ok()?.trim_end(), 16).ok()?;
    if checksum != frame::crc(json) {
        return None;
    }
    serde_json::from_slice(json).ok()
}

fn digest_of(source: &dyn File, offset: u64, bytes: u64) -> io::Result<u32> {
    let mut digest = 0;
    each_chunk(source, offset, bytes, |chunk, _| {
        let both = [digest, frame::crc(chunk)].map(u32::to_le_bytes).concat();
        digest = frame::crc(&both);
        Ok(())
    })?;
    Ok(digest)
}

fn copy(source: &dyn File, offset: u64, bytes: u64, target: &dyn File) -> io::Result<()> {
    each_chunk(source, offset, bytes, |chunk, at| write_all_at(target, chunk, at))
}

/// Calls `each` with the bytes of a range, and where in the range they begin. Blocks that the
/// device does not give, and what lies beyond the file's end, read as zeros: what can be read is
/// kept.
fn each_chunk(
    source: &dyn File,
    offset: u64,
    bytes: u64,
    mut each: impl FnMut(&[u8], u64) -> io::Result<()>,
) -> io::Result<()> {
    let mut buffer = vec![0; COPY_BYTES.min(usize::try_from(bytes).unwrap_or(COPY_BYTES))];
    let mut done = 0;
    while done < bytes {
        let now = usize::try_from(bytes - done).unwrap_or(usize::MAX).min(buffer.len());
        let chunk = &mut buffer[..now];
        chunk.fill(0);
        if read_up_to(source, chunk, offset + done).is_err() {
            for (number, block) in chunk.chunks_mut(4096).enumerate() {
                let at = offset + done + (number * 4096) as u64;
                block.fill(0);
                if read_up_to(source, block, at).is_err() {
                    block.fill(0);
                }
            }
        }
        each(chunk, done)?;
        done += now as u64;
    }
    Ok(())
}

fn dir_of(dir: &Path) -> PathBuf {
    dir.join("quarantine")
}

/// What is kept in the quarantine of a data directory, oldest first.
///
/// # Errors
/// What the disk said.
pub fn list(disk: &dyn Disk, dir: &Path) -> Result<Vec<QuarantineItem>> {
    let dir = dir_of(dir);
    let entries = match disk.list(&dir) {
        Ok(entries) => entries,
        Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        Err(e) => return Err(Error::io("list", dir, &e)),
    };
    let mut items = Vec::new();
    for entry in items_of(&entries) {
        match read_sidecar(disk, &dir, &entry.name) {
            Ok(sidecar) => items.push(sidecar.item),
            Err(Error::NoSuch { .. }) => {}
            Err(e) => return Err(e),
        }
    }
    items.sort_by(|a, b| a.at.cmp(&b.at).then_with(|| a.name.cmp(&b.name)));
    Ok(items)
}

/// The items among the files there: those with a report beside them.
fn items_of(entries: &[Entry]) -> impl Iterator<Item = &Entry> {
    let reports = entries.iter().filter_map(|entry| entry.name.strip_suffix(REPORT_SUFFIX));
    let reports: HashSet<&str> = reports.collect();
    entries.iter().filter(move |entry| reports.contains(entry.name.as_str()))
}

fn read_sidecar(disk: &dyn Disk, dir: &Path, name: &str) -> Result<Sidecar> {
    let missing = || Error::NoSuch { what: format!("quarantined item {name:?}") };
    if name.contains('/') || name.is_empty() || name.starts_with('.') {
        return Err(missing());
    }
    let path = dir.join(format!("{name}{REPORT_SUFFIX}"));
    let bytes = match read_file(disk, &path, REPORT_BYTES_MAX) {
        Ok(bytes) => bytes,
        Err(e) if e.kind() == io::ErrorKind::NotFound => return Err(missing()),
        Err(e) => return Err(Error::io("read", path, &e)),
    };
    serde_json::from_slice(&bytes).map_err(|_| missing())
}

/// One item and its bytes; the salts of the log's segments in them, and the secret, are blanked.
///
/// # Errors
/// [`Error::NoSuch`], or what the disk said.
pub fn show(disk: &dyn Disk, dir: &Path, name: &str) -> Result<(QuarantineItem, Vec<u8>)> {
    let mut secrets = secrets_of(disk, dir)?;
    let dir = dir_of(dir);
    let sidecar = read_sidecar(disk, &dir, name)?;
    let path = dir.join(name);
    let mut bytes =
        read_file(disk, &path, u64::MAX).map_err(|e| Error::io("read", path.clone(), &e))?;
    // A copy of a header tells of itself, whatever has become of its segment.
    let headers = HEADER_OFFSETS.iter().map(|&at| usize::try_from(at).unwrap_or(usize::MAX));
    for at in headers {
        let copy = bytes.get(at..).and_then(|rest| rest.get(..HEADER_COPY_BYTES));
        if let Some(HeaderCopy::Good(header)) = copy.map(SegmentHeader::decode) {
            secrets.extend(secrets_in(&header));
        }
    }
    secrets.extend(sidecar.salt.map(|salt| salt.to_le_bytes().to_vec()));
    for secret in secrets {
        let mut at = 0;
        while let Some(found) = memchr::memmem::find(&bytes[at..], &secret) {
            bytes[at + found..at + found + secret.len()].fill(0);
            at += found + secret.len();
        }
    }
    Ok((sidecar.item, bytes))
}

/// What makes frames of this log, and keys, that nobody else can make.
fn secrets_of(disk: &dyn Disk, dir: &Path) -> Result<HashSet<Vec<u8>>> {
    let wal = dir.join("wal");
    let entries = match disk.list(&wal) {
        Ok(entries) => entries,
        Err(e) if e.kind() == io::ErrorKind::NotFound => Vec::new(),
        Err(e) => return Err(Error::io("list", wal, &e)),
    };
    let header = |name: &str| {
        let file = disk.open(&wal.join(name), Open::Read).ok()?;
        match read_header(file.as_ref()) {
            Ok(HeaderRead::Good(read)) => Some(read.header),
            _ => None,
        }
    };
    let headers = entries.iter().filter_map(|entry| header(&entry.name));
    Ok(headers.flat_map(|header| secrets_in(&header)).collect())
}

fn secrets_in(header: &SegmentHeader) -> [Vec<u8>; 2] {
    [header.salt.to_le_bytes().to_vec(), header.identity.secret.to_vec()]
}

/// The intact frames in an item: header and payload.
///
/// # Errors
/// [`Error::NoSuch`], or what the disk said.
pub fn frames(disk: &dyn Disk, dir: &Path, name: &str) -> Result<Vec<(Header, Vec<u8>)>> {
    let dir = dir_of(dir);
    let sidecar = read_sidecar(disk, &dir, name)?;
    let Some(salt) = sidecar.salt else { return Ok(Vec::new()) };
    let path = dir.join(name);
    let io = |e: &io::Error| Error::io("read", path.clone(), e);
    let file = disk.open(&path, Open::Read).map_err(|e| io(&e))?;
    let bytes = file.len().map_err(|e| io(&e))?;
    let scanner = Scanner::new(salt, 1, u64::MAX - 1, 0).in_any_order();
    let mut reader = SpanReader::new(file, bytes, scanner, true);
    let mut found = Vec::new();
    while let Some(item) = reader.next_span().map_err(|e| io(&e.cause))? {
        if let Span::Frame(header) = item.span
            && header.kind != Kind::FOOTER
        {
            found.push((header, item.payload.to_vec()));
        }
    }
    Ok(found)
}

/// Removes an item, or all, for ever. Gives the bytes freed; incidents stay in the list.
///
/// # Errors
/// [`Error::NoSuch`], or what the disk said.
pub fn purge(disk: &dyn Disk, dir: &Path, name: Option<&str>) -> Result<u64> {
    let names: Vec<String> = match name {
        Some(name) => {
            read_sidecar(disk, &dir_of(dir), name)?;
            vec![name.to_owned()]
        }
        None => list(disk, dir)?.into_iter().map(|item| item.name).collect(),
    };
    let dir = dir_of(dir);
    let mut freed = 0;
    for name in names {
        let path = dir.join(&name);
        let io = |e: &io::Error| Error::io("remove", path.clone(), e);
        if let Ok(file) = disk.open(&path, Open::Read) {
            freed += file.len().map_err(|e| io(&e))?;
        }
        remove_if_there(disk, &path).map_err(|e| io(&e))?;
        remove_if_there(disk, &dir.join(format!("{name}{REPORT_SUFFIX}"))).map_err(|e| io(&e))?;
    }
    if freed > 0 {
        disk.sync_dir(&dir).map_err(|e| Error::io("sync", dir.clone(), &e))?;
    }
    Ok(freed)
}

/// The id of an incident: from what was hit, so that finding it again is no second one.
#[must_use]
pub fn incident_id(verdict: IncidentKind, file: &str, offset: u64, bytes: u64) -> String {
    let stem = file.trim_end_matches(".seg");
    format!("{}-{stem}-{offset}-{bytes}", verdict.name())
}
