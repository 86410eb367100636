//! A running gateway: its threads, listeners and signals, from start to the last call.

use std::collections::HashSet;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use arc_swap::ArcSwap;
use control::{Control, ListenerStatus, Live, Options, Plaintext, Status};
use credentials::ConsentView;
use identity::{AgentId, ClientTrust};
use jiff::Timestamp;
use proxy::{Server, Way};
use tasks::{Approvals, TaskId, TaskView, ToolName};
use telemetry::{EndedLease, TaskEventKind};
use tokio::runtime::{Builder, Runtime};
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::sync::Mutex;
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use url::{Origin, Url};

use crate::config::{self, ClientCertificates, Config, ServerTls};
use crate::explain;
use crate::fixed::Fixed;
use crate::ground::{Ground, StartError};
use crate::reload::{self, Reloader, Turn};
use crate::setup::{self, OwnTokens};

/// How long waiting records are flushed at the end.
const FLUSH: Duration = Duration::from_secs(5);

/// What to run.
pub(crate) struct Plan {
    pub(crate) config: Config,
    /// What the file says of what a reload can't change, before flags override it.
    pub(crate) fixed: Fixed,
    /// The config's file: watched, and read again at SIGHUP.
    pub(crate) path: PathBuf,
    pub(crate) state: PathBuf,
    /// The agent of tasks whose opener names none.
    pub(crate) default_agent: Option<AgentId>,
    /// The tokens of this machine's own operators, where the config names none.
    pub(crate) own: Option<OwnTokens>,
}

/// Where a gateway listens.
#[derive(Clone, Debug)]
pub(crate) struct Listening {
    pub(crate) calls: Vec<SocketAddr>,
    pub(crate) control: SocketAddr,
    pub(crate) tls: bool,
}

/// Runs a gateway until SIGTERM or SIGINT. `ready` is told once it can be called.
pub(crate) fn run<E: From<StartError>>(
    plan: Plan,
    ready: impl FnOnce(&Listening) -> Result<(), E>,
) -> Result<(), E> {
    let calls = call_threads().map_err(StartError::Threads)?;
    let control = control_threads().map_err(StartError::Threads)?;
    let stop = CancellationToken::new();
    let (ground, telemetry) = control.block_on(Ground::lay(&plan.config, &plan.state))?;
    let (listening, serving) = start(plan, &ground, &calls, &control, &stop)?;
    let keeping = Keeping::start(&control, &ground);
    let signals = {
        let _entered = control.enter();
        (
            signal(SignalKind::terminate()),
            signal(SignalKind::interrupt()),
        )
    };
    ready(&listening)?;
    control.block_on(until_told(signals, &stop));
    control.block_on(serving.finish());
    control.block_on(keeping.finish());
    control.block_on(ground.reports.finish(FLUSH));
    calls.shutdown_timeout(FLUSH);
    control.shutdown_timeout(FLUSH);
    telemetry.shutdown(FLUSH);
    Ok(())
}

fn call_threads() -> std::io::Result<Runtime> {
    Builder::new_multi_thread()
        .thread_name("calls")
        .thread_stack_size(policy::STACK)
        .enable_all()
        .build()
}

fn control_threads() -> std::io::Result<Runtime> {
    Builder::new_multi_thread()
        .worker_threads(1)
        .thread_name("control")
        .enable_all()
        .build()
}

/// Keeps tasks, approvals and leases: expiry, and the end of leases with their task.
struct Keeping {
    stop: CancellationToken,
    open: TaskTracker,
}

impl Keeping {
    fn start(control: &Runtime, ground: &Ground) -> Self {
        let stop = CancellationToken::new();
        let open = TaskTracker::new();
        let handle = control.handle();
        open.spawn_on(Arc::clone(&ground.tasks).keep(stop.clone()), handle);
        open.spawn_on(sweep_leases(ground.clone(), stop.clone()), handle);
        open.spawn_on(end_leases(ground.clone(), stop.clone()), handle);
        open.spawn_on(end_consents(ground.clone(), stop.clone()), handle);
        let leases = Arc::clone(&ground.leases);
        open.spawn_on(leases.keep(stop.clone()), handle);
        let approvals = Arc::clone(&ground.approvals);
        open.spawn_on(forget_approvals(approvals, stop.clone()), handle);
        let (webhook, approvals) = (Arc::clone(&ground.webhook), Arc::clone(&ground.approvals));
        open.spawn_on(webhook.tell(approvals, stop.clone()), handle);
        let (polls, signals) = (Arc::clone(&ground.polls), Arc::clone(&ground.signals));
        open.spawn_on(polls.keep(signals, stop.clone()), handle);
        open.close();
        Self { stop, open }
    }

    async fn finish(self) {
        self.stop.cancel();
        self.open.wait().await;
    }
}

/// How often approvals that are over are looked for. They count as over without it.
const FORGETTING: Duration = Duration::from_secs(30);

/// Forgets approvals that were over long ago.
async fn forget_approvals(approvals: Arc<Approvals>, stop: CancellationToken) {
    loop {
        tokio::select! {
            () = stop.cancelled() => return,
            () = tokio::time::sleep(FORGETTING) => {}
        }
        if let Err(error) = approvals.sweep().await {
            tracing::warn!(%error, "approvals that are over are not forgotten");
        }
    }
}

/// How long the outcomes of leases are waited for; an upstream may be slow to take one back.
const OUTCOMES: Duration = Duration::from_secs(20);

/// How long calls that are cut are waited for, and how often it is looked whether they are over.
const CUT: Duration = Duration::from_secs(1);
const LOOK: Duration = Duration::from_millis(5);

/// How many tasks' leases are taken back at once; the others wait.
const ENDING: usize = 64;

/// Takes back the leases of tasks that ended while the gateway was down, and those for tools that a crash kept from being
/// taken back. An upstream that is slow holds up nothing else, the gateway's end least of all.
async fn sweep_leases(ground: Ground, stop: CancellationToken) {
    let is_revoked = |tool: &ToolName| ground.tasks.check_tool(tool).is_err();
    tokio::select! {
        // What is not taken back by then is at the next start.
        () = stop.cancelled() => {}
        _ = ground.leases.sweep(is_revoked) => {}
    }
}

/// Takes leases back as their tasks end, and tells what became of them.
async fn end_leases(ground: Ground, stop: CancellationToken) {
    let mut ending = JoinSet::new();
    let next = async |ending: &mut JoinSet<()>| {
        // One upstream that is slow holds up no other task's.
        while ending.try_join_next().is_some() {}
        if ending.len() >= ENDING {
            ending.join_next().await;
        }
        ground.tasks.next_ended().await
    };
    loop {
        let ended = tokio::select! {
            () = stop.cancelled() => break,
            ended = next(&mut ending) => ended,
        };
        ending.spawn(end_task(ground.clone(), ended));
    }
    let rest = async {
        while let Some(ended) = ground.tasks.try_next_ended() {
            if ending.len() >= ENDING {
                ending.join_next().await;
            }
            ending.spawn(end_task(ground.clone(), ended));
        }
        while ending.join_next().await.is_some() {}
    };
    // What is not taken back by then is at the next start.
    tokio::time::timeout(FLUSH, rest).await.ok();
}

/// Takes leases back as the consents that they came by end at their servers.
async fn end_consents(ground: Ground, stop: CancellationToken) {
    let mut ending = JoinSet::new();
    loop {
        let consent = tokio::select! {
            () = stop.cancelled() => break,
            consent = ground.consents.next_ended() => consent,
        };
        // One upstream that is slow holds up no other's.
        while ending.try_join_next().is_some() {}
        ending.spawn(end_consent(ground.clone(), consent));
    }
}

async fn end_consent(ground: Ground, consent: ConsentView) {
    let tasks = ground.tasks.list().into_iter();
    let tasks = tasks.filter(|task| task.owner == consent.owner);
    let tasks: HashSet<TaskId> = tasks.map(|task| task.id).collect();
    let is_meant = |task: &TaskId| tasks.contains(task);
    let leases = ground
        .leases
        .conclude_of(&consent.tool, is_meant, OUTCOMES)
        .await;
    tracing::info!(consent = %consent.id, leases = leases.len(), "leases of a consent ended");
}

async fn end_task(ground: Ground, task: TaskView) {
    let leases = ground
        .leases
        .conclude(std::slice::from_ref(&task.id), OUTCOMES);
    let leases = leases.await.into_iter().map(|lease| EndedLease {
        id: lease.id,
        tool: lease.tool.to_string(),
        outcome: lease.outcome.unwrap_or(lease.state),
    });
    // What was cut is recorded first.
    let over = async {
        while ground.tasks.under_way(&task.id) > 0 {
            tokio::time::sleep(LOOK).await;
        }
    };
    tokio::time::timeout(CUT, over).await.ok();
    let mut event = control::event(TaskEventKind::Ended, &task, None);
    event.leases = leases.collect();
    ground.recorder.task(event);
}

/// The servers of a gateway.
struct Serving {
    open: TaskTracker,
    draining: CancellationToken,
    stop: CancellationToken,
    stop_control: CancellationToken,
}

impl Serving {
    /// Calls first, so that operators can watch them finish.
    async fn finish(self) {
        self.draining.cancel();
        self.stop.cancel();
        self.open.close();
        self.open.wait().await;
        self.stop_control.cancel();
    }
}

fn start(
    plan: Plan,
    ground: &Ground,
    calls: &Runtime,
    control: &Runtime,
    stop: &CancellationToken,
) -> Result<(Listening, Serving), StartError> {
    let Plan {
        config,
        fixed,
        path,
        state: _,
        default_agent,
        own,
    } = plan;
    let limits = config.limits;
    let listen = config.listen.clone();
    let issuer = config.tasks.issuer.clone();
    let url = config.control.url.clone();
    let tls = listen
        .tls
        .as_ref()
        .map(server_tls)
        .transpose()
        .map_err(|mistake| StartError::Setup(vec![mistake]))?;
    let digest = control.block_on(reload::digest(&path, &config.policy.paths()));
    let applying = apply(config, ground, own.as_ref());
    let mut applied = control.block_on(applying).map_err(StartError::Setup)?;
    let way = Way::new(
        applied.setup.clone(),
        Arc::clone(&ground.tasks),
        Arc::clone(&ground.approvals),
        ground.recorder.clone(),
        limits,
    );

    let serving = Serving {
        open: TaskTracker::new(),
        draining: CancellationToken::new(),
        stop: stop.clone(),
        stop_control: CancellationToken::new(),
    };
    let mut listening = Listening {
        calls: Vec::new(),
        control: listen.control,
        tls: tls.is_some(),
    };
    for address in listen.calls {
        let (listener, bound) = take_calls(address, calls)?;
        listening.calls.push(bound);
        let server = Server::new(&way, tls.clone());
        serving
            .open
            .spawn_on(server.serve(listener, stop.clone()), calls.handle());
    }
    let (control_listener, bound) = bind(listen.control)?;
    listening.control = bound;
    let asking = applied.approvals.asking(&bound.to_string());
    ground.approvals.configure(asking);
    ground.reached_at(url.as_ref(), bound);
    ground.webhook.configure(applied.approvals.webhook.clone());
    ground.take_signals_of(&applied.senders);

    let (policy, gathered) = (applied.policy.clone(), applied.gathered.take());
    let turn = Turn {
        digest,
        policy: policy.clone(),
        warnings: applied.warnings.clone(),
    };
    let reloader = Arc::new(Reloader {
        live: Arc::new(ArcSwap::from_pointee(live(
            ground, &listening, applied, &path,
        ))),
        path,
        control: bound.to_string(),
        called: called(&listening),
        ground: ground.clone(),
        way: Arc::clone(&way),
        own,
        fixed,
        turn: Mutex::new(turn),
        stop: stop.clone(),
    });
    // Before anybody is told that it runs: a signal that comes at once must not end it.
    let hangup = {
        let _entered = control.enter();
        reload::tend(&reloader, &policy, gathered.as_ref());
        signal(SignalKind::hangup())
    };
    control.spawn(Arc::clone(&reloader).watch(stop.clone()));
    control.spawn(reload_at_hangup(
        Arc::clone(&reloader),
        hangup,
        stop.clone(),
    ));
    let api = Control {
        live: Arc::clone(&reloader.live),
        tasks: Arc::clone(&ground.tasks),
        signals: Arc::clone(&ground.signals),
        approvals: Arc::clone(&ground.approvals),
        consents: Arc::clone(&ground.consents),
        recorder: ground.recorder.clone(),
        explain: explain::by(&way),
        reload: reload::on_request(&reloader),
        promote: reload::promotion_on_request(&reloader),
        draining: serving.draining.clone(),
        options: options(listen.plaintext, issuer, url, default_agent),
    };
    control.spawn(answer(api, control_listener, serving.stop_control.clone()));
    Ok((listening, serving))
}

/// Listens for calls, and says where.
fn take_calls(
    address: SocketAddr,
    calls: &Runtime,
) -> Result<(tokio::net::TcpListener, SocketAddr), StartError> {
    let (listener, bound) = bind(address)?;
    let _entered = calls.enter();
    let listener = tokio::net::TcpListener::from_std(listener);
    Ok((
        listener.map_err(|error| listen_error(address, error))?,
        bound,
    ))
}

/// Builds what the first config says, and has the bundles of its policy count.
async fn apply(
    config: Config,
    ground: &Ground,
    own: Option<&OwnTokens>,
) -> Result<setup::Applied, Vec<String>> {
    let applied = setup::build(config, ground, None, own).await?;
    if let Some(gathered) = &applied.gathered {
        gathered.activate().await?;
    }
    applied.setup.credentials.take_effect();
    Ok(applied)
}

async fn answer(api: Control, listener: std::net::TcpListener, stop: CancellationToken) {
    if let Err(error) = api.serve(listener, stop).await {
        tracing::error!(%error, "control API stopped");
    }
}

fn options(
    plaintext: config::Plaintext,
    issuer: Option<Url>,
    url: Option<Url>,
    default_agent: Option<AgentId>,
) -> Options {
    Options {
        hosts: Vec::new(),
        plaintext: match plaintext {
            config::Plaintext::Forbidden => Plaintext::Loopback,
            config::Plaintext::Allowed => Plaintext::Anywhere,
        },
        issuer,
        url,
        default_agent,
    }
}

/// What the control API answers from, from the first config on.
fn live(ground: &Ground, listening: &Listening, applied: setup::Applied, path: &Path) -> Live {
    let told = |name: &str, address: &SocketAddr| ListenerStatus {
        name: name.to_owned(),
        address: address.to_string(),
    };
    let mut listeners: Vec<_> = listening
        .calls
        .iter()
        .map(|address| told("calls", address))
        .collect();
    listeners.push(told("control", &listening.control));
    let mut live = Live {
        policy: Arc::clone(&applied.setup.policy),
        credentials: Arc::clone(&applied.setup.credentials),
        identity: Arc::clone(&applied.setup.identity),
        tokens: Arc::clone(&ground.tokens),
        operators: Arc::clone(&applied.operators),
        owners_of_record: Arc::clone(&applied.owners_of_record),
        resources: [].into(),
        bundles: Arc::clone(&ground.bundles.board),
        status: Status {
            version: env!("CARGO_PKG_VERSION").to_owned(),
            started_at: Timestamp::now().to_string(),
            listeners,
            ..Status::default()
        },
    };
    ground
        .recorder
        .reloaded(live.policy.policy().revision(), None);
    let at = Timestamp::now().to_string();
    reload::take(&mut live, path, applied, &called(listening), at);
    live
}

/// Where agents reach the listeners for calls, as far as this machine knows.
fn called(listening: &Listening) -> Vec<Origin> {
    let scheme = if listening.tls { "https" } else { "http" };
    let addresses = listening.calls.iter();
    let urls = addresses.flat_map(|address| {
        let named = format!("{scheme}://localhost:{}", address.port());
        [format!("{scheme}://{address}"), named]
    });
    urls.filter_map(|url| Url::parse(&url).ok())
        .map(|url| url.origin())
        .collect()
}

fn server_tls(tls: &ServerTls) -> Result<proxy::ServerTls, String> {
    let certificates = setup::certificates(&tls.certificate)?;
    let key = setup::key(&tls.key)?;
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let builder = rustls::ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .map_err(|error| error.to_string())?;
    let clients = tls.clients.as_ref().map(client_trust).transpose()?;
    let builder = match &clients {
        None => builder.with_no_client_auth(),
        Some(clients) => builder.with_client_cert_verifier(Arc::clone(clients) as _),
    };
    let config = builder
        .with_single_cert(certificates, key)
        .map_err(|error| format!("`{}`: {error}", tls.certificate.display()))?;
    Ok(proxy::ServerTls { config, clients })
}

fn client_trust(clients: &ClientCertificates) -> Result<Arc<ClientTrust>, String> {
    let ClientCertificates {
        authorities,
        rule,
        svids,
    } = clients;
    let certificates = authorities.as_deref().map(setup::certificates);
    let certificates = certificates.transpose()?.unwrap_or_default();
    ClientTrust::new(certificates, *rule, *svids).map_err(|error| match authorities {
        Some(authorities) => format!("`{}`: {error}", authorities.display()),
        None => error.to_string(),
    })
}

fn bind(address: SocketAddr) -> Result<(std::net::TcpListener, SocketAddr), StartError> {
    let bound = || -> std::io::Result<_> {
        let domain = socket2::Domain::for_address(address);
        let socket = socket2::Socket::new(domain, socket2::Type::STREAM, None)?;
        socket.set_reuse_address(true)?;
        socket.set_nonblocking(true)?;
        socket.bind(&address.into())?;
        socket.listen(1024)?;
        let listener = std::net::TcpListener::from(socket);
        let bound = listener.local_addr()?;
        Ok((listener, bound))
    };
    bound().map_err(|error| listen_error(address, error))
}

fn listen_error(address: SocketAddr, error: std::io::Error) -> StartError {
    StartError::Listen {
        address: address.to_string(),
        error,
    }
}

/// Waits for SIGTERM, SIGINT, or whoever stops the gateway.
async fn until_told(
    signals: (std::io::Result<Signal>, std::io::Result<Signal>),
    stop: &CancellationToken,
) {
    let (Ok(mut terminate), Ok(mut interrupt)) = signals else {
        tracing::warn!("signals can't be received; the gateway runs until it is killed");
        return stop.cancelled().await;
    };
    tokio::select! {
        _ = terminate.recv() => tracing::info!("SIGTERM: calls in flight finish"),
        _ = interrupt.recv() => tracing::info!("SIGINT: calls in flight finish"),
        () = stop.cancelled() => {}
    }
}

async fn reload_at_hangup(
    reloader: Arc<Reloader>,
    hangup: std::io::Result<Signal>,
    stop: CancellationToken,
) {
    let Ok(mut hangup) = hangup else {
        return;
    };
    loop {
        tokio::select! {
            () = stop.cancelled() => return,
            _ = hangup.recv() => {
                // The outcome stands in status, log and metrics.
                reloader.reload().await.ok();
            }
        }
    }
}
