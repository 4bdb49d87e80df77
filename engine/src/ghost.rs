//! Keys that were evicted from the small queue not long ago.
//!
//! A new key that is found here has been asked for twice, and begins in the main queue.

use std::collections::{BTreeMap, VecDeque};

use pinnace_mem::{Memory, PAGE_BYTES, Pages};

use crate::config::GhostKind;

/// Units of age that the remembered keys span, at least; fewer only for few keys.
const SPAN_TICKS: u64 = 512;

/// Units of age that are counted. Much more than the span: keys that leave on a hit make room for
/// older ones.
const TICKS: usize = 4096;

/// Words of a bucket: half a cache line.
const BUCKET_WORDS: usize = 8;

/// Words of a page.
const PAGE_WORDS: usize = PAGE_BYTES as usize / 4;

/// The ghost, in one of its forms.
#[derive(Debug)]
pub(crate) enum Ghost {
    Fingerprint(Fingerprints),
    Exact(ExactGhost),
}

impl Ghost {
    pub(crate) fn new(kind: GhostKind, memory: &Memory) -> Self {
        match kind {
            GhostKind::Fingerprint => Self::Fingerprint(Fingerprints::new(memory)),
            GhostKind::Exact => Self::Exact(ExactGhost::default()),
        }
    }

    /// Remembers a key; at most about `keys_max` are remembered, the latest ones.
    pub(crate) fn insert(&mut self, hash: u64, keys_max: u64, memory: &mut Memory) {
        match self {
            Self::Fingerprint(ghost) => ghost.insert(hash, keys_max, memory),
            Self::Exact(ghost) => ghost.insert(hash, keys_max),
        }
    }

    /// Whether a key is remembered; it is forgotten then.
    pub(crate) fn take(&mut self, hash: u64) -> bool {
        match self {
            Self::Fingerprint(ghost) => ghost.take(hash),
            Self::Exact(ghost) => ghost.keys.remove(&hash).is_some(),
        }
    }

    /// Memory taken from segments.
    pub(crate) fn page_bytes(&self) -> u64 {
        match self {
            Self::Fingerprint(ghost) => ghost.generations().map(|g| g.present).sum::<u64>() * PAGE_BYTES,
            Self::Exact(_) => 0,
        }
    }

    /// Forgets everything.
    pub(crate) fn clear(&mut self, memory: &mut Memory) {
        match self {
            Self::Fingerprint(ghost) => {
                ghost.drop_generation(true, memory);
                ghost.drop_generation(false, memory);
                *ghost = Fingerprints::new(memory);
            }
            Self::Exact(ghost) => *ghost = ExactGhost::default(),
        }
    }
}

/// Whole hashes in exact order.
#[derive(Debug, Default)]
pub(crate) struct ExactGhost {
    /// Hash to insertion number.
    keys: BTreeMap<u64, u64>,
    /// Insertions in order; an entry whose number is not its key's any more is stale.
    order: VecDeque<(u64, u64)>,
    inserted: u64,
}

impl ExactGhost {
    fn insert(&mut self, hash: u64, keys_max: u64) {
        self.inserted += 1;
        self.keys.insert(hash, self.inserted);
        self.order.push_back((hash, self.inserted));
        while self.keys.len() as u64 > keys_max {
            let Some((hash, number)) = self.order.pop_front() else { return };
            if self.keys.get(&hash) == Some(&number) {
                self.keys.remove(&hash);
            }
        }
    }
}

/// 16-bit fingerprints with 16-bit ages, in hashed buckets of eight.
#[derive(Debug)]
pub(crate) struct Fingerprints {
    current: Option<Generation>,
    /// After a change of size: the smaller or larger one before, read until all in it is too old.
    previous: Option<Generation>,
    /// No memory for the pages' list to exist without a size.
    no_pages: Pages,
}

/// A table for about as many keys as there are resident items.
#[derive(Debug)]
struct Generation {
    pages: Pages,
    present: u64,
    buckets: u64,
    /// Keys that it was made for.
    keys_max: u64,
    tick_shift: u32,
    inserted: u64,
    /// Remembered keys by tick of insertion, a ring.
    by_tick: Box<[u32]>,
    live: u64,
    /// Keys of earlier ticks are forgotten.
    oldest: u64,
}

impl Generation {
    fn new(no_pages: &Pages, keys_max: u64) -> Self {
        let keys_max = keys_max.max(8);
        // A third of the places stays empty on average: few buckets then get more than eight keys.
        let buckets = (keys_max * 3 / 2).div_ceil(BUCKET_WORDS as u64);
        let pages = (buckets as usize * BUCKET_WORDS).div_ceil(PAGE_WORDS);
        Self {
            pages: no_pages.sibling(pages),
            present: 0,
            buckets,
            keys_max,
            tick_shift: (keys_max / SPAN_TICKS).checked_ilog2().unwrap_or(0),
            inserted: 0,
            by_tick: vec![0; TICKS].into_boxed_slice(),
            live: 0,
            oldest: 0,
        }
    }

    fn tick(&self) -> u64 {
        self.inserted >> self.tick_shift
    }

    /// Page, first word and fingerprint of a hash. The index uses the upper bits of the hash.
    fn place(&self, hash: u64) -> (usize, usize, u32) {
        let bucket = ((hash & 0xffff_ffff) * self.buckets) >> 32;
        let word = bucket as usize * BUCKET_WORDS;
        // 0 marks an empty place.
        let fingerprint = ((hash >> 32) as u32 & 0xffff).max(1);
        (word / PAGE_WORDS, word % PAGE_WORDS, fingerprint)
    }

    /// The tick of a word's age, if it is still remembered.
    fn tick_of(&self, word: u32) -> Option<u64> {
        let age = u64::from((self.tick() as u16).wrapping_sub(word as u16));
        let tick = self.tick().checked_sub(age)?;
        (word != 0 && tick >= self.oldest).then_some(tick)
    }

    fn insert(&mut self, hash: u64, keys_max: u64, memory: &mut Memory) {
        self.inserted += 1;
        let tick = self.tick();
        if tick >= self.oldest + TICKS as u64 {
            self.forget_oldest();
        }
        let (page, first, fingerprint) = self.place(hash);
        if self.pages.words(page).is_none() {
            if !self.pages.ensure(page, memory) {
                return;
            }
            self.present += 1;
        }
        let words = self.pages.words(page).expect("the page was just made present");
        let bucket = &words[first..first + BUCKET_WORDS];
        let age = |word: u32| self.tick_of(word).map_or(u64::MAX, |t| tick - t);
        let victim = (0..BUCKET_WORDS).max_by_key(|&i| age(bucket[i])).expect("a bucket has places");
        if let Some(old) = self.tick_of(bucket[victim]) {
            self.by_tick[old as usize % TICKS] -= 1;
            self.live -= 1;
        }
        let words = self.pages.words_mut(page).expect("the page is present");
        words[first + victim] = fingerprint << 16 | u32::from(tick as u16);
        self.by_tick[tick as usize % TICKS] += 1;
        self.live += 1;
        while self.live > keys_max && self.oldest < tick {
            self.forget_oldest();
        }
    }

    fn forget_oldest(&mut self) {
        let count = &mut self.by_tick[self.oldest as usize % TICKS];
        self.live -= u64::from(*count);
        *count = 0;
        self.oldest += 1;
    }

    fn take(&mut self, hash: u64) -> bool {
        let (page, first, fingerprint) = self.place(hash);
        let Some(words) = self.pages.words(page) else { return false };
        let bucket = &words[first..first + BUCKET_WORDS];
        let hit = |&word: &u32| word >> 16 == fingerprint && self.tick_of(word).is_some();
        let Some(index) = bucket.iter().position(hit) else { return false };
        let tick = self.tick_of(bucket[index]).expect("a hit is remembered");
        self.by_tick[tick as usize % TICKS] -= 1;
        self.live -= 1;
        self.pages.words_mut(page).expect("the page is present")[first + index] = 0;
        true
    }
}

impl Fingerprints {
    fn new(memory: &Memory) -> Self {
        Self { current: None, previous: None, no_pages: Pages::new(memory, 0) }
    }

    fn generations(&self) -> impl Iterator<Item = &Generation> {
        self.current.iter().chain(&self.previous)
    }

    fn drop_generation(&mut self, previous: bool, memory: &mut Memory) {
        let slot = if previous { &mut self.previous } else { &mut self.current };
        if let Some(mut generation) = slot.take() {
            generation.pages.release_all(memory);
        }
    }

    /// Makes a table of another size when the number of keys has left the range of the present one.
    fn resize(&mut self, keys_max: u64, memory: &mut Memory) {
        let fits = |g: &Generation| keys_max <= g.keys_max + g.keys_max / 4 && keys_max >= g.keys_max / 2;
        if self.current.as_ref().is_none_or(|g| !fits(g) && (keys_max > 64 || g.keys_max > 64)) {
            self.drop_generation(true, memory);
            self.previous = self.current.take();
            self.current = Some(Generation::new(&self.no_pages, keys_max));
        }
        let current_live = self.current.as_ref().map_or(0, |g| g.live);
        if self.previous.is_some() && current_live >= keys_max * 7 / 8 {
            self.drop_generation(true, memory);
        }
    }

    fn insert(&mut self, hash: u64, keys_max: u64, memory: &mut Memory) {
        if keys_max == 0 {
            return;
        }
        self.resize(keys_max, memory);
        let current = self.current.as_mut().expect("a resize makes a table");
        current.insert(hash, keys_max, memory);
        // What the new table has taken in, the old one forgets.
        let keep = keys_max.saturating_sub(current.live);
        if let Some(previous) = &mut self.previous {
            while previous.live > keep && previous.oldest <= previous.tick() {
                previous.forget_oldest();
            }
        }
    }

    fn take(&mut self, hash: u64) -> bool {
        self.current.as_mut().is_some_and(|g| g.take(hash))
            || self.previous.as_mut().is_some_and(|g| g.take(hash))
    }
}

#[cfg(test)]
mod tests {
    use pinnace_types::Prng;

    use super::*;

    #[test]
    fn fingerprints_remember_what_the_exact_ghost_does() {
        let mut memory = Memory::new(64, 16, false).unwrap();
        for keys_max in [20u64, 700, 20_000] {
            let mut ghost = Ghost::new(GhostKind::Fingerprint, &memory);
            let mut exact = Ghost::new(GhostKind::Exact, &memory);
            let (mut prng, mut ages) = (Prng::new(keys_max), Prng::new(1));
            let (mut equal, mut all) = (0, 0);
            for step in 0..20 * keys_max {
                let hash = prng.next_u64();
                ghost.insert(hash, keys_max, &mut memory);
                exact.insert(hash, keys_max, &mut memory);
                if step % 3 == 0 {
                    let mut back = Prng::new(keys_max);
                    let age = ages.below(2 * keys_max).min(step);
                    if step < 2000 {
                        let old = (0..=step - age).map(|_| back.next_u64()).last().unwrap();
                        all += 1;
                        equal += u32::from(ghost.take(old) == exact.take(old));
                    }
                }
            }
            assert!(f64::from(equal) >= 0.95 * f64::from(all), "{keys_max}: {equal} of {all}");
            ghost.clear(&mut memory);
            assert_eq!(memory.free_segments(), 64);
        }
    }

    #[test]
    fn a_ghost_that_grows_forgets_nothing_new() {
        let mut memory = Memory::new(64, 16, false).unwrap();
        let mut ghost = Ghost::new(GhostKind::Fingerprint, &memory);
        let mut prng = Prng::new(1);
        let hashes: Vec<u64> = (0..1500).map(|_| prng.next_u64()).collect();
        for (index, &hash) in hashes.iter().enumerate() {
            ghost.insert(hash, if index < 1000 { 1000 } else { 2000 }, &mut memory);
        }
        let remembered = hashes.iter().filter(|&&hash| ghost.take(hash)).count();
        assert!(remembered >= 1400, "{remembered}");
    }
}
