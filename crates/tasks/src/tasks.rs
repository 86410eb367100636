//! Every task this gateway knows.

use std::cmp::Reverse;
use std::collections::{BTreeMap, BinaryHeap, VecDeque};
use std::sync::Arc;
use std::time::Duration;

use arc_swap::ArcSwap;
use http::HeaderMap;
use identity::Agent;
use parking_lot::Mutex;
use tokio::sync::Notify;
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;
use tracing::warn;

use crate::adopted::{Adopted, Bound};
use crate::clock::Clock;
use crate::cutoffs::Cutoffs;
use crate::desk::Desk;
use crate::entry::{Entry, Life, Loaded};
use crate::gates::{Entering, Gates};
use crate::opening::Adopting;
use crate::quota::{Full, Quota};
use crate::revocations::Revocations;
use crate::revoked::Revoked;
use crate::{
    Adoption, AdoptionRules, Blocked, DeclarationHeaders, Declared, DelegationBounds,
    DelegationRequest, Ending, GateBounds, InvalidOpening, Limited, Limits, Opening,
    OpeningRequest, Origin, Slot, Store, StoreError, Table, Task, TaskId, TaskView, ToolName, Turn,
    Unadoptable, Unit, Write,
};

/// How long an ended task is remembered, in milliseconds: a day.
const REMEMBERED_FOR: i64 = 24 * 60 * 60 * 1000;

/// How many ended tasks are remembered, the newest.
const REMEMBERED: usize = 10_000;

/// Tasks that one transaction ends or forgets.
const BATCH: usize = 256;

/// How long the store is waited for before the open calls of a task that ends are cut.
const PATIENCE: Duration = Duration::from_millis(250);

/// The longest sleep of `keep`: how soon a wall clock that was set forward, or stood still while the machine
/// slept, cuts what has expired.
const NAP: Duration = Duration::from_secs(1);

/// Every task this gateway knows.
pub struct Tasks {
    config: ArcSwap<Config>,
    store: Arc<dyn Store>,
    /// Where the records of tasks are written.
    desk: Arc<Desk>,
    clock: Clock,
    /// One pause or resumption at a time: neither is undone by one that came before it.
    pausing: tokio::sync::Mutex<()>,
    /// Ended tasks of which nobody was told yet, the oldest first, and who waits for one.
    untold: Mutex<VecDeque<Arc<Entry>>>,
    told: Notify,
    /// How often agents and tools are heard of.
    gates: Gates,
    /// Read on every call without waiting; written when a task is opened or forgotten.
    entries: papaya::HashMap<TaskId, Arc<Entry>>,
    /// When tasks expire, in seconds since the epoch, the next first.
    expiries: Mutex<BinaryHeap<Reverse<(i64, TaskId)>>>,
    /// Ended tasks, the oldest ending first.
    ended: Mutex<VecDeque<Arc<Entry>>>,
    /// Ended tasks of which the store may not know yet.
    unwritten: Mutex<Vec<Arc<Entry>>>,
    /// Task tokens that nobody may use any more.
    revoked: Revoked,
    /// What was revoked as a whole.
    revocations: Revocations,
    /// Since when tokens count.
    cutoffs: Cutoffs,
    /// Transactions of other issuers that became tasks.
    adopted: Arc<Adopted>,
    /// How many open tasks agents have that they opened.
    own: Arc<Quota>,
    /// A task was opened that expires before all others.
    sooner: Notify,
}

/// What the task book is made of, parsed.
#[derive(Clone, Debug)]
pub struct Config {
    /// The life of a task that asks for none.
    pub ttl_default: Duration,
    /// The longest life a task may ask for.
    pub ttl_max: Duration,
    /// The names of the declaring headers.
    pub headers: DeclarationHeaders,
    /// How far tasks may be delegated.
    pub delegation: DelegationBounds,
    /// What bounds the calls of each agent, whatever their tasks.
    pub agents: GateBounds,
    /// What the answers of tools tell costs in: a budget of anything else would limit nothing.
    pub units: Vec<Unit>,
    /// How many open tasks an agent may have that it opened.
    pub own: usize,
    /// How the transactions of other issuers become tasks; no two of one issuer.
    pub adoption: Vec<AdoptionRules>,
}

impl Config {
    fn check_budget(&self, limits: &Limits) -> Result<(), InvalidOpening> {
        let is_known = |unit: &&Unit| self.units.contains(unit);
        match limits.budget.keys().find(|unit| !is_known(unit)) {
            Some(unit) => Err(InvalidOpening::Field {
                field: "limits.budget",
                problem: format!("no tool tells what its calls cost in `{unit}`"),
            }),
            None => Ok(()),
        }
    }
}

impl Tasks {
    /// Loads every task from the store, ending what has expired meanwhile.
    pub async fn load(config: Config, store: Arc<dyn Store>) -> Result<Arc<Self>, StoreError> {
        Self::load_by(config, store, Clock::System).await
    }

    pub(crate) async fn load_by(
        config: Config,
        store: Arc<dyn Store>,
        clock: Clock,
    ) -> Result<Arc<Self>, StoreError> {
        let mut counters: BTreeMap<_, _> = store.scan(Table::Counters).await?.into_iter().collect();
        let desk = Desk::new(Arc::clone(&store));
        let mut loaded = Vec::new();
        for (id, record) in store.scan(Table::Tasks).await? {
            loaded.push(Loaded::read(&id, &record)?);
        }
        // Parents before their children.
        loaded.sort_by_key(Loaded::depth);
        let entries = papaya::HashMap::with_capacity(loaded.len());
        let mut all = Vec::new();
        let mut orphans = Vec::new();
        for task in loaded {
            let counters = counters.remove(task.id().as_str());
            let parent = task.parent().cloned();
            let above = parent
                .as_ref()
                .and_then(|parent| entries.pin().get(parent).map(Arc::clone));
            let is_orphan = parent.is_some() && above.is_none();
            let desk = Arc::clone(&desk);
            let entry = Entry::load(task, counters.as_deref(), above, clock.clone(), desk)?;
            let entry = Arc::new(entry);
            if let Some(parent) = entry.parent() {
                parent.children().adopt(&entry);
            }
            if is_orphan || entry.is_left_behind() {
                orphans.push(Arc::clone(&entry));
            }
            entries
                .pin()
                .insert(entry.facts().id().clone(), Arc::clone(&entry));
            all.push(entry);
        }
        let revoked = Revoked::load(Arc::clone(&store)).await?;
        let cutoffs = Cutoffs::load(Arc::clone(&store), clock.now() / 1000).await?;
        let loading = Revocations::load(Arc::clone(&store), clock.clone());
        let (revocations, standing) = loading.await?;
        let adopted = Adopted::load(Arc::clone(&store)).await?;
        let open = all.iter().filter(|entry| entry.ending().is_none());
        let unknown = adopted.count_open(open.clone().cloned());
        let own = Arc::new(Quota::default());
        for entry in open.filter(|entry| entry.facts().wish().own) {
            own.count(entry.facts().agent(), entry);
        }
        let tasks = Self {
            config: ArcSwap::from_pointee(config),
            store,
            desk,
            clock,
            pausing: tokio::sync::Mutex::default(),
            untold: Mutex::default(),
            told: Notify::new(),
            gates: Gates::default(),
            entries,
            expiries: Mutex::default(),
            ended: Mutex::default(),
            unwritten: Mutex::default(),
            revoked,
            revocations,
            cutoffs,
            adopted,
            own,
            sooner: Notify::new(),
        };
        tasks.adopt(all);
        // A crash came between the end of a parent and that of its children.
        tasks.end_all(&orphans, Ending::ParentEnded);
        // Or between a revocation and the end of what it is about.
        tasks.end_revoked(&standing);
        tasks.end_all(&unknown, Ending::Revoked);
        tasks.sweep().await?;
        // Counters of a task that was forgotten while they were written.
        tasks.delete(Table::Counters, counters.into_keys()).await?;
        Ok(Arc::new(tasks))
    }

    fn adopt(&self, mut entries: Vec<Arc<Entry>>) {
        entries.sort_by_key(|entry| entry.ended_at());
        for entry in entries {
            if entry.ended_at().is_some() {
                self.ended.lock().push_back(entry);
            } else {
                self.expiries.lock().push(expiry(&entry));
            }
        }
    }

    /// Replaces the bounds and header names; open tasks stay as they are.
    pub fn configure(&self, config: Config) {
        self.config.store(Arc::new(config));
    }

    /// Checks a wish to open a task against the configured bounds.
    pub fn opening(&self, request: OpeningRequest) -> Result<Opening, InvalidOpening> {
        let config = self.config.load();
        config.check_budget(&request.limits)?;
        let opening = Opening::new(request, config.ttl_default, config.ttl_max)?;
        self.admit(opening)
    }

    /// Checks the wish of an agent to open a task of its own, for itself or on behalf of somebody, and keeps a place for it.
    pub fn opening_of_agent(&self, request: OpeningRequest) -> Result<Opening, InvalidOpening> {
        let config = self.config.load();
        let mut opening = self.opening(request)?;
        let place = self.own.reserve(&opening.wish.agent, config.own);
        opening.own = Some(place.map_err(|Full| InvalidOpening::TooManyOpen(config.own))?);
        opening.wish.own = true;
        Ok(opening)
    }

    /// Checks a wish to delegate a part of a task against the task and the configured bounds. None if there is no such
    /// task.
    pub fn delegation(
        &self,
        parent: &TaskId,
        request: DelegationRequest,
    ) -> Option<Result<Opening, InvalidOpening>> {
        let parent = self.find(parent.as_str())?;
        let config = self.config.load();
        let life = (config.ttl_default, config.ttl_max);
        if let Err(problem) = config.check_budget(&request.limits) {
            return Some(Err(problem));
        }
        let opening = request.opening(&parent, config.delegation, life);
        Some(opening.and_then(|opening| self.admit(opening)))
    }

    /// Whether an agent's transaction is known already: its task is open, or it was.
    pub fn has_adopted(&self, key: &str) -> bool {
        self.adopted.find(key).is_some()
    }

    /// Waits until nobody else adopts this transaction; whoever has the turn asks again whether it is known.
    pub async fn turn(&self, adoption: &Adoption) -> Turn {
        self.adopted.turn(&adoption.key).await
    }

    /// Checks what a transaction's token asks for against how its issuer's transactions become tasks, and keeps a place for
    /// the task. It lives no longer than the token.
    pub fn adoption(&self, adoption: Adoption) -> Result<Opening, Unadoptable> {
        let config = self.config.load();
        let mut rules = config.adoption.iter();
        let rules = rules.find(|rules| rules.issuer == adoption.issuer);
        let rules = rules.ok_or_else(|| Unadoptable::UnknownIssuer(adoption.issuer.clone()))?;
        let left = adoption
            .expires_at
            .saturating_sub(self.clock.now().div_euclid(1000));
        let ttl = u64::try_from(left).unwrap_or(0);
        let ttl = ttl.min(config.ttl_max.as_secs());
        let request = adoption.request(rules, ttl)?;
        let (agent, owner) = (&request.agent, &request.owner);
        if self.cutoffs.hold_back_task(agent, owner, request.issued) {
            return Err(Unadoptable::TokenRevoked);
        }
        let mut opening = self.opening(request)?;
        opening.wish.origin = Some(Origin {
            issuer: adoption.issuer,
            txn: adoption.txn,
        });
        opening.adopting = Some(Adopting {
            place: self.adopted.reserve(&rules.issuer, rules.open)?,
            key: adoption.key,
            said: adoption.said,
            not_after: adoption.expires_at,
            ttl_max: i64::try_from(rules.ttl_max.as_secs()).unwrap_or(i64::MAX),
        });
        Ok(opening)
    }

    /// Opens a task; durable when it returns. Called by `policy::Admitted::open` alone.
    pub async fn open(&self, opening: Opening) -> Result<TaskView, OpenError> {
        let Opening {
            wish,
            ttl,
            place,
            own,
            adopting,
        } = opening;
        let desk = Arc::clone(&self.desk);
        let parent = place.as_ref().map(|place| Arc::clone(place.parent()));
        let not_after = adopting.as_ref().map(|adopting| adopting.not_after);
        let life = Life { ttl, not_after };
        let entry = Arc::new(Entry::open(wish, life, parent, self.clock.clone(), desk));
        let bound = adopting.map(|adopting| adopting.bind(&self.adopted, &entry));
        let more = bound.as_ref().map(Bound::put).transpose()?;
        self.desk.write_with(&entry, more).await?;
        let is_late = place.is_some_and(|place| !place.take(&entry));
        let view = entry.view();
        self.entries
            .pin()
            .insert(view.id.clone(), Arc::clone(&entry));
        if let Some(bound) = bound {
            bound.take(&entry);
        }
        if let Some(own) = own {
            own.take(&entry);
        }
        let expiry = expiry(&entry);
        let mut expiries = self.expiries.lock();
        let sooner = expiries.peek().is_none_or(|next| expiry.0 < next.0);
        expiries.push(expiry);
        drop(expiries);
        if sooner {
            self.sooner.notify_one();
        }
        if is_late || entry.ending().is_some() {
            // Its parent ended while it was opened, and could not take it along.
            self.end_all(&[entry], Ending::ParentEnded);
            self.sooner.notify_one();
            return Err(OpenError::ParentEnded);
        }
        if let Err(refused) = self.check_opened(&entry) {
            self.end_all(&[entry], Ending::Revoked);
            self.sooner.notify_one();
            return Err(refused);
        }
        Ok(view)
    }

    /// Binds an agent to its open task: in memory, without waiting.
    ///
    /// The task is the one its task token was minted for, or the one it declares beside another proof.
    pub fn bind(&self, agent: Agent, headers: &HeaderMap) -> Result<Task, Unbound> {
        if agent.jti().is_some_and(|jti| self.revoked.holds(jti)) {
            return Err(Unbound::TokenRevoked);
        }
        self.check_proof(&agent)?;
        let declared = Declared::read(headers, &self.config.load().headers)?;
        let name = agent.id().as_str();
        let declaration = declared.task.as_deref();
        let entry = match agent.transaction() {
            Some(transaction) => {
                let (key, said) = (transaction.key(), transaction.said());
                self.find_adopted(name, (key, said), declaration)?
            }
            None => self.find_of(name, agent.txn(), declaration)?,
        };
        // The thread by which it is cut is taken first: who revokes comes before that, and is seen, or after, and cuts it.
        let task = Task::new(agent, entry, declared);
        self.revocations.check_facts(task.facts())?;
        check_open(task.entry())?;
        Ok(task)
    }

    /// Counts a call that begins: refused where its task, those above it, its agent or its tool make calls too often, or too
    /// many at once. It counts as under way until the slot is dropped.
    pub fn enter(&self, task: &Task, tool: &ToolName, bounds: GateBounds) -> Result<Slot, Limited> {
        self.gates.enter(&Entering {
            entry: task.entry(),
            agent: (task.agent().id().as_str(), self.config.load().agents),
            tool: (tool, bounds),
        })
    }

    /// How many calls of a task are under way.
    pub fn under_way(&self, id: &TaskId) -> u64 {
        let entry = self.find(id.as_str());
        entry.map_or(0, |entry| entry.gate().running())
    }

    fn find_of(
        &self,
        agent: &str,
        proven: Option<&str>,
        declared: Option<&str>,
    ) -> Result<Arc<Entry>, Unbound> {
        let id = match (proven, declared) {
            (Some(proven), Some(declared)) if proven != declared => {
                return Err(Unbound::Contradiction);
            }
            (Some(id), _) | (None, Some(id)) => id,
            (None, None) => return Err(Unbound::NoTask),
        };
        self.find(id)
            .filter(|entry| entry.facts().agent() == agent)
            .ok_or_else(|| Unbound::Unknown(id.to_owned()))
    }

    /// The task of a transaction, for a token that says the same of it as its first one.
    fn find_adopted(
        &self,
        agent: &str,
        (key, said): (&str, &str),
        declared: Option<&str>,
    ) -> Result<Arc<Entry>, Unbound> {
        let known = self.adopted.find(key).ok_or(Unbound::NoTask)?;
        let id = &known.task;
        if known.said != said {
            return Err(Unbound::TransactionChanged(id.clone()));
        }
        match self.find_of(agent, Some(id.as_str()), declared) {
            // Forgotten, but not what became of it.
            Err(Unbound::Unknown(_)) => Err(Unbound::Ended(id.clone())),
            found => found,
        }
    }

    pub(crate) fn find(&self, id: &str) -> Option<Arc<Entry>> {
        self.entries.pin().get(id).map(Arc::clone)
    }

    /// Takes a task token back, by its `jti`, until it expires (in seconds since the epoch): calls and delegations with it
    /// are refused. Its task stays open. Durable when it returns.
    pub async fn revoke_token(&self, jti: &str, expires_at: i64) -> Result<(), StoreError> {
        self.revoked.add(jti, expires_at).await
    }

    /// Whether a task token was taken back.
    pub fn is_revoked(&self, jti: &str) -> bool {
        self.revoked.holds(jti)
    }

    /// One task.
    pub fn show(&self, id: &TaskId) -> Option<TaskView> {
        Some(self.find(id.as_str())?.view())
    }

    /// All tasks, newest first.
    pub fn list(&self) -> Vec<TaskView> {
        let mut views: Vec<_> = self.entries.pin().values().map(|e| e.view()).collect();
        // Ids are in the order of opening.
        views.sort_by(|one, other| other.id.cmp(&one.id));
        views
    }

    /// Whether a task is open. Unknown ones are not.
    pub fn is_open(&self, id: &TaskId) -> bool {
        self.find(id.as_str())
            .is_some_and(|entry| entry.ending().is_none())
    }

    /// Ends a task and all that were delegated from it: durable first, then their open calls are cut; a slow store is not
    /// waited for longer than 250 ms with that. Ending twice answers the same.
    ///
    /// New calls are refused from the first moment. If the store fails, or the caller goes away, open calls
    /// are cut all the same; [`Self::keep`] writes the ending as soon as the store lets it.
    pub async fn end(&self, id: &TaskId, ending: Ending) -> Result<Ended, EndError> {
        self.end_by(id, ending, None).await
    }

    /// [`Self::end`] by somebody who is remembered.
    pub async fn end_by(
        &self,
        id: &TaskId,
        ending: Ending,
        by: Option<&str>,
    ) -> Result<Ended, EndError> {
        let entry = self
            .find(id.as_str())
            .ok_or_else(|| EndError::Unknown(id.clone()))?;
        let mut family = vec![Arc::clone(&entry)];
        self.end_in_memory(&entry, ending, by);
        family.extend(entry.close_family());
        let mut cuts = self.mark_below(&family);
        let mut writing = std::pin::pin!(self.close_all(&family));
        let written = match tokio::time::timeout(PATIENCE, &mut writing).await {
            Ok(written) => written,
            Err(_) => {
                cuts.clear();
                writing.await
            }
        };
        drop(cuts);
        written?;
        for entry in &family {
            if let Err(error) = entry.settle().await {
                // The store holds an upper bound, so nothing is lost but exactness.
                warn!(task = %entry.facts().id(), %error, "counters of an ended task are not exact");
            }
        }
        let below = family.iter().skip(1);
        Ok(Ended {
            task: entry.view(),
            below: below.map(|child| child.facts().id().clone()).collect(),
        })
    }

    /// Ends a task in memory; whether it was open. Whoever finds it ended finds it among those that the store has to be told
    /// of, too, until it is.
    fn end_in_memory(&self, entry: &Arc<Entry>, ending: Ending, by: Option<&str>) -> bool {
        let mut unwritten = self.unwritten.lock();
        let was_open = entry.end_by(ending, by);
        if was_open {
            unwritten.push(Arc::clone(entry));
        }
        was_open
    }

    /// Notes that those below the first of a family end with it. Each is cut when its part of the answer is dropped.
    fn mark_below<'a>(&'a self, family: &'a [Arc<Entry>]) -> Vec<Cut<'a>> {
        for child in family.iter().skip(1) {
            self.end_in_memory(child, Ending::ParentEnded, None);
        }
        let cut = |entry| Cut { tasks: self, entry };
        family.iter().map(cut).collect()
    }

    /// Ends these and all below them from now on, and cuts their calls; the store is told by the next sweep.
    fn end_all(&self, entries: &[Arc<Entry>], ending: Ending) {
        for entry in entries {
            self.end_in_memory(entry, ending, None);
            let mut family = vec![Arc::clone(entry)];
            family.extend(entry.close_family());
            drop(self.mark_below(&family));
        }
    }

    /// Remembers an operator who is given a new token of an open task: who holds one approves none of its calls. Durable
    /// when it returns.
    pub async fn hand_to(&self, id: &TaskId, operator: &str) -> Result<TaskView, PauseError> {
        let entry = self.find(id.as_str());
        let entry = entry.ok_or_else(|| PauseError::Unknown(id.clone()))?;
        if entry.ending().is_some() {
            return Err(PauseError::Ended(id.clone()));
        }
        entry.hand_to(operator).await?;
        Ok(entry.view())
    }

    /// Lets no more calls of a task and those below it through, and cuts those that are open; leases are kept. Its time
    /// runs on. Durable when it returns.
    pub async fn pause(&self, id: &TaskId) -> Result<TaskView, PauseError> {
        self.set_paused(id, true).await
    }

    /// Lets calls through again. Durable when it returns.
    pub async fn resume(&self, id: &TaskId) -> Result<TaskView, PauseError> {
        self.set_paused(id, false).await
    }

    async fn set_paused(&self, id: &TaskId, paused: bool) -> Result<TaskView, PauseError> {
        let entry = self.find(id.as_str());
        let entry = entry.ok_or_else(|| PauseError::Unknown(id.clone()))?;
        let _one_at_a_time = self.pausing.lock().await;
        if entry.ending().is_some() {
            return Err(PauseError::Ended(id.clone()));
        }
        if paused {
            entry.pause();
            self.desk.write(std::slice::from_ref(&entry)).await?;
        } else {
            // A crash on the way leaves it paused.
            let entries = std::slice::from_ref(&entry);
            self.desk.write_by(entries, Entry::put_resumed).await?;
            entry.resume();
        }
        Ok(entry.view())
    }

    /// The next task that ended, whatever ended it; each is told once, and none is lost. Waits for one.
    pub async fn next_ended(&self) -> TaskView {
        loop {
            if let Some(view) = self.try_next_ended() {
                return view;
            }
            self.told.notified().await;
        }
    }

    /// The same, none if there is none now.
    pub fn try_next_ended(&self) -> Option<TaskView> {
        let ended = self.untold.lock().pop_front();
        ended.map(|entry| entry.view())
    }

    /// Ends tasks as they expire, until `stop`; writes exact counters when it stops.
    pub async fn keep(self: Arc<Self>, stop: CancellationToken) {
        loop {
            if let Err(error) = self.sweep().await {
                // What has expired is refused and cut whether the store knows or not; the next sweep tells it.
                warn!(%error, "endings are not durable");
            }
            tokio::select! {
                () = stop.cancelled() => break,
                () = self.sooner.notified() => {}
                () = tokio::time::sleep(self.until_next_expiry()) => {}
            }
        }
        self.settle().await;
    }

    fn until_next_expiry(&self) -> Duration {
        let expiries = self.expiries.lock();
        let next = expiries
            .peek()
            .and_then(|Reverse((_, id))| self.find(id.as_str()));
        next.map_or(NAP, |entry| Duration::from_millis(entry.left()).min(NAP))
    }

    /// Ends what has expired, tells the store of endings it doesn't know, forgets what ended long ago.
    async fn sweep(&self) -> Result<(), StoreError> {
        while let Some(entry) = self.next_expired() {
            // An expiry is durable from the beginning: it stands in the record. So it is cut first.
            self.end_all(&[entry], Ending::Expired);
        }
        let unwritten = self.unwritten.lock().clone();
        // What expires meanwhile is cut, however slow the store is: what is left is written by the next sweep.
        if let Ok(written) = tokio::time::timeout(NAP, self.close_all(&unwritten)).await {
            written?;
        }
        self.unwritten.lock().retain(|entry| !entry.is_closed());
        self.revoked.forget(self.clock.now() / 1000).await?;
        self.cutoffs.forget(self.clock.now() / 1000).await?;
        let all_are_written = self.unwritten.lock().is_empty();
        self.revocations.sweep(all_are_written).await?;
        self.adopted.forget(self.clock.now() / 1000).await?;
        let forgotten = self.forget();
        self.delete(Table::Counters, forgotten.iter().map(TaskId::to_string))
            .await?;
        self.delete(Table::Tasks, forgotten.iter().map(TaskId::to_string))
            .await
    }

    /// Takes the next task whose time is over.
    fn next_expired(&self) -> Option<Arc<Entry>> {
        let mut expiries = self.expiries.lock();
        while let Some(Reverse((_, id))) = expiries.peek() {
            match self.find(id.as_str()) {
                Some(entry) if !entry.is_over() => return None,
                entry => {
                    expiries.pop();
                    // Forgotten long ago, or taken.
                    if entry.is_some() {
                        return entry;
                    }
                }
            }
        }
        None
    }

    /// Tells the store that these ended, some at a time.
    async fn close_all(&self, entries: &[Arc<Entry>]) -> Result<(), StoreError> {
        for batch in entries.chunks(BATCH) {
            self.close(batch).await?;
        }
        Ok(())
    }

    /// Tells the store that these ended.
    async fn close(&self, entries: &[Arc<Entry>]) -> Result<(), StoreError> {
        let open = entries.iter().filter(|entry| !entry.is_closed());
        let open: Vec<_> = open.cloned().collect();
        self.desk.write(&open).await?;
        entries.iter().for_each(|entry| entry.close());
        Ok(())
    }

    /// Forgets what ended a day ago, and the oldest of too many. What the store doesn't know yet stays.
    fn forget(&self) -> Vec<TaskId> {
        let horizon = self.clock.now().saturating_sub(REMEMBERED_FOR);
        let mut ended = self.ended.lock();
        let mut forgotten = Vec::new();
        while let Some(oldest) = ended.front() {
            let old = oldest.ended_at().is_some_and(|at| at < horizon);
            if !(old || ended.len() > REMEMBERED) || !oldest.is_closed() {
                break;
            }
            let id = oldest.facts().id().clone();
            self.entries.pin().remove(&id);
            forgotten.push(id);
            ended.pop_front();
        }
        forgotten
    }

    async fn delete(
        &self,
        table: Table,
        keys: impl Iterator<Item = String>,
    ) -> Result<(), StoreError> {
        let deletes: Vec<_> = keys.map(|key| Write::Delete { table, key }).collect();
        for batch in deletes.chunks(BATCH) {
            self.store.commit(batch.to_vec()).await?;
        }
        Ok(())
    }

    /// Writes exact counters of all tasks, several at once so that they share transactions.
    async fn settle(&self) {
        let entries: Vec<_> = self.entries.pin().values().cloned().collect();
        self.settle_each(&entries).await;
    }

    /// The same of these.
    async fn settle_each(&self, entries: &[Arc<Entry>]) {
        let mut settling = JoinSet::new();
        let mut failed = 0_usize;
        let mut note = |settled: Result<Result<(), StoreError>, _>| {
            failed += usize::from(!matches!(settled, Ok(Ok(()))));
        };
        for entry in entries {
            if settling.len() >= BATCH
                && let Some(settled) = settling.join_next().await
            {
                note(settled);
            }
            let entry = Arc::clone(entry);
            settling.spawn(async move { entry.settle().await });
        }
        while let Some(settled) = settling.join_next().await {
            note(settled);
        }
        if failed > 0 {
            // The store holds upper bounds, so nothing is lost but exactness.
            warn!(tasks = failed, "counters are not exact");
        }
    }

    /// Binds for an explanation of what would be decided: nothing is counted, and [`Task::reserve`] refuses,
    /// so that no permit comes of it. None if there is no such task, or it is another agent's.
    pub fn rehearse(&self, agent: Agent, id: &TaskId) -> Option<Task> {
        let entry = self.find(id.as_str())?;
        (entry.facts().agent() == agent.id().as_str()).then(|| Task::rehearsal(agent, entry))
    }
}

impl std::fmt::Debug for Tasks {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Tasks")
            .field("config", &self.config)
            .field("store", &self.store)
            .field("tasks", &self.entries.len())
            .finish_non_exhaustive()
    }
}

/// Cuts an ended task's open calls when it is dropped, whichever way the end went on.
struct Cut<'a> {
    tasks: &'a Tasks,
    entry: &'a Arc<Entry>,
}

impl Drop for Cut<'_> {
    fn drop(&mut self) {
        if self.entry.cut() {
            self.tasks.ended.lock().push_back(Arc::clone(self.entry));
            self.tasks.untold.lock().push_back(Arc::clone(self.entry));
            self.tasks.told.notify_one();
        }
    }
}

/// Refuses calls of a task that has ended or is paused.
fn check_open(entry: &Entry) -> Result<(), Unbound> {
    let id = || entry.facts().id().clone();
    match entry.ending() {
        None if entry.is_paused() => Err(Unbound::Paused(id())),
        None => Ok(()),
        Some(Ending::Expired) => Err(Unbound::Expired(id())),
        Some(Ending::Completed | Ending::Revoked | Ending::ParentEnded) => {
            Err(Unbound::Ended(id()))
        }
    }
}

fn expiry(entry: &Entry) -> Reverse<(i64, TaskId)> {
    let facts = entry.facts();
    Reverse((facts.expires_at_epoch(), facts.id().clone()))
}

/// What ended.
#[derive(Clone, Debug)]
pub struct Ended {
    /// The task that was to end.
    pub task: TaskView,
    /// Those that were delegated from it, and from those.
    pub below: Vec<TaskId>,
}

/// Why a task couldn't be opened.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum OpenError {
    /// The task that it is delegated from ended meanwhile.
    #[error("the task that it is delegated from has ended")]
    ParentEnded,
    /// What it is for, of, or vouched for by was revoked meanwhile.
    #[error(transparent)]
    Blocked(#[from] Blocked),
    /// A token that it was opened by is of before its subject's tokens count.
    #[error("token was revoked")]
    TokenRevoked,
    /// The store failed.
    #[error(transparent)]
    Store(#[from] StoreError),
}

/// Why a task couldn't be paused, resumed or handed to somebody.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum PauseError {
    /// No such task.
    #[error("no task `{0}`")]
    Unknown(TaskId),
    /// It ended.
    #[error("task `{0}` has ended")]
    Ended(TaskId),
    /// The store failed; a task that was to be paused is, until the gateway stops.
    #[error(transparent)]
    Store(#[from] StoreError),
}

/// Why a task couldn't be ended.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum EndError {
    /// No such task.
    #[error("no task `{0}`")]
    Unknown(TaskId),
    /// The store failed.
    #[error(transparent)]
    Store(#[from] StoreError),
}

/// Why an agent has no task to work on.
#[derive(Debug, thiserror::Error)]
pub enum Unbound {
    /// Neither a task token nor `Agent-Task`.
    #[error("no task is named")]
    NoTask,
    /// There is no such task, or it is another agent's: the agent can't tell which.
    #[error("no open task `{0}` of this agent")]
    Unknown(String),
    /// It ended.
    #[error("task `{0}` has ended")]
    Ended(TaskId),
    /// It expired.
    #[error("task `{0}` has expired")]
    Expired(TaskId),
    /// It is paused, or one that it was delegated from is.
    #[error("task `{0}` is paused")]
    Paused(TaskId),
    /// A token of its transaction said something else before.
    #[error("the transaction of task `{0}` was another one when it was opened")]
    TransactionChanged(TaskId),
    /// It was taken back, or is of before its subject's tokens count.
    #[error("token was revoked")]
    TokenRevoked,
    /// Somebody it depends on is revoked.
    #[error(transparent)]
    Blocked(#[from] Blocked),
    /// A declaration contradicts the proof.
    #[error("declared task differs from the proven one")]
    Contradiction,
    /// A declaration can't be read.
    #[error("header `{header}` can't be read: {problem}")]
    Malformed {
        /// Which.
        header: String,
        /// Why.
        problem: &'static str,
    },
}

mod revoking;
#[cfg(test)]
mod tests;

pub use revoking::{RevocationOutcome, Undurable};
