//! Places and turns of transactions.

use std::time::Duration;

use super::*;
use crate::testing::Disk;

async fn adopted() -> (tempfile::TempDir, Arc<Adopted>) {
    let folder = tempfile::tempdir().unwrap();
    let adopted = Adopted::load(Disk::open(folder.path())).await.unwrap();
    (folder, adopted)
}

#[tokio::test]
async fn the_transactions_of_an_issuer_are_bounded_in_number() {
    let (_folder, adopted) = adopted().await;
    let reserve = || adopted.reserve("https://one.example", usize::MAX);
    let places: Vec<_> = (0..REMEMBERED).map(|_| reserve().unwrap()).collect();
    let full = reserve().unwrap_err();
    assert!(
        matches!(full, Unadoptable::TooManyRemembered { .. }),
        "{full}"
    );
    // Another issuer has its own, and a place that is not taken is free again.
    adopted
        .reserve("https://other.example", usize::MAX)
        .unwrap();
    drop(places);
    reserve().unwrap();
}

#[tokio::test]
async fn one_at_a_time_adopts_a_transaction() {
    let (_folder, adopted) = adopted().await;
    let first = adopted.turn("one").await;
    // Another transaction waits for nobody.
    drop(adopted.turn("other").await);
    let waiting = tokio::spawn({
        let adopted = Arc::clone(&adopted);
        async move { drop(adopted.turn("one").await) }
    });
    tokio::time::sleep(Duration::from_millis(20)).await;
    assert!(!waiting.is_finished());
    drop(first);
    waiting.await.unwrap();
    assert!(adopted.turns.lock().is_empty());
}
