//! The real parts that tests run against: fetched once into `.components/`, pinned by `tests/components/`.
//!
//! Afterwards `.components/python/bin/python` and `.components/bin/node` run the fixtures, `.components/spire/bin`
//! has SPIRE, and nginx, curl, h2load and wrk are on the machine.

pub(crate) mod debian;
pub(crate) mod envoy;
mod node;
mod python;
mod spire;

use std::fs;
use std::path::Path;

use crate::house::House;
use crate::process::Failed;

/// Brings every part up to its manifest. What is there already is left alone.
pub(crate) fn fetch(house: &House) -> Result<(), Failed> {
    let folder = house.components();
    fs::create_dir_all(&folder).map_err(Failed::file(&folder))?;
    debian::fetch()?;
    python::fetch(house)?;
    node::fetch(house)?;
    spire::fetch(house)
}

/// Makes `folder` anew unless it was made from just this manifest.
///
/// The manifest is written into it last, so what was interrupted is made again.
fn make(
    name: &str,
    folder: &Path,
    manifest: &str,
    fill: impl FnOnce() -> Result<(), Failed>,
) -> Result<(), Failed> {
    let stamp = folder.join("made-from");
    if fs::read_to_string(&stamp).is_ok_and(|made_from| made_from == manifest) {
        println!("{name}: there");
        return Ok(());
    }
    println!("{name}: fetching");
    if folder.exists() {
        fs::remove_dir_all(folder).map_err(Failed::file(folder))?;
    }
    fs::create_dir_all(folder).map_err(Failed::file(folder))?;
    fill()?;
    fs::write(&stamp, manifest).map_err(Failed::file(&stamp))
}

fn text(path: &Path) -> Result<String, Failed> {
    fs::read_to_string(path).map_err(Failed::file(path))
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::path::Path;

    use super::make;
    use crate::process::Failed;

    /// Whether a folder is filled that was filled `before` with manifest `a`, and is now to have `manifest`.
    #[track_caller]
    fn check(before: Result<(), Failed>, manifest: &str, expect_filled: bool) {
        let folder = tempfile::tempdir().unwrap();
        let folder: &Path = &folder.path().join("part");
        make("part", folder, "a", || before).ok();
        let mut filled = false;
        make("part", folder, manifest, || {
            filled = true;
            Ok(())
        })
        .unwrap();
        assert_eq!(filled, expect_filled);
        assert_eq!(
            fs::read_to_string(folder.join("made-from")).unwrap(),
            manifest
        );
    }

    #[test]
    fn a_part_is_fetched_once() {
        check(Ok(()), "a", false);
    }

    #[test]
    fn a_changed_manifest_fetches_again() {
        check(Ok(()), "b", true);
    }

    #[test]
    fn what_was_interrupted_is_fetched_again() {
        check(Err(Failed::Lacks("interrupted".to_owned())), "a", true);
    }
}
