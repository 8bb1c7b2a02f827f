//! The bytes of one file, in pages that copies share until one of them is written to.

use std::sync::Arc;

use crate::dice::mix;

const PAGE: usize = 4096;

type Page = [u8; PAGE];

const ZEROS: &Page = &[0; PAGE];

/// A file's bytes. A copy costs no more than its list of pages.
#[derive(Debug, Clone, Default)]
pub struct Bytes {
    /// `None` for a page of zeros.
    pages: Vec<Option<Arc<Page>>>,
    len: usize,
}

impl Bytes {
    /// Of these bytes.
    #[must_use]
    pub fn of(bytes: &[u8]) -> Self {
        let mut all = Self::default();
        all.write(0, bytes);
        all
    }

    /// How many.
    #[must_use]
    pub fn len(&self) -> usize {
        self.len
    }

    /// Whether there are none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// All of them.
    #[must_use]
    pub fn to_vec(&self) -> Vec<u8> {
        let mut all = vec![0; self.len];
        self.read(0, &mut all);
        all
    }

    /// Reads what there is from `offset` on, and says how much that was.
    pub fn read(&self, offset: usize, into: &mut [u8]) -> usize {
        let count = self.len.saturating_sub(offset).min(into.len());
        let mut done = 0;
        while done < count {
            let (page, at) = ((offset + done) / PAGE, (offset + done) % PAGE);
            let some = (PAGE - at).min(count - done);
            match self.pages.get(page) {
                Some(Some(bytes)) => {
                    into[done..done + some].copy_from_slice(&bytes[at..at + some]);
                }
                _ => into[done..done + some].fill(0),
            }
            done += some;
        }
        count
    }

    /// Writes, and grows where needed.
    pub fn write(&mut self, offset: usize, bytes: &[u8]) {
        let end = offset + bytes.len();
        if self.pages.len() < end.div_ceil(PAGE) {
            self.pages.resize(end.div_ceil(PAGE), None);
        }
        let mut done = 0;
        while done < bytes.len() {
            let (page, at) = ((offset + done) / PAGE, (offset + done) % PAGE);
            let some = &bytes[done..(done + PAGE - at).min(bytes.len())];
            let place = &mut self.pages[page];
            if place.is_some() || *some != ZEROS[..some.len()] {
                let page = Arc::make_mut(place.get_or_insert_with(|| Arc::new([0; PAGE])));
                page[at..at + some.len()].copy_from_slice(some);
            }
            done += some.len();
        }
        self.len = self.len.max(end);
    }

    /// A digest of length and bytes.
    #[must_use]
    pub fn digest(&self) -> u64 {
        let mut digest = self.len as u64;
        for (number, page) in self.pages.iter().enumerate() {
            if let Some(page) = page {
                let checksum = crc_fast::checksum(crc_fast::CrcAlgorithm::Crc64Nvme, &page[..]);
                digest = mix(digest ^ checksum).wrapping_add(number as u64);
            }
        }
        digest
    }

    /// Cuts or grows to a length; what is new reads as zeros.
    pub fn set_len(&mut self, len: usize) {
        self.pages.resize(len.div_ceil(PAGE), None);
        self.len = self.len.min(len);
        let rest = len % PAGE;
        if rest > 0
            && let Some(Some(page)) = self.pages.last_mut()
        {
            Arc::make_mut(page)[rest..].fill(0);
        }
        self.len = len;
    }

    /// Whether a range reads as these bytes.
    #[must_use]
    pub fn reads(&self, offset: usize, bytes: &[u8]) -> bool {
        let mut done = 0;
        while done < bytes.len() {
            let (page, at) = ((offset + done) / PAGE, (offset + done) % PAGE);
            let wanted = &bytes[done..(done + PAGE - at).min(bytes.len())];
            // Beyond the length there may be no page, and in a page only zeros.
            let here = self.pages.get(page).and_then(Option::as_deref).unwrap_or(ZEROS);
            if here[at..at + wanted.len()] != *wanted {
                return false;
            }
            done += wanted.len();
        }
        true
    }
}
