//! Control records: rkyv archives, checked before anything of them is believed.

use rkyv::rancor::Failure;

/// What a member of a group must not forget over a restart, as Raft has it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, rkyv::Archive, rkyv::Serialize, rkyv::Deserialize)]
pub struct HardState {
    /// The current term.
    pub term: u64,
    /// The node that was voted for in that term; 0: none.
    pub vote: u64,
    /// The highest index known to be committed.
    pub commit: u64,
}

/// The payload is no archive of a control record.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("a control record is not what its kind says")]
pub struct ControlError;

impl HardState {
    /// The archive.
    #[must_use]
    pub fn encode(&self) -> Vec<u8> {
        rkyv::to_bytes::<Failure>(self).expect("numbers are archived without fail").to_vec()
    }

    /// Checks and reads an archive.
    pub fn decode(bytes: &[u8]) -> Result<Self, ControlError> {
        if bytes.len() != size_of::<ArchivedHardState>() {
            return Err(ControlError);
        }
        rkyv::from_bytes::<Self, Failure>(bytes).map_err(|_| ControlError)
    }
}
