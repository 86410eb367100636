//! The table in `docs/refusals.md` is what the gateway answers; `REMIT_BLESS=1` writes it anew.

// Tells clippy that helpers of tests may unwrap too.
#![cfg(test)]

use std::fmt::Write as _;
use std::path::Path;

#[test]
fn the_table_is_that_of_the_gateway() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../docs/refusals.md");
    let found = std::fs::read_to_string(&path).unwrap();
    let (before, rest) = found.split_once("<!-- codes -->\n").unwrap();
    let (_, after) = rest.split_once("<!-- end -->\n").unwrap();
    let expected = format!("{before}<!-- codes -->\n{}<!-- end -->\n{after}", table());
    if std::env::var_os("REMIT_BLESS").is_some() {
        std::fs::write(&path, &expected).unwrap();
        return;
    }
    assert!(
        found == expected,
        "docs/refusals.md is old: run this with REMIT_BLESS=1"
    );
}

fn table() -> String {
    let mut codes = proxy::CODES.to_vec();
    codes.sort_by_key(|code| code.status.as_u16());
    let mut table = String::from("| status | code | what to do |\n|---|---|---|\n");
    for code in codes {
        let status = code.status.as_u16();
        writeln!(table, "| {status} | `{}` | {} |", code.code, code.hint).unwrap();
    }
    table
}
