//! `remit up`: everything on one machine, with nothing to configure.
//!
//! It writes a config into the state folder and serves it, so what it shows is the gateway itself:
//! the two example tools are real upstreams that demand real keys, and the policy is Rego to edit.

use std::net::{SocketAddr, TcpListener};
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use clap::Args;
use jiff::tz::TimeZone;
use jiff::{Timestamp, ToSpan};
use serde_json::json;
use tokio_util::sync::CancellationToken;
use zeroize::Zeroizing;

use crate::command::outcome::{Failure, Screen};
use crate::command::serve::{ListenFlags, random_token, serve};
use crate::command::whereabouts::{Ready, default_state_dir, read_token};
use crate::examples::{Desk, DeskKey, Notes, NotesKeys};
use crate::ground::{make_private_folder, write_private};
use crate::process;
use crate::state_folder::StateFolder;

/// The agent of tasks that name none.
const DEMO_AGENT: &str = "demo";
/// The bridges of `notes` end this many days after each start.
const BRIDGE_DAYS: i64 = 30;

#[derive(Debug, Args)]
pub(crate) struct Up {
    /// The state folder; `$XDG_STATE_HOME/remit` unless given.
    #[arg(long, env = "REMIT_STATE", value_name = "DIR")]
    state: Option<PathBuf>,
    /// Where traces go, such as `http://127.0.0.1:4318`.
    #[arg(long, value_name = "URL")]
    otlp: Option<String>,
    #[command(flatten)]
    listen: ListenFlags,
}

impl Up {
    pub(crate) fn run(self, screen: &Screen) -> Result<ExitCode, Failure> {
        process::forbid_core_dumps()?;
        process::raise_descriptors()?;
        let folder = self.state.map_or_else(default_state_dir, Ok)?;
        let held = StateFolder::hold(&folder)?;
        let state = held.path();
        let keys = Keys::of(state)?;
        let stop = CancellationToken::new();
        let examples = Examples::start(&keys, &stop)?;
        write_policy(state)?;
        let path = state.join("remit.yaml");
        let config = config(state, &examples, &self.listen, self.otlp.as_deref())?;
        write_private(&path, config.as_bytes())?;
        let agent = DEMO_AGENT
            .parse()
            .map_err(|error| Failure::new("agent", error))?;
        let code = serve(&path, &held, &self.listen, Some(agent), |ready| {
            screen
                .show(ready, |screen| welcome(screen, ready))
                .map(drop)
        });
        stop.cancel();
        code
    }
}

/// The keys of the example tools, each in a file of the state folder.
struct Keys {
    folder: PathBuf,
}

impl Keys {
    fn of(state: &Path) -> Result<Self, Failure> {
        let folder = state.join("keys");
        make_private_folder(&folder)?;
        for name in ["notes-read", "notes-write", "desk"] {
            let path = folder.join(name);
            if !path.exists() {
                write_private(&path, random_token()?.as_bytes())?;
            }
        }
        Ok(Self { folder })
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.join(name)
    }

    fn read(&self, name: &str) -> Result<Zeroizing<String>, Failure> {
        Ok(read_token(&self.path(name))?)
    }
}

/// The example tools, on threads of their own.
struct Examples {
    notes: SocketAddr,
    desk: SocketAddr,
}

impl Examples {
    fn start(keys: &Keys, stop: &CancellationToken) -> Result<Self, Failure> {
        let notes = TcpListener::bind("127.0.0.1:0")?;
        let desk = TcpListener::bind("127.0.0.1:0")?;
        let examples = Self {
            notes: notes.local_addr()?,
            desk: desk.local_addr()?,
        };
        let notes_keys = NotesKeys {
            read: keys.read("notes-read")?,
            write: keys.read("notes-write")?,
        };
        let desk_key = DeskKey(keys.read("desk")?);
        let stop = stop.clone();
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()?;
        std::thread::Builder::new()
            .name("examples".to_owned())
            .spawn(move || {
                runtime.block_on(async move {
                    let served = async {
                        let notes = Notes::serve(listener(notes)?, notes_keys, stop.clone());
                        let desk = Desk::serve(listener(desk)?, desk_key, stop.clone());
                        tokio::join!(notes, desk);
                        Ok::<_, std::io::Error>(())
                    };
                    if let Err(error) = served.await {
                        tracing::error!(%error, "example tools can't be served");
                    }
                });
            })?;
        Ok(examples)
    }
}

fn listener(listener: TcpListener) -> std::io::Result<tokio::net::TcpListener> {
    listener.set_nonblocking(true)?;
    tokio::net::TcpListener::from_std(listener)
}

/// The example policy, unless it is there already: it is yours to edit.
fn write_policy(state: &Path) -> Result<(), Failure> {
    let folder = state.join("policy");
    if folder.exists() {
        return Ok(());
    }
    make_private_folder(&folder)?;
    for source in policy::Policy::example() {
        let path = folder.join(&source.path);
        if let Some(parent) = path.parent() {
            make_private_folder(parent)?;
        }
        write_private(&path, source.text.as_bytes())?;
    }
    Ok(())
}

fn config(
    state: &Path,
    examples: &Examples,
    listen: &ListenFlags,
    otlp: Option<&str>,
) -> Result<String, Failure> {
    let until = TimeZone::UTC
        .to_datetime(Timestamp::now())
        .date()
        .checked_add(BRIDGE_DAYS.days())
        .map_err(|error| Failure::new("date", error))?;
    let text = |path: &Path| json!(path.to_string_lossy()).to_string();
    let secret =
        |name: &str| json!(format!("file:{}", state.join("keys").join(name).display())).to_string();
    let program = std::env::current_exe()?;
    let control = listen.control.unwrap_or_else(|| loopback(4190));
    // Any free port is not known yet: then there is no OAuth.
    let issuer = match control.port() {
        0 => String::new(),
        _ if !control.ip().is_loopback() => String::new(),
        _ => format!("issuer: http://{control}\n  "),
    };
    let otlp = otlp.map_or_else(String::new, |otlp| {
        format!("telemetry: {{ otlp: {} }}\n", json!(otlp))
    });
    Ok(format!(
        r#"# Written by `remit up` at each start. Copy it to make it yours, then `remit serve -c your.yaml`.
listen:
  calls: {calls}
  control: {control}
tasks:
  {issuer}store: {store}
tools:
  notes:
    upstream: http://{notes}
    environment: demo
    access:
      read: ["GET /notes", "GET /notes/*", "GET /echo"]
      write: ["POST /notes"]
      execute: ["DELETE /notes/*"]
    inject: {{ header: authorization, prefix: "Bearer " }}
    credentials:
      read: {{ provider: static, secret: {read}, bridge_until: {until} }}
      write: {{ provider: static, secret: {write}, bridge_until: {until} }}
      execute: {{ provider: static, secret: {write}, bridge_until: {until} }}
  desk:
    upstream: http://{desk}/mcp
    protocol: mcp
    environment: demo
    access:
      read: [find_ticket]
      write: [refund]
      execute: [purge]
    inject: {{ header: authorization, prefix: "Bearer " }}
    credentials:
      read: {{ provider: cmd, command: [{program}, example-key, {desk_key}], ttl: 5m }}
      write: {{ provider: cmd, command: [{program}, example-key, {desk_key}], ttl: 5m }}
      execute: {{ provider: cmd, command: [{program}, example-key, {desk_key}], ttl: 5m }}
policy: {{ path: {policy} }}
audit: {{ path: {audit} }}
{otlp}"#,
        calls = listen.calls.unwrap_or_else(|| loopback(4180)),
        store = json!(format!("embedded:{}", state.join("store").display())),
        notes = examples.notes,
        desk = examples.desk,
        read = secret("notes-read"),
        write = secret("notes-write"),
        program = text(&program),
        desk_key = text(&state.join("keys/desk")),
        policy = text(&state.join("policy")),
        audit = text(&state.join("audit.jsonl")),
    ))
}

fn loopback(port: u16) -> SocketAddr {
    SocketAddr::from(([127, 0, 0, 1], port))
}

/// Prints the key of `desk` as the `cmd` provider reads it.
pub(crate) fn print_example_key(file: &Path, screen: &Screen) -> Result<ExitCode, Failure> {
    let key = read_token(file)?;
    screen.line(&json!({ "secret": key.as_str() }).to_string())?;
    Ok(ExitCode::SUCCESS)
}

fn welcome(screen: &Screen, ready: &Ready) -> String {
    let Ready {
        calls,
        control,
        state_dir,
        ..
    } = ready;
    let state = state_dir.display();
    let remit = program();
    let here = state_flag(state_dir);
    let step = |number: u8, text: &str| screen.bold(&format!("{number}. {text}"));
    format!(
        r#"{title}
  calls    {calls}   agents call here: /notes/… and /desk
  control  {control}   operators call here
  state    {state}   keys, tasks, audit; edit policy/ and it is applied at once

Try it in another terminal, in this folder. The agent never sees a key of `notes` or `desk`.

{open}
   eval "$({remit} task open --tool notes --access read,write --ttl 10m --purpose demo --shell{here})"

{allowed}
   curl -i {calls}/notes/notes -H "Authorization: Bearer $TOKEN" -H 'content-type: application/json' -d '{{"text":"call Alice"}}'

{argument}
   curl -i {calls}/notes/notes -H "Authorization: Bearer $TOKEN" -H 'content-type: application/json' -d '{{"text":"my secret"}}'

{outside}
   curl -i -X DELETE {calls}/notes/notes/1 -H "Authorization: Bearer $TOKEN"

{without}
   curl -i {calls}/notes/notes

{why}
   {remit} explain POST /notes/notes --task $TASK -d '{{"text":"my secret"}}'{here}

{ended}
   {remit} task end $TASK{here}
   curl -i {calls}/notes/notes -H "Authorization: Bearer $TOKEN"

Stop it with Ctrl-C. What it keeps is in the state folder; start it again and it goes on.
"#,
        title = screen.bold("remit is up"),
        open = step(
            1,
            "Open a task: the agent may read and write notes, for ten minutes."
        ),
        allowed = step(2, "Allowed: the gateway brings the key."),
        argument = step(
            3,
            "Refused by an argument: policy does not let `secret` be written."
        ),
        outside = step(4, "Outside its remit: the task may not delete."),
        without = step(5, "Without a task: nobody gets in."),
        why = step(
            6,
            "Why? Says which rules held, on which input; nothing is sent."
        ),
        ended = step(7, "The same after the task ended."),
    )
}

/// The flag by which other commands find a gateway whose state folder is not the usual one.
fn state_flag(state: &Path) -> String {
    let usual = default_state_dir()
        .ok()
        .and_then(|usual| usual.canonicalize().ok());
    if usual.is_some_and(|usual| usual == state) {
        String::new()
    } else {
        format!(" --state {}", shell_word(&state.to_string_lossy()))
    }
}

/// A text as one word of a POSIX shell.
fn shell_word(text: &str) -> String {
    let is_plain = |byte: u8| byte.is_ascii_alphanumeric() || b"/._-+:@".contains(&byte);
    if text.bytes().all(is_plain) {
        text.to_owned()
    } else {
        format!("'{}'", text.replace('\'', r"'\''"))
    }
}

/// How the user would call this program again.
fn program() -> String {
    let name = std::env::args()
        .next()
        .unwrap_or_else(|| "remit".to_owned());
    if name.contains('/') {
        shell_word(&name)
    } else {
        "remit".to_owned()
    }
}
