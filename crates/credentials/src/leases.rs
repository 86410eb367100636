//! Every lease of this gateway: found in memory, written down before use, ended with its task.

mod book;
mod ledger;
mod mint;

use std::collections::{HashMap, HashSet};
use std::sync::Arc;
use std::time::Duration;

use futures::stream::{self, StreamExt};
use parking_lot::RwLock;
use tasks::{Store, StoreError, TaskId, ToolName};
use tokio::time::Instant;

use self::book::{Boarding, Book};
use self::ledger::Ledger;
use crate::lease::{self, Asking, Lease, Line, Source, State};
use crate::{LeaseView, Provider, Revocation, Unavailable};

/// How many leases are taken back at once: an upstream that gave out thousands must not get as many requests in a moment.
const AT_ONCE: usize = 64;

/// Every lease of this gateway; outlives a reload.
///
/// **Invariant.** No provider is asked before the ledger says so, and no secret is used before the ledger knows
/// its life. A secret that arrives after its task ended is taken back and never used.
#[derive(Debug)]
pub struct Leases {
    shared: Arc<Shared>,
}

/// What the flights that obtain and take back secrets share with [`Leases`]: they go on when a caller goes away.
#[derive(Debug)]
struct Shared {
    ledger: Ledger,
    /// Read for nanoseconds by each call, written only when a lease is obtained or ended; never held over an await.
    book: RwLock<Book>,
    /// The configured providers by name and digest, for leases that were read back from the ledger.
    providers: RwLock<HashMap<(String, String), Arc<dyn Provider>>>,
}

impl Leases {
    /// Loads the ledger; leases of tasks for which `open` says no are dropped.
    ///
    /// They stay listed until [`Leases::sweep`] takes them back, which needs the providers of
    /// [`Credentials::new`](crate::Credentials::new). Of the others those go on whose provider reads its secret anew;
    /// the rest is taken back then too, since nobody holds their secrets any more.
    ///
    /// Fails where the store fails or holds a line that can't be read: a lease that is not understood can't be ended.
    pub async fn load(
        store: Arc<dyn Store>,
        open: impl Fn(&TaskId) -> bool + Send + Sync,
    ) -> Result<Arc<Self>, StoreError> {
        let ledger = Ledger::new(store);
        let mut book = Book::default();
        for line in ledger.lines().await?.into_iter().map(Arc::new) {
            if line.state == State::Ended {
                book.keep_ended(line);
            } else if open(&line.key.task) {
                book.keep(line);
            } else {
                book.orphans.push(line);
            }
        }
        let pruned = book.prune();
        ledger.delete(&pruned).await?;
        Ok(Arc::new(Self {
            shared: Arc::new(Shared {
                ledger,
                book: RwLock::new(book),
                providers: RwLock::default(),
            }),
        }))
    }

    /// All leases, newest first.
    pub fn list(&self) -> Vec<LeaseView> {
        let now = lease::now();
        let mut lines = self.shared.book.read().lines();
        lines.sort_unstable_by(|a, b| b.id.cmp(&a.id));
        lines.iter().map(|line| line.view(now)).collect()
    }

    fn of(&self, is_meant: impl Fn(&Line) -> bool) -> Vec<LeaseView> {
        let now = lease::now();
        let mut lines = self.shared.book.read().lines();
        lines.retain(|line| is_meant(line));
        lines.sort_unstable_by(|a, b| b.id.cmp(&a.id));
        lines.iter().map(|line| line.view(now)).collect()
    }

    /// Drops all leases of a task. Each answers with its outcome; asking twice answers the same.
    ///
    /// To be called after the task's own token is cancelled: from then on a secret that is still being obtained
    /// is taken back on arrival.
    pub async fn end(&self, task: &TaskId) -> Vec<LeaseView> {
        let closing = self.shared.book.write().close(task);
        self.take_back(closing).await;
        let now = lease::now();
        let book = self.shared.book.read();
        let ended = book.ended.iter().filter(|line| line.key.task == *task);
        ended.map(|line| line.view(now)).collect()
    }

    /// Drops all leases of these tasks, side by side, and answers with what became of them; whoever else ends them at the
    /// same time is waited for, for so long.
    pub async fn conclude(&self, tasks: &[TaskId], patience: Duration) -> Vec<LeaseView> {
        let closing: Vec<_> = {
            let mut book = self.shared.book.write();
            tasks.iter().flat_map(|task| book.close(task)).collect()
        };
        let deadline = Instant::now() + patience;
        // It goes on when it is not waited for any more.
        let taken_back = tokio::time::timeout_at(deadline, self.take_back(closing)).await;
        let mut told = taken_back.unwrap_or_default();
        let tasks: HashSet<&TaskId> = tasks.iter().collect();
        let is_meant = |line: &Line| tasks.contains(&line.key.task);
        let settled = self.settled(is_meant, deadline).await;
        // Only the newest stay listed: of many, those that were just taken back are told nowhere else.
        let known: HashSet<String> = told.iter().map(|lease| lease.id.clone()).collect();
        told.extend(
            settled
                .into_iter()
                .filter(|lease| !known.contains(&lease.id)),
        );
        told
    }

    /// Drops all leases for a tool, whatever their tasks; answers with what became of those that were live.
    ///
    /// To be called after the calls to it are cut: from then on a secret that is still being obtained is taken back on
    /// arrival.
    pub async fn conclude_tool(&self, tool: &ToolName, patience: Duration) -> Vec<LeaseView> {
        let closing = self.shared.book.write().close_tools(|other| other == tool);
        let meant: HashSet<String> = closing.iter().map(|each| each.line.id.clone()).collect();
        let taking_back = self.take_back(closing);
        // It goes on when it is not waited for any more.
        let taken_back = tokio::time::timeout(patience, taking_back).await;
        taken_back.unwrap_or_else(|_| self.of(|line| meant.contains(&line.id)))
    }

    /// Drops the leases for a tool of the tasks that are meant; answers with what became of them.
    pub async fn conclude_of(
        &self,
        tool: &ToolName,
        is_meant: impl Fn(&TaskId) -> bool,
        patience: Duration,
    ) -> Vec<LeaseView> {
        let closing = self.shared.book.write().close_of(tool, is_meant);
        let meant: HashSet<String> = closing.iter().map(|each| each.line.id.clone()).collect();
        let taking_back = self.take_back(closing);
        // It goes on when it is not waited for any more.
        let taken_back = tokio::time::timeout(patience, taking_back).await;
        taken_back.unwrap_or_else(|_| self.of(|line| meant.contains(&line.id)))
    }

    /// What became of leases, once it is known of all of them or the time is over.
    async fn settled(&self, is_meant: impl Fn(&Line) -> bool, deadline: Instant) -> Vec<LeaseView> {
        let mut pause = Duration::from_millis(5);
        loop {
            let told = self.of(&is_meant);
            if told.iter().all(|lease| lease.state != "active") || Instant::now() >= deadline {
                return told;
            }
            tokio::time::sleep(pause).await;
            pause = (pause * 2).min(Duration::from_secs(1));
        }
    }

    /// Takes back the leases that no end took: those of tasks that ended while the gateway was down, those
    /// whose secret was lost with the process that held it, those of tasks whose end was not told to [`Leases::end`], and
    /// those for tools that are revoked. To be called at the start and now and then.
    pub async fn sweep(&self, is_revoked: impl Fn(&ToolName) -> bool) -> Vec<LeaseView> {
        let mut closing = {
            let providers = self.shared.providers.read();
            let rereads = |line: &Line| {
                let name = (line.key.provider.clone(), line.key.config.clone());
                providers.get(&name).is_some_and(|known| known.rereads())
            };
            let mut book = self.shared.book.write();
            let mut closing = book.close_orphans();
            closing.extend(book.close_lost(rereads));
            closing.extend(book.close_tools(is_revoked));
            closing
        };
        // Looked for under the lock that calls share; a task that goes on meanwhile is not among them.
        let over = self.shared.book.read().over(lease::now());
        for task in over {
            closing.extend(self.shared.book.write().close(&task));
        }
        self.take_back(closing).await
    }

    /// Finds the live lease for a call, or obtains one: calls that belong together wait for one flight.
    pub(crate) async fn lease(
        &self,
        asking: Asking<'_>,
        source: &Source,
    ) -> Result<Arc<Lease>, Unavailable> {
        let now = lease::now();
        if asking.task_is_over(now) {
            return Err(Unavailable::TaskEnded);
        }
        if let Some(lease) = self.shared.book.read().live(&asking, source, now) {
            return Ok(lease);
        }
        let boarding = self.shared.book.write().board(&asking, source, now)?;
        let mut flight = match boarding {
            Boarding::Live(lease) => return Ok(lease),
            Boarding::Join(flight) => flight,
            Boarding::Start(flight, ticket) => {
                let mint = mint::Mint::new(Arc::clone(&self.shared), &asking, source, ticket, now);
                // A task of its own, so that a caller who goes away leaves no lease half obtained.
                drop(tokio::spawn(mint.fly()));
                flight
            }
        };
        let landed = match flight.wait_for(Option::is_some).await {
            Ok(landed) => landed.clone(),
            Err(_) => None,
        };
        let lease = landed.unwrap_or_else(|| Err(unavailable(&asking, "gateway is stopping")))?;
        if asking.task_is_over(lease::now()) {
            return Err(Unavailable::TaskEnded);
        }
        Ok(lease)
    }

    /// Makes the configured providers known.
    pub(crate) fn register<'a>(&self, sources: impl Iterator<Item = &'a Source>) {
        *self.shared.providers.write() = sources
            .map(|source| {
                let name = source.provider.name().to_owned();
                (
                    (name, source.digest.to_string()),
                    Arc::clone(&source.provider),
                )
            })
            .collect();
    }

    /// Takes leases back even if the caller goes away meanwhile.
    async fn take_back(&self, closing: Vec<Closing>) -> Vec<LeaseView> {
        if closing.is_empty() {
            return Vec::new();
        }
        let shared = Arc::clone(&self.shared);
        let taken = tokio::spawn(async move { shared.take_back(closing).await });
        taken.await.unwrap_or_default()
    }
}

/// A lease to be taken back, and by whom.
#[derive(Debug)]
struct Closing {
    line: Arc<Line>,
    /// Who obtained it; looked up by name where it was read back from the ledger.
    provider: Option<Arc<dyn Provider>>,
}

impl Closing {
    fn of(lease: &Lease) -> Self {
        Self {
            line: Arc::clone(&lease.line),
            provider: Some(Arc::clone(&lease.provider)),
        }
    }
}

impl Shared {
    /// Takes leases back at their upstreams, some at once, then writes down what became of them.
    async fn take_back(&self, closing: Vec<Closing>) -> Vec<LeaseView> {
        let concluding = stream::iter(closing).map(|closing| self.conclude(closing));
        let lines: Vec<_> = concluding.buffer_unordered(AT_ONCE).collect().await;
        let now = lease::now();
        let views = lines.iter().map(|line| line.view(now)).collect();
        let pruned = {
            let mut book = self.book.write();
            book.ended(&lines);
            book.prune()
        };
        // Unwritten, they are found active at the next start, and taken back again.
        if let Err(error) = self.ledger.conclude(&lines, &pruned).await {
            tracing::error!(%error, leases = lines.len(), "ended leases not written to the ledger");
        }
        views
    }

    async fn conclude(&self, closing: Closing) -> Arc<Line> {
        let Closing { line, provider } = closing;
        let now = lease::now();
        let provider = provider.or_else(|| {
            let key = (line.key.provider.clone(), line.key.config.clone());
            self.providers.read().get(&key).cloned()
        });
        let outcome = match provider {
            _ if line.dead(now) => Revocation::ExpiresAt,
            Some(provider) => mint::revoke(provider.as_ref(), &line).await,
            None => mint::unrevoked(&line),
        };
        let mut ended = Line::clone(&line);
        ended.state = State::Ended;
        ended.outcome = Some(outcome);
        Arc::new(ended)
    }
}

fn unavailable(asking: &Asking<'_>, cause: &str) -> Unavailable {
    Unavailable::Provider {
        tool: asking.tool.as_str().to_owned(),
        cause: cause.to_owned(),
    }
}

#[cfg(test)]
mod tests;
