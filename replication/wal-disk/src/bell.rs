//! How tasks of one core wait for each other: somebody rings, the one who waits looks whether it concerns him.

use std::cell::{Cell, RefCell};
use std::future::poll_fn;
use std::task::{Poll, Waker};

/// Rung by anybody, waited for by one task.
#[derive(Debug, Default)]
pub(crate) struct Bell {
    is_rung: Cell<bool>,
    waiting: RefCell<Option<Waker>>,
}

impl Bell {
    /// Wakes the task that waits, or the next one that will.
    pub(crate) fn ring(&self) {
        self.is_rung.set(true);
        if let Some(waker) = self.waiting.borrow_mut().take() {
            waker.wake();
        }
    }

    /// Waits for a ring since the last wait ended.
    pub(crate) async fn rung(&self) {
        poll_fn(|context| {
            if self.is_rung.take() {
                return Poll::Ready(());
            }
            *self.waiting.borrow_mut() = Some(context.waker().clone());
            Poll::Pending
        })
        .await;
    }
}
