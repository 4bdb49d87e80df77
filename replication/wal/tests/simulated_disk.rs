//! The real writer and reader over a disk that loses, tears, reorders, misdirects and rots what it was given.
//!
//! Each seed is a node's life of several runs. A shadow knows every commit that was sealed and how far syncs were
//! acknowledged. After each crash: what was acknowledged is there, nothing is there that was not written, and damage
//! of what was synced is refused wherever anything on the disk proves it.

mod disk;

use disk::{Entry, Files, GROUP_COUNT, Recovered, SEGMENT_BYTES, nonce, recover, starts, writer};
use pinnace_types::{CommitNumber, LogPosition, Prng, SegmentNumber, ShardId};
use pinnace_wal::{BLOCK_BYTES, GroupLogs, LogWriter, Sealed};

const SECTOR: usize = 512;
const SEEDS: u64 = 2000;

/// A commit as it was sealed.
struct Shadow {
    sealed: Sealed,
    bytes: Vec<u8>,
    /// How far the log was synced at that time.
    synced_through: LogPosition,
    entries: Vec<Entry>,
}

/// A node's life.
struct Life {
    prng: Prng,
    /// What is on the disk for good.
    files: Files,
    /// Files of old segments, to be used again with what they hold.
    recycled: Vec<Vec<u8>>,
    /// Commits that count, of all runs.
    shadow: Vec<Shadow>,
    /// How many of them are synced.
    synced: usize,
    /// The snapshot: covers that many commits of the shadow.
    covered: usize,
    /// Where the log ended then.
    covered_position: LogPosition,
    run: u64,
    groups: GroupLogs,
    next_segment: SegmentNumber,
    position: LogPosition,
}

impl Life {
    fn new(seed: u64) -> Self {
        Self {
            prng: Prng::new(seed),
            files: Files::new(),
            recycled: Vec::new(),
            shadow: Vec::new(),
            synced: 0,
            covered: 0,
            covered_position: LogPosition(0),
            run: 0,
            groups: GroupLogs::new(GROUP_COUNT),
            next_segment: SegmentNumber(1),
            position: LogPosition(0),
        }
    }

    fn chance(&mut self, one_in: u64) -> bool {
        self.prng.below(one_in) == 0
    }

    /// Some effects of a turn; a client's value may hold whole blocks that look like a commit.
    fn turn(&mut self, writer: &mut LogWriter) {
        for _ in 0..=self.prng.below(4) {
            let group = ShardId(self.prng.below(u64::from(GROUP_COUNT)) as u16);
            let size = if self.chance(6) { self.prng.below(9000) } else { self.prng.below(200) };
            let mark = self.prng.next_u64().to_le_bytes();
            let forged = self.chance(8).then(|| self.forged_commit()).flatten();
            writer.append(group, |out| match forged {
                // The headers before it leave the copy at the beginning of a block.
                Some(copy) => out.extend_from_slice(&[&mark.repeat(501)[..], &copy].concat()),
                None => out.extend_from_slice(&[&mark[..], &vec![mark[0]; size as usize]].concat()),
            });
        }
    }

    /// A commit that the node wrote, but with a nonce that the client had to guess.
    fn forged_commit(&mut self) -> Option<Vec<u8>> {
        let number = self.prng.below(self.shadow.len().max(1) as u64) as usize;
        let shadow = self.shadow.get(number)?;
        let skipped = if shadow.sealed.offset == 0 { BLOCK_BYTES as usize } else { 0 };
        let mut bytes = shadow.bytes[skipped..].to_vec();
        bytes[16..24].copy_from_slice(&7u64.to_le_bytes());
        let len = u32::from_le_bytes(bytes[12..16].try_into().unwrap()) as usize;
        let crc = crc32c::crc32c(&bytes[8..len]);
        bytes[4..8].copy_from_slice(&crc.to_le_bytes());
        Some(bytes)
    }

    fn seal(&mut self, writer: &mut LogWriter) {
        let mut bytes = Vec::new();
        let synced_through = match self.synced {
            synced if synced > 0 => self.shadow[synced - 1].sealed.end().max(self.position),
            _ => self.position,
        };
        while let Some(sealed) = writer.seal(&mut bytes) {
            let entries = entries_of(&bytes, &sealed);
            self.shadow.push(Shadow { sealed, bytes: std::mem::take(&mut bytes), synced_through, entries });
        }
        if let Some(sealed) = writer.seal_marker(&mut bytes) {
            self.shadow.push(Shadow { sealed, bytes, synced_through, entries: Vec::new() });
        }
    }

    /// A run of the process up to its crash. Returns what was written and not synced.
    fn run(&mut self) -> Vec<usize> {
        self.run += 1;
        let mut writer = writer(self.run, self.next_segment, self.position, starts(&self.groups));
        let first = self.shadow.len();
        // A node serves once its first commit is synced: nothing that the run before left under way comes back then.
        self.seal(&mut writer);
        self.write(first, |_, _| true);
        self.synced += 1;
        writer.on_synced(CommitNumber(1));
        for _ in 0..self.prng.below(40) {
            self.turn(&mut writer);
            self.seal(&mut writer);
            while self.synced < self.shadow.len() && !self.chance(3) {
                self.write(self.synced, |_, _| true);
                self.synced += 1;
            }
            if self.synced > first {
                writer.on_synced(CommitNumber((self.synced - first) as u64));
            }
        }
        (self.synced..self.shadow.len()).collect()
    }

    /// Brings those sectors of a commit to the disk that `keep` wants.
    fn write(&mut self, number: usize, mut keep: impl FnMut(&mut Prng, usize) -> bool) {
        let Shadow { sealed, bytes, .. } = &self.shadow[number];
        if !self.files.contains_key(&sealed.segment.0) {
            let base = self.recycled.pop().unwrap_or_else(|| vec![0; SEGMENT_BYTES]);
            self.files.insert(sealed.segment.0, base);
        }
        let file = self.files.get_mut(&sealed.segment.0).expect("it was made");
        let len = file.len().max(sealed.offset as usize + bytes.len());
        file.resize(len, 0);
        for (sector, content) in bytes.chunks(SECTOR).enumerate() {
            if keep(&mut self.prng, sector) {
                file[sealed.offset as usize + sector * SECTOR..][..SECTOR].copy_from_slice(content);
            }
        }
    }

    /// Power is lost: of each write that was under way nothing, all, or any sectors are there, in no order.
    fn lose_power(&mut self, under_way: &[usize]) {
        for &number in under_way {
            match self.prng.below(3) {
                0 => {}
                1 => self.write(number, |_, _| true),
                _ => self.write(number, |prng, _| prng.below(2) == 0),
            }
        }
    }

    /// Takes over what a recovery found, as a node does before its next run.
    fn accept(&mut self, recovered: Recovered) {
        let count = self.shadow.iter().take_while(|s| s.sealed.end() <= recovered.end.position).count();
        self.shadow.truncate(count);
        // What is recovered is synced before the next run writes.
        self.synced = count;
        self.groups = recovered.groups;
        // Files that are to be used again keep names above all others, so numbers never come back.
        self.next_segment = self.next_segment.max(recovered.end.next_segment);
        self.position = recovered.end.position;
        if self.chance(3) {
            self.snapshot();
        }
        if self.chance(4) {
            // A file that was made ready and not begun.
            if let Some(stale) = self.recycled.pop() {
                self.files.insert(self.next_segment.0, stale);
                self.next_segment = self.next_segment.next();
            }
        }
    }

    /// A snapshot covers everything; the files are recycled.
    fn snapshot(&mut self) {
        (self.covered, self.covered_position) = (self.shadow.len(), self.position);
        let mut covered = GroupLogs::new(GROUP_COUNT);
        for group in (0..GROUP_COUNT).map(ShardId) {
            let (term, index, _) = self.groups.last(group);
            covered.cover(group, term, index);
        }
        self.groups = covered;
        self.recycled.extend(std::mem::take(&mut self.files).into_values());
        self.recycled.truncate(6);
    }

    /// The groups as the snapshot has them.
    fn snapshot_groups(&self) -> GroupLogs {
        let mut groups = GroupLogs::new(GROUP_COUNT);
        for (group, index, _) in self.shadow[..self.covered].iter().flat_map(|s| &s.entries) {
            let (group, index) = (ShardId(*group), pinnace_types::LogIndex(*index));
            groups.cover(group, pinnace_types::Term(1), index);
        }
        groups
    }

    fn recover(&self) -> Result<Recovered, disk::Refused> {
        recover(&self.files, self.covered_position, self.snapshot_groups(), &[nonce(self.run)])
    }

    fn entries_from_to(&self, from: usize, to: usize) -> Vec<Entry> {
        self.shadow[from..to].iter().flat_map(|shadow| shadow.entries.clone()).collect()
    }

    /// How many commits of the shadow were recovered, which must be exactly those, in order.
    fn check(&self, recovered: &Recovered, context: &str) -> usize {
        let position = recovered.end.position;
        let count = self.shadow.iter().take_while(|shadow| shadow.sealed.end() <= position).count();
        let count = count.max(self.covered);
        let expected = self.entries_from_to(self.covered, count);
        assert!(recovered.entries == expected, "{context}: other entries than were written");
        count
    }

    /// Whether a commit stands where it was written, every byte of it.
    fn is_intact(&self, shadow: &Shadow) -> bool {
        let file = self.files.get(&shadow.sealed.segment.0);
        file.and_then(|file| file.get(shadow.sealed.offset as usize..))
            .is_some_and(|f| f.starts_with(&shadow.bytes))
    }
}

/// The entries of a commit, read by the format's rules from the bytes that were sealed.
fn entries_of(bytes: &[u8], sealed: &Sealed) -> Vec<Entry> {
    let skipped = if sealed.offset == 0 { BLOCK_BYTES as usize } else { 0 };
    let (_, mut rest) = pinnace_wal::CommitHeader::decode(&bytes[skipped..]).unwrap();
    let mut entries = Vec::new();
    while !rest.is_empty() {
        let (record, payload, behind) = pinnace_wal::RecordHeader::decode(rest).unwrap();
        entries.push((record.group.0, record.index.0, payload.to_vec()));
        rest = behind;
    }
    entries
}

#[test]
fn acknowledged_commits_survive_and_nothing_is_invented() {
    let mut recoveries = 0;
    for seed in 0..SEEDS {
        let mut life = Life::new(seed);
        for _ in 0..4 {
            let under_way = life.run();
            life.lose_power(&under_way);
            let context = format!("seed {seed}, run {}", life.run);
            let recovered = life.recover().unwrap_or_else(|error| panic!("{context}: {error:?}"));
            let count = life.check(&recovered, &context);
            assert!(count >= life.synced, "{context}: {count} of {} synced commits", life.synced);
            if life.chance(4) {
                // The process died, not the machine: writes land after the recovery has read.
                under_way.iter().for_each(|&number| life.write(number, |_, _| true));
            }
            life.accept(recovered);
            recoveries += 1;
        }
    }
    assert_eq!(recoveries, 4 * SEEDS);
}

/// Damages something that was synced.
fn damage(life: &mut Life) -> bool {
    let begun: Vec<usize> = (life.covered..life.synced).collect();
    let Some(number) = begun.get(life.prng.below(begun.len().max(1) as u64) as usize) else { return false };
    let (sealed, bytes) = (life.shadow[*number].sealed, life.shadow[*number].bytes.len());
    let at = sealed.offset as usize;
    match life.prng.below(4) {
        0 => {
            let bit = life.prng.below(bytes as u64 * 8) as usize;
            life.files.get_mut(&sealed.segment.0).unwrap()[at + bit / 8] ^= 1 << (bit % 8);
        }
        1 => {
            let sector = life.prng.below((bytes / SECTOR) as u64) as usize;
            life.files.get_mut(&sealed.segment.0).unwrap()[at + sector * SECTOR..][..SECTOR].fill(0);
        }
        2 => {
            // The write went to another place, in this file or another: that one's content is lost as well.
            let numbers: Vec<u64> = life.files.keys().copied().collect();
            let to = numbers[life.prng.below(numbers.len() as u64) as usize];
            let content = std::mem::take(&mut life.shadow[*number].bytes);
            life.files.get_mut(&sealed.segment.0).unwrap()[at..at + bytes].fill(0);
            let file = life.files.get_mut(&to).unwrap();
            let blocks = (file.len() - bytes) / BLOCK_BYTES as usize;
            let offset = life.prng.below(blocks as u64 + 1) as usize * BLOCK_BYTES as usize;
            file[offset..offset + bytes].copy_from_slice(&content);
            life.shadow[*number].bytes = content;
        }
        _ => {
            life.files.remove(&sealed.segment.0);
        }
    }
    true
}

#[test]
fn damage_of_synced_commits_is_refused_where_anything_proves_it() {
    let (mut refused, mut cut, mut harmless) = (0, 0, 0);
    for seed in 0..SEEDS {
        let mut life = Life::new(seed ^ 0xdead_beef);
        for _ in 0..=life.prng.below(3) {
            let under_way = life.run();
            life.lose_power(&under_way);
            if let Ok(recovered) = life.recover() {
                life.accept(recovered);
            }
        }
        let under_way = life.run();
        life.lose_power(&under_way);
        if !damage(&mut life) {
            continue;
        }
        let context = format!("seed {seed}");
        let Ok(recovered) = life.recover() else {
            refused += 1;
            continue;
        };
        let count = life.check(&recovered, &context);
        if count >= life.synced {
            harmless += 1;
            continue;
        }
        // Acknowledged commits are cut: only right if nothing that is left says that they were synced.
        let end = recovered.end.position;
        let proof = life.shadow[count..].iter().find(|s| s.synced_through > end && life.is_intact(s));
        assert!(proof.is_none(), "{context}: {:?} proves what was cut at {end}", proof.unwrap().sealed);
        cut += 1;
    }
    assert!(refused > SEEDS / 2, "{refused} refused, {cut} cut, {harmless} harmless");
}
