//! Cost of the checksum that every piece of the log and of snapshots carries.
//!
//! `cargo bench -p pinnace-wal --bench crc`; divan prints bytes a second.

use divan::counter::BytesCount;
use divan::{Bencher, black_box};

fn main() {
    divan::main();
}

/// A small write, a usual one, a page, and a large value.
#[divan::bench(args = [64, 512, 4096, 1 << 20])]
fn crc32c(bencher: Bencher<'_, '_>, bytes: usize) {
    let piece = vec![7; bytes];
    bencher.counter(BytesCount::new(bytes)).bench_local(|| black_box(crc32c::crc32c(black_box(&piece))));
}
