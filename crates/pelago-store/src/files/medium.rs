//! What a power cut leaves of a journal of disk operations.

use std::collections::BTreeMap;

/// What is left after a power cut of bytes and names that were written and not synced.
#[derive(Debug, Clone, Copy)]
pub enum Survival {
    /// None of them.
    Nothing,
    /// All up to the cut, the last write torn.
    Everything,
    /// Pages of this size and changes of names, each at random.
    Pages {
        /// Bytes of a page.
        page_bytes: usize,
        /// Chooses the pages.
        seed: u64,
    },
    /// All but the first page of each file: the disk wrote in another order.
    LaterPages {
        /// Bytes of a page.
        page_bytes: usize,
    },
}

/// One thing done to a disk.
pub(super) enum Step {
    Create { file: usize, name: String, bytes: usize },
    Write { file: usize, offset: usize, bytes: Vec<u8> },
    Sync { file: usize },
    FailedSync { file: usize },
    Rename { from: String, to: String },
    Remove { name: String },
    SyncNames,
    Note(u64),
}

impl Step {
    /// The instants it takes: one for each byte written, else one.
    pub(super) fn instants(&self) -> usize {
        match self {
            Self::Write { bytes, .. } => bytes.len(),
            Self::Create { .. }
            | Self::Sync { .. }
            | Self::FailedSync { .. }
            | Self::Rename { .. }
            | Self::Remove { .. }
            | Self::SyncNames
            | Self::Note(_) => 1,
        }
    }

    /// Does the change of names. One whose file is not there, since an earlier change was lost, is lost too.
    fn apply_to(&self, names: &mut BTreeMap<String, usize>) {
        match self {
            Self::Create { file, name, .. } => drop(names.insert(name.clone(), *file)),
            Self::Rename { from, to } => {
                if let Some(file) = names.remove(from) {
                    names.insert(to.clone(), file);
                }
            }
            Self::Remove { name } => drop(names.remove(name)),
            Self::Write { .. } | Self::Sync { .. } | Self::FailedSync { .. } | Self::SyncNames | Self::Note(_) => {}
        }
    }
}

/// Replays a journal, keeping apart what is durable and what is not yet.
pub(super) struct Medium<'a> {
    images: Vec<Image>,
    names: BTreeMap<String, usize>,
    /// Steps that changed names and are not durable.
    name_changes: Vec<&'a Step>,
}

/// One file: durable bytes, and writes that the next sync makes durable.
#[derive(Default)]
struct Image {
    durable: Vec<u8>,
    pending: Vec<(usize, Vec<u8>)>,
}

impl<'a> Medium<'a> {
    /// A disk that holds these files, all of them durable.
    pub(super) fn new(origin: &BTreeMap<String, Vec<u8>>) -> Self {
        let images = origin.values().map(|bytes| Image { durable: bytes.clone(), pending: Vec::new() });
        Self { images: images.collect(), names: origin.keys().cloned().zip(0..).collect(), name_changes: Vec::new() }
    }

    /// Does the part of a step that fits in so many instants.
    pub(super) fn apply(&mut self, step: &'a Step, instants: usize) {
        match step {
            Step::Create { bytes, .. } => {
                self.images.push(Image { durable: Vec::new(), pending: vec![(0, vec![0; *bytes])] });
                self.name_changes.push(step);
            }
            Step::Write { file, offset, bytes } => {
                self.images[*file].pending.push((*offset, bytes[..instants].to_vec()));
            }
            Step::Sync { file } => self.images[*file].sync(),
            // The kernel marks the pages clean: no later sync will write them.
            Step::FailedSync { file } => self.images[*file].pending.clear(),
            Step::Rename { .. } | Step::Remove { .. } => self.name_changes.push(step),
            Step::SyncNames => self.name_changes.drain(..).for_each(|change| change.apply_to(&mut self.names)),
            Step::Note(_) => {}
        }
    }

    /// The files that are found when power is back.
    pub(super) fn remains(mut self, survival: Survival) -> BTreeMap<String, Vec<u8>> {
        for (number, change) in self.name_changes.iter().enumerate() {
            let survives = match survival {
                Survival::Nothing => false,
                Survival::Everything | Survival::LaterPages { .. } => true,
                Survival::Pages { seed, .. } => coin(seed, number),
            };
            if survives {
                change.apply_to(&mut self.names);
            }
        }
        let images = self.images;
        self.names.into_iter().map(|(name, file)| (name, images[file].remains(file, survival))).collect()
    }
}

impl Image {
    fn sync(&mut self) {
        for (offset, bytes) in self.pending.drain(..) {
            overwrite(&mut self.durable, offset, &bytes);
        }
    }

    fn written(&self) -> Vec<u8> {
        let mut written = Self { durable: self.durable.clone(), pending: self.pending.clone() };
        written.sync();
        written.durable
    }

    fn remains(&self, file: usize, survival: Survival) -> Vec<u8> {
        match survival {
            Survival::Nothing => self.durable.clone(),
            Survival::Everything => self.written(),
            Survival::Pages { page_bytes, seed } => self.mix(page_bytes, |page, _| coin(seed, (file << 32) + page)),
            Survival::LaterPages { page_bytes } => self.mix(page_bytes, |_, changed_before| changed_before),
        }
    }

    /// Takes those changed pages which `survives` wants, given the page's number and whether one before it had changed.
    fn mix(&self, page_bytes: usize, survives: impl Fn(usize, bool) -> bool) -> Vec<u8> {
        let written = self.written();
        let mut mixed = self.durable.clone();
        mixed.resize(written.len(), 0);
        let mut changed_before = false;
        let pages = mixed.chunks_mut(page_bytes).zip(written.chunks(page_bytes));
        for (page, (old, new)) in pages.enumerate() {
            if old != new {
                if survives(page, changed_before) {
                    old.copy_from_slice(new);
                }
                changed_before = true;
            }
        }
        mixed
    }
}

/// Writes into a file in memory, which grows if need be.
pub(super) fn overwrite(file: &mut Vec<u8>, offset: usize, bytes: &[u8]) {
    let end = offset + bytes.len();
    if file.len() < end {
        file.resize(end, 0);
    }
    file[offset..end].copy_from_slice(bytes);
}

/// Head or tail, the same for the same arguments (the finalizer of SplitMix64).
fn coin(seed: u64, draw: usize) -> bool {
    let mut bits = seed.wrapping_add((draw as u64 + 1).wrapping_mul(0x9e37_79b9_7f4a_7c15));
    bits = (bits ^ (bits >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    bits = (bits ^ (bits >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    (bits ^ (bits >> 31)) & 1 == 0
}
