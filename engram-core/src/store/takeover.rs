//! Takes v0.1.0 data directories over: their episodes are appended to the log, then the old
//! files move whole to the quarantine.
//!
//! A file is done when a durable `LegacyImported` names it; then it is only moved, never read
//! again. So a take-over that is interrupted anywhere starts again safely: what was appended
//! twice is the same episode under the same id, in the same order.

use std::path::PathBuf;
use std::sync::Arc;

use sha2::{Digest as _, Sha256};
use smallvec::smallvec;

use super::change::{Answers, Change, Changes, Group, What};
use super::commit::Committer;
use super::directory::Directory;
use super::{Condition, Durability, prepare_episode};
use crate::disk::{Open, read_file};
use crate::driver::Memory;
use crate::episode::check_space;
use crate::error::{Error, Result};
use crate::record::{self, Keys, LegacyImported};
use crate::storage::legacy::{self, FailureKind};
use crate::storage::wal::env::Env;
use crate::storage::wal::frame;
use crate::storage::wal::prealloc::Surplus;
use crate::storage::wal::quarantine::{Quarantine, incident_id};
use crate::storage::wal::report::{
    Incident, IncidentKind, LegacyReport, QuarantineItem, RecoveryReport,
};
use crate::storage::wal::writer::Writer;

/// Bytes of episodes appended at once.
const BATCH_BYTES: usize = 4 << 20;
/// v0.1.0 never wrote nearly as much into one file.
const FILE_BYTES_MAX: u64 = 4 << 30;
/// Longest name that a frame can hold.
const NAME_BYTES_MAX: usize = 65_535;

/// One v0.1.0 log file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct LegacyFile {
    /// Its path in the data directory.
    pub(crate) relative: String,
    /// The space that its episodes belong to.
    pub(crate) space: String,
}

/// The v0.1.0 files of a data directory.
#[derive(Debug, Default)]
pub(crate) struct Found {
    /// In the order in which they were written.
    pub(crate) files: Vec<LegacyFile>,
    /// Directories that may not be looked into.
    pub(crate) unseen: Vec<PathBuf>,
}

/// Looks for them.
pub(crate) fn find(env: &Env) -> Result<Found> {
    let io = |path: PathBuf| move |e: std::io::Error| Error::io("list", path, &e);
    let mut dirs = vec![("wal".to_owned(), "default".to_owned())];
    // Also a space of the name of a directory of ours: those have no `wal` in them.
    for entry in env.disk.list(&env.dir).map_err(io(env.dir.clone()))? {
        // What a file system keeps where it begins is nobody's space.
        if entry.is_dir && entry.name != "lost+found" {
            dirs.push((format!("{}/wal", entry.name), entry.name));
        }
    }
    let mut found = Found::default();
    for (dir, space) in dirs {
        let path = env.dir.join(&dir);
        let entries = match env.disk.list(&path) {
            Ok(entries) => entries,
            Err(e)
                if matches!(
                    e.kind(),
                    std::io::ErrorKind::NotFound | std::io::ErrorKind::NotADirectory
                ) =>
            {
                continue;
            }
            Err(e) if e.kind() == std::io::ErrorKind::PermissionDenied => {
                found.unseen.push(path);
                continue;
            }
            Err(e) => return Err(Error::io("list", path, &e)),
        };
        for entry in entries.iter().filter(|e| !e.is_dir && legacy::is_legacy_name(&e.name)) {
            let relative = format!("{dir}/{}", entry.name);
            found.files.push(LegacyFile { relative, space: space.clone() });
        }
    }
    Ok(found)
}

/// Refuses files of which not all can be read, as strict recovery does. Changes nothing.
pub(super) fn check_strict(env: &Env, is_known: impl Fn(&LegacyImported) -> bool) -> Result<()> {
    let Found { files, unseen } = find(env)?;
    let mut count = unseen.len();
    let mut first = unseen.first().map(|dir| format!("{} may not be looked into", dir.display()));
    for file in files {
        let (imported, bytes) = read(env, &file)?;
        if is_known(&imported) {
            continue;
        }
        let log = legacy::read(&bytes);
        // An unfinished end is normal, here as in a log of ours.
        let lost = log.failures.iter().filter(|failure| failure.kind != FailureKind::Tail);
        for failure in lost {
            count += 1;
            first.get_or_insert_with(|| {
                format!("{} at byte {}: {}", file.relative, failure.offset, failure.detail)
            });
        }
    }
    first.map_or(Ok(()), |first| Err(Error::Strict { count, first }))
}

/// A file as it is named once it is taken over, and its bytes.
fn read(env: &Env, file: &LegacyFile) -> Result<(LegacyImported, Vec<u8>)> {
    let path = env.dir.join(&file.relative);
    let bytes = read_file(env.disk.as_ref(), &path, FILE_BYTES_MAX);
    let bytes = bytes.map_err(|e| Error::io("read the v0.1.0 log", path, &e))?;
    let imported = LegacyImported {
        path: file.relative.clone(),
        size: bytes.len() as u64,
        sha256: Sha256::digest(&bytes).to_vec(),
    };
    Ok((imported, bytes))
}

/// What could not be read of a file, as an incident.
pub(crate) fn failure_incident(
    env: &Env,
    file: &str,
    failure: &legacy::Failure,
    kept_as: Option<&str>,
) -> Incident {
    let verdict = failure.kind.into();
    Incident {
        id: incident_id(verdict, file, failure.offset, failure.bytes),
        at: env.clock.now(),
        verdict,
        file: file.to_owned(),
        offset: failure.offset,
        bytes: failure.bytes,
        lsns: Vec::new(),
        keys: Vec::new(),
        quarantined_as: kept_as.map(str::to_owned),
        detail: failure.detail.clone(),
    }
}

/// Takes over whatever is there. Gives the directory back, with what was added.
pub(super) fn take_over(
    env: &Arc<Env>,
    keys: &Keys,
    writer: &mut Writer,
    directory: Directory,
    quarantine: &Quarantine,
    report: &mut RecoveryReport,
) -> Result<Directory> {
    let Found { files, unseen } = find(env)?;
    for dir in unseen {
        let dir = dir.display().to_string();
        tracing::warn!(dir, "no permission to look for v0.1.0 logs here; any there are left out");
    }
    if files.is_empty() {
        return Ok(directory);
    }
    let begun = env.clock.elapsed();
    // What comes may need all the room that there is.
    std::mem::take(&mut writer.surplus).into_iter().for_each(Surplus::give_back);
    let memory = Memory::new(directory);
    let mut takeover = Takeover {
        env,
        keys,
        writer,
        memory: &memory,
        quarantine,
        report: LegacyReport::default(),
        incidents: Vec::new(),
        bytes: 0,
    };
    takeover.note_names(&files);
    for file in &files {
        takeover.file(file)?;
    }
    let Takeover { report: legacy, incidents, bytes, .. } = takeover;
    let (recovered, failed) = (legacy.recovered, legacy.failed);
    if legacy.files == 0 {
        // All of it was taken over before, and only had to be moved.
        return Ok(memory.into_inner());
    }
    tracing::info!(
        files = legacy.files,
        recovered,
        damaged = failed.damaged,
        undecodable = failed.undecodable,
        tail = failed.tail,
        notes = legacy.notes.len(),
        "took over a v0.1.0 data directory; its files are in the quarantine until purged"
    );
    report.recovered += recovered;
    report.failed.add(failed);
    report.set_corruption_rate();
    report.legacy = Some(legacy);
    report.incidents.extend(incidents);
    report.bytes_scanned += bytes;
    report.add_duration(env.clock.elapsed().saturating_sub(begun));
    Ok(memory.into_inner())
}

struct Takeover<'a> {
    env: &'a Arc<Env>,
    keys: &'a Keys,
    writer: &'a mut Writer,
    memory: &'a Memory,
    quarantine: &'a Quarantine,
    report: LegacyReport,
    incidents: Vec<Incident>,
    /// Of the files.
    bytes: u64,
}

impl Takeover<'_> {
    fn file(&mut self, file: &LegacyFile) -> Result<()> {
        let path = self.env.dir.join(&file.relative);
        let (imported, bytes) = read(self.env, file)?;
        self.bytes += imported.size;
        let known = self.memory.look(|directory| directory.has_imported(&imported));
        let name = self.quarantine_name(file, &imported);
        let log = legacy::read(&bytes);
        if !known {
            self.append(file, &log, &name)?;
            self.commit(smallvec![Ok(Change::legacy_imported(&imported))])?;
            for failure in &log.failures {
                self.report.failed.count(failure.kind);
            }
            self.report.files += 1;
        }
        // Also where a crash came between the commit and this: each is listed once.
        for failure in &log.failures {
            self.list_failure(file, failure, &name, !known);
        }
        let item = QuarantineItem {
            name: name.clone(),
            bytes: imported.size,
            at: self.env.clock.now(),
            verdict: IncidentKind::Legacy,
            file: file.relative.clone(),
            offset: 0,
            restorable: Vec::new(),
        };
        if let Err(e) = self.quarantine.take_file(&path, &name, &item, None) {
            // It is in the log: the next start moves it.
            let file = &file.relative;
            tracing::warn!(file, cause = %e, "a v0.1.0 log stays where it is: it cannot be moved");
        }
        Ok(())
    }

    /// Names spaces whose names v0.1.0 allowed.
    fn note_names(&mut self, files: &[LegacyFile]) {
        let mut last = "";
        for LegacyFile { relative, space } in files {
            if space != last
                && let Err(e) = check_space(space)
            {
                let text = "what is in it can be read and forgotten, and nothing added";
                self.report.notes.push(format!("{relative}: {e}; {text}"));
            }
            last = space;
        }
    }

    /// A name that no other file has taken: v0.1.0 may have run here again since a take-over.
    fn quarantine_name(&self, file: &LegacyFile, imported: &LegacyImported) -> String {
        let name = format!("v0.1.0-{}", file.relative.replace('/', "-"));
        let taken = self.env.disk.open(&self.env.quarantine_dir().join(&name), Open::Read).is_ok();
        if !taken {
            return name;
        }
        let digest = imported.sha256.iter().take(4).fold(0u32, |sum, &b| (sum << 8) | u32::from(b));
        format!("{name}-{digest:08x}")
    }

    fn append(&mut self, file: &LegacyFile, log: &legacy::Log, name: &str) -> Result<()> {
        let space = file.space.as_str();
        let now = self.env.clock.now();
        let (mut batch, mut offsets, mut bytes) = (Changes::new(), Vec::new(), 0);
        for entry in &log.entries {
            self.note(file, entry);
            let change = match &entry.change {
                legacy::Change::Remember(episode) => {
                    let episode = episode.clone();
                    prepare_episode(self.keys, space, episode, now, Condition::Any)
                }
                legacy::Change::Forget { id } => self.forget(space, id),
                legacy::Change::Ignored { .. } => {
                    self.report.recovered += 1;
                    continue;
                }
            };
            let too_long =
                change.id.len() > NAME_BYTES_MAX || change.payload.len() > frame::PAYLOAD_BYTES_MAX;
            if too_long {
                self.keep_aside(file, entry.offset, "it is too long for a frame", name);
                continue;
            }
            bytes += change.payload.len();
            batch.push(Ok(change));
            offsets.push(entry.offset);
            if bytes >= BATCH_BYTES {
                let (batch, offsets) = (std::mem::take(&mut batch), std::mem::take(&mut offsets));
                self.commit_episodes(file, batch, &offsets, name)?;
                bytes = 0;
            }
        }
        self.commit_episodes(file, batch, &offsets, name)
    }

    fn forget(&self, space: &str, id: &str) -> Change {
        let payload = record::encode_forget(space, id, self.env.clock.now());
        Change {
            key: self.keys.episode(space, id),
            space_key: self.keys.space(space),
            id: id.to_owned(),
            condition: Condition::Any,
            what: What::ForgetIfThere,
            definition: None,
            payload_crc: frame::crc(&payload),
            payload,
        }
    }

    fn note(&mut self, file: &LegacyFile, entry: &legacy::Entry) {
        for note in &entry.notes {
            self.report.notes.push(format!("{} at {}: {note}", file.relative, entry.offset));
        }
    }

    /// An entry that cannot be an episode of this log is named like one that cannot be read, before the
    /// file counts as taken over.
    fn keep_aside(&mut self, file: &LegacyFile, offset: u64, why: &str, name: &str) {
        let kind = FailureKind::Undecodable;
        self.report.failed.count(kind);
        let path = &file.relative;
        let detail = format!("{path} at {offset}: kept in the quarantine only, {why}");
        self.report.notes.push(detail.clone());
        let failure = legacy::Failure { kind, offset, bytes: 0, detail };
        self.list_failure(file, &failure, name, true);
    }

    fn commit_episodes(
        &mut self,
        file: &LegacyFile,
        batch: Changes,
        offsets: &[u64],
        name: &str,
    ) -> Result<()> {
        if batch.is_empty() {
            return Ok(());
        }
        for (answer, &offset) in self.commit(batch)?.into_iter().zip(offsets) {
            match answer {
                Ok(_) => self.report.recovered += 1,
                Err(e @ (Error::Dimension { .. } | Error::KeyCollision { .. })) => {
                    self.keep_aside(file, offset, &e.to_string(), name);
                }
                Err(e) => return Err(e),
            }
        }
        Ok(())
    }

    /// Appends changes durably, whatever durability the store has.
    fn commit(&mut self, changes: Changes) -> Result<Answers> {
        let mut committer = Committer::new(Durability::Always);
        committer.begin([Group { changes, ticket: () }]);
        committer.run(self.writer, self.memory);
        let answers = committer.answers().map(|((), answers)| answers).next().unwrap_or_default();
        let fatal = |e: &&Error| !matches!(e, Error::Dimension { .. } | Error::KeyCollision { .. });
        match answers.iter().filter_map(|a| a.as_ref().err()).find(fatal) {
            Some(e) => Err(e.clone()),
            None => Ok(answers),
        }
    }

    /// Lists what could not be read of a file, and reports it where it `is_new`.
    fn list_failure(
        &mut self,
        file: &LegacyFile,
        failure: &legacy::Failure,
        name: &str,
        is_new: bool,
    ) {
        let incident = failure_incident(self.env, &file.relative, failure, Some(name));
        if let Err(e) = self.quarantine.record(&incident) {
            tracing::warn!(cause = %e, "the incident list cannot be written");
        }
        if is_new {
            self.incidents.push(incident);
        }
    }
}
