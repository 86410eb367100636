//! How long do many leases take to be revoked, and do calls notice? `cargo bench -p benches --bench leases`.
//!
//! Ten thousand tokens of ten thousand tasks, as when an agent is revoked, each revoked by a request of its own (RFC 7009)
//! over a connection of its own, to an endpoint of this machine that takes its time. Meanwhile calls take the lease that
//! they have.
#![expect(
    clippy::unwrap_used,
    clippy::print_stdout,
    reason = "a benchmark that fails has nothing to say, others are read"
)]

use std::sync::Arc;
use std::time::Duration;

use benches::{Sent, World};
use credentials::{Binding, ClientAuthentication, Credentials, Grant, OAuth, OAuthConfig};
use futures::future::join_all;
use tasks::{Access, TaskId};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::runtime::Builder;
use tokio::time::Instant;

const LEASES: usize = 10_000;

/// How long the endpoint takes for an answer: a server in the same data centre that writes it down.
const ENDPOINT: Duration = Duration::from_millis(20);

const PATIENCE: Duration = Duration::from_secs(120);

fn main() {
    let world = World::new();
    // As in the gateway: one thread for what operators want, others for calls.
    let control = Builder::new_multi_thread()
        .worker_threads(1)
        .enable_all()
        .build()
        .unwrap();
    let credentials = control.block_on(oauth(&world));
    let tasks = world.open_tasks(LEASES);
    obtain(&world, &credentials, &tasks);

    let alone = calls(&world, || 2 * LEASES);
    println!("calls by themselves: {alone}");
    let leases = Arc::clone(credentials.leases());
    let revoking = control.spawn(async move {
        let begun = Instant::now();
        let told = leases.conclude(&tasks, PATIENCE).await;
        let revoked = told
            .iter()
            .filter(|lease| lease.outcome.as_deref() == Some("revoked"));
        (begun.elapsed(), revoked.count())
    });
    let meanwhile = calls(&world, || {
        if revoking.is_finished() {
            0
        } else {
            usize::MAX
        }
    });
    let (took, revoked) = control.block_on(revoking).unwrap();
    println!("calls meanwhile: {meanwhile}");
    println!("{revoked} leases revoked in {took:.2?}");
    assert_eq!(revoked, LEASES);
}

/// Takes the lease at hand for one call after another while there are more to make.
fn calls(world: &World, more: impl Fn() -> usize) -> String {
    let mut took = Vec::new();
    while took.len() < more() {
        let permit = world.permit(Sent::McpCall);
        let begun = Instant::now();
        let issued = world.runtime.block_on(world.credentials.issue(permit));
        let outbound = issued.unwrap().inject().unwrap();
        took.push(begun.elapsed());
        drop(outbound);
    }
    took.sort_unstable();
    let part = |of_1000: usize| {
        took.get(took.len() * of_1000 / 1000)
            .copied()
            .unwrap_or_default()
    };
    format!(
        "{} of them, issue and inject p50 {:.2?}, p99 {:.2?}, p99.9 {:.2?}",
        took.len(),
        part(500),
        part(990),
        part(999)
    )
}

fn obtain(world: &World, credentials: &Credentials, tasks: &[TaskId]) {
    for some in tasks.chunks(500) {
        let permits: Vec<_> = some.iter().map(|task| world.permit_of(task)).collect();
        let issuing = permits.into_iter().map(|permit| credentials.issue(permit));
        for issued in world.runtime.block_on(join_all(issuing)) {
            drop(issued.unwrap());
        }
    }
}

/// The tool `notes` takes tokens of an authorization server from here on.
async fn oauth(world: &World) -> Credentials {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(async move {
        while let Ok((connection, _)) = listener.accept().await {
            tokio::spawn(answer(connection));
        }
    });
    let url = |path: &str| format!("http://{address}/{path}").parse().unwrap();
    let config = OAuthConfig {
        token_url: url("token"),
        revocation_url: Some(url("revoke")),
        authorities: Vec::new(),
        client_id: Some("bench".to_owned()),
        authentication: ClientAuthentication::None,
        grant: Grant::ClientCredentials,
        scopes: Vec::new(),
        audience: None,
        resources: Vec::new(),
        ttl: None,
        timeout: Duration::from_secs(10),
    };
    let provider = OAuth::new(config, Arc::clone(world.identity.tokens())).unwrap();
    let binding = Binding {
        tool: "notes".parse().unwrap(),
        access: Access::Read,
        provider: Arc::new(provider),
        injections: vec![benches::bearer()],
    };
    Credentials::new(vec![binding], Arc::clone(world.credentials.leases()))
}

/// A token, or that it was revoked.
async fn answer(mut connection: TcpStream) {
    let mut request = Vec::new();
    // All fits one segment: head, form, no more.
    while !request.ends_with(b"client_credentials")
        && !request.windows(5).any(|part| part == b"token")
    {
        if connection.read_buf(&mut request).await.unwrap_or(0) == 0 {
            return;
        }
    }
    let body = if request.starts_with(b"POST /token") {
        r#"{"access_token":"0123456789abcdef","token_type":"Bearer","expires_in":7200}"#
    } else {
        tokio::time::sleep(ENDPOINT).await;
        "{}"
    };
    let length = body.len();
    let answer = format!(
        "HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: {length}\r\nconnection: close\r\n\r\n{body}"
    );
    connection.write_all(answer.as_bytes()).await.ok();
}
