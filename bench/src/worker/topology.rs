//! Which endpoint (node, or core of a node) owns a key.

use super::state::slot_of;

/// The endpoints of a target and what they own.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Topology {
    /// Addresses as the target names them, one connection per client each.
    pub(crate) endpoints: Vec<String>,
    /// The endpoint of each slot; empty if there is but one endpoint.
    owners: Vec<u16>,
}

impl Topology {
    /// One endpoint that owns everything.
    pub(crate) fn single(endpoint: String) -> Self {
        Self { endpoints: vec![endpoint], owners: Vec::new() }
    }

    /// `owners[slot]` is an index into `endpoints`.
    pub(crate) fn sharded(endpoints: Vec<String>, owners: Vec<u16>) -> Self {
        assert!(owners.iter().all(|&owner| usize::from(owner) < endpoints.len()));
        if endpoints.len() == 1 { Self::single(endpoints[0].clone()) } else { Self { endpoints, owners } }
    }

    /// The endpoint that owns `key`.
    #[inline]
    pub(super) fn owner(&self, key: &[u8]) -> usize {
        if self.owners.is_empty() { 0 } else { usize::from(self.owners[slot_of(key)]) }
    }

    /// The endpoint that `SLOT HOST:PORT` names, and the slot; `None` if it is none of ours, or the one
    /// that said so.
    pub(super) fn place(&self, text: &[u8], from: usize) -> Option<(usize, usize)> {
        let mut words = std::str::from_utf8(text).ok()?.split(' ');
        let (slot, address) = (words.next()?.parse::<usize>().ok()?, words.next()?);
        let endpoint = self.endpoints.iter().position(|endpoint| endpoint == address)?;
        (slot < self.owners.len() && endpoint != from % self.endpoints.len()).then_some((slot, endpoint))
    }

    /// Learns from `SLOT HOST:PORT`; returns the endpoint, if [`Topology::place`] knows one.
    pub(super) fn learn(&mut self, text: &[u8], from: usize) -> Option<usize> {
        let (slot, endpoint) = self.place(text, from)?;
        self.owners[slot] = endpoint as u16;
        Some(endpoint)
    }
}

#[cfg(test)]
mod tests {
    use super::Topology;

    #[test]
    fn a_moved_slot_is_learned_once_its_endpoint_is_known() {
        let endpoints = vec!["a:1".to_owned(), "b:2".to_owned()];
        let mut topology = Topology::sharded(endpoints, vec![0; 16384]);
        // The slot of "foo" is 12182 (Redis cluster specification).
        assert_eq!(topology.owner(b"foo"), 0);
        assert_eq!(topology.place(b"12182 b:2", 0), Some((12182, 1)));
        assert_eq!(topology.owner(b"foo"), 0, "asking elsewhere once is not learned");
        assert_eq!(topology.learn(b"12182 b:2", 0), Some(1));
        assert_eq!(topology.owner(b"foo"), 1);
        assert_eq!(topology.learn(b"12182 c:3", 1), None, "an unknown node");
        assert_eq!(topology.learn(b"12182 b:2", 3), None, "a node that moves a key to itself");
        assert!(topology.learn(b"x", 0).is_none() && topology.learn(b"99999 a:1", 1).is_none());
        assert_eq!(Topology::single("a:1".to_owned()).owner(b"foo"), 0);
    }
}
