//! Older revisions do not come back where that is not wished.

use super::*;

#[test]
fn an_older_revision_is_refused_even_after_a_restart() {
    let world = World::new();
    let shop = Shop::open(&world.site, None);
    let policy = shop.policy("rollback: refuse, ");
    shop.put("/b", rules("v1.10.0", READ_ONLY));
    let remit = world.serve(&policy);
    assert!(is_revision(&remit, "company", "v1.10.0"));
    for (revision, code) in [("v1.9.0", "bundle-rollback"), ("main", "bundle-revision")] {
        shop.put("/b", rules(revision, OPEN));
        until(code, || problem(&remit, "company") == code);
        assert!(is_revision(&remit, "company", "v1.10.0"));
    }
    assert!(remit.stop());
    shop.put("/b", rules("v1.9.0", OPEN));
    let remit = world.serve(&policy);
    until("it is refused again", || {
        problem(&remit, "company") == "bundle-rollback"
    });
    assert!(is_revision(&remit, "company", "v1.10.0"));
    shop.put("/b", rules("v1.11", OPEN));
    until("a later one counts", || {
        is_revision(&remit, "company", "v1.11")
    });
}

#[test]
fn a_revision_that_counted_for_one_call_is_written_down() {
    let world = World::new();
    let shop = Shop::open(&world.site, None);
    let policy = shop.policy("rollback: refuse, ");
    shop.put("/b", rules("8", OPEN));
    let remit = world.serve(&policy);
    assert_eq!(post(&remit, &token(&remit)), StatusCode::OK);
    // Nothing more is written.
    remit.kill();
    shop.put("/b", rules("7", OPEN));
    let remit = world.serve(&policy);
    until("it is refused", || {
        problem(&remit, "company") == "bundle-rollback"
    });
    assert!(is_revision(&remit, "company", "8"));
}

#[test]
fn the_latest_revision_is_never_lowered() {
    let world = World::new();
    let shop = Shop::open(&world.site, None);
    shop.put("/b", rules("8", OPEN));
    let remit = world.serve(&shop.policy(""));
    // One that is older counts while that is accepted.
    shop.put("/b", rules("7", OPEN));
    until("the older counts", || is_revision(&remit, "company", "7"));
    let refused = reload(&world, &remit, &shop.policy("rollback: refuse, "), "");
    assert!(refused.to_string().contains("bundle-rollback"), "{refused}");
    assert!(remit.stop());
    // What is kept is older, too, and so it does not count.
    let remit = world.serve(&shop.policy("rollback: refuse, "));
    assert_eq!(bundle(&remit, "company")["active_revision"], Value::Null);
    shop.put("/b", rules("9", OPEN));
    until("a later one counts", || is_revision(&remit, "company", "9"));
}

#[test]
fn another_bundle_of_the_same_revision_is_refused() {
    let world = World::new();
    let shop = Shop::open(&world.site, None);
    shop.put("/b", rules("8", READ_ONLY));
    let remit = world.serve(&shop.policy("rollback: refuse, "));
    shop.put("/b", rules("8.0", OPEN));
    until("it is refused", || {
        problem(&remit, "company") == "bundle-revision"
    });
    assert_eq!(post(&remit, &token(&remit)), StatusCode::FORBIDDEN);
}

#[test]
fn where_it_is_not_known_what_the_latest_was_nothing_counts() {
    let world = World::new();
    let shop = Shop::open(&world.site, None);
    let policy = shop.policy("rollback: refuse, ");
    shop.put("/b", rules("8", OPEN));
    let remit = world.serve(&policy);
    let token = token(&remit);
    assert!(remit.stop());
    let label = world.site.path("state/bundles/company.json");
    std::fs::write(&label, "{").unwrap();
    let remit = world.serve(&policy);
    assert_eq!(problem(&remit, "company"), "bundle-not-kept");
    assert_eq!(post(&remit, &token), StatusCode::FORBIDDEN);
    // Whoever takes it away says that any revision may count.
    std::fs::remove_file(&label).unwrap();
    until("it counts", || is_revision(&remit, "company", "8"));
    assert_eq!(post(&remit, &token), StatusCode::OK);
    assert!(remit.stop());
    std::fs::write(&label, "{").unwrap();
    // Where any revision may count it is no harm.
    let remit = world.serve(&shop.policy(""));
    assert!(is_revision(&remit, "company", "8"));
    assert!(remit.stop());
    // And what counts now is known again.
    let remit = world.serve(&policy);
    assert!(is_revision(&remit, "company", "8"));
}

#[test]
fn what_can_not_be_written_down_does_not_count() {
    let world = World::new();
    let shop = Shop::open(&world.site, None);
    shop.put("/b", rules("8", OPEN));
    let remit = world.serve(&shop.policy("rollback: refuse, "));
    let token = token(&remit);
    // A folder where its file would be written: root may write everywhere else.
    let draft = world.site.path("state/bundles/company.draft");
    std::fs::create_dir(&draft).unwrap();
    shop.put("/b", rules("9", READ_ONLY));
    until("it is refused", || {
        problem(&remit, "company") == "bundle-not-kept"
    });
    assert_eq!(post(&remit, &token), StatusCode::OK);
    // What counts needs no writing: a reload is taken.
    let taken = reload(&world, &remit, &shop.policy("rollback: refuse, "), "");
    assert!(taken["policy_revision"].is_string(), "{taken}");
    std::fs::remove_dir(&draft).unwrap();
    until("then it counts", || is_revision(&remit, "company", "9"));
    assert_eq!(problem(&remit, "company"), "");
    assert_eq!(post(&remit, &token), StatusCode::FORBIDDEN);
}

#[test]
fn what_was_not_kept_is_kept_later() {
    let world = World::new();
    let shop = Shop::open(&world.site, None);
    shop.put("/b", rules("8", OPEN));
    let remit = world.serve(&shop.policy(""));
    let kept = world.site.path("state/bundles/company.json");
    let draft = world.site.path("state/bundles/company.draft");
    std::fs::create_dir(&draft).unwrap();
    shop.put("/b", rules("9", OPEN));
    until("it counts", || is_revision(&remit, "company", "9"));
    let text = || std::fs::read_to_string(&kept).unwrap();
    assert!(text().contains("\"8\""), "{}", text());
    std::fs::remove_dir(&draft).unwrap();
    until("it is kept", || text().contains("\"9\""));
}

#[test]
fn a_start_writes_nothing_that_is_written() {
    let world = World::new();
    let shop = Shop::open(&world.site, None);
    let policy = shop.policy("rollback: refuse, ");
    shop.put("/b", rules("8", OPEN));
    let remit = world.serve(&policy);
    let token = token(&remit);
    assert!(remit.stop());
    std::fs::create_dir(world.site.path("state/bundles/company.draft")).unwrap();
    let remit = world.serve(&policy);
    assert_eq!(post(&remit, &token), StatusCode::OK);
}
