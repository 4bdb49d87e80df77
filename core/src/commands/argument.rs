//! Arguments that several families read the same way.

use pinnace_engine::value::integer;
use pinnace_types::Limits;

use super::refusal::{NOT_AN_INTEGER, Refusal, TOO_LONG};

const BAD_BIT_OFFSET: &str = "ERR bit offset is not an integer or out of range";

/// A 64-bit integer.
pub(super) fn integer(text: &[u8]) -> Result<i64, Refusal> {
    integer::parse(text).ok_or(Refusal::Text(NOT_AN_INTEGER))
}

/// The offset of a bit in a string of at most the longest length.
pub(super) fn bit_offset(text: &[u8], limits: &Limits) -> Result<u64, Refusal> {
    scaled_bit_offset(text, 1, limits)
}

/// As [`bit_offset`], in units of `width` bits.
pub(super) fn scaled_bit_offset(text: &[u8], width: u8, limits: &Limits) -> Result<u64, Refusal> {
    integer::parse(text)
        .and_then(|offset| u64::try_from(offset).ok()?.checked_mul(u64::from(width)))
        .filter(|offset| offset / 8 < limits.value_bytes_max)
        .ok_or(Refusal::Text(BAD_BIT_OFFSET))
}

/// Refuses a value that would be longer than allowed.
pub(super) fn check_length(len: u64, limits: &Limits) -> Result<(), Refusal> {
    if len > limits.value_bytes_max { Err(TOO_LONG.into()) } else { Ok(()) }
}
