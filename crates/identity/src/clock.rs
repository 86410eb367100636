//! The time that tokens are judged by.

use std::time::{SystemTime, UNIX_EPOCH};

/// How far ahead of ours the clock of whoever minted a token may be, in seconds.
///
/// Hosts that keep time by NTP differ by far less. It is given for `iat` and `nbf` only: a token
/// is never taken after its `exp`.
pub(crate) const LEEWAY: i64 = 5;

/// Seconds since the epoch. A clock that can't be read makes every token expired.
pub(crate) fn now() -> i64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH);
    since
        .ok()
        .and_then(|since| i64::try_from(since.as_secs()).ok())
        .unwrap_or(i64::MAX)
}
