//! What bundles are read, and which are refused with which code.

use super::{BadBundle, Bundle, Manifest, PublicKey, SigningKey, Verification};
use crate::source::Source;

fn archive(entries: &[(&str, &[u8], tar::EntryType)]) -> Vec<u8> {
    let mut tar = tar::Builder::new(Vec::new());
    for (name, bytes, kind) in entries {
        let mut header = tar::Header::new_gnu();
        // Written past the checks of the library, as a hostile archiver does.
        let field = &mut header.as_old_mut().name;
        field[..name.len()].copy_from_slice(name.as_bytes());
        header.set_entry_type(*kind);
        header.set_size(bytes.len() as u64);
        header.set_cksum();
        tar.append(&header, *bytes).unwrap();
    }
    gzip(&tar.into_inner().unwrap())
}

fn gzip(bytes: &[u8]) -> Vec<u8> {
    let mut gzip = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    std::io::Write::write_all(&mut gzip, bytes).unwrap();
    gzip.finish().unwrap()
}

fn of_files(files: &[(&str, &str)]) -> Vec<u8> {
    let file = tar::EntryType::Regular;
    let entries = files
        .iter()
        .map(|(name, text)| (*name, text.as_bytes(), file));
    archive(&entries.collect::<Vec<_>>())
}

#[track_caller]
fn refused(archive: &[u8], code: &str) {
    let error = Bundle::read(archive, None).unwrap_err();
    assert_eq!(error.code(), code, "{error}");
}

const RULES: &str = "package remit.tools.t\nallow if true\n";

#[test]
fn names_as_opa_and_tar_write_them_are_read() {
    for name in ["/t.rego", "./t.rego", "t.rego"] {
        let bundle = Bundle::read(&of_files(&[(name, RULES)]), None).unwrap();
        assert_eq!(bundle.sources()[0].name(), "t.rego");
    }
}

#[test]
fn a_name_that_leaves_the_bundle_is_refused() {
    for name in [
        "../t.rego",
        "a/../t.rego",
        "//t.rego",
        "a//t.rego",
        "a\\t.rego",
        "a/./t.rego",
    ] {
        refused(&of_files(&[(name, RULES)]), "bundle-name");
    }
}

#[test]
fn links_and_devices_are_refused() {
    for kind in [
        tar::EntryType::Symlink,
        tar::EntryType::Link,
        tar::EntryType::Char,
    ] {
        refused(&archive(&[("t.rego", b"", kind)]), "bundle-special-file");
    }
}

#[test]
fn one_name_twice_is_refused() {
    refused(
        &of_files(&[("t.rego", RULES), ("/t.rego", RULES)]),
        "bundle-duplicate",
    );
}

#[test]
fn a_gzip_bomb_is_refused() {
    refused(&gzip(&vec![0; 33 << 20]), "bundle-too-large");
}

#[test]
fn too_many_or_too_long_files_are_refused() {
    let names: Vec<String> = (0..=crate::source::MOST_FILES)
        .map(|index| format!("{index}.rego"))
        .collect();
    let files: Vec<(&str, &str)> = names.iter().map(|name| (name.as_str(), "")).collect();
    refused(&of_files(&files), "bundle-too-large");
    refused(
        &of_files(&[("t.rego", &" ".repeat((1 << 20) + 1))]),
        "bundle-too-large",
    );
}

#[test]
fn every_cut_is_refused() {
    let whole = of_files(&[("t.rego", RULES)]);
    for length in 0..whole.len() {
        refused(&whole[..length], "bundle-archive");
    }
}

#[test]
fn what_opa_would_obey_and_we_would_not_is_refused() {
    for name in [
        "policy.wasm",
        "a/data.yml",
        "patch.json",
        "a/.manifest",
        ".manifest.pb",
    ] {
        refused(&of_files(&[(name, "{}")]), "bundle-unsupported");
    }
}

#[test]
fn old_rego_is_refused() {
    refused(
        &of_files(&[(".manifest", r#"{"rego_version":0}"#)]),
        "bundle-rego-version",
    );
    let by_file = r#"{"rego_version":1,"file_rego_versions":{"/t.rego":0}}"#;
    refused(&of_files(&[(".manifest", by_file)]), "bundle-rego-version");
}

#[test]
fn rules_and_data_stay_below_the_roots() {
    let manifest = (
        ".manifest",
        r#"{"revision":"7","roots":["remit/tools","teams"]}"#,
    );
    let good = [
        manifest,
        ("t.rego", RULES),
        ("teams/data.json", r#"{"a":1}"#),
        ("data.json", "{}"),
    ];
    assert_eq!(
        Bundle::read(&of_files(&good), None)
            .unwrap()
            .manifest()
            .revision,
        "7"
    );
    for bad in [
        ("t.rego", "package remit.all\n"),
        ("t.rego", "package remit.toolsx\n"),
        ("t.rego", "package\tremit[\"tools\"]\n"),
        ("data.json", r#"{"teams":{},"other":1}"#),
        ("other/data.yaml", "a: 1"),
    ] {
        refused(&of_files(&[manifest, bad]), "bundle-outside-roots");
    }
}

/// Made with `openssl genpkey`, for these tests alone.
const ES256: (&str, &str) = (
    include_str!("testdata/es256.key"),
    include_str!("testdata/es256.pub"),
);
const EDDSA: (&str, &str) = (
    include_str!("testdata/eddsa.key"),
    include_str!("testdata/eddsa.pub"),
);
const RS256: (&str, &str) = (
    include_str!("testdata/rs256.key"),
    include_str!("testdata/rs256.pub"),
);

fn verification(public: &str) -> Verification {
    Verification {
        key: PublicKey::from_pem(public).unwrap(),
        key_id: Some("k1".to_owned()),
        scope: Some("write".to_owned()),
    }
}

fn bundle() -> Bundle {
    let source = |path: &str, text: &str| Source {
        path: path.into(),
        text: text.to_owned(),
    };
    let sources = vec![
        source("t.rego", RULES),
        source("data.json", "{\"b\": 1.50, \"a\": [\"<\u{2028}\", 1e3]}"),
        source("teams/data.yaml", "x: [1, true]"),
    ];
    Bundle::new(&Manifest::default(), sources).unwrap()
}

fn signed(private: &str) -> Vec<u8> {
    let some = |text: &str| Some(text.to_owned());
    let key = SigningKey::from_pem(private, some("k1"), some("write")).unwrap();
    bundle().write(Some(&key)).unwrap()
}

#[track_caller]
fn unsound(archive: &[u8], verification: &Verification, code: &str) {
    let error = Bundle::read(archive, Some(verification)).unwrap_err();
    assert_eq!(error.code(), code, "{error}");
}

#[test]
fn each_kind_of_key_signs_and_only_its_own_half_verifies() {
    let keys = [ES256, EDDSA, RS256];
    for (signer, (private, _)) in keys.iter().enumerate() {
        let archive = signed(private);
        for (verifier, (_, public)) in keys.iter().enumerate() {
            let read = Bundle::read(&archive, Some(&verification(public)));
            assert_eq!(
                read.is_ok(),
                signer == verifier,
                "{signer} {verifier} {read:?}"
            );
        }
    }
}

#[test]
fn a_signature_is_needed_where_there_is_a_key_and_a_key_where_there_is_a_signature() {
    let unsigned = bundle().write(None).unwrap();
    unsound(&unsigned, &verification(ES256.1), "bundle-unsigned");
    refused(&signed(ES256.0), "bundle-unverified");
}

#[test]
fn another_key_id_or_scope_is_refused() {
    let archive = signed(ES256.0);
    let good = verification(ES256.1);
    let other = Some("other".to_owned());
    unsound(
        &archive,
        &Verification {
            key_id: other.clone(),
            ..good.clone()
        },
        "bundle-signature",
    );
    unsound(
        &archive,
        &Verification {
            scope: other,
            ..good.clone()
        },
        "bundle-signature",
    );
    unsound(
        &archive,
        &Verification {
            scope: None,
            ..good
        },
        "bundle-signature",
    );
}

#[test]
fn a_changed_an_added_and_a_missing_file_are_refused() {
    let sound = super::archive::read(&signed(ES256.0)).unwrap();
    let verification = verification(ES256.1);
    let mut spelled = sound.clone();
    spelled.insert(
        "data.json".into(),
        "{\"a\":[\"<\\u2028\",1e3],\"b\":1.50}".into(),
    );
    for (files, sound) in [
        (sound.clone(), true),
        (spelled, true),
        (
            {
                let mut f = sound.clone();
                f.insert("t.rego".into(), b"package t".to_vec());
                f
            },
            false,
        ),
        (
            {
                let mut f = sound.clone();
                f.insert("data.json".into(), b"{}".to_vec());
                f
            },
            false,
        ),
        (
            {
                let mut f = sound.clone();
                f.insert("notes.txt".into(), Vec::new());
                f
            },
            false,
        ),
        (
            {
                let mut f = sound.clone();
                f.remove("t.rego");
                f
            },
            false,
        ),
        (
            {
                let mut f = sound;
                f.remove(".manifest");
                f
            },
            false,
        ),
    ] {
        let read = Bundle::read(&super::archive::write(&files).unwrap(), Some(&verification));
        match (sound, read) {
            (true, read) => drop(read.unwrap()),
            (false, read) => assert!(matches!(read, Err(BadBundle::Contents(_))), "{read:?}"),
        }
    }
}

#[test]
fn the_same_files_make_the_same_archive() {
    assert_eq!(bundle().write(None).unwrap(), bundle().write(None).unwrap());
}

/// The digest was made with Go's `encoding/json`, walked as OPA does: numbers kept, keys sorted, HTML not escaped.
#[test]
fn the_one_spelling_is_that_of_go() {
    let json = super::canonical::canonical(include_str!("testdata/canonical.json")).unwrap();
    let digest = ring::digest::digest(&ring::digest::SHA256, &json);
    let expect = "e7b6c79ca2d866cf67fd1cc96e0a816d2766eae5c09003d6d0fac9ba2ee7e08d";
    assert_eq!(
        hex::encode(digest),
        expect,
        "{}",
        String::from_utf8_lossy(&json)
    );
}

#[test]
fn a_key_twice_in_signed_data_is_refused() {
    assert!(super::canonical::canonical(r#"{"a":1,"a":2}"#).is_err());
    assert!(super::canonical::canonical(r#"{"a":1,"\u0061":2}"#).is_err());
}

/// Made and signed by OPA 1.22.3: `opa build -b DIR --revision r9 --signing-alg ES256 --signing-key es256.key`.
#[test]
fn a_bundle_that_opa_made_and_signed_is_read() {
    let archive = include_bytes!("testdata/opa.tar.gz");
    let verification = Verification {
        key: PublicKey::from_pem(include_str!("testdata/es256.pub")).unwrap(),
        key_id: None,
        scope: None,
    };
    let bundle = Bundle::read(archive, Some(&verification)).unwrap();
    assert_eq!(bundle.manifest().revision, "r9");
    let names: Vec<String> = bundle.sources().iter().map(Source::name).collect();
    assert!(
        names.iter().any(|name| name.ends_with("shop.rego")),
        "{names:?}"
    );
}
