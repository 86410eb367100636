//! A text that must not be seen.

use zeroize::Zeroizing;

use crate::ProviderError;

/// A secret. It never shows itself, is exposed only with a stated reason, and is wiped.
///
/// **Invariant.** It is not empty and holds no CR, LF or NUL, so it can't end a header line early.
///
/// It has no text form, and there is one of it:
///
/// ```compile_fail,E0277
/// fn show(secret: credentials::Secret) -> String {
///     format!("{secret}")
/// }
/// ```
/// ```compile_fail,E0599
/// fn copy(secret: credentials::Secret) -> credentials::Secret {
///     secret.clone()
/// }
/// ```
/// ```compile_fail,E0277
/// fn write(secret: credentials::Secret) -> Result<String, serde_json::Error> {
///     serde_json::to_string(&secret)
/// }
/// ```
/// ```compile_fail,E0423
/// let unchecked = credentials::Secret(Vec::new().into());
/// ```
pub struct Secret(Zeroizing<Vec<u8>>);

impl Secret {
    /// Hides a text. Refuses CR, LF, NUL and emptiness; what is refused is wiped.
    pub fn new(text: Vec<u8>) -> Result<Self, ProviderError> {
        Self::from_wiped(Zeroizing::new(text))
    }

    /// Hides a text that is wiped already, as [`Secret::new`] does.
    pub(crate) fn from_wiped(text: Zeroizing<Vec<u8>>) -> Result<Self, ProviderError> {
        if text.is_empty() {
            return Err(ProviderError::Failed("secret is empty".into()));
        }
        if text.iter().any(|byte| matches!(byte, b'\r' | b'\n' | 0)) {
            return Err(ProviderError::Failed(
                "secret holds a line break or NUL".into(),
            ));
        }
        Ok(Self(text))
    }

    /// The text.
    pub fn expose(&self) -> &[u8] {
        &self.0
    }
}

impl std::fmt::Debug for Secret {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Secret(..)")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(text: &[u8], accepted: bool) {
        assert_eq!(Secret::new(text.to_vec()).is_ok(), accepted, "{text:?}");
    }

    #[test]
    fn a_key_is_a_secret() {
        check(b"sk-1234", true);
    }
    #[test]
    fn nothing_is_none() {
        check(b"", false);
    }
    #[test]
    fn a_line_feed_could_start_a_header() {
        check(b"key\nx-admin: 1", false);
    }
    #[test]
    fn a_carriage_return_could_too() {
        check(b"key\rx-admin: 1", false);
    }
    #[test]
    fn a_nul_could_end_one() {
        check(b"key\0", false);
    }
    #[test]
    fn debug_tells_nothing() {
        let secret = Secret::new(b"sk-1234".to_vec()).unwrap();
        assert_eq!(format!("{secret:?}"), "Secret(..)");
    }
    #[test]
    fn its_refusal_does_not_repeat_it() {
        let refusal = Secret::new(b"sk-1234\n".to_vec()).unwrap_err();
        assert!(!format!("{refusal} {refusal:?}").contains("sk-1234"));
    }
}
