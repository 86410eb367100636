//! One flight: obtains one lease, writes it down before use, and takes back what came too late.

use std::panic::AssertUnwindSafe;
use std::sync::Arc;
use std::time::Duration;

use futures::FutureExt;
use tasks::StoreError;
use tokio::time::timeout;

use super::book::{Landed, Ticket};
use super::{Closing, Shared};
use crate::lease::{Asking, Failure, Lease, Line, Source, State};
use crate::{Obtained, Provider, ProviderError, Revocation, Secret, Unavailable, Wish, lease};

/// How long a provider may take: longer than any token endpoint needs, short enough that no call waits for ever.
const OBTAIN_PATIENCE: Duration = Duration::from_secs(60);

/// How long taking back may take: nobody waits for it but the end of a task.
const REVOKE_PATIENCE: Duration = Duration::from_secs(10);

/// The obtaining of one lease. It goes on when those who wait for it go away.
#[derive(Debug)]
pub(super) struct Mint {
    shared: Arc<Shared>,
    provider: Arc<dyn Provider>,
    wish: Wish,
    token: Option<Secret>,
    ticket: Box<Ticket>,
    line: Line,
    /// Whether a secret may exist that did not arrive.
    is_lost: bool,
}

impl Mint {
    pub(super) fn new(
        shared: Arc<Shared>,
        asking: &Asking<'_>,
        source: &Source,
        ticket: Box<Ticket>,
        now: i64,
    ) -> Self {
        let wish = asking.wish(now);
        let resumed = ticket.resumed.as_deref().cloned();
        let line = resumed.unwrap_or_else(|| Line {
            id: ticket.id.to_string(),
            key: (*ticket.key).clone(),
            state: State::Obtaining,
            outcome: None,
            handle: None,
            decision: asking.decision.to_owned(),
            obtained_at: now,
            ends_at: now.saturating_add_unsigned(wish.ttl_seconds),
            dies_at: None,
            ending: None,
        });
        Self {
            shared,
            provider: Arc::clone(&source.provider),
            wish,
            token: asking.token_for(source.provider.as_ref()),
            ticket,
            line,
            is_lost: false,
        }
    }

    /// Flies: obtains, lands, tells those who wait, and only then takes back what is left over. What the lease replaces is
    /// taken back meanwhile.
    pub(super) async fn fly(mut self) {
        let over = std::mem::take(&mut self.ticket.over);
        if !over.is_empty() {
            let shared = Arc::clone(&self.shared);
            drop(tokio::spawn(async move { shared.take_back(over).await }));
        }
        let obtained = self.obtain().await;
        let mut leftover: Option<Closing> = None;
        let landing = {
            let mut book = self.shared.book.write();
            let landing = match obtained {
                Ok(lease) => match book.land(&self.wish.task, self.ticket.id, &lease) {
                    Landed::Kept => Ok(lease),
                    Landed::TooLate => {
                        leftover = Some(Closing::of(&lease));
                        Err(self.failed("lease was taken back while it was obtained"))
                    }
                },
                Err(unavailable) => {
                    let resumed = self.ticket.resumed.take();
                    let left = book.crash(&self.wish.task, self.ticket.id, resumed);
                    // Its line stands, as after a crash: it is taken back without a handle, or listed.
                    let lost = self.is_lost.then(|| Arc::new(self.line.clone()));
                    let left = left.or(lost);
                    leftover = left.map(|line| Closing {
                        line,
                        provider: Some(Arc::clone(&self.provider)),
                    });
                    Err(unavailable)
                }
            };
            if let Some(closing) = &leftover {
                book.closing(&closing.line);
            }
            landing
        };
        if let (Some(lease), Err(error)) = (&self.ticket.renews, &landing) {
            lease.renewal_failed(lease::now());
            tracing::warn!(lease = %lease.id, %error, "lease could not be renewed before its end");
        }
        // Nobody waits any more? The lease is there for the next call.
        self.ticket.landing.send_replace(Some(landing));
        if let Some(closing) = leftover {
            Arc::clone(&self.shared).take_back(vec![closing]).await;
        }
    }

    async fn obtain(&mut self) -> Result<Arc<Lease>, Unavailable> {
        if self.wish.ttl_seconds == 0 {
            return Err(self.failed("decision leaves the lease no life"));
        }
        if self.ticket.resumed.is_some() {
            // Its line stands, and says `active`.
            let obtained = self.ask().await?;
            return Ok(self.lease(obtained));
        }
        self.shared.ledger.put(&self.line).await?;
        let obtained = match self.ask().await {
            Ok(obtained) => obtained,
            Err(unavailable) => {
                if !self.is_lost {
                    self.forget().await;
                }
                return Err(unavailable);
            }
        };
        self.activate(&obtained);
        if self.line.ends_at <= lease::now() {
            self.give_back().await;
            return Err(self.failed("credential was expired on arrival"));
        }
        if let Err(error) = self.shared.ledger.put(&self.line).await {
            self.give_back().await;
            return Err(error.into());
        }
        Ok(self.lease(obtained))
    }

    async fn ask(&mut self) -> Result<Obtained, Unavailable> {
        let asked = self.provider.obtain_for(&self.wish, self.token.as_ref());
        let asked = AssertUnwindSafe(asked).catch_unwind();
        let lost = |cause: &str| Err(ProviderError::Lost(cause.to_owned()));
        let asked = match timeout(OBTAIN_PATIENCE, asked).await {
            Ok(Ok(asked)) => asked,
            Ok(Err(_panic)) => lost("provider panicked"),
            Err(_elapsed) => lost("provider took too long"),
        };
        let tool = || self.wish.tool.as_str().to_owned();
        match asked {
            Ok(obtained) => Ok(obtained),
            Err(ProviderError::BridgeExpired(until)) => Err(Unavailable::BridgeExpired {
                tool: tool(),
                until,
            }),
            Err(ProviderError::ConsentRequired(link)) => {
                Err(Unavailable::ConsentRequired { tool: tool(), link })
            }
            Err(ProviderError::Lost(cause)) => {
                // What reads its secret anew makes none.
                self.is_lost = !self.provider.rereads();
                Err(self.failed(&cause))
            }
            Err(ProviderError::Failed(cause)) => Err(self.failed(&cause)),
        }
    }

    /// Writes the secret's life into the line: never longer than asked, whatever the provider says.
    fn activate(&mut self, obtained: &Obtained) {
        let now = lease::now();
        let life = obtained.ttl_seconds;
        self.line.state = State::Active;
        self.line.handle = obtained.handle.clone();
        self.line.dies_at = life.map(|seconds| now.saturating_add_unsigned(seconds));
        self.line.ends_at = self.line.ends_at.min(self.line.dies_at.unwrap_or(i64::MAX));
    }

    fn lease(&self, obtained: Obtained) -> Arc<Lease> {
        Arc::new(Lease::new(
            Arc::new(self.line.clone()),
            Arc::clone(&self.provider),
            obtained.material,
        ))
    }

    /// Takes back a secret that was never used; if that fails, it is tried again.
    async fn give_back(&self) {
        if self.line.dead(lease::now()) {
            return self.forget().await;
        }
        match self.shared.revoke(&self.provider, &self.line).await {
            Ok(_) => self.forget().await,
            Err(failure) => {
                let line = Arc::new(self.line.failed(failure, lease::now()));
                let provider = Some(Arc::clone(&self.provider));
                self.shared.settle(vec![Closing { line, provider }]).await;
            }
        }
    }

    /// Takes out the line of a lease that never came to be.
    async fn forget(&self) {
        let forgotten: Result<(), StoreError> = self
            .shared
            .ledger
            .delete(&[Arc::new(self.line.clone())])
            .await;
        // Unwritten, it is found at the next start, and taken back then.
        if let Err(error) = forgotten {
            tracing::warn!(%error, lease = %self.line.id, "lease not taken out of the ledger");
        }
    }

    fn failed(&self, cause: &str) -> Unavailable {
        Unavailable::Provider {
            tool: self.wish.tool.as_str().to_owned(),
            cause: cause.to_owned(),
        }
    }
}

/// Takes a lease back at its upstream.
pub(super) async fn revoke(provider: &dyn Provider, line: &Line) -> Result<Revocation, Failure> {
    let view = line.view(lease::now());
    let revoked = async {
        match &line.handle {
            Some(handle) => provider.revoke_by_handle(&view, handle).await,
            None => provider.revoke(&view).await,
        }
    };
    let revoked = AssertUnwindSafe(revoked).catch_unwind();
    match timeout(REVOKE_PATIENCE, revoked).await {
        Ok(Ok(Revocation::Revoked)) => Ok(Revocation::Revoked),
        // What a provider says of expiry is believed only if it told when.
        Ok(Ok(Revocation::ExpiresAt | Revocation::DropOnly)) => Ok(unrevoked(line)),
        Ok(Ok(Revocation::Failed)) => Err(Failure::Failed),
        Ok(Err(_panic)) => Err(Failure::Panic),
        Err(_elapsed) => Err(Failure::Timeout),
    }
}

/// What becomes of a lease that nobody takes back.
pub(super) fn unrevoked(line: &Line) -> Revocation {
    match line.dies_at {
        Some(_) => Revocation::ExpiresAt,
        None => Revocation::DropOnly,
    }
}
