//! SPIRE gives the agent its SVIDs and the gateway the bundles.

use reqwest::StatusCode;
use reqwest::blocking::{Client, Response};
use serde_json::{Value, json};
use testkit::certificates::Certified;
use testkit::{Answer, Authority, Site, Spire, TrustDomain, Upstream};

use super::REMIT;

const AGENT: &str = "spiffe://example.org/agents/triage";

#[test]
fn a_spire_agent_gives_svids_that_tell_who_asks() {
    let spire = Spire::start("example.org", AGENT);
    let site = Site::new(REMIT);
    let upstream = site.run(Upstream::start(Answer::json(json!({ "notes": [] }))));
    let gateway = Authority::new("gateways");
    let own = gateway.server(&["127.0.0.1"]);
    site.write("server.pem", &own.certificate);
    site.secret("server.key", &own.key);
    let rule = r#"allow if input.agent.method == input.request.query.by"#;
    site.write(
        "policy/notes.rego",
        &format!("package remit.tools.notes\n\n{rule}\n"),
    );
    site.write(
        "remit.yaml",
        &format!(
            "listen:
  calls: 127.0.0.1:0
  control: 127.0.0.1:0
  tls: {{ certificate: server.pem, key: server.key, client_certificates: optional }}
identity:
  spiffe:
    audience: remit
    svids: [jwt, x509]
    workload_api: \"unix://{}\"
    trust_domains: [{{ name: example.org }}]
policy: {{ path: policy }}
tools:
  notes:
    upstream: {}
    access: {{ read: [\"GET /**\"] }}
",
            spire.socket().display(),
            upstream.url()
        ),
    );
    let remit = site.serve();
    let (task, token) = remit.open_task(&["--tool", "notes", "--agent", AGENT]);
    let call = |certified: Option<&Certified>, bearer: Option<&str>, by: &str| -> Response {
        let tls = gateway.client_config(certified);
        let http = Client::builder().no_proxy().tls_backend_preconfigured(tls);
        let url = remit.call(&format!("/notes/notes?by={by}"));
        let request = http.build().unwrap().get(url).header("agent-task", &task);
        match bearer {
            Some(token) => request.bearer_auth(token).send().unwrap(),
            None => request.send().unwrap(),
        }
    };
    let code = |answer: Response| {
        let problem: Value = answer.json().unwrap();
        problem["code"].as_str().unwrap().to_owned()
    };
    let (jwt, x509) = (spire.jwt_svid("remit"), spire.x509_svid());
    assert_eq!(call(None, Some(&jwt), "jwt_svid").status(), StatusCode::OK);
    assert_eq!(
        call(Some(&x509), None, "x509_svid").status(),
        StatusCode::OK
    );
    assert_eq!(
        call(Some(&x509), Some(&jwt), "jwt_svid").status(),
        StatusCode::OK
    );
    assert_eq!(
        call(Some(&x509), Some(&token), "x509_svid").status(),
        StatusCode::OK
    );

    let for_others = spire.jwt_svid("others");
    assert_eq!(
        code(call(None, Some(&for_others), "jwt_svid")),
        "invalid_proof"
    );
    let namesake = TrustDomain::new("example.org");
    let forged = namesake.svid("agents/triage", "remit");
    assert_eq!(code(call(None, Some(&forged), "jwt_svid")), "invalid_proof");
    let forged = namesake.x509_svid("agents/triage");
    assert_eq!(
        code(call(Some(&forged), None, "x509_svid")),
        "invalid_proof"
    );
}
