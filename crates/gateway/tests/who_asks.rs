//! Agents that prove who they are by what their platform gave them, against the built gateway: X.509-SVIDs, workload
//! identity tokens, service accounts of a cluster.
#![expect(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    reason = "a failure here fails a test"
)]

#[path = "who_asks/token_review.rs"]
mod token_review;
#[path = "who_asks/wimse.rs"]
mod wimse;
#[path = "who_asks/x509_svid.rs"]
mod x509_svid;

use std::path::PathBuf;

use reqwest::StatusCode;
use reqwest::blocking::{Client, RequestBuilder, Response};
use serde_json::{Value, json};
use testkit::remit::Remit;
use testkit::{Answer, Site, Upstream};

const REMIT: &str = env!("CARGO_BIN_EXE_remit");

/// A gateway in front of one tool, with a policy that asks how the agent proved itself.
struct World {
    site: Site,
    remit: Remit,
    http: Client,
    upstream: Upstream,
}

impl World {
    /// `config` is what the config says besides of its tool; `method` is what the policy wants.
    fn start(site: Site, config: &str, method: &str) -> Self {
        let upstream = site.run(Upstream::start(Answer::json(json!({ "notes": [] }))));
        site.write(
            "policy/notes.rego",
            &format!("package remit.tools.notes\n\nallow if input.agent.method == \"{method}\"\n"),
        );
        site.write("remit.yaml", &with_tool(config, &upstream));
        Self {
            remit: site.serve(),
            http: testkit::http(),
            upstream,
            site,
        }
    }

    /// A task of an agent, and its token.
    fn task(&self, agent: &str) -> (String, String) {
        self.remit.open_task(&["--tool", "notes", "--agent", agent])
    }

    fn request(&self, task: &str) -> RequestBuilder {
        let request = self.http.get(self.remit.call("/notes/notes"));
        request.header("agent-task", task)
    }

    /// The call is refused with this code, and the upstream sees nothing of it.
    #[track_caller]
    fn refused(&self, request: RequestBuilder, code: &str) {
        self.upstream.forget();
        refused(request.send().unwrap(), code);
        assert!(self.upstream.received().is_empty());
    }

    /// Has the gateway take another config of the same tool.
    fn reconfigure(&self, config: &str) -> PathBuf {
        let path = self.site.path("remit.yaml");
        let text = with_tool(config, &self.upstream);
        self.site.replace("remit.yaml", &text);
        path
    }
}

fn with_tool(config: &str, upstream: &Upstream) -> String {
    format!(
        "{config}
policy: {{ path: policy }}
tools:
  notes:
    upstream: {}
    access: {{ read: [\"GET /**\"] }}
    strip: refuse
",
        upstream.url()
    )
}

#[track_caller]
fn refused(answer: Response, code: &str) {
    let status = answer.status();
    let problem: Value = answer.json().unwrap();
    assert_eq!(problem["code"], code, "{problem}");
    let expected = match code {
        "issuer_unavailable" => StatusCode::SERVICE_UNAVAILABLE,
        "invalid_wit" | "invalid_wpt" | "wpt_replayed" => StatusCode::BAD_REQUEST,
        "unknown_task" => StatusCode::FORBIDDEN,
        _ => StatusCode::UNAUTHORIZED,
    };
    assert_eq!(status, expected, "{problem}");
}

#[track_caller]
fn allowed(answer: Response) {
    let status = answer.status();
    assert_eq!(status, StatusCode::OK, "{}", answer.text().unwrap());
}
