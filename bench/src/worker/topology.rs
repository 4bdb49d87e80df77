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

    /// Learns from `SLOT HOST:PORT`; `false` if that is no endpoint of ours, or the one that said so.
    pub(super) fn learn(&mut self, place: &[u8], from: usize) -> bool {
        let Ok(place) = std::str::from_utf8(place) else { return false };
        let mut words = place.split(' ');
        let (Some(slot), Some(address)) =
            (words.next().and_then(|slot| slot.parse::<usize>().ok()), words.next())
        else {
            return false;
        };
        let Some(endpoint) = self.endpoints.iter().position(|endpoint| endpoint == address) else {
            return false;
        };
        let here = from % self.endpoints.len();
        match self.owners.get_mut(slot) {
            Some(owner) if endpoint != here => {
                *owner = endpoint as u16;
                true
            }
            _ => false,
        }
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
        assert!(topology.learn(b"12182 b:2", 0));
        assert_eq!(topology.owner(b"foo"), 1);
        assert!(!topology.learn(b"12182 c:3", 1), "an unknown node");
        assert!(!topology.learn(b"12182 b:2", 3), "a node that moves a key to itself");
        assert!(!topology.learn(b"x", 0) && !topology.learn(b"99999 a:1", 1));
        assert_eq!(Topology::single("a:1".to_owned()).owner(b"foo"), 0);
    }
}
