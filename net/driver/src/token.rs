//! What a completion belongs to, packed into the 64 bits that the kernel hands back.
//!
//! Layout: operation 8 bits | slab index 24 bits | generation 32 bits. The generation makes a
//! completion that arrives after its connection is gone recognisable: it never reaches a successor.

use pinnace_types::ConnId;

/// Slab indices are 24 bits wide.
pub(crate) const INDEX_MAX: u32 = (1 << 24) - 1;

/// The kinds of operations.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Op {
    /// Multishot accept; the index is the listener's.
    Accept,
    /// Receive, multishot or single.
    Receive,
    /// Send or sendmsg.
    Send,
    /// Poll of the eventfd that other cores wake this one with.
    Wake,
    /// Cancellation of one of the above; its own result means nothing.
    Cancel,
}

const OPS: [Op; 5] = [Op::Accept, Op::Receive, Op::Send, Op::Wake, Op::Cancel];

/// The token of an operation of a connection.
#[inline]
pub(crate) fn encode(op: Op, conn: ConnId) -> u64 {
    debug_assert!(conn.index <= INDEX_MAX);
    (op as u64) << 56 | u64::from(conn.index) << 32 | u64::from(conn.generation)
}

/// The reverse of [`encode`]; `None` for a token that was never made.
#[inline]
pub(crate) fn decode(token: u64) -> Option<(Op, ConnId)> {
    let op = *OPS.get((token >> 56) as usize)?;
    let index = (token >> 32) as u32 & INDEX_MAX;
    Some((op, ConnId { index, generation: token as u32 }))
}

#[cfg(test)]
mod tests {
    use super::{INDEX_MAX, OPS, decode, encode};
    use pinnace_types::ConnId;

    #[test]
    fn tokens_survive_the_kernel() {
        for op in OPS {
            for conn in [(0, 0), (INDEX_MAX, u32::MAX), (7, 1 << 31)] {
                let conn = ConnId { index: conn.0, generation: conn.1 };
                assert_eq!(decode(encode(op, conn)), Some((op, conn)));
            }
        }
        assert_eq!(decode(u64::MAX), None);
    }
}
