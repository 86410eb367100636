//! nginx, as the upstream of all and as a proxy before it.

use std::fs;
use std::net::SocketAddr;
use std::path::Path;
use std::process::Command;

use super::server::{Server, free_address};
use crate::process::Failed;

/// The upstream: answers every call with 1 KiB, and takes what is exported to `/v1/`.
pub(super) fn upstream(folder: &Path, workers: usize) -> Result<(Server, SocketAddr), Failed> {
    let start = r#"{"jsonrpc":"2.0","id":7,"result":{"content":[{"type":"text","text":""#;
    let end = r#""}]}}"#;
    let text = "ticket OPS-1234 is resolved, ".repeat(40);
    let length = 1024_usize.saturating_sub(start.len() + end.len());
    let text: String = text.chars().take(length).collect();
    let server = format!(
        "location / {{ default_type application/json; return 200 '{start}{text}{end}'; }}
         location /v1/ {{ default_type application/x-protobuf; return 200; }}"
    );
    start_with(folder, "upstream", workers, "", &server)
}

/// A proxy that passes everything on, over connections that stay.
pub(super) fn proxy(
    folder: &Path,
    upstream: SocketAddr,
    workers: usize,
) -> Result<(Server, SocketAddr), Failed> {
    let pool = format!(
        "upstream up {{ server {upstream}; keepalive 1024; keepalive_requests 100000000; }}"
    );
    let server = "location / { proxy_pass http://up; proxy_http_version 1.1; proxy_set_header Connection \"\"; }";
    start_with(folder, "proxy", workers, &pool, server)
}

fn start_with(
    folder: &Path,
    name: &str,
    workers: usize,
    http: &str,
    server: &str,
) -> Result<(Server, SocketAddr), Failed> {
    let address = free_address()?;
    let own = folder.join(format!("nginx-{name}"));
    fs::create_dir_all(&own).map_err(Failed::file(&own))?;
    let shown = own.display();
    let text = format!(
        "daemon off;
         pid {shown}/pid;
         error_log stderr error;
         worker_processes {workers};
         worker_rlimit_nofile 8192;
         events {{ worker_connections 4096; }}
         http {{
             access_log off;
             keepalive_requests 100000000;
             client_body_temp_path {shown}/body;
             proxy_temp_path {shown}/proxy;
             fastcgi_temp_path {shown}/fastcgi;
             uwsgi_temp_path {shown}/uwsgi;
             scgi_temp_path {shown}/scgi;
             {http}
             server {{ listen {address} backlog=4096; {server} }}
         }}"
    );
    let config = own.join("nginx.conf");
    fs::write(&config, text).map_err(Failed::file(&config))?;
    let program = if Path::new("/usr/sbin/nginx").exists() {
        "/usr/sbin/nginx"
    } else {
        "nginx"
    };
    let mut command = Command::new(program);
    command.arg("-p").arg(&own).arg("-c").arg(&config);
    let server = Server::start(&mut command, &own.join("errors"), address)?;
    Ok((server, address))
}
