use std::collections::BTreeMap;

use pinnace_types::Prng;

use super::*;

const LAYOUTS: [u64; 3] = [1 << 20, 1 << 33, 1 << 38];

/// A table beside a map from (position, location) to frequency.
struct Pair {
    memory: Memory,
    table: Table,
    layout: Layout,
    model: BTreeMap<u64, u64>,
}

impl Pair {
    fn new(segments: u32, layout_bytes: u64) -> Self {
        let memory = Memory::new(segments, 16, false).unwrap();
        let table = Table::new(&memory);
        Self { memory, table, layout: Layout::new(layout_bytes), model: BTreeMap::new() }
    }

    fn insert(&mut self, hash: u64, location: u64) -> bool {
        let ready = self.table.make_ready(self.layout, &mut self.memory, &mut false);
        if ready {
            let position = self.layout.position(hash);
            self.table.insert(position, self.layout.slot(position, location, 1), self.layout);
            self.model.insert(location, hash);
        }
        ready
    }

    fn remove(&mut self, location: u64) {
        let hash = self.model.remove(&location).unwrap();
        let position = self.layout.position(hash);
        let place = self.table.find(position, self.layout, &mut |l| l == location).unwrap();
        self.table.remove(place, self.layout);
    }

    fn check(&self) {
        assert_eq!(self.table.len(), self.model.len() as u64);
        for (&location, &hash) in &self.model {
            let position = self.layout.position(hash);
            assert!(self.table.find(position, self.layout, &mut |l| l == location).is_some());
            assert!(self.table.find(position, self.layout, &mut |_| false).is_none());
        }
        let mut seen = Vec::new();
        let mut from = Some(0);
        while let Some(position) = from {
            from = self.table.visit_home(position, self.layout, &mut |p, location| {
                assert!(p >= position);
                seen.push((p, location));
            });
            assert!(from.is_none_or(|next| next > position));
        }
        let mut expected: Vec<_> = self.model.iter().map(|(&l, &h)| (self.layout.position(h), l)).collect();
        expected.sort_unstable();
        seen.sort_unstable();
        assert_eq!(seen, expected);
    }
}

#[test]
fn a_table_holds_what_a_map_holds_while_it_grows_and_shrinks() {
    for layout_bytes in LAYOUTS {
        let mut pair = Pair::new(64, layout_bytes);
        let mut prng = Prng::new(layout_bytes);
        for round in 0..6u64 {
            for step in 0..4000 {
                assert!(pair.insert(prng.next_u64(), (round * 4000 + step) % ((1 << 20) - 1)));
            }
            pair.check();
            let doomed: Vec<u64> =
                pair.model.keys().copied().filter(|_| prng.below(10) < 2 + round).collect();
            doomed.into_iter().for_each(|location| pair.remove(location));
            pair.check();
            pair.table.shrink_if_sparse(&mut pair.memory);
            for _ in 0..3 {
                pair.table.stream(5, pair.layout, &mut pair.memory);
                pair.check();
            }
        }
        let all: Vec<u64> = pair.model.keys().copied().collect();
        all.into_iter().for_each(|location| pair.remove(location));
        while pair.table.is_resizing() {
            assert!(pair.table.stream(64, pair.layout, &mut pair.memory));
        }
        pair.table.shrink_if_sparse(&mut pair.memory);
        assert_eq!(pair.memory.free_segments(), 64);
    }
}

#[test]
fn equal_hashes_go_to_the_stash_and_come_back() {
    let mut pair = Pair::new(8, 1 << 38);
    let mut stored = 0;
    while stored < 90 && pair.insert(0x1234_5678_9abc_def0, stored) {
        stored += 1;
    }
    assert!(stored > 64, "one window and a stash hold {stored}");
    pair.check();
    for location in 0..stored {
        pair.remove(location);
        pair.check();
    }
    assert!(pair.table.stash.is_empty());
}

#[test]
fn a_table_without_memory_refuses_and_stays_whole() {
    let mut pair = Pair::new(1, 1 << 33);
    let mut prng = Prng::new(5);
    let mut location = 0;
    while pair.insert(prng.next_u64(), location) {
        location += 1;
    }
    assert!(location > 16 * 64 * 6, "{location} slots in sixteen pages");
    pair.check();
    for location in 0..location / 2 {
        pair.remove(location);
    }
    pair.check();
}
