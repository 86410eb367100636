//! Proves an audit file whole, or says where it is not.

use std::fs::File;
use std::io::{BufRead, BufReader, Read};
use std::path::Path;

use super::chain::{Head, hash, link, read_head};

/// An audit file that is whole.
#[derive(Clone, Debug, Eq, PartialEq)]
#[non_exhaustive]
pub struct Verified {
    /// How many lines it has.
    pub lines: u64,
    /// The hash of the last one, 64 hex digits (zeros where there is none): note it elsewhere, and nobody can
    /// replace the file unseen.
    pub last_hash: String,
}

/// An audit file that isn't.
#[derive(Clone, Debug, Eq, PartialEq, thiserror::Error)]
#[error("line {line}: {why}")]
#[non_exhaustive]
pub struct Broken {
    /// The first line that doesn't fit, from 1.
    pub line: u64,
    /// Why it doesn't.
    pub why: String,
}

/// No line of ours is longer: a path is bounded by the head of a request.
const LONGEST: u64 = 1024 * 1024;

/// Reads a whole audit file and checks its chain, and that the end which `<path>.head` notes is there. It
/// may be read while a gateway writes it; memory stays bounded however long it is.
///
/// The chain has no key: it shows any change by one who couldn't rewrite all that follows. Against one who
/// could, keep [`Verified::last_hash`] where he can't reach it.
///
/// # Errors
/// The first line that was edited, taken out, put in or moved, or that is torn; or that the file can't be read.
pub fn verify(path: &Path) -> Result<Verified, Broken> {
    // The note before the file: a gateway may go on writing, and the note must not be the newer one.
    let noted = read_head(path).map_err(|e| broken(0, format!("`.head` can't be read: {e}")))?;
    let file = File::open(path).map_err(|e| broken(0, e.to_string()))?;
    let mut reader = BufReader::with_capacity(256 * 1024, file);
    let mut head = Head::none();
    let mut line = Vec::new();
    loop {
        line.clear();
        let number = head.seq + 1;
        let read = reader.by_ref().take(LONGEST).read_until(b'\n', &mut line);
        match read {
            Ok(0) => break,
            Ok(_) => head = check(number, &head, &line)?,
            Err(e) => return Err(broken(number, e.to_string())),
        }
        if let Some(noted) = noted
            .as_ref()
            .filter(|noted| noted.seq == head.seq && noted.hash != head.hash)
        {
            return Err(broken(
                noted.seq,
                "it isn't the line that was written: all up to here was replaced",
            ));
        }
    }
    match noted {
        Some(noted) if noted.seq > head.seq => Err(broken(
            head.seq + 1,
            format!("it was cut off here; {} lines had been written", noted.seq),
        )),
        Some(_) | None => Ok(Verified {
            lines: head.seq,
            last_hash: head.hash,
        }),
    }
}

fn check(number: u64, head: &Head, line: &[u8]) -> Result<Head, Broken> {
    if line.last() != Some(&b'\n') {
        return Err(broken(
            number,
            "it is torn: a crash, or a gateway that is still writing",
        ));
    }
    let link = link(line).ok_or_else(|| broken(number, "it isn't a line of the audit"))?;
    if link.prev != head.hash {
        return Err(broken(
            number,
            "it doesn't follow the line before: one of them was edited, moved or taken out",
        ));
    }
    if link.seq != number {
        return Err(broken(
            number,
            format!("it says that it is line {}", link.seq),
        ));
    }
    Ok(Head {
        seq: number,
        hash: hash(line),
    })
}

fn broken(line: u64, why: impl Into<String>) -> Broken {
    Broken {
        line,
        why: why.into(),
    }
}
