//! Headers by which a call of S3 reaches further than its method and path say.

use call::Call;
use http::HeaderName;

use super::SigV4;

/// Amazon S3 API reference. What is copied or renamed is read by the call, and named in a header alone; the others say
/// who else may read or delete, where a website sends its readers, and for how long nobody may take it back.
fn reaches_further(name: &str) -> bool {
    matches!(
        name,
        "x-amz-copy-source"
            | "x-amz-rename-source"
            | "x-amz-acl"
            | "x-amz-object-ownership"
            | "x-amz-bypass-governance-retention"
            | "x-amz-website-redirect-location"
    ) || [
        "x-amz-grant-",
        "x-amz-object-lock-",
        "x-amz-bucket-object-lock-",
    ]
    .iter()
    .any(|start| name.starts_with(start))
}

impl SigV4 {
    /// The first header of a call that would be signed, reaches further than policy was asked, and is not allowed.
    /// In a query S3 would take them too, from where they were taken off as parts of a presigned URL.
    pub(crate) fn unwanted(&self, call: &Call) -> Option<String> {
        if !self.is_s3() {
            return None;
        }
        let mut headers = call.headers().keys().map(HeaderName::as_str);
        headers.find_map(|name| self.unwanted_name(name))
    }

    pub(super) fn unwanted_name(&self, name: &str) -> Option<String> {
        let name = name.to_ascii_lowercase().replace('_', "-");
        let is_allowed = || {
            self.allow_headers
                .iter()
                .any(|allowed| *allowed == name.as_str())
        };
        (reaches_further(&name) && !is_allowed()).then_some(name)
    }
}
