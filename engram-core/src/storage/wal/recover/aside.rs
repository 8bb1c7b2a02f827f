//! What recovery sets aside: copied to the quarantine and synced, before anything removes it.
//!
//! What cannot be copied stays where it is; each function says so, and whoever asked leaves the
//! file as it is.

use std::io;

use super::incidents::{damage_incident, header_incident, tail_incident};
use super::{Judged, Recovery};
use crate::disk::{Open, read_up_to, write_all_at};
use crate::storage::wal::plan::{Judgement, Loss, Position};
use crate::storage::wal::quarantine::Keep;
use crate::storage::wal::read::SpanReader;
use crate::storage::wal::report::IncidentKind;
use crate::storage::wal::scan::{Scanner, Span};
use crate::storage::wal::segment::{HEADER_COPY_BYTES, HEADER_OFFSETS, LSN_MAX};
use crate::storage::wal::survey::Surveyed;

impl Recovery {
    /// Copies the damage of a segment to the quarantine. Says whether it must stay in place.
    pub(super) fn quarantine_damage(&mut self, judged: &Judged) -> bool {
        let stays = judged.judgement.damaged.iter().map(|loss| self.quarantine_loss(judged, loss));
        stays.fold(false, |any, stays| any | stays)
    }

    /// Copies one run of damage to the quarantine. Says whether it must stay in place.
    fn quarantine_loss(&mut self, judged: &Judged, loss: &Loss) -> bool {
        let file = judged.facts.name.file_name();
        let mut stays = false;
        let mut name = None;
        if loss.bytes > 0 {
            let keep = Keep::of_damage(&file, loss, judged.facts.header.salt);
            match self.keep(&judged.surveyed, &keep) {
                Ok(kept) => name = Some(kept),
                Err(e) => {
                    stays = true;
                    tracing::warn!(
                        file,
                        cause = %e,
                        "nothing can be copied to the quarantine; damaged bytes stay where they are"
                    );
                }
            }
        }
        let incident = damage_incident(&self.env, &judged.facts, loss, name);
        // What is written down nowhere must be found again.
        stays | !self.note(incident)
    }

    /// Copies bytes of a segment to the quarantine. Gives the name there.
    fn keep(&self, surveyed: &Surveyed, keep: &Keep<'_>) -> io::Result<String> {
        let file = surveyed.file(&self.env).map_err(|e| {
            io::Error::new(e.kind(), format!("{} cannot be opened again: {e}", keep.file))
        })?;
        self.quarantine.keep(file.as_ref(), keep)
    }

    /// Writes a damaged header copy again from the good one.
    pub(super) fn repair_header(&mut self, surveyed: &Surveyed) -> io::Result<()> {
        let path = self.env.wal_path(&surveyed.name.file_name());
        for offset in self.quarantine_header(surveyed) {
            let target = self.env.disk.open(&path, Open::Write)?;
            write_all_at(target.as_ref(), &surveyed.header.header.encode(), offset)?;
            target.sync()?;
        }
        Ok(())
    }

    /// Copies the damaged copies of a header to the quarantine. Gives where those stand that are
    /// there now.
    pub(super) fn quarantine_header(&mut self, surveyed: &Surveyed) -> Vec<u64> {
        let file = surveyed.name.file_name();
        let mut kept_at = Vec::new();
        for (copy, offset) in HEADER_OFFSETS.into_iter().enumerate() {
            if !surveyed.header.bad[copy] {
                continue;
            }
            let keep = Keep {
                file: &file,
                offset,
                bytes: HEADER_COPY_BYTES as u64,
                verdict: IncidentKind::Damaged,
                restorable: Vec::new(),
                salt: Some(surveyed.header.header.salt),
            };
            let kept = self.keep(surveyed, &keep);
            match &kept {
                Ok(_) => kept_at.push(offset),
                Err(e) => tracing::warn!(
                    file,
                    cause = %e,
                    "nothing can be copied to the quarantine; a damaged header stays where it is"
                ),
            }
            self.note(header_incident(&self.env, surveyed, offset, kept.ok()));
        }
        kept_at
    }

    /// Behind a footer stand zeros, or what a cut left. Anything else was written to the wrong
    /// place, or the footer was: it is kept. Says whether it must stay in place.
    pub(super) fn quarantine_rest(&mut self, judged: &Judged) -> io::Result<bool> {
        let rest = self.rest_of(judged)?;
        Ok(rest.is_some_and(|rest| self.quarantine_loss(judged, &rest)))
    }

    /// What stands behind a footer and belongs nowhere.
    pub(super) fn rest_of(&self, judged: &Judged) -> io::Result<Option<Loss>> {
        let (from, end) = (judged.facts.sealed_end, judged.facts.file_bytes);
        let is_cut = matches!(judged.surveyed.position, Position::Followed { cut: Some(_), .. });
        if judged.facts.footer.is_none() || is_cut || end <= from {
            return Ok(None);
        }
        let mut rest = vec![0; usize::try_from(end - from).unwrap_or(usize::MAX)];
        read_up_to(judged.surveyed.file(&self.env)?.as_ref(), &mut rest, from)?;
        let last = rest.iter().rposition(|&byte| byte != 0);
        Ok(last.map(|last| Loss::of(from, last as u64 + 1)))
    }

    /// Copies a tail to the quarantine. Says whether it must stay in place.
    pub(super) fn quarantine_tail(&mut self, judged: &Judged) -> io::Result<bool> {
        let file = judged.facts.name.file_name();
        let Some(keep) = self.tail_of(judged, &file)? else { return Ok(false) };
        let kept = self.keep(&judged.surveyed, &keep);
        if let Err(e) = &kept {
            tracing::warn!(
                file,
                cause = %e,
                "nothing can be copied to the quarantine; the torn tail stays where it is"
            );
        }
        let stays = kept.is_err();
        let incident = tail_incident(&self.env, &keep, kept.ok());
        self.note(incident);
        Ok(stays)
    }

    /// The tail of a segment, if it is to be kept: of the last one, or what stands behind the end of
    /// one that was cut and not sealed, where that is not all known. It is not where the copy is
    /// missing, since the quarantine could not be written then, or where damage has come since: a
    /// write to the wrong place can have put the end over records whose remains stand behind it.
    pub(super) fn tail_of<'a>(
        &self,
        judged: &Judged,
        file: &'a str,
    ) -> io::Result<Option<Keep<'a>>> {
        let Judgement { tail_start, tail_end, tail_lsns, cut_tail, end, .. } = &judged.judgement;
        let salt = judged.facts.header.salt;
        let cut_tail = cut_tail.filter(|_| judged.reseal.is_some());
        let ((start, end), restorable) = if let &Some(start) = tail_start {
            ((start, *tail_end), tail_lsns.clone())
        } else if let Some((start, tail_end)) = cut_tail
            && (!self.quarantine.has_tail_of(file, salt) || self.is_newly_damaged(judged))
        {
            let scanner = Scanner::new(salt, *end, LSN_MAX, start);
            let source = judged.surveyed.file(&self.env)?;
            let mut reader = SpanReader::new(source, tail_end, scanner, true);
            let mut lsns = Vec::new();
            while let Some(item) = reader.next_span().map_err(|e| e.cause)? {
                if let Span::Frame(header) = item.span {
                    lsns.push(header.lsn);
                }
            }
            ((start, tail_end), lsns)
        } else {
            return Ok(None);
        };
        Ok(Some(Keep {
            file,
            offset: start,
            bytes: end - start,
            verdict: IncidentKind::Tail,
            restorable,
            salt: Some(salt),
        }))
    }

    /// Whether a segment has damage that nobody was told of yet.
    fn is_newly_damaged(&self, judged: &Judged) -> bool {
        let id = |loss| damage_incident(&self.env, &judged.facts, loss, None).id;
        judged.judgement.damaged.iter().any(|loss| !self.quarantine.knows(&id(loss)))
    }
}
