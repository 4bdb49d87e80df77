//! How many clients the whole node serves: the one counter that cores share on accept.

use std::sync::atomic::{AtomicU32, Ordering};

/// Connections of all cores of a node, counted, with their limit.
///
/// Shared and atomic: accepting is rare beside serving. A connection that moves between cores stays
/// counted on the way.
#[derive(Debug)]
pub struct ConnectionBudget {
    open: AtomicU32,
    max: AtomicU32,
}

impl ConnectionBudget {
    /// A budget of `max` connections.
    #[must_use]
    pub fn new(max: u32) -> Self {
        Self { open: AtomicU32::new(0), max: AtomicU32::new(max) }
    }

    /// Connections that are open now.
    #[must_use]
    pub fn open(&self) -> u32 {
        self.open.load(Ordering::Relaxed)
    }

    /// The limit.
    #[must_use]
    pub fn max(&self) -> u32 {
        self.max.load(Ordering::Relaxed)
    }

    /// Changes the limit at run time. Connections over a lowered limit stay.
    pub fn set_max(&self, max: u32) {
        self.max.store(max, Ordering::Relaxed);
    }

    /// Counts one more connection in; false if that would be one too many.
    pub(crate) fn try_enter(&self) -> bool {
        let max = self.max();
        self.open
            .fetch_update(Ordering::Relaxed, Ordering::Relaxed, |open| (open < max).then_some(open + 1))
            .is_ok()
    }

    /// Counts a connection out.
    pub(crate) fn leave(&self) {
        let before = self.open.fetch_sub(1, Ordering::Relaxed);
        debug_assert!(before > 0, "every connection that leaves has entered");
    }
}

#[cfg(test)]
mod tests {
    use super::ConnectionBudget;

    #[test]
    fn the_limit_holds_and_may_be_lowered_below_what_is_open() {
        let budget = ConnectionBudget::new(2);
        assert!(budget.try_enter() && budget.try_enter() && !budget.try_enter());
        budget.set_max(1);
        budget.leave();
        assert!(!budget.try_enter());
        budget.leave();
        assert!(budget.try_enter());
        assert_eq!(budget.open(), 1);
    }
}
