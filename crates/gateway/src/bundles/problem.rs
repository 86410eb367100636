//! What is wrong with a bundle.

use std::fmt;

use control::BundleProblem;
use reqwest::StatusCode;

/// Problems of a bundle that came well, and does not count.
const OF_POLICY: [&str; 3] = [
    "bundle-policy",
    "bundle-overlapping-roots",
    "bundle-not-kept",
];

/// What is wrong with a bundle.
#[derive(Clone, Debug)]
pub(crate) struct Problem {
    pub(super) code: &'static str,
    message: String,
    /// The status of an answer, where that is what is wrong.
    pub(crate) status: Option<StatusCode>,
}

impl Problem {
    pub(crate) fn new(code: &'static str, message: impl Into<String>) -> Self {
        Self {
            code,
            message: message.into(),
            status: None,
        }
    }

    /// An answer that is no bundle.
    pub(crate) fn of_status(status: StatusCode) -> Self {
        let advice = match status {
            StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN => ": look at its `token`",
            StatusCode::NOT_FOUND => ": look at its `url`",
            _ if status.is_redirection() => ": redirects are not followed, name the place itself",
            _ => "",
        };
        Self {
            status: Some(status),
            ..Self::new(
                "bundle-server",
                format!("the server answers {status}{advice}"),
            )
        }
    }

    pub(super) fn told(&self) -> BundleProblem {
        BundleProblem {
            code: self.code.to_owned(),
            message: self.message.clone(),
            http_status: self.status.map(|status| status.as_u16()),
        }
    }
}

impl From<policy::BadBundle> for Problem {
    fn from(error: policy::BadBundle) -> Self {
        Self::new(error.code(), error.to_string())
    }
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} ({})", self.message, self.code)
    }
}

/// Whether a bundle came well, and does not count.
pub(super) fn is_of_policy(problem: &BundleProblem) -> bool {
    OF_POLICY.contains(&problem.code.as_str())
}
