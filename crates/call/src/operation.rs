//! Which operation of a tool is asked for.

use http::Method;
use tasks::Access;

/// Finds the operation: of the patterns that match, the first of the class that reaches deepest
/// (execute before write before read).
pub(crate) fn choose<P>(
    patterns: &[(Access, P)],
    matches: impl Fn(&P) -> bool,
) -> Option<(Access, &P)> {
    let mut found: Option<(Access, &P)> = None;
    for (access, pattern) in patterns {
        let is_deeper = found.is_none_or(|(best, _)| *access > best);
        if is_deeper && matches(pattern) {
            found = Some((*access, pattern));
        }
    }
    found
}

/// Whether a route pattern names a method itself, rather than by `*`.
pub(crate) fn names_method(pattern: &str, method: &Method) -> bool {
    pattern
        .split_whitespace()
        .next()
        .is_some_and(|named| named == method.as_str())
}

/// The method that patterns are asked about: HEAD is GET, unless a pattern names it.
pub(crate) fn judged<'m>(
    method: &'m Method,
    mut patterns: impl Iterator<Item = &'m str>,
) -> &'m str {
    if *method == Method::HEAD && !patterns.any(|pattern| names_method(pattern, method)) {
        return "GET";
    }
    method.as_str()
}

#[cfg(test)]
mod tests;
