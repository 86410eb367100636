//! The parameters of an OAuth request.

use url::form_urlencoded;

use crate::oauth_refusal::OAuthRefusal;

/// The parameters of an OAuth request (RFC 6749 appendix B), in their order. What nobody asks for is passed over
/// (RFC 6749 section 3.2).
pub(crate) struct Parameters(Vec<(String, String)>);

impl Parameters {
    /// Reads a form. One without a value counts as left out (RFC 6749 section 3.2).
    pub(crate) fn read(body: &[u8]) -> Result<Self, OAuthRefusal> {
        let pairs: Vec<_> = form_urlencoded::parse(body)
            .filter(|(_, value)| !value.is_empty())
            .map(|(name, value)| (name.into_owned(), value.into_owned()))
            .collect();
        // The parser puts one where bytes are no UTF-8.
        let is_broken = |text: &String| text.contains(char::REPLACEMENT_CHARACTER);
        if pairs
            .iter()
            .any(|(name, value)| is_broken(name) || is_broken(value))
        {
            return Err(OAuthRefusal::NotForm);
        }
        Ok(Self(pairs))
    }

    /// The one value of a parameter, if it is there.
    pub(crate) fn one(&self, name: &'static str) -> Result<Option<&str>, OAuthRefusal> {
        let mut values = self.all(name);
        let first = values.next();
        if values.next().is_some() {
            return Err(OAuthRefusal::parameter(name, "is there more than once"));
        }
        Ok(first)
    }

    /// The one value of a parameter that must be there.
    pub(crate) fn required(&self, name: &'static str) -> Result<&str, OAuthRefusal> {
        self.one(name)?
            .ok_or_else(|| OAuthRefusal::parameter(name, "is missing"))
    }

    /// Every value of a parameter that may be there more than once.
    pub(crate) fn all(&self, name: &'static str) -> impl Iterator<Item = &str> {
        self.0
            .iter()
            .filter(move |(other, _)| other == name)
            .map(|(_, value)| value.as_str())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(body: &str, name: &'static str, expect: Result<Option<&str>, &str>) {
        let read = Parameters::read(body.as_bytes());
        let found = read
            .as_ref()
            .map_err(OAuthRefusal::code)
            .and_then(|read| read.one(name).map_err(|refusal| refusal.code()));
        assert_eq!(found, expect);
    }

    #[test]
    fn a_parameter_is_decoded() {
        check("a=1&b=x+y%26z", "b", Ok(Some("x y&z")));
    }
    #[test]
    fn one_without_a_value_is_left_out() {
        check("a=&b=1", "a", Ok(None));
        check("a&b=1", "a", Ok(None));
        check("a=&a=1", "a", Ok(Some("1")));
    }
    #[test]
    fn one_twice_is_refused() {
        check("a=1&a=1", "a", Err("invalid_parameter"));
        check("a=1&%61=2", "a", Err("invalid_parameter"));
    }
    #[test]
    fn what_is_no_text_is_refused() {
        check("a=%ff", "a", Err("form_required"));
        check("%ff=1", "a", Err("form_required"));
    }
}
