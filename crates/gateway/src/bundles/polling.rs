//! Asks a server for new bundles: after a time between two bounds, after ever longer ones while it fails, at once where
//! it waits itself.

use std::sync::Arc;
use std::time::Duration;

use ring::rand::{SecureRandom, SystemRandom};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use super::shelf::Shelf;
use crate::config::Polling;
use crate::reload::Reloader;

/// How long after a failure a server is asked again; twice that after the next, and so on.
const RETRY: Duration = Duration::from_secs(1);

/// The least time between two questions to a server that says that it waits.
const BREATH: Duration = Duration::from_millis(500);

/// Asks until `stop`, and has each new bundle applied.
pub(super) async fn poll(shelf: Arc<Shelf>, reloader: Arc<Reloader>, stop: CancellationToken) {
    let Some(server) = &shelf.server else {
        return;
    };
    let polling = server.polling;
    let mut failures = 0;
    // What was kept may be old by now; what was fetched for the start is asked for with its tag.
    let mut delay = Duration::ZERO;
    loop {
        tokio::select! {
            () = stop.cancelled() => return,
            () = tokio::time::sleep(delay) => {}
        }
        let began = Instant::now();
        let asked = tokio::select! {
            biased;
            () = stop.cancelled() => return,
            asked = shelf.fetch(polling.long_polling.is_some()) => asked,
        };
        let took = began.elapsed();
        delay = match asked {
            Ok((is_new, waits)) => {
                failures = 0;
                // What was not taken may be now: it may have been another bundle's fault, or the machine's.
                let is_pending = !is_new && shelf.has_news();
                if is_new || is_pending {
                    reloader.renew(&shelf.config.name).await;
                }
                if waits && !is_pending && polling.long_polling.is_some() && took >= BREATH {
                    Duration::ZERO
                } else {
                    between(polling.min_delay, polling.max_delay)
                }
            }
            Err(problem) => {
                tracing::warn!(bundle = %shelf.config.name, error = %problem, "no new bundle");
                failures += 1;
                back_off(failures, &polling)
            }
        };
        {
            // Nobody writes down another one meanwhile, nor one that takes its place.
            let _turn = reloader.turn.lock().await;
            if stop.is_cancelled() {
                return;
            }
            let shelf = Arc::clone(&shelf);
            let keeping = tokio::task::spawn_blocking(move || shelf.keep_again());
            keeping.await.ok();
        }
        let ground = &reloader.ground;
        ground.bundles.tell(&shelf.config.name, &ground.recorder);
    }
}

/// A time between two, so that many gateways don't ask at once.
pub(crate) fn between(min: Duration, max: Duration) -> Duration {
    let mut bytes = [0; 4];
    if SystemRandom::new().fill(&mut bytes).is_err() {
        return max;
    }
    let part = f64::from(u32::from_ne_bytes(bytes)) / f64::from(u32::MAX);
    min + (max.saturating_sub(min)).mul_f64(part)
}

/// After so many failures.
pub(crate) fn back_off(failures: u32, polling: &Polling) -> Duration {
    let longest = RETRY.saturating_mul(1 << failures.min(16));
    let longest = longest.min(polling.max_delay);
    between(longest / 2, longest)
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::{back_off, between};
    use crate::config::Polling;

    #[test]
    fn a_time_is_between_its_bounds() {
        let (min, max) = (Duration::from_secs(1), Duration::from_secs(3));
        for _ in 0..100 {
            let time = between(min, max);
            assert!(time >= min && time <= max);
        }
    }
    #[test]
    fn after_each_failure_it_takes_longer_up_to_the_most() {
        let polling = Polling {
            min_delay: Duration::from_secs(10),
            max_delay: Duration::from_secs(30),
            long_polling: None,
        };
        let at_most = [2, 4, 8, 16, 30, 30];
        for (failures, most) in (1..).zip(at_most) {
            let delay = back_off(failures, &polling);
            let most = Duration::from_secs(most);
            assert!(delay >= most / 2 && delay <= most, "{failures}: {delay:?}");
        }
        assert!(back_off(u32::MAX, &polling) <= polling.max_delay);
    }
}
