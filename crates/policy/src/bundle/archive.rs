//! The gzipped tar around a bundle's files: read within limits, written the same for the same files.

use std::io::{self, Read, Write};

use flate2::Compression;
use flate2::read::MultiGzDecoder;
use flate2::write::GzEncoder;
use tar::{Archive, EntryType, Header};

use super::{BadBundle, Files, LONGEST_ARCHIVE};
use crate::source::{LONGEST_FILE, MOST_FILES};

/// The most bytes after inflating; a gzip bomb ends here.
const MOST_BYTES: u64 = 32 << 20;

/// Folders are entries too, and cost nothing but time.
const MOST_ENTRIES: usize = 4 * MOST_FILES;

/// Reads every file of an archive.
pub(super) fn read(archive: &[u8]) -> Result<Files, BadBundle> {
    if archive.len() > LONGEST_ARCHIVE {
        return Err(BadBundle::TooMuch("16 MiB"));
    }
    let mut inflated = Vec::new();
    MultiGzDecoder::new(archive)
        .take(MOST_BYTES + 1)
        .read_to_end(&mut inflated)
        .map_err(BadBundle::Archive)?;
    if inflated.len() as u64 > MOST_BYTES {
        return Err(BadBundle::TooMuch("32 MiB after inflating"));
    }
    let mut files = Files::new();
    let mut tar = Archive::new(inflated.as_slice());
    for (index, entry) in tar.entries().map_err(BadBundle::Archive)?.enumerate() {
        if index >= MOST_ENTRIES {
            return Err(BadBundle::TooMuch("20,000 entries"));
        }
        let mut entry = entry.map_err(BadBundle::Archive)?;
        let raw = String::from_utf8(entry.path_bytes().into_owned())
            .map_err(|error| BadBundle::Name(error.to_string()))?;
        match entry.header().entry_type() {
            EntryType::Regular => {}
            EntryType::Directory => {
                let folder = raw.trim_end_matches('/');
                if !matches!(folder, "" | ".") {
                    plain(folder)?;
                }
                continue;
            }
            _ => return Err(BadBundle::Special(raw)),
        }
        let name = plain(&raw)?.to_owned();
        if files.len() >= MOST_FILES {
            return Err(BadBundle::TooMuch("5,000 files"));
        }
        let size = entry.size();
        if size > LONGEST_FILE as u64 {
            return Err(BadBundle::TooMuch("1 MiB in one file"));
        }
        let mut bytes = Vec::new();
        entry.read_to_end(&mut bytes).map_err(BadBundle::Archive)?;
        if bytes.len() as u64 != size {
            return Err(BadBundle::Archive(io::ErrorKind::UnexpectedEof.into()));
        }
        if files.insert(name.clone(), bytes).is_some() {
            return Err(BadBundle::Duplicate(name));
        }
    }
    Ok(files)
}

/// The name without the one leading `/` or `./` that archivers write.
fn plain(raw: &str) -> Result<&str, BadBundle> {
    let name = raw
        .strip_prefix("./")
        .or_else(|| raw.strip_prefix('/'))
        .unwrap_or(raw);
    check_name(name)?;
    Ok(name)
}

/// Refuses a name that leaves the bundle, or that two readers may take for two files.
pub(super) fn check_name(name: &str) -> Result<(), BadBundle> {
    let odd = |part: &str| matches!(part, "" | "." | "..");
    if name.split('/').any(odd) || name.contains(|c: char| c == '\\' || c.is_control()) {
        return Err(BadBundle::Name(name.escape_debug().to_string()));
    }
    Ok(())
}

/// Writes the files in the order of their names, without times and owners.
pub(super) fn write(files: &Files) -> Result<Vec<u8>, BadBundle> {
    let mut tar = tar::Builder::new(Vec::new());
    for (name, bytes) in files {
        let mut header = Header::new_gnu();
        header.set_size(bytes.len() as u64);
        header.set_mode(0o644);
        header.set_mtime(0);
        tar.append_data(&mut header, name, bytes.as_slice())
            .map_err(BadBundle::Archive)?;
    }
    let tar = tar.into_inner().map_err(BadBundle::Archive)?;
    let mut gzip = GzEncoder::new(Vec::new(), Compression::best());
    gzip.write_all(&tar).map_err(BadBundle::Archive)?;
    gzip.finish().map_err(BadBundle::Archive)
}
