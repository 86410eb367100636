//! The way of one call. Read `Way::walk` from top to bottom: that is all the gateway does.
//!
//! pingora is an adapter around it: `phases.rs` walks the way in `request_filter`, before any upstream
//! connection exists, and applies the [`Outbound`] that comes out of it; `engine.rs` surrounds each call once.
//!
//! **Invariant.** Nothing is sent upstream but an [`Outbound`]; no call is forwarded or refused
//! without its audit line (a head that nobody can read has it right after its refusal); every call that was
//! opened is closed once, even when it is cut or panics.

mod adoption;
mod body;
mod engine;
mod exchange;
mod forward;
mod framing;
mod hold;
mod line;
mod meter;
mod phases;
mod redact;
mod refusal;
mod reply;
mod resource;
mod scrub;
mod server;
mod sessions;
mod setup;
mod token_answer;
mod upstream;
mod web_socket;

use std::net::SocketAddr;
use std::sync::Arc;

use arc_swap::ArcSwap;
use call::{Body, Call, Head};
use credentials::{Keeper, Outbound, Phantoms};
use http::HeaderValue;
use http::header::AUTHORIZATION;
use identity::{InvalidAgentId, TaskClaims, TaskTokens};
use jiff::Timestamp;
use policy::{DecisionPoint, Explanation, Pending, Permit, Ruling};
use tasks::{ApprovalState, Approvals, ArgumentPointer, TaskId, Tasks};
use telemetry::Recorder;
use tokio::sync::Semaphore;

use crate::adoption::ADMITTING;
use crate::body::{Budget, Reader};
use crate::exchange::Exchange;
use crate::hold::HELD;
use crate::sessions::Sessions;

pub use crate::refusal::{CODES, Code, Refusal};
pub use crate::resource::ProtectedResource;
pub use crate::server::{Limits, Server, ServerTls};
pub use crate::setup::Setup;
pub use crate::upstream::{
    ClientCertificate, HttpVersion, Timeouts, Unusable, Upstream, Upstreams,
};

/// Everything a call meets on its way.
#[derive(Debug)]
pub struct Way {
    setup: ArcSwap<Setup>,
    tasks: Arc<Tasks>,
    approvals: Arc<Approvals>,
    /// Places of calls that wait for people.
    held: Semaphore,
    /// Places of admissions.
    admitting: Arc<Semaphore>,
    recorder: Recorder,
    sessions: Sessions,
    limits: Limits,
    /// Of all listeners together.
    budget: Budget,
    /// Of the answers in which costs are looked for.
    answers: Budget,
    /// The tokens of tools that agents have phantoms of.
    phantoms: Phantoms,
}

impl Way {
    /// Makes the way of all calls. `setup` can be replaced while calls are on it.
    pub fn new(
        setup: Setup,
        tasks: Arc<Tasks>,
        approvals: Arc<Approvals>,
        recorder: Recorder,
        limits: Limits,
    ) -> Arc<Self> {
        let setup = ArcSwap::from_pointee(setup);
        Arc::new(Self {
            setup,
            tasks,
            approvals,
            held: Semaphore::new(HELD),
            admitting: Arc::new(Semaphore::new(ADMITTING)),
            recorder,
            sessions: Sessions::new(),
            limits,
            budget: Budget::new(limits.buffered),
            answers: Budget::new(limits.buffered),
            phantoms: Phantoms::default(),
        })
    }

    /// Replaces what calls meet: each call is judged by exactly one setup, the one it began with.
    pub fn replace(&self, setup: Setup) {
        self.setup.store(Arc::new(setup));
    }

    /// What calls meet now.
    pub fn setup(&self) -> Arc<Setup> {
        self.setup.load_full()
    }

    /// Walks one call from its head to the request that leaves for its upstream.
    async fn walk(
        &self,
        setup: &Setup,
        head: Head,
        mut body: Reader<'_>,
        exchange: &Exchange,
    ) -> Result<Answered, Refusal> {
        let agent = exchange.saw(setup.identity.authenticate(&head.presented()).await?); // Who asks?
        self.adopt(setup, &agent).await?;
        let task = exchange.saw(self.tasks.bind(agent, head.headers())?); // What for?
        let route = exchange.saw(setup.tools.route(&head)?);
        exchange.hold(self.tasks.reach(&task, &route.tool().name)?); // revoked, it is cut
        exchange.keep(
            self.tasks
                .enter(&task, &route.tool().name, route.tool().gate)?,
        );
        exchange.watch_with(route.watch(&head));
        let read = body.read(route.body_plan(&head)?).await?;
        let mut keys = Vec::new();
        let call = Call::observe_noting(task, route, head, read, &mut keys);
        exchange.found(keys);
        let call = exchange.saw(call?); // What is asked? (keys off)
        if self.sessions.elicit(&call) {
            exchange.set_elicits();
        }
        let permit = self.permit(&setup.policy, call, &mut body, exchange);
        let permit = exchange.saw(permit.await?); // May it?
        let redacted = redact::pointers(&permit)?;
        let asks = permit.call().asks_for_tokens();
        let keeper = asks.then(|| self.phantoms.keeper(permit.call()));
        let credential = exchange.saw(setup.credentials.issue(permit).await?); // With what?
        let outbound = credential.restore(&self.phantoms)?.inject()?; // (key on)
        Ok(Answered {
            outbound,
            redacted,
            keeper,
        })
    }

    /// Decides a call. What policy escalates people are asked about: it waits for them where calls are held, or is refused,
    /// and made again once it is approved.
    async fn permit(
        &self,
        policy: &Arc<DecisionPoint>,
        call: Call,
        agent: &mut Reader<'_>,
        exchange: &Exchange,
    ) -> Result<Permit, Refusal> {
        let decide = |call| policy.decide(call, exchange.decision(), &self.approvals);
        let pending = match decide(call).await? {
            Ruling::Allow(permit) => return Ok(permit),
            Ruling::Escalate(pending) => pending,
        };
        let refusal = self.ask(&pending).await;
        let Some(question) = refusal.question() else {
            return Err(refusal);
        };
        let is_answered =
            question.state == ApprovalState::Waiting && self.hold(question, agent).await;
        exchange.waited();
        // What was decided meanwhile is not decided by rules that count no more.
        if !is_answered || !Arc::ptr_eq(policy, &self.setup.load().policy) {
            return Err(refusal);
        }
        match decide(pending.into_call()).await? {
            Ruling::Allow(permit) => Ok(permit),
            Ruling::Escalate(pending) => Err(self.ask(&pending).await),
        }
    }

    /// Asks people about a call: what the agent is told until they answer, or what they answered.
    async fn ask(&self, pending: &Pending) -> Refusal {
        let reason = pending.reason().map(str::to_owned);
        let message = pending.message().map(str::to_owned);
        match pending.ask(&self.approvals).await {
            Ok(question) => Refusal::Unapproved {
                reason,
                message,
                question,
            },
            Err(cause) => Refusal::Unaskable {
                reason,
                message,
                cause,
            },
        }
    }

    /// Says what would be decided of a call, and why. Nothing is counted, leased or sent.
    ///
    /// The agent is the task's own: it is authenticated by a token minted for this, so that no step is left out.
    pub async fn explain(
        &self,
        task: &TaskId,
        request: http::Request<Vec<u8>>,
    ) -> Result<Explanation, Refusal> {
        let setup = self.setup();
        let (mut parts, body) = request.into_parts();
        let proof = self.proof(setup.identity.tokens(), task)?;
        parts.headers.insert(AUTHORIZATION, proof);
        let head = Head::canonical(parts, None)?;
        let agent = setup.identity.authenticate(&head.presented()).await?;
        let task = self
            .tasks
            .rehearse(agent, task)
            .ok_or_else(|| unknown(task))?;
        let route = setup.tools.route(&head)?;
        self.tasks.check_tool(&route.tool().name)?;
        let body = if body.is_empty() {
            Body::Empty
        } else {
            Body::Whole(body.into())
        };
        let call = Call::observe(task, route, head, body)?;
        let policy = Arc::clone(setup.policy.policy());
        // It waits for a thread with a deadline.
        let explained = tokio::task::spawn_blocking(move || policy.explain(&call)).await;
        explained.map_err(|error| Refusal::Internal(error.to_string()))
    }

    /// A proof of the task's own agent, for a moment.
    fn proof(&self, tokens: &TaskTokens, task: &TaskId) -> Result<HeaderValue, Refusal> {
        let view = self.tasks.show(task).filter(|view| view.state == "open");
        let view = view.ok_or_else(|| unknown(task))?;
        let internal = |error: &dyn std::fmt::Display| Refusal::Internal(error.to_string());
        let token = tokens.mint(&TaskClaims {
            txn: view.id.to_string(),
            owner: view.owner,
            agent: view
                .agent
                .parse()
                .map_err(|error: InvalidAgentId| internal(&error))?,
            chain: view.chain,
            scope: String::new(),
            authorization_details: serde_json::Value::Null,
            expires_at: Timestamp::now().as_second() + 5,
        });
        let token = token.map_err(|error| internal(&error))?;
        HeaderValue::from_str(&format!("Bearer {token}")).map_err(|error| internal(&error))
    }
}

fn unknown(task: &TaskId) -> Refusal {
    Refusal::UnknownTask(task.clone())
}

/// What the way came to: a request, and what must not be in its answer.
struct Answered {
    outbound: Outbound,
    redacted: Vec<ArgumentPointer>,
    /// Who keeps the tokens in it, where there may be some.
    keeper: Option<Keeper>,
}

/// The caller's network address, where the socket tells.
type Client = Option<SocketAddr>;
