//! A case as OPA writes it.

use regorus::Value;
use serde::Deserialize;

#[derive(Deserialize)]
struct File {
    cases: Vec<Case>,
}

/// One case.
#[derive(Clone, Deserialize)]
pub(super) struct Case {
    pub(super) note: String,
    pub(super) query: String,
    #[serde(default)]
    pub(super) modules: Vec<String>,
    #[serde(default)]
    pub(super) data: Option<Value>,
    #[serde(default)]
    pub(super) input: Option<Value>,
    /// The input as it is written in Rego.
    #[serde(default)]
    pub(super) input_term: Option<String>,
    #[serde(default)]
    pub(super) sort_bindings: bool,
    /// Whether an error of a builtin is one of the query.
    #[serde(default)]
    pub(super) strict_error: bool,
    #[serde(default)]
    want_result: Option<Vec<Value>>,
    #[serde(default)]
    want_defined: Option<bool>,
    #[serde(default)]
    want_error: Option<String>,
    #[serde(default)]
    want_error_code: Option<String>,
}

/// What OPA answers.
pub(super) enum Want {
    /// What each of its answers binds.
    Values(Vec<Value>),
    /// Whether there is any.
    Defined(bool),
    Error,
}

pub(super) fn read(text: &str) -> Result<Vec<Case>, serde_yaml::Error> {
    serde_yaml::from_str(text).map(|file: File| file.cases)
}

impl Case {
    pub(super) fn want(&self) -> Want {
        match (&self.want_result, self.want_defined) {
            _ if self.want_error.is_some() || self.want_error_code.is_some() => Want::Error,
            (Some(values), _) => Want::Values(values.clone()),
            (None, Some(defined)) => Want::Defined(defined),
            (None, None) => Want::Values(Vec::new()),
        }
    }

    /// Whether OPA refuses the modules before it evaluates anything.
    pub(super) fn wants_static_error(&self) -> bool {
        let code = self.want_error_code.as_deref();
        code.is_some_and(|code| code.starts_with("rego_"))
    }

    /// The reference that a query asks for, and what its answer is called: `data.a.b = x`.
    pub(super) fn asked(&self) -> Option<(&str, &str)> {
        let (one, other) = self.query.split_once('=')?;
        let (one, other) = (one.trim(), other.trim());
        let is_name = |text: &str| {
            text.starts_with(char::is_alphabetic)
                && text.chars().all(|one| one.is_alphanumeric() || one == '_')
        };
        let is_reference = |text: &str| text == "data" || text.starts_with("data.");
        // A key that the query looks for is another answer.
        let is_fixed =
            !one.contains(['=', ';', '{']) && !one.contains("[x]") && !one.contains("[i]");
        (is_reference(one) && is_fixed && is_name(other)).then_some((one, other))
    }
}
