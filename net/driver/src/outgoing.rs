//! Reply bytes in the hands of the kernel: what one send operation of a connection refers to.
//!
//! The bytes stay put and alive until the operation's completion was taken, and until then only the
//! completion may change this state.

use std::collections::VecDeque;

use io_uring::{opcode, squeue, types};
use pinnace_protocol::{OutBuf, OutPart, Slices};

/// Slices given to one sendmsg; more follow with the next one. (The kernel's bound is 1024.)
const SLICES_MAX: usize = 64;
/// Reply vectors larger than this are freed after use instead of being kept for the next reply.
const SPARE_BYTES_MAX: usize = 64 << 10;
/// Capacity that a core keeps in unused reply vectors.
const SPARES_BYTES_MAX: usize = 8 << 20;
/// Reply vectors that a core keeps.
const SPARES_MAX: usize = 1024;

/// What is being sent on a connection.
#[derive(Debug)]
pub(crate) enum Outgoing<P> {
    /// Nothing; no send is in flight.
    Idle,
    /// One run of bytes, from `sent` on.
    Plain { bytes: Vec<u8>, sent: usize },
    /// Several runs, some of them memory of the engine.
    Parts(Box<Parts<P>>),
}

/// Runs of bytes in order, with the header that a sendmsg reads while in flight. Boxed, so that the
/// header does not move with its connection.
#[derive(Debug)]
pub(crate) struct Parts<P> {
    parts: VecDeque<OutPart<P>>,
    /// Slices of the first part that are sent.
    slices_sent: usize,
    /// Bytes of the first slice that is not sent whole.
    bytes_sent: usize,
    remaining: usize,
    /// Memory held by the parts, pinned values not counted.
    owned: usize,
    slices: Vec<libc::iovec>,
    header: Option<libc::msghdr>,
}

impl<P: Slices> Outgoing<P> {
    /// Takes all waiting replies; `Idle` if there are none.
    #[inline]
    pub(crate) fn take(out: &mut OutBuf<P>) -> Self {
        let remaining = out.byte_len();
        if remaining == 0 {
            return Self::Idle;
        }
        if out.is_plain() {
            let mut bytes = Vec::new();
            out.swap_plain(&mut bytes);
            return Self::Plain { bytes, sent: 0 };
        }
        Self::Parts(Box::new(Parts::new(out.take_parts(), remaining)))
    }

    /// Memory that is held until the bytes are sent, pinned values not counted.
    #[inline]
    pub(crate) fn owned_bytes(&self) -> usize {
        match self {
            Self::Idle => 0,
            Self::Plain { bytes, .. } => bytes.capacity(),
            Self::Parts(parts) => parts.owned,
        }
    }

    /// Bytes that are not sent yet.
    #[inline]
    pub(crate) fn remaining(&self) -> usize {
        match self {
            Self::Idle => 0,
            Self::Plain { bytes, sent } => bytes.len() - sent,
            Self::Parts(parts) => parts.remaining,
        }
    }

    /// Whether a send is in flight.
    #[inline]
    pub(crate) fn is_idle(&self) -> bool {
        matches!(self, Self::Idle)
    }

    /// The submission that sends what remains, or the first part of it. What it points to belongs to
    /// `self` and stays where it is until `self` is changed.
    #[inline]
    pub(crate) fn entry(&mut self, file: types::Fixed) -> Option<squeue::Entry> {
        match self {
            Self::Idle => None,
            Self::Plain { bytes, sent } => {
                let rest = &bytes[*sent..];
                // Longer runs go out in several sends, as any partial send does.
                let len = u32::try_from(rest.len()).unwrap_or(1 << 30);
                Some(opcode::Send::new(file, rest.as_ptr(), len).flags(libc::MSG_NOSIGNAL).build())
            }
            Self::Parts(parts) => {
                let header: *const libc::msghdr = parts.header();
                Some(opcode::SendMsg::new(file, header).flags(libc::MSG_NOSIGNAL as u32).build())
            }
        }
    }

    /// Notes that the kernel took `count` more bytes; true if that was all. Pinned values are let go
    /// as soon as their last byte is sent.
    #[inline]
    pub(crate) fn advance(&mut self, count: usize) -> bool {
        assert!(count <= self.remaining(), "the kernel sends no more than it was given");
        match self {
            Self::Idle => {}
            Self::Plain { sent, .. } => *sent += count,
            Self::Parts(parts) => parts.advance(count),
        }
        self.remaining() == 0
    }
}

impl<P: Slices> Parts<P> {
    fn new(parts: Vec<OutPart<P>>, remaining: usize) -> Self {
        let of_list = size_of::<Self>()
            + SLICES_MAX * size_of::<libc::iovec>()
            + parts.capacity() * size_of::<OutPart<P>>();
        let owned = of_list + parts.iter().map(owned_bytes).sum::<usize>();
        let (parts, slices) = (VecDeque::from(parts), Vec::new());
        Self { parts, slices_sent: 0, bytes_sent: 0, remaining, owned, slices, header: None }
    }

    fn header(&mut self) -> &libc::msghdr {
        self.slices.clear();
        let (mut skip_slices, mut skip_bytes) = (self.slices_sent, self.bytes_sent);
        'parts: for part in &self.parts {
            for index in skip_slices..slice_count(part) {
                let bytes = &slice(part, index)[skip_bytes..];
                skip_bytes = 0;
                if !bytes.is_empty() {
                    let start = bytes.as_ptr().cast_mut().cast();
                    self.slices.push(libc::iovec { iov_base: start, iov_len: bytes.len() });
                }
                if self.slices.len() == SLICES_MAX {
                    break 'parts;
                }
            }
            skip_slices = 0;
        }
        self.header.insert(libc::msghdr {
            msg_name: std::ptr::null_mut(),
            msg_namelen: 0,
            msg_iov: self.slices.as_mut_ptr(),
            msg_iovlen: self.slices.len(),
            msg_control: std::ptr::null_mut(),
            msg_controllen: 0,
            msg_flags: 0,
        })
    }

    fn advance(&mut self, mut count: usize) {
        self.remaining -= count;
        while let Some(part) = self.parts.front() {
            if self.slices_sent == slice_count(part) {
                self.owned -= owned_bytes(part);
                self.parts.pop_front();
                self.slices_sent = 0;
                continue;
            }
            let left = slice(part, self.slices_sent).len() - self.bytes_sent;
            if count < left {
                self.bytes_sent += count;
                return;
            }
            count -= left;
            self.bytes_sent = 0;
            self.slices_sent += 1;
        }
        assert!(count == 0, "no bytes are sent beyond the last part");
    }
}

fn owned_bytes<P>(part: &OutPart<P>) -> usize {
    match part {
        OutPart::Bytes(bytes) => bytes.capacity(),
        OutPart::Pinned(_) => 0,
    }
}

fn slice_count<P: Slices>(part: &OutPart<P>) -> usize {
    match part {
        OutPart::Bytes(_) => 1,
        OutPart::Pinned(value) => value.slice_count(),
    }
}

fn slice<P: Slices>(part: &OutPart<P>, index: usize) -> &[u8] {
    match part {
        OutPart::Bytes(bytes) => bytes,
        OutPart::Pinned(value) => value.slice(index),
    }
}

/// Reply vectors that are not in use, most recently used last: a few hot ones serve all connections,
/// and idle connections hold none.
#[derive(Debug, Default)]
pub(crate) struct Spares {
    vectors: Vec<Vec<u8>>,
    bytes: usize,
}

impl Spares {
    /// An empty vector, with capacity if there is one.
    #[inline]
    pub(crate) fn take(&mut self) -> Vec<u8> {
        let vector = self.vectors.pop().unwrap_or_default();
        self.bytes -= vector.capacity();
        vector
    }

    /// Keeps the vector for later unless it is large or there are enough.
    #[inline]
    pub(crate) fn put(&mut self, mut vector: Vec<u8>) {
        let capacity = vector.capacity();
        let is_kept = capacity > 0
            && capacity <= SPARE_BYTES_MAX
            && self.bytes + capacity <= SPARES_BYTES_MAX
            && self.vectors.len() < SPARES_MAX;
        if !is_kept {
            return;
        }
        vector.clear();
        self.bytes += capacity;
        self.vectors.push(vector);
    }
}

#[cfg(test)]
mod tests {
    use super::{Outgoing, SLICES_MAX, SPARE_BYTES_MAX, SPARES_BYTES_MAX, SPARES_MAX, Spares};
    use io_uring::types::Fixed;
    use pinnace_protocol::{OutBuf, Slices};
    use std::rc::Rc;

    /// A value cut into pieces of the given lengths.
    struct Cut(Rc<Vec<Vec<u8>>>);

    impl Slices for Cut {
        fn slice_count(&self) -> usize {
            self.0.len()
        }
        fn slice(&self, index: usize) -> &[u8] {
            &self.0[index]
        }
    }

    fn sample(pieces: usize) -> (OutBuf<Cut>, Vec<u8>, Rc<Vec<Vec<u8>>>) {
        let mut out = OutBuf::new();
        out.bytes().extend_from_slice(b"header");
        let value: Vec<Vec<u8>> = (0..pieces).map(|n| vec![n as u8; n % 5]).collect();
        let value = Rc::new(value);
        out.push_pinned(Cut(Rc::clone(&value)));
        out.bytes().extend_from_slice(b"\r\n");
        let flat = [b"header".to_vec(), value.concat(), b"\r\n".to_vec()].concat();
        (out, flat, value)
    }

    /// What the next sendmsg would send.
    fn gathered(outgoing: &mut Outgoing<Cut>) -> Vec<u8> {
        let Outgoing::Parts(parts) = outgoing else { panic!("parts expected") };
        let header = parts.header();
        assert!(header.msg_iovlen <= SLICES_MAX);
        let slices: &[libc::iovec] = &parts.slices;
        slices
            .iter()
            .flat_map(|slice| {
                // SAFETY: the slices point into parts, which live.
                unsafe { std::slice::from_raw_parts(slice.iov_base.cast::<u8>(), slice.iov_len) }
            })
            .copied()
            .collect()
    }

    #[test]
    fn every_way_to_send_parts_in_pieces_sends_the_same_bytes() {
        for step in 1..40 {
            let (mut out, flat, value) = sample(30);
            let mut outgoing = Outgoing::take(&mut out);
            let mut sent = Vec::new();
            loop {
                let bytes = gathered(&mut outgoing);
                let count = step.min(bytes.len());
                sent.extend_from_slice(&bytes[..count]);
                if outgoing.advance(count) {
                    break;
                }
            }
            assert_eq!(sent, flat, "step {step}");
            drop(outgoing);
            assert_eq!(Rc::strong_count(&value), 1);
        }
    }

    #[test]
    fn a_pinned_value_is_let_go_with_its_last_byte() {
        let (mut out, flat, value) = sample(10);
        let mut outgoing = Outgoing::take(&mut out);
        assert!(!outgoing.advance(flat.len() - 3));
        assert_eq!(Rc::strong_count(&value), 2);
        assert!(!outgoing.advance(2));
        assert_eq!(Rc::strong_count(&value), 1);
    }

    #[test]
    fn more_slices_than_one_call_takes_go_out_in_several() {
        let (mut out, flat, _value) = sample(500);
        let mut outgoing = Outgoing::take(&mut out);
        let mut sent = Vec::new();
        while !outgoing.is_idle() {
            let bytes = gathered(&mut outgoing);
            sent.extend_from_slice(&bytes);
            if outgoing.advance(bytes.len()) {
                outgoing = Outgoing::Idle;
            }
        }
        assert_eq!(sent, flat);
    }

    #[test]
    fn plain_replies_are_taken_without_copying() {
        let mut out = OutBuf::<Cut>::new();
        assert!(Outgoing::take(&mut out).is_idle());
        out.bytes().extend_from_slice(b"+OK\r\n");
        let mut outgoing = Outgoing::take(&mut out);
        assert!(out.is_empty() && outgoing.remaining() == 5);
        assert!(outgoing.entry(Fixed(0)).is_some());
        assert!(!outgoing.advance(2) && outgoing.advance(3));
    }

    #[test]
    fn memory_is_owned_until_its_part_is_sent() {
        let (mut out, flat, _value) = sample(10);
        let mut outgoing = Outgoing::take(&mut out);
        let whole = outgoing.owned_bytes();
        outgoing.advance(5);
        assert_eq!(outgoing.owned_bytes(), whole, "a byte of the header is left");
        outgoing.advance(1);
        assert!(outgoing.owned_bytes() <= whole - 6);
        assert!(outgoing.advance(flat.len() - 6));
        *out.bytes() = Vec::with_capacity(100);
        out.bytes().push(1);
        let outgoing = Outgoing::take(&mut out);
        assert_eq!((outgoing.owned_bytes(), out.owned_bytes()), (100, 0));
    }

    #[test]
    fn spare_vectors_are_bounded_in_number_and_size() {
        let mut spares = Spares::default();
        for _ in 0..2 * SPARES_MAX {
            spares.put(Vec::with_capacity(8));
        }
        assert_eq!((spares.vectors.len(), spares.bytes), (SPARES_MAX, SPARES_MAX * 8));
        let mut spares = Spares::default();
        for _ in 0..1000 {
            spares.put(Vec::with_capacity(SPARE_BYTES_MAX));
        }
        assert!(spares.bytes <= SPARES_BYTES_MAX);
    }

    #[test]
    fn large_vectors_are_not_kept() {
        let mut spares = Spares::default();
        spares.put(Vec::with_capacity(1 << 20));
        assert_eq!(spares.take().capacity(), 0);
        spares.put(vec![1; 100]);
        let vector = spares.take();
        assert!(vector.is_empty() && vector.capacity() >= 100);
        assert_eq!(spares.bytes, 0);
    }
}
