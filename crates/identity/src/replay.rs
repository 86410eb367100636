//! The proofs that were used already.

use std::collections::{HashMap, HashSet};
use std::mem;

use parking_lot::Mutex;

use crate::Unauthenticated;
use crate::digest::Digest;

/// How many proofs are remembered at most: about 60 MiB, and 8,000 calls a second at the default `max_age`.
const ALL: usize = 1_000_000;

/// How many of these one key may take, so that an agent in a loop does not fill it for all others.
const EACH: usize = 200_000;

/// The proofs that were used within a window of time, and maybe some that are older.
///
/// **Invariant.** A use within the window is never forgotten: when there is no room left, nothing new is
/// taken.
#[derive(Debug)]
pub(crate) struct Replay {
    /// Seconds.
    window: i64,
    room: Room,
    used: Mutex<Used>,
}

#[derive(Clone, Copy, Debug)]
struct Room {
    all: usize,
    each: usize,
}

/// Two buckets that take turns: what falls out of the older one is older than the window.
#[derive(Debug)]
struct Used {
    /// When the newer one was begun, in seconds since the epoch.
    begun: i64,
    newer: Bucket,
    older: Bucket,
}

/// The `jti` of proofs, by the thumbprint of their key.
#[derive(Debug, Default)]
struct Bucket {
    by_key: HashMap<Digest, HashSet<Digest>>,
    count: usize,
}

impl Replay {
    /// Remembers every use for at least `window` seconds.
    pub(crate) fn new(window: i64, now: i64) -> Self {
        let room = Room {
            all: ALL,
            each: EACH,
        };
        Self::with_room(window, now, room)
    }

    fn with_room(window: i64, now: i64, room: Room) -> Self {
        let used = Used {
            begun: now,
            newer: Bucket::default(),
            older: Bucket::default(),
        };
        Self {
            window,
            room,
            used: Mutex::new(used),
        }
    }

    /// Takes note of the use of a proof; refuses one that was used before.
    pub(crate) fn note(&self, key: &Digest, jti: &str, now: i64) -> Result<(), Unauthenticated> {
        let jti = Digest::of(jti.as_bytes());
        let mut used = self.used.lock();
        used.turn(self.window, now);
        if used.newer.holds(key, &jti) || used.older.holds(key, &jti) {
            return Err(Unauthenticated::ProofReplayed);
        }
        let all = used.newer.count + used.older.count;
        let of_key = used.newer.len(key) + used.older.len(key);
        if all >= self.room.all || of_key >= self.room.each {
            return Err(Unauthenticated::Busy);
        }
        used.newer.by_key.entry(*key).or_default().insert(jti);
        used.newer.count += 1;
        Ok(())
    }
}

impl Used {
    fn turn(&mut self, window: i64, now: i64) {
        let age = now.saturating_sub(self.begun);
        if age < window {
            return;
        }
        self.older = mem::take(&mut self.newer);
        if age >= window.saturating_mul(2) {
            self.older = Bucket::default();
        }
        self.begun = now;
    }
}

impl Bucket {
    fn holds(&self, key: &Digest, jti: &Digest) -> bool {
        self.by_key.get(key).is_some_and(|used| used.contains(jti))
    }

    fn len(&self, key: &Digest) -> usize {
        self.by_key.get(key).map_or(0, HashSet::len)
    }
}

#[cfg(test)]
mod tests {
    use super::{Digest, Replay, Room};

    const NOW: i64 = 1_000;
    const WINDOW: i64 = 65;

    /// Uses of `key/jti` at seconds after the start, and which are refused.
    #[track_caller]
    fn check(uses: &[(&str, i64, &str)]) {
        let room = Room { all: 4, each: 3 };
        let replay = Replay::with_room(WINDOW, NOW, room);
        for (proof, after, expect) in uses {
            let (key, jti) = proof.split_once('/').unwrap();
            let noted = replay.note(&Digest::of(key.as_bytes()), jti, NOW + after);
            let answer = noted.map_or_else(|error| error.to_string(), |()| "taken".to_owned());
            assert!(answer.contains(expect), "{proof} after {after}: {answer}");
        }
    }

    #[test]
    fn a_proof_is_taken_once() {
        check(&[
            ("a/1", 0, "taken"),
            ("a/1", 0, "already"),
            ("a/1", 64, "already"),
        ]);
    }
    #[test]
    fn a_jti_is_that_of_one_key() {
        check(&[("a/1", 0, "taken"), ("b/1", 0, "taken")]);
    }
    #[test]
    fn a_use_at_the_end_of_a_bucket_is_known_for_the_whole_window() {
        check(&[
            ("a/1", 64, "taken"),
            ("a/1", 65, "already"),
            ("a/1", 128, "already"),
            ("a/1", 129, "already"),
        ]);
    }
    #[test]
    fn a_use_is_forgotten_in_the_end() {
        check(&[
            ("a/1", 0, "taken"),
            ("b/1", 65, "taken"),
            ("a/1", 130, "taken"),
        ]);
        check(&[("a/1", 0, "taken"), ("a/1", 500, "taken")]);
    }
    #[test]
    fn when_it_is_full_nothing_is_forgotten_for_what_is_new() {
        check(&[
            ("a/1", 0, "taken"),
            ("a/2", 0, "taken"),
            ("b/1", 0, "taken"),
            ("b/2", 70, "taken"),
            ("c/1", 70, "too many"),
            ("a/1", 70, "already"),
            ("c/1", 200, "taken"),
        ]);
    }
    #[test]
    fn one_key_does_not_fill_it_for_all() {
        check(&[
            ("a/1", 0, "taken"),
            ("a/2", 0, "taken"),
            ("a/3", 0, "taken"),
            ("a/4", 0, "too many"),
            ("b/1", 0, "taken"),
        ]);
    }
    #[test]
    fn a_clock_set_back_forgets_nothing() {
        check(&[("a/1", 10, "taken"), ("a/1", -500, "already")]);
    }
}
