//! One call while it is open: its record, and the thread by which it can be cut.

use std::sync::Arc;
use std::time::Duration;

use call::{Call, FoundKey, Protocol, Route, Watch, masked};
use credentials::Credential;
use identity::Agent;
use parking_lot::Mutex;
use policy::Permit;
use tasks::{Reach, Slot, Task};
use telemetry::{CallRecord, DecisionId, Delegated, Ending, KeyNote, Mcp, Trace, Verdict};
use tokio::sync::{Notify, oneshot};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use crate::Client;
use crate::refusal::Refusal;
use crate::reply::Form;
use crate::sessions::Elicitor;

/// One call while it is open. Shared by the wrapper that closes it and the phases that fill it.
#[derive(Debug)]
pub(crate) struct Exchange {
    // Each call has its own lock, held for a few assignments by one task at a time: it never waits.
    open: Mutex<Option<Open>>,
    cut: Mutex<Option<oneshot::Sender<CancellationToken>>>,
    /// This call alone is to be cut.
    stop: Notify,
}

/// Tells, once a task is bound, by what it ends.
pub(crate) type Told = oneshot::Receiver<CancellationToken>;

#[derive(Debug)]
pub(crate) struct Open {
    record: CallRecord,
    form: Form,
    /// Whether it was refused before any phase of pingora's saw it.
    is_unheard: bool,
    /// Whether it is no call: nothing is told of it.
    is_aside: bool,
    since: Instant,
    /// When the last step was seen.
    step: Instant,
    /// The thread by which the bound task can cut the call.
    ended: Option<CancellationToken>,
    /// Whoever begins a session of MCP with this call, and can show a person a link.
    elicitor: Option<Elicitor>,
    /// What looks for keys in its body, where that streams.
    watch: Option<Watch>,
    /// Its place among those that are cut when their tool or issuer is revoked.
    reach: Option<Reach>,
    /// The call counts as under way until it is closed.
    under_way: Option<Slot>,
}

/// A call that is over once its record is told.
#[derive(Debug)]
pub(crate) struct Closed {
    pub(crate) record: CallRecord,
    _reach: Option<Reach>,
    _under_way: Option<Slot>,
}

impl Exchange {
    /// Makes an exchange that no head has opened yet, and the way to learn which task may cut it.
    pub(crate) fn new() -> (Arc<Self>, Told) {
        let (cut, told) = oneshot::channel();
        (
            Arc::new(Self {
                open: Mutex::new(None),
                cut: Mutex::new(Some(cut)),
                stop: Notify::new(),
            }),
            told,
        )
    }

    /// Opens the record: a head is in.
    pub(crate) fn open(&self, trace: Trace, client: Client) {
        let record = CallRecord::open(trace, client);
        let now = Instant::now();
        *self.open.lock() = Some(Open {
            record,
            form: Form::Problem,
            is_unheard: false,
            is_aside: false,
            since: now,
            step: now,
            ended: None,
            elicitor: None,
            watch: None,
            reach: None,
            under_way: None,
        });
    }

    /// Cuts this call, whatever it waits for.
    pub(crate) fn stop(&self) {
        self.stop.notify_one();
    }

    /// Waits until this call is to be cut.
    pub(crate) async fn stopped(&self) {
        self.stop.notified().await;
    }

    /// Writes down why a call that was permitted is cut.
    pub(crate) fn used_up(&self, refusal: &Refusal) {
        self.note(|record| {
            record.code = Some(refusal.code());
            record.reason = refusal.reason().map(str::to_owned);
            record.cause = Some(refusal.to_string());
        });
    }

    /// Whether a head is in and the call is not closed.
    pub(crate) fn is_open(&self) -> bool {
        self.open.lock().is_some()
    }

    /// Writes down what a step saw, and passes it on.
    pub(crate) fn saw<T: Seen>(&self, seen: T) -> T {
        let ended = self.open.lock().as_mut().and_then(|open| {
            let took = open.step();
            seen.tell(open, took);
            open.ended.take()
        });
        if let Some(ended) = ended
            && let Some(cut) = self.cut.lock().take()
        {
            // The wrapper may be gone already; then there is nobody left to cut.
            cut.send(ended).ok();
        }
        seen
    }

    /// Holds on to the call's place among those under way.
    pub(crate) fn keep(&self, slot: Slot) {
        if let Some(open) = self.open.lock().as_mut() {
            open.under_way = Some(slot);
        }
    }

    /// Holds on to the call's place among those that are on their way to a tool.
    pub(crate) fn hold(&self, reach: Reach) {
        if let Some(open) = self.open.lock().as_mut() {
            open.reach = Some(reach);
        }
    }

    /// Begins the step anew: what was waited for was somebody else's time.
    pub(crate) fn waited(&self) {
        if let Some(open) = self.open.lock().as_mut() {
            open.step = Instant::now();
        }
    }

    /// Changes the record.
    pub(crate) fn note(&self, note: impl FnOnce(&mut CallRecord)) {
        if let Some(open) = self.open.lock().as_mut() {
            note(&mut open.record);
        }
    }

    /// Writes down the keys that the agent brought.
    pub(crate) fn found(&self, keys: Vec<FoundKey>) {
        if keys.is_empty() {
            return;
        }
        self.note(|record| {
            record.keys.extend(keys.into_iter().map(|key| KeyNote {
                place: key.place,
                kind: key.kind,
                fingerprint: key.fingerprint,
                action: key.fate.as_str(),
            }));
        });
    }

    /// Reads the record.
    pub(crate) fn read<T>(&self, read: impl FnOnce(&CallRecord) -> T) -> Option<T> {
        self.open.lock().as_ref().map(|open| read(&open.record))
    }

    /// The decision's id; a new one for an exchange that was never opened.
    pub(crate) fn decision(&self) -> DecisionId {
        self.read(|record| record.decision.clone())
            .unwrap_or_else(DecisionId::new)
    }

    /// How a refusal of this call must look.
    pub(crate) fn form(&self) -> Form {
        self.open
            .lock()
            .as_ref()
            .map_or(Form::Problem, |open| open.form.clone())
    }

    /// Says how a refusal of this call must look.
    pub(crate) fn set_form(&self, form: Form) {
        if let Some(open) = self.open.lock().as_mut() {
            open.form = form;
        }
    }

    /// The client can show a person a link.
    pub(crate) fn set_elicits(&self) {
        if let Some(Open {
            form: Form::JsonRpc { elicits, .. },
            ..
        }) = self.open.lock().as_mut()
        {
            *elicits = true;
        }
    }

    /// Says what looks for keys in its body.
    pub(crate) fn watch_with(&self, watch: Option<Watch>) {
        if let Some(open) = self.open.lock().as_mut() {
            open.watch = watch;
        }
    }

    /// What looks for keys in its body; the first time.
    pub(crate) fn take_watch(&self) -> Option<Watch> {
        self.open.lock().as_mut()?.watch.take()
    }

    /// Whoever begins a session with this call, and can show a person a link; the first time.
    pub(crate) fn take_elicitor(&self) -> Option<Elicitor> {
        self.open.lock().as_mut()?.elicitor.take()
    }

    /// Writes down a refusal.
    pub(crate) fn refused(&self, refusal: &Refusal) {
        if let Some(open) = self.open.lock().as_mut() {
            let took = open.step();
            let record = &mut open.record;
            if matches!(
                refusal,
                Refusal::Denied(_) | Refusal::Unapproved { .. } | Refusal::Unaskable { .. }
            ) {
                record.policy_time = took;
            }
            record.code = Some(refusal.code());
            record.verdict = refusal.verdict();
            record.reason = refusal.reason().map(str::to_owned);
            record.cause = Some(masked(&refusal.to_string()).into_owned());
            record.approval = refusal
                .question()
                .map(|question| question.id.as_str().into());
            record.policy_failure = refusal.policy_failure().cloned();
        }
    }

    /// Writes down a refusal that nobody else will see to.
    pub(crate) fn refused_unheard(&self, refusal: &Refusal) {
        self.refused(refusal);
        if let Some(open) = self.open.lock().as_mut() {
            open.is_unheard = true;
        }
    }

    /// Reads the record of a call that was refused before any phase saw it.
    pub(crate) fn read_unheard<T>(&self, read: impl FnOnce(&CallRecord) -> T) -> Option<T> {
        let open = self.open.lock();
        let open = open.as_ref().filter(|open| open.is_unheard)?;
        Some(read(&open.record))
    }

    /// Says that this is no call.
    pub(crate) fn set_aside(&self) {
        if let Some(open) = self.open.lock().as_mut() {
            open.is_aside = true;
        }
    }

    /// Closes the record, if there is anything to tell. `ending` overrides what the phases saw.
    pub(crate) fn close(&self, ending: Option<Ending>) -> Option<Closed> {
        let Open {
            mut record,
            since,
            reach,
            under_way,
            ..
        } = self.open.lock().take().filter(|open| !open.is_aside)?;
        record.total_time = since.elapsed();
        if let Some(ending) = ending {
            record.ending = ending;
        }
        Some(Closed {
            record,
            _reach: reach,
            _under_way: under_way,
        })
    }
}

impl Open {
    /// Ends a step and says what it took.
    fn step(&mut self) -> Duration {
        let now = Instant::now();
        now.duration_since(std::mem::replace(&mut self.step, now))
    }
}

/// What a step of the way leaves in the record.
pub(crate) trait Seen {
    fn tell(&self, open: &mut Open, took: Duration);
}

impl Seen for Agent {
    fn tell(&self, open: &mut Open, _: Duration) {
        open.record.agent = Some(self.id().as_str().into());
        open.record.agent_method = Some(self.method().as_str());
    }
}

impl Seen for Task {
    fn tell(&self, open: &mut Open, _: Duration) {
        open.record.task = Some(self.id().as_str().into());
        open.record.owner = Some(self.owner().into());
        open.record.delegated = self.parent().map(|parent| Delegated {
            parent: parent.as_str().into(),
            chain: Arc::clone(self.chain()),
        });
        open.ended = Some(self.cut());
    }
}

impl Seen for Route {
    fn tell(&self, open: &mut Open, _: Duration) {
        let tool = self.tool();
        open.record.tool = Some(tool.name.as_str().into());
        open.record.protocol = Some(tool.protocol.as_str());
        open.record.environment.clone_from(&tool.environment);
        open.form = match tool.protocol {
            Protocol::Http => Form::Problem,
            Protocol::Mcp => Form::JsonRpc {
                id: None,
                elicits: false,
            },
            Protocol::Grpc => Form::Grpc,
        };
    }
}

impl Seen for Call {
    fn tell(&self, open: &mut Open, _: Duration) {
        open.record.operation = Some(self.operation().into());
        open.record.access = Some(self.access().as_str());
        if let Some(mcp) = self.mcp() {
            open.form = Form::JsonRpc {
                id: mcp.id.clone(),
                elicits: false,
            };
            open.elicitor = Elicitor::of(self);
            open.record.mcp = Some(Mcp {
                method: masked(&mcp.method).into_owned(),
                name: mcp.name.as_deref().map(|name| masked(name).into_owned()),
                request_id: mcp
                    .id
                    .as_ref()
                    .map(|id| masked(&id.to_string()).into_owned()),
                session: mcp.session.as_deref().map(|id| masked(id).into_owned()),
                version: mcp.version.clone(),
            });
        }
    }
}

impl Seen for Permit {
    fn tell(&self, open: &mut Open, took: Duration) {
        open.record.policy_time = took;
        open.record.verdict = Verdict::Allow;
        open.record.reason = self.reason().map(str::to_owned);
        open.record.approval = self.approval().map(Into::into);
    }
}

impl Seen for Credential {
    fn tell(&self, open: &mut Open, took: Duration) {
        open.record.lease_time = took;
        open.record.leases = self.leases().collect();
    }
}
