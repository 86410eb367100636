//! The example policy loads, and says of each case what the matrix says.

use policy::Policy;

#[test]
fn the_example_loads() {
    let findings = Policy::check(Policy::example());
    assert!(findings.is_empty(), "{findings:#?}");
}
