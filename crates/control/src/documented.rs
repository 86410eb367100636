//! Tables of `docs/control.md` that are made from code.

use std::sync::Mutex;

/// Tests run beside each other, and each writes the whole page.
static PAGE: Mutex<()> = Mutex::new(());

/// `docs/control.md` holds the table between these lines; `REMIT_BLESS=1` writes it there.
#[track_caller]
pub(crate) fn check(begin: &str, end: &str, table: &str) {
    let _alone = PAGE.lock();
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../../docs/control.md");
    let page = std::fs::read_to_string(path).unwrap();
    let (before, rest) = page.split_once(&format!("{begin}\n")).unwrap();
    let (documented, after) = rest.split_once(end).unwrap();
    if std::env::var_os("REMIT_BLESS").is_some() {
        let page = format!("{before}{begin}\n{table}{end}{after}");
        std::fs::write(path, page).unwrap();
    } else {
        assert_eq!(documented, table);
    }
}
