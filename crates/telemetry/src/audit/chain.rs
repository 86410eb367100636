//! The file itself, and the chain of its lines.

use std::fs::{self, File, OpenOptions, Permissions, TryLockError};
use std::io::{self, Read, Seek, SeekFrom, Write};
use std::os::unix::fs::{OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};

use ring::digest::{SHA256, digest};
use serde::{Deserialize, Serialize};

use super::line::Line;
use crate::digits;
use crate::json::Object;

/// An audit file, open for appending, held by this process alone, mode 0600.
#[derive(Debug)]
pub(super) struct Chain {
    file: File,
    /// Devices can't be cut back; only tests and the desperate write to them.
    regular: bool,
    /// Bytes of whole lines.
    length: u64,
    /// Did a failed write leave part of a line after them?
    torn: bool,
    head: Head,
    buffer: Vec<u8>,
}

/// A place in the chain: the number of a line and its hash.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
pub(super) struct Head {
    /// The line's number, from 1; 0 before the first.
    pub(super) seq: u64,
    /// SHA-256 of the whole line with its line feed, 64 hex digits, so that `sed -n 7p audit | sha256sum`
    /// shows what line 8 must hold; 64 zeros before the first.
    pub(super) hash: String,
}

/// What every line begins with.
#[derive(Deserialize)]
pub(super) struct Link {
    pub(super) seq: u64,
    pub(super) prev: String,
}

/// The audit file can't be used.
#[derive(Debug, thiserror::Error)]
pub(super) enum Unusable {
    #[error("audit `{0}`: {1}")]
    Io(PathBuf, #[source] io::Error),
    #[error("audit `{0}` is written by another process")]
    Locked(PathBuf),
    #[error(
        "audit `{0}` ends in a line that is none of ours; see `remit audit verify`, or move the file away"
    )]
    Foreign(PathBuf),
    #[error(
        "audit `{path}` ends with line {found}, but line {noted} had been written: it was cut or replaced; \
         see `remit audit verify`, or move it and its `.head` away"
    )]
    Cut {
        path: PathBuf,
        found: u64,
        noted: u64,
    },
}

impl Head {
    /// Before the first line.
    pub(super) fn none() -> Self {
        Self {
            seq: 0,
            hash: "0".repeat(64),
        }
    }
}

impl Chain {
    /// Opens or makes the file and goes on after its last whole line.
    pub(super) fn open(path: &Path) -> Result<Self, Unusable> {
        let failed = |e| Unusable::Io(path.to_owned(), e);
        let mut file = private().read(true).open(path).map_err(failed)?;
        let meta = file.metadata().map_err(failed)?;
        if !meta.is_file() {
            return Ok(Self {
                file,
                regular: false,
                length: 0,
                torn: false,
                head: Head::none(),
                buffer: Vec::new(),
            });
        }
        // The file's, not the name's: it goes when the process goes, however that ends.
        match file.try_lock() {
            Ok(()) => {}
            Err(TryLockError::WouldBlock) => return Err(Unusable::Locked(path.to_owned())),
            Err(TryLockError::Error(e)) => return Err(failed(e)),
        }
        // The file may be older than this gateway: nobody else reads it from now on.
        if meta.permissions().mode() & 0o777 != 0o600 {
            let owner_only = Permissions::from_mode(0o600);
            file.set_permissions(owner_only).map_err(failed)?;
        }
        let (last, torn) = tail(&mut file, meta.len()).map_err(failed)?;
        let head = match &last {
            Some(last) => Head {
                seq: link(last)
                    .ok_or_else(|| Unusable::Foreign(path.to_owned()))?
                    .seq,
                hash: hash(last),
            },
            None => Head::none(),
        };
        check_head(path, &head)?;
        let torn_length = u64::try_from(torn.len()).unwrap_or(u64::MAX);
        let length = meta.len().saturating_sub(torn_length);
        let mut chain = Self {
            file,
            regular: true,
            length,
            torn: false,
            head,
            buffer: Vec::new(),
        };
        if !torn.is_empty() {
            chain.recover(path, &torn).map_err(failed)?;
        }
        Ok(chain)
    }

    /// Moves the rest of a torn line to `<file>.torn` and says so in the chain.
    fn recover(&mut self, path: &Path, torn: &[u8]) -> io::Result<()> {
        let aside = beside(path, "torn");
        let mut copy = private().open(&aside)?;
        copy.write_all(torn)?;
        copy.write_all(b"\n")?;
        copy.sync_data()?;
        self.file.set_len(self.length)?;
        self.append([Line::Recovered(torn.len(), &hash(torn))])?;
        let (bytes, aside) = (torn.len(), aside.display());
        tracing::warn!(bytes, %aside, "audit ended in a torn line, which was moved aside");
        Ok(())
    }

    /// Writes lines, all or none of them.
    pub(super) fn append<'a>(
        &mut self,
        lines: impl IntoIterator<Item = Line<'a>>,
    ) -> io::Result<()> {
        let mut head = self.head.clone();
        self.buffer.clear();
        for line in lines {
            let start = self.buffer.len();
            let seq = head.seq + 1;
            let mut object = Object::open(&mut self.buffer);
            object.value("seq", seq);
            object.plain("prev", |text| text.extend_from_slice(head.hash.as_bytes()));
            line.write(&mut object);
            object.close();
            self.buffer.push(b'\n');
            head = Head {
                seq,
                hash: hash(self.buffer.get(start..).unwrap_or_default()),
            };
        }
        if self.torn {
            self.cut_back()?;
        }
        if let Err(e) = self.file.write_all(&self.buffer) {
            self.torn = true;
            self.cut_back()?;
            return Err(e);
        }
        self.length += u64::try_from(self.buffer.len()).unwrap_or_default();
        self.head = head;
        Ok(())
    }

    /// Takes off what a failed write left, at once and, should that fail, before the next write.
    fn cut_back(&mut self) -> io::Result<()> {
        if self.regular {
            self.file.set_len(self.length)?;
        }
        self.torn = false;
        Ok(())
    }

    /// The last line.
    pub(super) fn head(&self) -> Head {
        self.head.clone()
    }

    /// The same open file, to be synced elsewhere; nothing for what can't be synced.
    pub(super) fn share(&self) -> io::Result<Option<File>> {
        if self.regular {
            self.file.try_clone().map(Some)
        } else {
            Ok(None)
        }
    }
}

/// Appends to a file that only its owner may read.
fn private() -> OpenOptions {
    let mut options = OpenOptions::new();
    options.append(true).create(true).mode(0o600);
    options
}

/// The last whole line, with its line feed, and what comes after it.
fn tail(file: &mut File, length: u64) -> io::Result<(Option<Vec<u8>>, Vec<u8>)> {
    // A line holds a path, which a head of 64 KiB bounds; two whole ones surely fit the first step.
    let mut window = 256 * 1024;
    loop {
        let from = length.saturating_sub(window);
        file.seek(SeekFrom::Start(from))?;
        let mut end = Vec::new();
        Read::by_ref(file)
            .take(length - from)
            .read_to_end(&mut end)?;
        let whole = end.iter().rposition(|b| *b == b'\n').map_or(0, |at| at + 1);
        let torn = end.split_off(whole);
        let before = end.split_last().map_or(&[][..], |(_, before)| before);
        let start = before.iter().rposition(|b| *b == b'\n').map(|at| at + 1);
        match start {
            Some(start) => return Ok((Some(end.split_off(start)), torn)),
            None if from == 0 => return Ok(((!end.is_empty()).then_some(end), torn)),
            None => window *= 4,
        }
    }
}

/// The noted head must be in the file, else its end was cut off.
fn check_head(path: &Path, found: &Head) -> Result<(), Unusable> {
    let noted = read_head(path).map_err(|e| Unusable::Io(beside(path, "head"), e))?;
    match noted {
        Some(noted)
            if noted.seq > found.seq || (noted.seq == found.seq && noted.hash != found.hash) =>
        {
            Err(Unusable::Cut {
                path: path.to_owned(),
                found: found.seq,
                noted: noted.seq,
            })
        }
        Some(_) | None => Ok(()),
    }
}

/// What `<file>.head` says, if there is one.
pub(super) fn read_head(path: &Path) -> io::Result<Option<Head>> {
    match fs::read(beside(path, "head")) {
        Ok(text) => Ok(Some(serde_json::from_slice(&text)?)),
        Err(e) if e.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(e) => Err(e),
    }
}

/// `<file>.<ending>`.
pub(super) fn beside(path: &Path, ending: &str) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(".");
    name.push(ending);
    name.into()
}

/// The link of a line; nothing where it isn't one.
pub(super) fn link(line: &[u8]) -> Option<Link> {
    serde_json::from_slice(line).ok()
}

/// SHA-256 as 64 hex digits.
pub(super) fn hash(bytes: &[u8]) -> String {
    let mut digits = Vec::with_capacity(64);
    digits::hex(digest(&SHA256, bytes).as_ref(), &mut digits);
    // Digits are UTF-8.
    String::from_utf8(digits).unwrap_or_default()
}
