//! Follows every group's index through the records of a recovery: what is to be applied, what a snapshot covers, and
//! whether an entry is missing.

use pinnace_types::{LogIndex, ShardId, Term};

use crate::control::HardState;
use crate::format::RecordKind;
use crate::reader::Record;
use crate::writer::GroupStart;

/// What a record means for whoever recovers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// Apply the entry.
    Apply,
    /// A snapshot covers the entry.
    Covered,
    /// The group's hard state.
    HardState(HardState),
    /// The group's entries behind this index are void, if they have not been applied yet.
    Truncated(LogIndex),
}

/// An entry does not follow the one before it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "shard {}: the entry with term {found_term} and index {found} does not follow term {last_term}, index {last}",
    group.0
)]
pub struct GroupError {
    /// The group.
    pub group: ShardId,
    /// The last entry that was seen or is covered.
    pub last: LogIndex,
    /// Its term.
    pub last_term: Term,
    /// The entry that came.
    pub found: LogIndex,
    /// Its term.
    pub found_term: Term,
}

#[derive(Clone, Copy, Debug, Default)]
struct State {
    /// Of the snapshot.
    covered: LogIndex,
    /// Of the last entry that is to be applied, or of the snapshot.
    last: LogIndex,
    term: Term,
    hard_state: Option<HardState>,
}

/// Every group's place in its log.
#[derive(Clone, Debug)]
pub struct GroupLogs {
    groups: Vec<State>,
}

impl GroupLogs {
    /// Groups numbered below `group_count`, all at their beginning.
    #[must_use]
    pub fn new(group_count: u16) -> Self {
        Self { groups: vec![State::default(); usize::from(group_count)] }
    }

    /// A snapshot covers the group up to this entry. To be told before the group's first record.
    pub fn cover(&mut self, group: ShardId, term: Term, index: LogIndex) {
        let state = &mut self.groups[group.index()];
        (state.covered, state.last, state.term) = (index, index, term);
    }

    /// What to do with a record. Records come in the order of runs, and within a run in the order of the log.
    pub fn accept(&mut self, record: &Record<'_>) -> Result<Verdict, GroupError> {
        let found = GroupError {
            group: record.group,
            last: LogIndex(0),
            last_term: Term(0),
            found: record.index,
            found_term: record.term,
        };
        let state = self.groups.get_mut(record.group.index()).ok_or(found)?;
        let refuse = GroupError { last: state.last, last_term: state.term, ..found };
        match record.kind {
            RecordKind::HardState => {
                let hard_state = HardState::decode(record.payload).map_err(|_| refuse)?;
                state.hard_state = Some(hard_state);
                Ok(Verdict::HardState(hard_state))
            }
            RecordKind::Truncation if record.index > state.last => Err(refuse),
            RecordKind::Truncation => {
                state.last = record.index.max(state.covered);
                Ok(Verdict::Truncated(record.index))
            }
            RecordKind::Entry if record.index <= state.covered => Ok(Verdict::Covered),
            RecordKind::Entry if record.index != state.last.next() || record.term < state.term => Err(refuse),
            RecordKind::Entry => {
                (state.last, state.term) = (record.index, record.term);
                Ok(Verdict::Apply)
            }
        }
    }

    /// Term and index of the group's last entry, and its hard state if one was logged.
    #[must_use]
    pub fn last(&self, group: ShardId) -> (Term, LogIndex, Option<HardState>) {
        let state = &self.groups[group.index()];
        (state.term, state.last, state.hard_state)
    }

    /// Where the next run's writer begins with the groups of `owned`.
    pub fn starts(&self, owned: impl IntoIterator<Item = ShardId>) -> Vec<GroupStart> {
        let start = |group| {
            let (term, index, _) = self.last(group);
            GroupStart { group, term: term.max(Term(1)), index }
        };
        owned.into_iter().map(start).collect()
    }
}
