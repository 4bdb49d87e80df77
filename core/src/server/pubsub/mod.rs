//! Publish and subscribe.
//!
//! A subscription lives on the core of its connection. PUBLISH asks every core to deliver and adds
//! up the receivers: mail between two cores keeps its order, so what one connection publishes
//! reaches each subscriber in that order. Ordered maps rather than hash tables, since clients
//! choose the names.

mod commands;
mod deliver;

use std::collections::{BTreeMap, BTreeSet};

use pinnace_types::ConnId;

pub(super) use commands::SPECS;

use crate::core::Core;

/// What can be subscribed to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    /// SUBSCRIBE.
    Channel,
    /// PSUBSCRIBE.
    Pattern,
    /// SSUBSCRIBE.
    Shard,
}

type Names = BTreeSet<Box<[u8]>>;

/// What one connection is subscribed to.
#[derive(Debug, Default)]
pub struct Subscriptions {
    channels: Names,
    patterns: Names,
    shard_channels: Names,
    /// Bytes of all names.
    name_bytes: usize,
}

/// Bytes of all names that one connection may be subscribed to.
const NAME_BYTES_MAX: usize = 16 << 20;

impl Subscriptions {
    /// Channels, patterns and shard channels together.
    #[must_use]
    pub fn count(&self) -> usize {
        self.channels.len() + self.patterns.len() + self.shard_channels.len()
    }

    pub(crate) fn count_of(&self, kind: Kind) -> usize {
        self.names(kind).len()
    }

    /// The number that confirmations carry: shard channels are counted on their own.
    fn confirmed(&self, kind: Kind) -> usize {
        match kind {
            Kind::Shard => self.shard_channels.len(),
            Kind::Channel | Kind::Pattern => self.channels.len() + self.patterns.len(),
        }
    }

    fn names(&self, kind: Kind) -> &Names {
        match kind {
            Kind::Channel => &self.channels,
            Kind::Pattern => &self.patterns,
            Kind::Shard => &self.shard_channels,
        }
    }

    fn has_room(&self, name: &[u8], count_max: usize) -> bool {
        self.count() < count_max && self.name_bytes + name.len() <= NAME_BYTES_MAX
    }

    fn add(&mut self, kind: Kind, name: &[u8]) {
        if self.names_mut(kind).insert(name.into()) {
            self.name_bytes += name.len();
        }
    }

    fn remove(&mut self, kind: Kind, name: &[u8]) {
        if self.names_mut(kind).remove(name) {
            self.name_bytes -= name.len();
        }
    }

    fn names_mut(&mut self, kind: Kind) -> &mut Names {
        match kind {
            Kind::Channel => &mut self.channels,
            Kind::Pattern => &mut self.patterns,
            Kind::Shard => &mut self.shard_channels,
        }
    }
}

type Index = BTreeMap<Box<[u8]>, BTreeSet<ConnId>>;

/// Who of this core is subscribed to what.
#[derive(Debug, Default)]
pub(crate) struct PubSub {
    channels: Index,
    patterns: Index,
    shard_channels: Index,
}

impl PubSub {
    pub(crate) fn index(&self, kind: Kind) -> &Index {
        match kind {
            Kind::Channel => &self.channels,
            Kind::Pattern => &self.patterns,
            Kind::Shard => &self.shard_channels,
        }
    }

    fn index_mut(&mut self, kind: Kind) -> &mut Index {
        match kind {
            Kind::Channel => &mut self.channels,
            Kind::Pattern => &mut self.patterns,
            Kind::Shard => &mut self.shard_channels,
        }
    }

    fn add(&mut self, kind: Kind, name: &[u8], conn: ConnId) {
        let index = self.index_mut(kind);
        if let Some(subscribers) = index.get_mut(name) {
            subscribers.insert(conn);
        } else {
            index.insert(name.into(), BTreeSet::from([conn]));
        }
    }

    fn remove(&mut self, kind: Kind, name: &[u8], conn: ConnId) {
        let index = self.index_mut(kind);
        let Some(subscribers) = index.get_mut(name) else { return };
        subscribers.remove(&conn);
        if subscribers.is_empty() {
            index.remove(name);
        }
    }
}

/// Drops all subscriptions of a connection without a word to it.
pub(super) fn forget(core: &mut Core, conn: ConnId) {
    let Some(session) = core.session_mut(conn) else { return };
    let subscriptions = std::mem::take(&mut session.subscriptions);
    session.refresh();
    for kind in [Kind::Channel, Kind::Pattern, Kind::Shard] {
        for name in subscriptions.names(kind) {
            core.server.pubsub.remove(kind, name, conn);
        }
    }
}
