//! From a parsed config to what calls meet.

use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use call::{Fingerprints, StripMode, Tool, Tools};
use control::{Operator, Operators, OwnersOfRecord};
use credentials::{
    Azure, Binding, Cmd, Credentials, GithubApp, Google, Jwt, OAuth, Provider, Static,
};
use identity::{BundleConfig, ClusterConfig, Identity, TaskTokens};
use policy::{
    DecisionPoint, Finding, Mode, Policy, PublicKey, Recorded, RecordingConfig, Source, Trial,
    Verification,
};
use proxy::{ClientCertificate, ProtectedResource, Setup, Upstream, Upstreams};
use rustls_pki_types::pem::PemObject;
use rustls_pki_types::{CertificateDer, PrivateKeyDer};
use tasks::ToolName;
use url::{Origin, Url};
use zeroize::Zeroizing;

use crate::bundles::{Choice, Gathered, client};
use crate::config::{
    ApprovalsConfig, Asked, BindingConfig, ClusterAsked, Config, OAuthAsked, PolicyConfig,
    PolicyOrigin, ProviderConfig, ToolConfig, UpstreamConfig, VerifyConfig,
};
use crate::ground::Ground;
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
    let operators = operators(&config, own).await;
    let operators = operators.map_err(|mistake| mistakes.push(mistake)).ok();
    let senders = Senders::read(&config.signals).await;
    let senders = senders.map_err(|mistake| mistakes.push(mistake)).ok();
    let origins = config.identity.dpop.origins.clone();
    let issuer = config.tasks.issuer.as_ref();
    // Taken at start, as the issuer of tokens is.
    let oauth = match previous {
        Some(previous) => previous.oauth.as_deref().map(|oauth| oauth.moved(&origins)),
        None => issuer.map(|issuer| ProtectedResource::new(control::issuer_name(issuer), &origins)),
    };
    let clusters = clusters(config.identity.clusters, &mut mistakes);
    let identity = Identity::new(
        identity::Config {
            issuers: config.identity.issuers,
            clusters,
            wit_issuers: config.identity.wit_issuers,
            transaction_issuers: config.tasks.transaction_issuers,
            tokens: Arc::clone(&ground.tokens),
            dpop: config.identity.dpop,
            certificates: config.identity.certificates,
            spiffe: config.identity.spiffe,
        },
        previous.map(|setup| &*setup.identity),
    );
    let mut tools = Vec::new();
    let mut upstreams = Vec::new();
    let mut bindings = Vec::new();
    let mut contexts = HashMap::new();
    let mut bodies = Vec::new();
    for ToolConfig {
        tool,
        upstream: reached,
        bindings: taken,
        body_keys,
        context,
    } in config.tools
    {
        contexts.insert(tool.name.clone(), context);
        match upstream(&tool.upstream, &reached) {
            Ok(upstream) => upstreams.push((tool.name.clone(), upstream)),
            Err(mistake) => mistakes.push(format!("tools.{}: {mistake}", tool.name)),
        }
        bodies.push((tool.name.clone(), body_keys));
        for taken in taken {
            match binding(&tool.name, taken, &ground.tokens) {
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
    let tools = called(tools, &bodies, &ground.tokens);
    let tools = tools.map_err(|mistake| mistakes.push(mistake)).ok();
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
        credentials: Arc::new(
            Credentials::new(bindings, Arc::clone(&ground.leases)).with_contexts(contexts),
        ),
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

/// The tools, what happens to keys in their bodies, and by which fingerprints keys are told.
fn called(
    tools: Vec<Tool>,
    bodies: &[(ToolName, StripMode)],
    tokens: &TaskTokens,
) -> Result<Tools, String> {
    let tools = Tools::new(tools).map_err(|error| error.to_string())?;
    let prints = Fingerprints::new(tokens).map_err(|error| error.to_string())?;
    let with =
        |tools: Tools, (name, mode): &(ToolName, StripMode)| tools.with_body_keys(name, *mode);
    Ok(bodies.iter().fold(tools.with_fingerprints(prints), with))
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

fn binding(
    tool: &ToolName,
    taken: BindingConfig,
    tokens: &Arc<TaskTokens>,
) -> Result<Binding, String> {
    let provider: Arc<dyn Provider> = match taken.provider {
        ProviderConfig::Static { kept, until } => Arc::new(Static::new(kept, until)),
        ProviderConfig::Cmd { argv, timeout, ttl } => Arc::new(Cmd::new(argv, timeout, ttl)),
        ProviderConfig::OAuth(asked) => {
            let OAuthAsked { mut oauth, ca } = *asked;
            if let Some(ca) = ca {
                oauth.authorities = certificates(&ca)?;
            }
            Arc::new(OAuth::new(oauth, Arc::clone(tokens))?)
        }
        ProviderConfig::GithubApp(asked) => {
            let Asked { mut config, ca } = *asked;
            config.authorities = authorities(ca.as_deref())?;
            Arc::new(GithubApp::new(config, tokens)?)
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
