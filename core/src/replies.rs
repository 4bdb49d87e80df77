//! Keeps the replies of one RESP connection in the order of its requests while some of them are
//! still being worked on by other cores.

use std::collections::VecDeque;

use pinnace_engine::PinnedValue;
use pinnace_protocol::OutBuf;

use crate::answer::{Answer, View};

/// The place of a reply that is awaited.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Ticket(pub u32);

/// Replies in request order. Empty as long as everything is answered at once: then replies go
/// straight to the connection's output and this type is not involved.
#[derive(Debug, Default)]
pub struct ReplyQueue {
    /// `None`: awaited. The front is never `Some` for longer than one call of `fill`.
    slots: VecDeque<Option<Answer>>,
    /// The ticket of the front slot; wraps.
    first: u32,
    waiting: u32,
}

impl ReplyQueue {
    /// Whether replies can go straight to the output.
    #[inline]
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.slots.is_empty()
    }

    /// The number of replies awaited.
    #[must_use]
    pub fn waiting(&self) -> u32 {
        self.waiting
    }

    /// Takes the next place for a reply that is awaited.
    pub fn wait(&mut self) -> Ticket {
        let ticket = Ticket(self.first.wrapping_add(self.slots.len() as u32));
        self.slots.push_back(None);
        self.waiting += 1;
        ticket
    }

    /// Queues a reply that is there already behind the ones that are awaited. `spare` supplies an
    /// empty vector when a new one is needed.
    pub(crate) fn push(&mut self, reply: &mut OutBuf<PinnedValue>, spare: impl FnOnce() -> Vec<u8>) {
        debug_assert!(!self.slots.is_empty(), "with nothing awaited a reply goes to the output");
        if let Some(Some(last)) = self.slots.back_mut() {
            last.append(reply);
            return;
        }
        let mut answer = Answer::from(spare());
        answer.append(reply);
        self.slots.push_back(Some(answer));
    }

    /// The awaited reply `ticket` has come. Every reply that is complete now and has nothing
    /// awaited before it is passed to `release`, in order. Returns false for a ticket that is not
    /// awaited, which a correct peer core never sends.
    pub(crate) fn fill(
        &mut self,
        ticket: Ticket,
        reply: View<'_>,
        mut release: impl FnMut(Released<'_>),
    ) -> bool {
        let index = ticket.0.wrapping_sub(self.first) as usize;
        match self.slots.get_mut(index) {
            Some(slot @ None) if index > 0 => {
                let mut answer = Answer::default();
                answer.push(reply);
                *slot = Some(answer);
                self.waiting -= 1;
                return true;
            }
            Some(None) => {}
            _ => return false,
        }
        self.waiting -= 1;
        self.slots.pop_front();
        self.first = self.first.wrapping_add(1);
        release(Released::Borrowed(reply));
        while let Some(Some(_)) = self.slots.front() {
            let answer = self.slots.pop_front().flatten().expect("the front was just seen to be complete");
            self.first = self.first.wrapping_add(1);
            release(Released::Owned(answer));
        }
        true
    }
}

/// A reply that may go to the output now.
#[derive(Debug)]
pub(crate) enum Released<'a> {
    /// The reply that has just come.
    Borrowed(View<'a>),
    /// A reply that had been waiting for it; its vector can be used again.
    Owned(Answer),
}

#[cfg(test)]
mod tests {
    use super::{Answer, OutBuf, Released, ReplyQueue, Ticket};

    fn reply(bytes: &[u8]) -> Answer {
        Answer::from(bytes.to_vec())
    }

    fn push(queue: &mut ReplyQueue, bytes: &[u8]) {
        let mut out = OutBuf::new();
        out.bytes().extend_from_slice(bytes);
        queue.push(&mut out, Vec::new);
    }

    fn fill(queue: &mut ReplyQueue, ticket: Ticket, bytes: &[u8]) -> Vec<u8> {
        let mut out = Vec::new();
        let known = queue.fill(ticket, reply(bytes).view(), |released| match released {
            Released::Borrowed(view) => out.extend_from_slice(view.bytes()),
            Released::Owned(answer) => out.extend_from_slice(&answer.into_bytes()),
        });
        assert!(known);
        out
    }

    #[test]
    fn replies_leave_in_request_order_whatever_order_they_come_in() {
        // The ticket counter wraps.
        let mut queue = ReplyQueue { first: u32::MAX, ..ReplyQueue::default() };
        let a = queue.wait();
        push(&mut queue, b"b");
        push(&mut queue, b"c");
        let d = queue.wait();
        let e = queue.wait();
        push(&mut queue, b"f");
        assert_eq!(queue.waiting(), 3);
        assert_eq!(fill(&mut queue, e, b"e"), b"");
        assert_eq!(fill(&mut queue, a, b"a"), b"abc");
        assert_eq!(fill(&mut queue, d, b"d"), b"def");
        assert!(queue.is_empty());
        assert_eq!(queue.waiting(), 0);
    }

    #[test]
    fn a_ticket_counts_once() {
        let mut queue = ReplyQueue::default();
        let ticket = queue.wait();
        let other = queue.wait();
        assert_eq!(fill(&mut queue, other, b"x"), b"");
        assert!(!queue.fill(other, reply(b"x").view(), |_| panic!("nothing is due")));
        assert_eq!(fill(&mut queue, ticket, b"y"), b"yx");
        assert!(!queue.fill(ticket, reply(b"y").view(), |_| panic!("nothing is due")));
    }
}
