//! How much of a budget holds live items.
