//! How often does a decision allocate? A number that no busy machine changes.
#![cfg(test)]

use benches::{Sent, World};
use policy::Ruling;
use telemetry::DecisionId;

/// Decides a call, its input's making included.
#[track_caller]
fn check(sent: Sent, most: u64) {
    let world = World::new();
    let decide = || {
        let (call, id) = (world.call(sent), DecisionId::new());
        let mut ruling = None;
        let counted = allocation_counter::measure(|| {
            let deciding = world.policy.decide(call, id);
            ruling = Some(world.runtime.block_on(deciding).unwrap());
        });
        assert!(matches!(ruling, Some(Ruling::Allow(_))));
        counted.count_total
    };
    // What is made once, by whoever comes first, is there the second time.
    decide();
    let count = decide();
    assert!(count <= most, "{} allocates {count} times", sent.name());
}

#[test]
fn the_policy_of_sixty_lines_on_two_kibibytes() {
    check(Sent::LargeMcpCall, 150);
}
#[test]
fn the_policy_of_sixty_lines() {
    check(Sent::McpCall, 90);
}

#[test]
fn a_bearer_token_that_is_known() {
    let world = World::new();
    let head = world.head(Sent::Get);
    let authenticate = || {
        let mut agent = None;
        let counted = allocation_counter::measure(|| {
            let presented = head.presented();
            let checking = world.identity.authenticate(&presented);
            agent = Some(world.runtime.block_on(checking).unwrap());
        });
        counted.count_total
    };
    authenticate();
    let count = authenticate();
    assert!(count <= 1, "it allocates {count} times");
}
