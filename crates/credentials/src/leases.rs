//! Every lease of this gateway: found in memory, written down before use, ended with its task.

mod book;
mod ledger;
mod mint;

use std::collections::{HashMap, HashSet};
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use futures::stream::{self, StreamExt};
use parking_lot::{Mutex, RwLock};
use tasks::{Store, StoreError, TaskId, ToolName};
use telemetry::{LeaseEnd, Recorder};
use tokio::sync::{Notify, Semaphore};
use tokio::task::JoinSet;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use self::book::{Boarding, Book};
use self::ledger::Ledger;
use crate::lease::{self, Asking, Failure, Lease, Line, Source, State};
use crate::{LeaseDetail, LeaseView, Provider, Revocation, Unavailable};

/// How many leases of one provider are taken back at once: an upstream that gave out thousands must not get as many
/// requests in a moment.
const AT_ONCE: usize = 64;

/// How many lines are written down together: one flush of the disk for many, and not all lost in a crash.
const WRITTEN_AT_ONCE: usize = 512;

/// How often leases whose time is over are looked for, though nothing is due.
const LOOK: Duration = Duration::from_secs(30);

/// A provider in a config: its name and digest.
type Config = (String, String);

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
    providers: RwLock<HashMap<Config, Arc<dyn Provider>>>,
    /// Who may take back at once, by provider.
    revoking: Mutex<HashMap<Config, Arc<Semaphore>>>,
    /// A lease is to be taken back again.
    failed: Notify,
    recorder: OnceLock<Recorder>,
}

impl Leases {
    /// Loads the ledger; leases of tasks for which `open` says no are dropped.
    ///
    /// What could not be taken back before is tried again by [`Leases::keep`]. The others stay listed until [`Leases::sweep`]
    /// takes them back, which needs the providers that [took effect](crate::Credentials::take_effect). Of the others those
    /// go on whose provider reads its secret anew; the rest is taken back then too, since nobody holds their secrets any more.
    ///
    /// Fails where the store fails or holds a line that can't be read: a lease that is not understood can't be ended.
    pub async fn load(
        store: Arc<dyn Store>,
        open: impl Fn(&TaskId) -> bool + Send + Sync,
    ) -> Result<Arc<Self>, StoreError> {
        let ledger = Ledger::new(store);
        let mut book = Book::default();
        let now = lease::now();
        for line in ledger.lines().await?.into_iter().map(Arc::new) {
            match line.state {
                State::Ended => book.keep_ended(line),
                State::Orphaned => book.keep_orphaned(line),
                State::Ending => book.keep_ending(Closing::known(line), now),
                State::Obtaining | State::Active if open(&line.key.task) => book.keep(line),
                State::Obtaining | State::Active => book.left_over.push(line),
            }
        }
        let pruned = book.prune();
        ledger.delete(&pruned).await?;
        Ok(Arc::new(Self {
            shared: Arc::new(Shared {
                ledger,
                book: RwLock::new(book),
                providers: RwLock::default(),
                revoking: Mutex::default(),
                failed: Notify::new(),
                recorder: OnceLock::new(),
            }),
        }))
    }

    /// Has the ends of leases counted. The first to be named counts.
    pub fn count_by(&self, recorder: Recorder) {
        self.shared.recorder.get_or_init(|| recorder);
    }

    /// Tries again what could not be taken back, and takes back what nobody uses any more, until it is stopped.
    pub async fn keep(self: Arc<Self>, stop: CancellationToken) {
        loop {
            let due = self.shared.book.read().next_due();
            let until = due.map(|due| due.saturating_sub(lease::now()).max(0).unsigned_abs());
            let pause = until.map_or(LOOK, |until| Duration::from_secs(until).min(LOOK));
            tokio::select! {
                () = stop.cancelled() => return,
                () = self.shared.failed.notified() => continue,
                () = tokio::time::sleep(pause) => {}
            }
            // One upstream that is slow holds up no other's.
            drop(tokio::spawn(self.retry(lease::now())));
        }
    }

    /// Tries again what is due by now, and takes back what nobody uses any more. What that is, is noted at once.
    fn retry(&self, now: i64) -> impl Future<Output = Vec<LeaseView>> + use<> {
        let shared = Arc::clone(&self.shared);
        let (closing, dead) = {
            let mut book = shared.book.write();
            let mut closing = book.close_due(now);
            closing.extend(book.close_over(now));
            (closing, book.take_dead(now))
        };
        async move {
            if !dead.is_empty() {
                shared.settle(dead).await;
            }
            shared.take_back(closing).await
        }
    }

    /// All leases, newest first.
    pub fn list(&self) -> Vec<LeaseView> {
        let now = lease::now();
        let mut lines = self.shared.book.read().lines();
        lines.sort_unstable_by(|a, b| b.id.cmp(&a.id));
        lines.iter().map(|line| line.view(now)).collect()
    }

    /// All that is known of one lease, but its secret.
    pub fn show(&self, id: &str) -> Option<LeaseDetail> {
        let book = self.shared.book.read();
        let line = book.lines().into_iter().find(|line| line.id == id)?;
        Some(line.detail(lease::now(), book.due(&line)))
    }

    /// Takes one lease back, or tries to once more; none if there is no such lease. One that has ended or is being taken back
    /// is shown as it is.
    pub async fn revoke(&self, id: &str) -> Option<LeaseDetail> {
        let closing = self.shared.book.write().close_one(id);
        self.take_back(closing.into_iter().collect()).await;
        self.show(id)
    }

    fn of(&self, tasks: &HashSet<&TaskId>) -> Vec<LeaseView> {
        let now = lease::now();
        let mut lines = self.shared.book.read().lines_of(tasks);
        lines.sort_unstable_by(|a, b| b.id.cmp(&a.id));
        lines.iter().map(|line| line.view(now)).collect()
    }

    /// Drops all leases of a task. Each answers with its outcome, or says that it is `ending` where it is tried again;
    /// asking twice answers the same.
    ///
    /// To be called after the task's own token is cancelled: from then on a secret that is still being obtained
    /// is taken back on arrival.
    pub async fn end(&self, task: &TaskId) -> Vec<LeaseView> {
        let closing = self.shared.book.write().close(task);
        self.take_back(closing).await;
        let mut told = self.of(&HashSet::from([task]));
        told.retain(|lease| lease.state != "active");
        told
    }

    /// Drops all leases of these tasks, side by side, and answers with what became of them; whoever else ends them at the
    /// same time is waited for, for so long.
    pub async fn conclude(&self, tasks: &[TaskId], patience: Duration) -> Vec<LeaseView> {
        let mut closing = Vec::new();
        // Few under one lock: calls of other tasks come in between.
        for some in tasks.chunks(AT_ONCE) {
            let mut book = self.shared.book.write();
            closing.extend(some.iter().flat_map(|task| book.close(task)));
        }
        let deadline = Instant::now() + patience;
        // It goes on when it is not waited for any more.
        let taken_back = tokio::time::timeout_at(deadline, self.take_back(closing)).await;
        let mut told = taken_back.unwrap_or_default();
        let settled = self.settled(&tasks.iter().collect(), deadline).await;
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
        taken_back.unwrap_or_else(|_| {
            let mut told = self.list();
            told.retain(|lease| meant.contains(&lease.id));
            told
        })
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
        taken_back.unwrap_or_else(|_| {
            let mut told = self.list();
            told.retain(|lease| meant.contains(&lease.id));
            told
        })
    }

    /// What became of leases, once it is known of all of them or the time is over.
    async fn settled(&self, tasks: &HashSet<&TaskId>, deadline: Instant) -> Vec<LeaseView> {
        let mut pause = Duration::from_millis(5);
        loop {
            let told = self.of(tasks);
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
            let mut closing = book.close_left_over();
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
        let live = self.shared.book.read().live(&asking, source, now);
        if let Some(lease) = live {
            if lease.claim_renewal(&asking, now) {
                self.renew(&asking, source, &lease, now);
            }
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
        if asking.task_is_over(lease::now()) {
            return Err(Unavailable::TaskEnded);
        }
        landed.unwrap_or_else(|| Err(unavailable(&asking, "gateway is stopping")))
    }

    /// Obtains the lease that takes over from one that is used meanwhile.
    fn renew(&self, asking: &Asking<'_>, source: &Source, lease: &Arc<Lease>, now: i64) {
        let ticket = self.shared.book.write().renew(asking, source, lease, now);
        match ticket {
            Some(ticket) => {
                let mint = mint::Mint::new(Arc::clone(&self.shared), asking, source, ticket, now);
                drop(tokio::spawn(mint.fly()));
            }
            None => lease.renewal_failed(now),
        }
    }

    /// Makes the configured providers known.
    pub(crate) fn register<'a>(&self, sources: impl Iterator<Item = &'a Source>) {
        // Who takes back now goes on to count.
        let mut revoking = self.shared.revoking.lock();
        revoking.retain(|_, places| places.available_permits() < AT_ONCE);
        drop(revoking);
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

    fn known(line: Arc<Line>) -> Self {
        Self {
            line,
            provider: None,
        }
    }

    fn config(&self) -> Config {
        (self.line.key.provider.clone(), self.line.key.config.clone())
    }
}

impl Shared {
    /// Takes leases back at their upstreams, those of each provider side by side, and writes down what became of them.
    async fn take_back(self: Arc<Self>, closing: Vec<Closing>) -> Vec<LeaseView> {
        let mut by_provider: HashMap<Config, Vec<Closing>> = HashMap::new();
        for closing in closing {
            let of_one = by_provider.entry(closing.config()).or_default();
            of_one.push(closing);
        }
        let mut taking_back = JoinSet::new();
        for closing in by_provider.into_values() {
            taking_back.spawn(Arc::clone(&self).take_back_of_one(closing));
        }
        let mut told = Vec::new();
        while let Some(taken_back) = taking_back.join_next().await {
            told.extend(taken_back.unwrap_or_default());
        }
        told
    }

    async fn take_back_of_one(self: Arc<Self>, closing: Vec<Closing>) -> Vec<LeaseView> {
        let mut told = Vec::with_capacity(closing.len());
        let concluding = stream::iter(closing).map(|closing| Arc::clone(&self).conclude(closing));
        let mut concluded = concluding.buffer_unordered(AT_ONCE).chunks(WRITTEN_AT_ONCE);
        while let Some(settled) = concluded.next().await {
            told.extend(self.settle(settled).await);
        }
        told
    }

    async fn conclude(self: Arc<Self>, closing: Closing) -> Closing {
        let now = lease::now();
        let provider = closing.provider.clone();
        let provider = provider.or_else(|| self.providers.read().get(&closing.config()).cloned());
        let line = &*closing.line;
        let outcome = match &provider {
            _ if line.dead(now) => Ok(Revocation::ExpiresAt),
            Some(provider) => self.revoke(provider, line).await,
            // It may be back after a reload.
            None if line.handle.is_some() => Err(Failure::ProviderGone),
            None => Ok(mint::unrevoked(line)),
        };
        let line = match outcome {
            Ok(outcome) => line.ended(outcome),
            Err(failure) => line.failed(failure, lease::now()),
        };
        Closing {
            line: Arc::new(line),
            provider,
        }
    }

    /// Takes one lease back, as soon as its provider takes back less than it may at once.
    async fn revoke(
        &self,
        provider: &Arc<dyn Provider>,
        line: &Line,
    ) -> Result<Revocation, Failure> {
        let places = {
            let config = (line.key.provider.clone(), line.key.config.clone());
            let mut revoking = self.revoking.lock();
            let places = revoking.entry(config);
            Arc::clone(places.or_insert_with(|| Arc::new(Semaphore::new(AT_ONCE))))
        };
        // It is never closed.
        let _place = places.acquire().await;
        mint::revoke(provider.as_ref(), line).await
    }

    /// Notes what became of leases, in memory and in the ledger.
    async fn settle(&self, settled: Vec<Closing>) -> Vec<LeaseView> {
        let now = lease::now();
        let lines: Vec<_> = settled
            .iter()
            .map(|closing| Arc::clone(&closing.line))
            .collect();
        for line in &lines {
            self.tell(line);
        }
        let views = lines.iter().map(|line| line.view(now)).collect();
        let pruned = {
            let mut book = self.book.write();
            book.settle(settled, now);
            book.prune()
        };
        // Unwritten, they are found as they were at the next start, and taken back again.
        if let Err(error) = self.ledger.conclude(&lines, &pruned).await {
            tracing::error!(%error, leases = lines.len(), "ended leases not written to the ledger");
        }
        if lines.iter().any(|line| line.state == State::Ending) {
            self.failed.notify_one();
        }
        views
    }

    /// Counts what became of a lease, and says what somebody should look after.
    fn tell(&self, line: &Line) {
        let end = match (line.state, line.outcome) {
            (State::Orphaned, _) => LeaseEnd::Orphaned,
            (State::Ending | State::Active | State::Obtaining, _) | (_, None) => LeaseEnd::Failed,
            (_, Some(Revocation::Revoked)) => LeaseEnd::Revoked,
            (_, Some(Revocation::ExpiresAt)) => LeaseEnd::ExpiresAt,
            (_, Some(Revocation::DropOnly)) => LeaseEnd::DropOnly,
            (_, Some(Revocation::Failed)) => LeaseEnd::Failed,
        };
        if let Some(recorder) = self.recorder.get() {
            recorder.lease_ended(end);
        }
        let error = line.ending.map(|ending| ending.error.as_str());
        let attempts = line.ending.map_or(0, |ending| ending.attempts);
        let (tool, provider) = (&line.key.tool, &line.key.provider);
        match line.state {
            State::Orphaned => {
                tracing::warn!(lease = %line.id, %tool, %provider, attempts, error, "lease is orphaned: nobody could take it back, its secret may live on");
            }
            State::Ending => {
                tracing::warn!(lease = %line.id, %tool, %provider, attempts, error, "lease could not be taken back, it is tried again");
            }
            State::Ended if line.ending.is_some() => {
                tracing::info!(lease = %line.id, %tool, %provider, attempts, outcome = line.outcome.map(Revocation::as_str), "lease has ended after all");
            }
            State::Obtaining | State::Active | State::Ended => {}
        }
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
