//! What outlives a reload: the state folder, tasks, approvals, leases, token keys and the recorder.

use std::fs::{self, OpenOptions, Permissions};
use std::io::{self, Write};
use std::net::SocketAddr;
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt, PermissionsExt};
use std::path::Path;
use std::sync::Arc;

use control::Signals;
use credentials::{Consents, Leases, Seal, SealedStore, SecretRef};
use identity::{KeyKind, TaskTokens};
use tasks::{Approvals, Embedded, Store, TaskId, Tasks};
use telemetry::{Recorder, Telemetry};
use url::Url;
use zeroize::Zeroizing;

use crate::bundles::Bundles;
use crate::config::{Config, StoreConfig};
use crate::reports::Reports;
use crate::secret_servers;
use crate::signals::{Polls, Senders};
use crate::webhook::Webhook;

/// What outlives a reload.
#[derive(Clone, Debug)]
pub(crate) struct Ground {
    pub(crate) tasks: Arc<Tasks>,
    pub(crate) approvals: Arc<Approvals>,
    /// Who is told of approvals.
    pub(crate) webhook: Arc<Webhook>,
    /// Where signals of identity providers come in, and who is polled for them.
    pub(crate) signals: Arc<Signals>,
    pub(crate) polls: Arc<Polls>,
    pub(crate) leases: Arc<Leases>,
    /// What people consented to.
    pub(crate) consents: Arc<Consents>,
    pub(crate) tokens: Arc<TaskTokens>,
    /// By which secrets in the store are sealed.
    pub(crate) seal: Arc<Seal>,
    pub(crate) recorder: Recorder,
    /// The bundles of the policy.
    pub(crate) bundles: Arc<Bundles>,
    /// What a control plane is told.
    pub(crate) reports: Arc<Reports>,
    /// The state folder.
    pub(crate) state: Arc<Path>,
}

/// The gateway can't start.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub(crate) enum StartError {
    /// A file or folder of its own.
    #[error("`{path}` can't be used: {error}")]
    File {
        /// Which.
        path: String,
        /// Why.
        error: io::Error,
    },
    /// The state folder.
    #[error("a gateway is running in `{path}` already")]
    Held {
        /// Which.
        path: String,
    },
    /// The store.
    #[error(transparent)]
    Store(#[from] tasks::StoreError),
    /// The key of task tokens.
    #[error(transparent)]
    Key(#[from] identity::InvalidKey),
    /// A secret that the config names.
    #[error("{what}: {cause}")]
    Secret {
        /// Which.
        what: String,
        /// Why; no secret.
        cause: String,
    },
    /// An exporter or the audit.
    #[error(transparent)]
    Telemetry(#[from] telemetry::StartError),
    /// Config or policy, with every mistake.
    #[error("{}", .0.join("\n"))]
    Setup(Vec<String>),
    /// A listener.
    #[error("can't listen on {address}: {error}")]
    Listen {
        /// Where.
        address: String,
        /// Why.
        error: io::Error,
    },
    /// Threads.
    #[error("can't start threads: {0}")]
    Threads(io::Error),
}

impl Ground {
    /// Lays the ground: opens the store, loads tasks, approvals and leases, starts the exporters.
    pub(crate) async fn lay(
        config: &Config,
        state: &Path,
    ) -> Result<(Self, Telemetry), StartError> {
        make_private_folder(state)?;
        let tokens = Arc::new(task_tokens(config, state).await?);
        // Before any secret is read that may be kept there.
        secret_servers::vault(config, Some(&tokens))
            .map_err(|mistake| StartError::Setup(vec![mistake]))?;
        let (recorder, telemetry) = Recorder::start(config.telemetry.clone())?;
        let folder = match &config.tasks.store {
            Some(StoreConfig::Embedded(folder)) => folder.as_path(),
            None => &state.join("store"),
        };
        let store: Arc<dyn Store> = Arc::new(Embedded::open(folder)?);
        let tasks = Tasks::load(config.tasks.book.clone(), Arc::clone(&store)).await?;
        let open = Arc::clone(&tasks);
        let is_open = move |task: &TaskId| open.is_open(task);
        let asking = config.approvals.asking(&config.listen.control.to_string());
        let approvals = Approvals::load(asking, Arc::clone(&store), is_open.clone()).await?;
        let seal = Arc::new(seal(config, &tokens).await?);
        let sealed: Arc<dyn Store> = Arc::new(SealedStore::new(store, Arc::clone(&seal)));
        let consents = Consents::load(Arc::clone(&sealed)).await?;
        let leases = Leases::load(sealed, is_open).await?;
        leases.count_by(recorder.clone());
        let signals = Signals::new(Arc::clone(&tasks), Arc::clone(&leases), recorder.clone());
        Ok((
            Self {
                signals: Arc::new(signals),
                polls: Arc::default(),
                tasks,
                approvals,
                webhook: Arc::default(),
                leases,
                consents,
                tokens,
                seal,
                bundles: Arc::new(Bundles::new(state)),
                reports: Arc::new(Reports::new(recorder.clone())),
                recorder,
                state: state.into(),
            },
            telemetry,
        ))
    }
}

impl Ground {
    /// Says where browsers reach the control listener: at this URL, or else at its own address.
    pub(crate) fn reached_at(&self, url: Option<&Url>, bound: SocketAddr) {
        let url = url.map_or_else(|| format!("http://{bound}"), ToString::to_string);
        self.consents.configure(&url);
    }

    /// Says whose signals are taken from now on.
    pub(crate) fn take_signals_of(&self, senders: &Senders) {
        self.signals.configure(senders.all.clone());
        self.polls.configure(senders.polled.clone());
    }
}

/// By which key the ledger of leases is sealed.
async fn seal(config: &Config, tokens: &TaskTokens) -> Result<Seal, StartError> {
    let wrong = |what: &str, cause: String| StartError::Secret {
        what: what.to_owned(),
        cause,
    };
    let read = async |what: &str, reference: &SecretRef| {
        let secret = reference.read_document().await;
        secret.map_err(|error| wrong(what, error.to_string()))
    };
    let mut seal = match &config.state.key {
        Some(reference) => {
            let key = read("state.key", reference).await?;
            Seal::from_secret(&key).map_err(|error| wrong("state.key", error.to_string()))?
        }
        None => Seal::new(tokens)?,
    };
    for reference in &config.state.old_keys {
        let key = read("state.old_keys", reference).await?;
        let with_old = seal.with_old(&key);
        seal = with_old.map_err(|error| wrong("state.old_keys", error.to_string()))?;
    }
    Ok(seal)
}

async fn task_tokens(config: &Config, state: &Path) -> Result<TaskTokens, StartError> {
    let pem: Zeroizing<Vec<u8>> = match &config.tasks.signing_key {
        Some(reference) => {
            // It may be kept in a Vault; a login that it would have to sign is refused with the config.
            secret_servers::vault(config, None)
                .map_err(|mistake| StartError::Setup(vec![mistake]))?;
            reference
                .read_document()
                .await
                .map_err(|error| StartError::Secret {
                    what: "tasks.signing_key".to_owned(),
                    cause: error.to_string(),
                })?
        }
        None => {
            let path = state.join("task.key");
            let make = || TaskTokens::generate(KeyKind::P256);
            if !path.exists() {
                write_private(&path, make()?.as_bytes())?;
            }
            Zeroizing::new(fs::read(&path).map_err(|error| file_error(&path, error))?)
        }
    };
    if let Some(issuer) = &config.tasks.issuer {
        return Ok(TaskTokens::from_pem(&pem, control::issuer_name(issuer))?);
    }
    // Without a configured name the key itself names the issuer, so that tokens outlive a change of address.
    let key = TaskTokens::from_pem(&pem, "urn:remit")?.jwks();
    let kid = key
        .pointer("/keys/0/kid")
        .and_then(serde_json::Value::as_str)
        .unwrap_or_default();
    Ok(TaskTokens::from_pem(&pem, &format!("urn:remit:{kid}"))?)
}

/// Makes a folder that only its owner can enter.
pub(crate) fn make_private_folder(path: &Path) -> Result<(), StartError> {
    let made = fs::DirBuilder::new()
        .recursive(true)
        .mode(0o700)
        .create(path);
    made.map_err(|error| file_error(path, error))
}

/// Writes a file that only its owner can read, whole or not at all.
pub(crate) fn write_private(path: &Path, bytes: &[u8]) -> Result<(), StartError> {
    let draft = path.with_extension("draft");
    let write = || -> io::Result<()> {
        let mut file = OpenOptions::new()
            .create(true)
            .truncate(true)
            .write(true)
            .mode(0o600)
            .open(&draft)?;
        file.set_permissions(Permissions::from_mode(0o600))?;
        file.write_all(bytes)?;
        file.sync_all()?;
        fs::rename(&draft, path)?;
        // The new name has to survive a power cut, too.
        let folder = path
            .parent()
            .filter(|folder| !folder.as_os_str().is_empty());
        fs::File::open(folder.unwrap_or_else(|| Path::new(".")))?.sync_all()
    };
    write().map_err(|error| file_error(path, error))
}

pub(crate) fn file_error(path: &Path, error: io::Error) -> StartError {
    StartError::File {
        path: path.display().to_string(),
        error,
    }
}
