//! From a parsed config to what calls meet.

use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use call::{Fingerprints, Placeholder, StripMode, Tool, Tools};
use control::{Operator, Operators, OwnersOfRecord};
use credentials::{
    Azure, Binding, Cmd, ContextRule, Credentials, GithubApp, Google, Grant, Jwt, KubernetesSecret,
    KubernetesToken, OAuth, Place, Provider, Spiffe, Static, Sts, UserConsent, Vault,
};
use identity::{BundleConfig, ClusterConfig, Identity, TaskTokens};
use policy::{
    DecisionPoint, Finding, Mode, Policy, PublicKey, Recorded, RecordingConfig, Source, Trial,
    Verification,
};
use proxy::{ClientCertificate, ProtectedResource, Setup, Upstream, Upstreams};
use rustls_pki_types::pem::PemObject;
use rustls_pki_types::{CertificateDer, PrivateKeyDer};
use tasks::{OperationPattern, ToolName};
use url::{Origin, Url};
use zeroize::Zeroizing;

use crate::bundles::{Choice, Gathered, client};
use crate::config::{
    ApprovalsConfig, Asked, BindingConfig, ClusterAsked, Config, OAuthAsked, PolicyConfig,
    PolicyOrigin, ProviderConfig, ToolConfig, UpstreamConfig, VerifyConfig,
};
use crate::ground::Ground;
use crate::secret_servers;
use crate::signals::Senders;

/// Where calls are kept, in the state folder.
pub(crate) const RECORDED: &str = "calls.jsonl";

/// How many of the last calls both engines judge before a policy is taken.
const COMPARED: usize = 100;

/// One applied config.
#[derive(Debug)]
pub(crate) struct Applied {
    pub(crate) setup: Setup,
    pub(crate) operators: Arc<Operators>,
    /// Who answers for the tasks that agents open for themselves.
    pub(crate) owners_of_record: Arc<OwnersOfRecord>,
    /// Where agents say that they call.
    pub(crate) origins: Vec<Origin>,
    /// Bounds of new tasks, and header names.
    pub(crate) book: tasks::Config,
    /// Whose signals are taken.
    pub(crate) senders: Senders,
    /// How people are asked for approvals.
    pub(crate) approvals: ApprovalsConfig,
    /// The SHA-256 of the config's text.
    pub(crate) hash: String,
    /// What of the config is right but worth a look.
    pub(crate) warnings: Vec<String>,
    /// The policy of the setup.
    pub(crate) policy: PolicyConfig,
    /// The same of the policy.
    pub(crate) findings: Vec<String>,
    /// The bundles it is made of, if it is.
    pub(crate) gathered: Option<Gathered>,
}

/// The tokens of this machine's own operators, where the config names none.
pub(crate) struct OwnTokens {
    /// Of `operator`, who may do everything.
    pub(crate) operator: Zeroizing<String>,
    /// Of `approver`: the operator opens the tasks, and nobody approves for its own.
    pub(crate) approver: Zeroizing<String>,
}

/// Builds what calls meet; every mistake at once. Reads files and runs the policy's tests, so not for the data path.
pub(crate) async fn build(
    config: Config,
    ground: &Ground,
    previous: Option<&Setup>,
    own: Option<&OwnTokens>,
) -> Result<Applied, Vec<String>> {
    let mut mistakes = Vec::new();
    let warnings = config.warnings.iter().map(ToString::to_string);
    let warnings = warnings.chain(absent_bundles(&config)).collect();
    let before = previous.map(|setup| Arc::clone(setup.policy.policy()));
    let policy = decision_point(&config.policy, ground, Choice::Active, before).await;
    let policy = policy.map_err(|findings| mistakes.extend(findings)).ok();
    mistakes.extend(control_plane(&config.policy));
    // Before any secret is read that may be kept there.
    let vault = secret_servers::vault(&config, Some(&ground.tokens));
    let vault = noted(vault, &mut mistakes).flatten();
    let operators = noted(operators(&config, own).await, &mut mistakes);
    let senders = noted(Senders::read(&config.signals).await, &mut mistakes);
    let origins = config.identity.dpop.origins.clone();
    let issuer = config.tasks.issuer.as_ref();
    // Taken at start, as the issuer of tokens is.
    let oauth = match previous {
        Some(previous) => previous.oauth.as_deref().map(|oauth| oauth.moved(&origins)),
        None => issuer.map(|issuer| ProtectedResource::new(control::issuer_name(issuer), &origins)),
    };
    let identity = identity::Config {
        clusters: clusters(config.identity.clusters, &mut mistakes),
        issuers: config.identity.issuers,
        wit_issuers: config.identity.wit_issuers,
        transaction_issuers: config.tasks.transaction_issuers,
        tokens: Arc::clone(&ground.tokens),
        dpop: config.identity.dpop,
        certificates: config.identity.certificates,
        spiffe: config.identity.spiffe,
    };
    let identity = Identity::new(identity, previous.map(|setup| &*setup.identity));
    let mut tools = Vec::new();
    let mut upstreams = Vec::new();
    let mut bindings = Vec::new();
    let contexts = contexts(&config.tools);
    let mut called_with = Vec::new();
    for ToolConfig {
        tool,
        upstream: reached,
        bindings: taken,
        body_keys,
        token_endpoints,
        ..
    } in config.tools
    {
        match upstream(&tool.upstream, &reached) {
            Ok(upstream) => upstreams.push((tool.name.clone(), upstream)),
            Err(mistake) => mistakes.push(format!("tools.{}: {mistake}", tool.name)),
        }
        called_with.push(CalledWith {
            tool: tool.name.clone(),
            body_keys,
            token_endpoints,
            placeholders: placeholders_of(&taken),
        });
        for taken in taken {
            match binding(&tool.name, taken, ground, vault.as_ref()) {
                Ok(binding) => bindings.push(binding),
                Err(mistake) => {
                    mistakes.push(format!("tools.{}.credentials: {mistake}", tool.name));
                }
            }
        }
        tools.push(tool);
    }
    let book = config.tasks.book;
    let headers = book.headers.clone();
    let declarations = [headers.task, headers.tool, headers.context];
    let tools = noted(called(tools, &called_with, &ground.tokens), &mut mistakes);
    let tools = tools.map(|tools| tools.with_declarations(declarations));
    let (Some(tools), Some(deciding), Some(operators), Some(senders), true) =
        (tools, policy, operators, senders, mistakes.is_empty())
    else {
        return Err(mistakes);
    };
    let setup = Setup {
        identity: Arc::new(identity),
        tools: Arc::new(tools),
        policy: Arc::new(deciding.point),
        credentials: credentials(bindings, contexts, ground),
        upstreams: Arc::new(Upstreams::new(upstreams)),
        oauth: oauth.map(Arc::new),
    };
    Ok(Applied {
        setup,
        operators: Arc::new(operators),
        owners_of_record: Arc::new(config.tasks.owners_of_record),
        origins,
        book,
        senders,
        approvals: config.approvals,
        hash: config.hash,
        warnings,
        policy: config.policy,
        findings: deciding.findings,
        gathered: deciding.gathered,
    })
}

/// What came of it; a mistake is noted.
fn noted<T>(came: Result<T, String>, mistakes: &mut Vec<String>) -> Option<T> {
    came.map_err(|mistake| mistakes.push(mistake)).ok()
}

/// What the leases of each tool belong to.
fn contexts(tools: &[ToolConfig]) -> HashMap<ToolName, ContextRule> {
    let contexts = tools
        .iter()
        .map(|of| (of.tool.name.clone(), of.context.clone()));
    contexts.collect()
}

fn credentials(
    bindings: Vec<Binding>,
    contexts: HashMap<ToolName, ContextRule>,
    ground: &Ground,
) -> Arc<Credentials> {
    let credentials = Credentials::new(bindings, Arc::clone(&ground.leases));
    Arc::new(credentials.with_contexts(contexts))
}

/// What calls to a tool bring along.
struct CalledWith {
    tool: ToolName,
    /// What happens to keys in their bodies.
    body_keys: StripMode,
    token_endpoints: Vec<OperationPattern>,
    placeholders: Vec<Placeholder>,
}

/// The tools, and by which fingerprints keys are told.
fn called(
    tools: Vec<Tool>,
    called_with: &[CalledWith],
    tokens: &TaskTokens,
) -> Result<Tools, String> {
    let tools = Tools::new(tools).map_err(|error| error.to_string())?;
    let prints = Fingerprints::new(tokens).map_err(|error| error.to_string())?;
    let with = |tools: Tools, with: &CalledWith| {
        tools
            .with_body_keys(&with.tool, with.body_keys)
            .with_token_endpoints(&with.tool, &with.token_endpoints)
            .with_placeholders(&with.tool, &with.placeholders)
    };
    let tools = tools.with_fingerprints(prints);
    Ok(called_with.iter().fold(tools, with))
}

/// The clusters, with the authorities of their API servers.
fn clusters(asked: Vec<ClusterAsked>, mistakes: &mut Vec<String>) -> Vec<ClusterConfig> {
    let cluster = |ClusterAsked { mut cluster, ca }| {
        match ca.as_deref().map(certificates).transpose() {
            Ok(authorities) => cluster.authorities = authorities.unwrap_or_default(),
            Err(mistake) => mistakes.push(format!("identity.clusters: {mistake}")),
        }
        cluster
    };
    asked.into_iter().map(cluster).collect()
}

/// Which bundles of trust domains are not there yet. No mistakes: what writes them may start after the gateway.
fn absent_bundles(config: &Config) -> Vec<String> {
    let domains = config.identity.spiffe.iter();
    let domains = domains.flat_map(|spiffe| &spiffe.trust_domains);
    let absent = domains.filter_map(|domain| match &domain.bundle {
        BundleConfig::File(path) if !path.is_file() => Some(format!(
            "identity.spiffe: `{}`, the bundle of `{}`, is not there yet",
            path.display(),
            domain.name
        )),
        BundleConfig::File(_) | BundleConfig::Endpoint(_) | BundleConfig::WorkloadApi(_) => None,
    });
    absent.collect()
}

/// What of the files of a control plane's services is wrong.
fn control_plane(config: &PolicyConfig) -> impl Iterator<Item = String> {
    let decisions = config.decision_logs.as_ref().map(|logs| &logs.service);
    let status = config.status.as_ref().map(|status| &status.service);
    let services = [("decision_logs", decisions), ("status", status)];
    services.into_iter().filter_map(|(name, service)| {
        let mistake = client(service?).err()?;
        Some(format!("policy.{name}: {mistake}"))
    })
}

/// What decides, and what there is to say of it.
#[derive(Debug)]
pub(crate) struct Deciding {
    pub(crate) point: DecisionPoint,
    /// What is right but worth a look.
    pub(crate) findings: Vec<String>,
    /// The bundles it is made of, if it is.
    pub(crate) gathered: Option<Gathered>,
}

/// Loads the policy that counts and the one that is tried beside it. The second may be broken: it has no effect.
pub(crate) async fn decision_point(
    config: &PolicyConfig,
    ground: &Ground,
    choice: Choice<'_>,
    previous: Option<Arc<Policy>>,
) -> Result<Deciding, Vec<String>> {
    let recorded = ground.state.join(RECORDED);
    let verification = config.verify.as_ref().map(verification).transpose();
    let verification = verification.map_err(|mistake| vec![mistake])?;
    let (policy, mut findings, gathered) = match &config.origin {
        PolicyOrigin::Path(path) => {
            let sources = read(path.clone(), verification.clone()).await?;
            let (policy, findings) = load_policy(sources, recorded.clone(), previous).await?;
            (policy, findings, None)
        }
        PolicyOrigin::Bundles(bundles) => {
            // A policy that counts is not exchanged for none.
            let may_miss = previous.as_ref().is_none_or(|policy| policy.is_absent());
            let gathered = ground.bundles.gather(bundles, choice, may_miss);
            let mut gathered = gathered.await?;
            let sources = std::mem::take(&mut gathered.sources);
            let loaded = load_policy(sources, recorded.clone(), previous).await;
            let (policy, mut findings) = match loaded {
                Ok(loaded) => loaded,
                Err(mistakes) => {
                    gathered.not_taken(&mistakes);
                    if !may_miss {
                        return Err(mistakes);
                    }
                    // Nothing counts until one comes that is whole: the servers are asked for it.
                    gathered.missing = mistakes;
                    load_policy(Policy::absent(), recorded.clone(), None).await?
                }
            };
            if !gathered.missing.is_empty() {
                findings = vec!["there is no policy yet: every call is refused".to_owned()];
                findings.extend(gathered.missing.iter().cloned());
            }
            (policy, findings, Some(gathered))
        }
    };
    let mut trial = Trial::default();
    if let Some(folder) = &config.candidate {
        let candidate = match read(folder.clone(), verification).await {
            Ok(sources) => load_policy(sources, recorded.clone(), None).await,
            Err(mistakes) => Err(mistakes),
        };
        let told = match candidate {
            Ok((candidate, told)) => {
                trial.candidate = Some(candidate);
                told
            }
            Err(told) => {
                findings.push("policy.candidate is not tried: it is broken".to_owned());
                told
            }
        };
        let told = told.iter().map(|line| format!("policy.candidate: {line}"));
        findings.extend(told);
    }
    if config.mode == Mode::Shadow {
        findings.push("policy.mode is `shadow`: policy refuses nothing".to_owned());
    }
    trial.recording = config.record.as_ref().map(|record| RecordingConfig {
        path: recorded,
        most: record.calls,
        mask: record.mask.clone(),
    });
    let revisions = gathered.as_ref().map(Gathered::revisions);
    trial.decisions = ground
        .reports
        .decision_log(config, revisions.unwrap_or_default());
    let point = DecisionPoint::new(policy, config.mode, &trial);
    let point = point.map_err(|error| vec![format!("policy can't be tried: {error}")])?;
    Ok(Deciding {
        point,
        findings,
        gathered,
    })
}

/// Whose signature a bundle must have.
pub(crate) fn verification(config: &VerifyConfig) -> Result<Verification, String> {
    let told = |error: &dyn std::fmt::Display| {
        format!("policy.verify.key `{}`: {error}", config.key.display())
    };
    let pem = std::fs::read_to_string(&config.key).map_err(|error| told(&error))?;
    Ok(Verification {
        key: PublicKey::from_pem(&pem).map_err(|error| told(&error))?,
        key_id: config.key_id.clone(),
        scope: config.scope.clone(),
    })
}

/// Reads a policy's files, off the threads that answer.
async fn read(
    path: PathBuf,
    verification: Option<Verification>,
) -> Result<Vec<Source>, Vec<String>> {
    let reading = tokio::task::spawn_blocking(move || {
        let told = |error| format!("policy `{}` can't be read: {error}", path.display());
        Policy::read_verified(&path, verification.as_ref()).map_err(|error| vec![told(error)])
    });
    reading
        .await
        .unwrap_or_else(|error| Err(vec![format!("policy can't be read: {error}")]))
}

/// Parses, checks, compiles and tests a policy, off the threads that answer; calls that were kept are judged by both
/// engines. What another one has compiled is taken where it fits.
async fn load_policy(
    sources: Vec<Source>,
    recorded: PathBuf,
    previous: Option<Arc<Policy>>,
) -> Result<(Arc<Policy>, Vec<String>), Vec<String>> {
    let loading = tokio::task::spawn_blocking(move || {
        let loaded = match &previous {
            Some(previous) => Policy::load_after(previous, sources),
            None => Policy::load(sources),
        };
        let (policy, findings) = loaded.map_err(|findings| lines(&findings))?;
        let policy = Arc::new(policy);
        let mut calls = Recorded::read(&recorded).unwrap_or_default();
        let last = calls.split_off(calls.len().saturating_sub(COMPARED));
        match policy.disagreements(last) {
            none if none.is_empty() => Ok((policy, findings)),
            found => Err(lines(&found)),
        }
    });
    let (policy, findings) = loading
        .await
        .map_err(|error| vec![format!("policy can't be loaded: {error}")])??;
    Ok((policy, lines(&findings)))
}

fn lines(findings: &[Finding]) -> Vec<String> {
    let line = |finding: &Finding| {
        format!(
            "{}:{}:{}: {}: {}",
            finding.file, finding.line, finding.column, finding.code, finding.message
        )
    };
    findings.iter().map(line).collect()
}

async fn operators(config: &Config, own: Option<&OwnTokens>) -> Result<Operators, String> {
    let known = |name: &str, token: &Zeroizing<String>, role| Operator {
        name: name.to_owned(),
        token: token.as_bytes().to_vec(),
        role,
    };
    let mut operators = Vec::new();
    if let Some(own) = own {
        operators.push(known("operator", &own.operator, control::Role::Operator));
        operators.push(known("approver", &own.approver, control::Role::Approver));
    }
    for operator in &config.control.operators {
        let token = operator.token.read_document().await;
        let token =
            token.map_err(|error| format!("control.operators `{}`: {error}", operator.name))?;
        operators.push(Operator {
            name: operator.name.clone(),
            token: token.trim_ascii().to_vec(),
            role: operator.role,
        });
    }
    Operators::new(operators).map_err(|error| format!("control.operators: {error}"))
}

/// What agents write where the keys of a tool go; one text where several credentials have it.
fn placeholders_of(bindings: &[BindingConfig]) -> Vec<Placeholder> {
    let mut all: Vec<Placeholder> = Vec::new();
    for injection in bindings.iter().flat_map(|binding| &binding.injections) {
        let Place::Placeholder(placeholder) = &injection.place else {
            continue;
        };
        match all.iter_mut().find(|known| known.text == placeholder.text) {
            Some(known) => {
                for spot in &placeholder.spots {
                    if !known.spots.contains(spot) {
                        known.spots.push(spot.clone());
                    }
                }
            }
            None => all.push(placeholder.clone()),
        }
    }
    all
}

fn binding(
    tool: &ToolName,
    taken: BindingConfig,
    ground: &Ground,
    vault: Option<&Arc<Vault>>,
) -> Result<Binding, String> {
    let tokens = &ground.tokens;
    let provider: Arc<dyn Provider> = match taken.provider {
        ProviderConfig::Static { kept, until } => Arc::new(Static::new(kept, until)),
        ProviderConfig::Cmd { argv, timeout, ttl } => Arc::new(Cmd::new(argv, timeout, ttl)),
        ProviderConfig::OAuth(asked) => {
            let OAuthAsked {
                mut oauth,
                ca,
                identity_provider_ca,
                consent,
            } = *asked;
            if let (Grant::IdJag(jag), Some(ca)) = (&mut oauth.grant, identity_provider_ca) {
                jag.authorities = certificates(&ca)?;
            }
            if let Some(consent) = consent {
                oauth.grant = Grant::UserConsent(UserConsent {
                    authorization_url: consent.authorization_url,
                    issuer: consent.issuer,
                    issuer_in_answers: consent.issuer_in_answers,
                    owner_claim: consent.owner_claim,
                    access_tokens: consent.access_tokens,
                    consents: Arc::clone(&ground.consents),
                });
            }
            if let Some(ca) = ca {
                oauth.authorities = certificates(&ca)?;
            }
            let seal = Arc::clone(&ground.seal);
            Arc::new(OAuth::sealed_by(seal, oauth, Arc::clone(tokens))?)
        }
        ProviderConfig::Spiffe(source) => Arc::new(Spiffe::new(source)),
        ProviderConfig::Sts(asked) => {
            let Asked { mut config, ca } = *asked;
            config.authorities = authorities(ca.as_deref())?;
            Arc::new(Sts::new(config, Arc::clone(tokens))?)
        }
        ProviderConfig::GithubApp(asked) => {
            let Asked { mut config, ca } = *asked;
            config.authorities = authorities(ca.as_deref())?;
            Arc::new(GithubApp::new(config, Arc::clone(&ground.seal))?)
        }
        ProviderConfig::Google(asked) => {
            let Asked { mut config, ca } = *asked;
            config.authorities = authorities(ca.as_deref())?;
            Arc::new(Google::new(config, Arc::clone(tokens))?)
        }
        ProviderConfig::Azure(asked) => {
            let Asked { mut config, ca } = *asked;
            config.authorities = authorities(ca.as_deref())?;
            Arc::new(Azure::new(config, Arc::clone(tokens))?)
        }
        ProviderConfig::Vault(asked) => {
            Arc::new(secret_servers::vault_secrets(*asked, vault, tokens)?)
        }
        ProviderConfig::KubernetesSecret { asked, keys } => Arc::new(KubernetesSecret::new(
            secret_servers::cluster(asked)?,
            keys,
        )?),
        ProviderConfig::KubernetesToken { asked, audiences } => Arc::new(KubernetesToken::new(
            secret_servers::cluster(asked)?,
            audiences,
        )?),
        ProviderConfig::Jwt {
            statement,
            scopes,
            ttl,
        } => Arc::new(Jwt::new(statement, scopes, ttl, Arc::clone(tokens))),
    };
    Ok(Binding {
        tool: tool.clone(),
        access: taken.access,
        provider,
        injections: taken.injections,
    })
}

fn upstream(url: &Url, reached: &UpstreamConfig) -> Result<Upstream, String> {
    let authorities = match &reached.ca {
        Some(path) => certificates(path)?,
        None => Vec::new(),
    };
    let certificate = match &reached.client_certificate {
        Some(pair) => {
            let key = key(&pair.key)?;
            let shown = ClientCertificate::new(&certificates(&pair.certificate)?, &key);
            Some(shown.map_err(|error| error.to_string())?)
        }
        None => None,
    };
    Upstream::new(
        url,
        &authorities,
        certificate,
        reached.http2,
        reached.timeouts,
    )
    .map_err(|error| error.to_string())
}

/// The authorities of a file; none for the system's.
fn authorities(ca: Option<&Path>) -> Result<Vec<CertificateDer<'static>>, String> {
    ca.map_or_else(|| Ok(Vec::new()), certificates)
}

/// Reads the certificates of a PEM file; at least one.
pub(crate) fn certificates(path: &Path) -> Result<Vec<CertificateDer<'static>>, String> {
    let unreadable = |error: &dyn std::fmt::Display| {
        format!("`{}` holds no certificates: {error}", path.display())
    };
    let found = CertificateDer::pem_file_iter(path).map_err(|error| unreadable(&error))?;
    let found: Vec<_> = found
        .collect::<Result<_, _>>()
        .map_err(|error| unreadable(&error))?;
    if found.is_empty() {
        return Err(unreadable(&"the file has none"));
    }
    Ok(found)
}

/// Reads the private key of a PEM file.
pub(crate) fn key(path: &Path) -> Result<PrivateKeyDer<'static>, String> {
    PrivateKeyDer::from_pem_file(path)
        .map_err(|error| format!("`{}` holds no private key: {error}", path.display()))
}
