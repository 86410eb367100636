//! A policy as one file: built, signed, verified, and served only where its signature holds.

use std::path::Path;
use std::process::Output;

use serde_json::Value;
use testkit::Site;
use testkit::remit::until;

const REMIT: &str = env!("CARGO_BIN_EXE_remit");
const OPEN: &str = "package remit.all\n\nallow if true\n";

/// The keys of the tests of `policy`.
fn key(name: &str) -> String {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../policy/src/bundle/testdata");
    folder.join(name).display().to_string()
}

fn site() -> Site {
    let site = Site::new(REMIT);
    site.write("source/all.rego", OPEN);
    site
}

#[track_caller]
fn bundle(site: &Site, arguments: &[&str]) -> Output {
    let all: Vec<&str> = ["policy", "bundle"]
        .iter()
        .chain(arguments)
        .copied()
        .collect();
    site.command(&all)
}

#[track_caller]
fn does(output: &Output) {
    assert!(output.status.success(), "{output:?}");
}

#[track_caller]
fn refuses(output: &Output, code: &str) {
    assert!(!output.status.success());
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(said.contains(code), "{said}");
}

fn config(site: &Site, policy: &str) {
    let listen = "listen: { calls: 127.0.0.1:0, control: 127.0.0.1:0 }\n";
    let tools =
        "tools: { notes: { upstream: \"http://127.0.0.1:9\", access: { read: [\"GET /**\"] } } }\n";
    site.write("remit.yaml", &format!("{listen}policy: {policy}\n{tools}"));
}

#[test]
fn a_bundle_is_built_signed_verified_and_shown() {
    let site = site();
    does(&bundle(
        &site,
        &["build", "source", "--revision", "r1", "-o", "b.tar.gz"],
    ));
    refuses(
        &bundle(&site, &["verify", "b.tar.gz", "--key", &key("es256.pub")]),
        "not signed",
    );
    does(&bundle(
        &site,
        &[
            "sign",
            "b.tar.gz",
            "--key",
            &key("es256.key"),
            "--key-id",
            "k1",
        ],
    ));
    does(&bundle(
        &site,
        &[
            "verify",
            "b.tar.gz",
            "--key",
            &key("es256.pub"),
            "--key-id",
            "k1",
        ],
    ));
    refuses(
        &bundle(&site, &["verify", "b.tar.gz", "--key", &key("eddsa.pub")]),
        "signature",
    );
    refuses(
        &bundle(
            &site,
            &[
                "verify",
                "b.tar.gz",
                "--key",
                &key("es256.pub"),
                "--key-id",
                "k2",
            ],
        ),
        "signature",
    );
    let shown = site.command(&["policy", "bundle", "inspect", "b.tar.gz", "--json"]);
    let shown: Value = serde_json::from_slice(&shown.stdout).unwrap();
    assert_eq!(shown.pointer("/manifest/revision").unwrap(), "r1");
    assert_eq!(shown.pointer("/files/0/path").unwrap(), "all.rego");
    assert_eq!(shown.pointer("/signed").unwrap(), true);
}

#[test]
fn a_broken_policy_is_no_bundle() {
    let site = site();
    site.write("source/all.rego", "package remit.all\n\nallow if {");
    refuses(&bundle(&site, &["build", "source"]), "all.rego:3");
    assert!(!site.path("bundle.tar.gz").exists());
}

#[test]
fn a_gateway_takes_what_is_signed_and_nothing_else() {
    let site = site();
    let build = ["build", "source", "-o", "policy.tar.gz"];
    does(&bundle(&site, &build));
    let verify = format!("verify: {{ key: {} }}", key("eddsa.pub"));
    config(&site, &format!("{{ path: policy.tar.gz, {verify} }}"));
    let serve = ["serve", "--config", "remit.yaml", "--state", "state"];
    refuses(&site.command(&serve), "bundle-unsigned");
    does(&bundle(
        &site,
        &["sign", "policy.tar.gz", "--key", &key("eddsa.key")],
    ));
    let remit = site.serve();
    let before = remit.status()["policy_revision"].clone();

    // A bundle of somebody else changes nothing; one that is signed does.
    site.write(
        "source/all.rego",
        &format!("{OPEN}\nwarnings contains \"new\"\n"),
    );
    does(&bundle(
        &site,
        &[&build[..], &["--key", &key("es256.key")]].concat(),
    ));
    until("the wrong signature is told", || {
        remit.status()["last_reload"]["error"]
            .to_string()
            .contains("signature")
    });
    assert_eq!(remit.status()["policy_revision"], before);
    does(&bundle(
        &site,
        &[&build[..], &["--key", &key("eddsa.key")]].concat(),
    ));
    until("the new policy is taken", || {
        remit.status()["policy_revision"] != before
    });
}

#[test]
fn a_folder_is_not_taken_where_a_signature_is_asked_for() {
    let site = site();
    config(
        &site,
        &format!(
            "{{ path: source, verify: {{ key: {} }} }}",
            key("eddsa.pub")
        ),
    );
    let serve = ["serve", "--config", "remit.yaml", "--state", "state"];
    refuses(&site.command(&serve), "a folder has no signature");
}
