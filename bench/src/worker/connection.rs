//! One connection's buffers, and how replies are cut out of received pieces.

use super::flight::Flight;
use crate::codec::Codec;

/// What a thread keeps of one connection.
#[derive(Debug)]
pub(super) struct Connection<C> {
    pub(super) codec: C,
    /// Requests that wait for the socket.
    pub(super) out: Vec<u8>,
    /// The start of a reply whose rest has not come yet.
    pub(super) carry: Vec<u8>,
    pub(super) flight: Flight,
    /// The client whose requests it carries.
    pub(super) client: usize,
    /// Whether it stands in the list of connections with something to send.
    pub(super) dirty: bool,
    pub(super) closed: bool,
}

impl<C: Codec> Connection<C> {
    pub(super) fn new(codec: C, client: usize, depth: usize) -> Self {
        Self {
            codec,
            out: Vec::new(),
            carry: Vec::new(),
            flight: Flight::new(depth),
            client,
            dirty: false,
            closed: false,
        }
    }
}

/// Joins the reply that lies across two received pieces; all others are read where they were received.
#[derive(Debug)]
pub(super) struct Seam {
    /// The start of a reply, then bytes of the fresh piece, as many as it takes.
    pub(super) bytes: Vec<u8>,
    /// How many bytes are from before the fresh piece.
    before: usize,
}

/// Bytes copied over the seam at a time; most replies are shorter.
const STEP_BYTES: usize = 512;

impl Seam {
    pub(super) fn new(carry: Vec<u8>) -> Self {
        Self { before: carry.len(), bytes: carry }
    }

    /// Copies more of `fresh`; `false` if all of it is here already.
    pub(super) fn extend(&mut self, fresh: &[u8]) -> bool {
        let copied = self.bytes.len() - self.before;
        let step = STEP_BYTES.max(self.bytes.len()).min(fresh.len() - copied);
        self.bytes.extend_from_slice(&fresh[copied..copied + step]);
        step > 0
    }

    /// Where the fresh piece goes on behind a reply of `consumed` bytes.
    ///
    /// # Panics
    /// If the reply ends before the seam: the carried bytes were not the start of one reply.
    pub(super) fn resume(mut self, consumed: usize) -> (Vec<u8>, usize) {
        assert!(consumed >= self.before, "only an incomplete reply is carried over");
        let at = consumed - self.before;
        self.bytes.clear();
        (self.bytes, at)
    }
}

#[cfg(test)]
mod tests {
    use super::Seam;

    #[test]
    fn only_the_reply_across_the_seam_is_copied() {
        let fresh = [1u8; 5000];
        let mut seam = Seam::new(vec![0; 20]);
        assert!(seam.extend(&fresh));
        assert_eq!(seam.bytes.len(), 20 + 512);
        let (empty, at) = seam.resume(50);
        assert!(empty.is_empty());
        assert_eq!(at, 30);

        let mut long = Seam::new(vec![0; 20]);
        while long.extend(&fresh) {}
        assert_eq!(long.bytes.len(), 5020);
    }
}
