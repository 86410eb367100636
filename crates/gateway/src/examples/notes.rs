//! `notes`: an HTTP JSON API with one key for reading and one for writing.

use std::collections::BTreeMap;
use std::sync::Arc;

use axum::extract::{Path, State};
use axum::routing::get;
use axum::{Json, Router};
use http::{HeaderMap, StatusCode};
use parking_lot::Mutex;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;
use zeroize::Zeroizing;

use super::{holds, serve};

/// How many notes are kept; more are refused.
const MANY: usize = 1000;

/// The keys that `notes` demands.
pub struct NotesKeys {
    /// For `GET`.
    pub read: Zeroizing<String>,
    /// For `POST` and `DELETE`.
    pub write: Zeroizing<String>,
}

impl std::fmt::Debug for NotesKeys {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("NotesKeys(..)")
    }
}

/// The notes API: `GET /notes`, `GET /notes/{id}`, `POST /notes`, `DELETE /notes/{id}`, `GET /echo`.
#[derive(Debug)]
pub struct Notes {
    keys: NotesKeys,
    book: Mutex<Book>,
}

#[derive(Debug, Default)]
struct Book {
    notes: BTreeMap<u64, Note>,
    last: u64,
}

#[derive(Clone, Debug, Serialize)]
struct Note {
    id: u64,
    text: String,
    tags: Vec<String>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct NewNote {
    text: String,
    #[serde(default)]
    tags: Vec<String>,
}

type Answer = (StatusCode, Json<Value>);

impl Notes {
    /// Serves the API until `stop`.
    pub fn serve(
        listener: TcpListener,
        keys: NotesKeys,
        stop: CancellationToken,
    ) -> impl Future<Output = ()> {
        let notes = Arc::new(Self {
            keys,
            book: Mutex::default(),
        });
        let router = Router::new()
            .route("/notes", get(list).post(add))
            .route("/notes/{id}", get(one).delete(remove))
            .route("/echo", get(echo))
            .with_state(notes);
        serve(listener, router, stop)
    }

    fn reader(&self, headers: &HeaderMap) -> Result<(), Answer> {
        let known = holds(headers, &self.keys.read) || holds(headers, &self.keys.write);
        if known {
            Ok(())
        } else {
            Err(problem(StatusCode::UNAUTHORIZED, "a key is needed"))
        }
    }

    fn writer(&self, headers: &HeaderMap) -> Result<(), Answer> {
        let known = holds(headers, &self.keys.write);
        if known {
            Ok(())
        } else {
            Err(problem(
                StatusCode::UNAUTHORIZED,
                "a key for writing is needed",
            ))
        }
    }
}

async fn list(State(notes): State<Arc<Notes>>, headers: HeaderMap) -> Result<Answer, Answer> {
    notes.reader(&headers)?;
    let all: Vec<Note> = notes.book.lock().notes.values().cloned().collect();
    Ok((StatusCode::OK, Json(json!({ "notes": all }))))
}

async fn one(
    State(notes): State<Arc<Notes>>,
    Path(id): Path<u64>,
    headers: HeaderMap,
) -> Result<Answer, Answer> {
    notes.reader(&headers)?;
    let found = notes.book.lock().notes.get(&id).cloned();
    let note = found.ok_or_else(|| problem(StatusCode::NOT_FOUND, "no such note"))?;
    Ok((StatusCode::OK, Json(json!(note))))
}

async fn add(
    State(notes): State<Arc<Notes>>,
    headers: HeaderMap,
    Json(new): Json<NewNote>,
) -> Result<Answer, Answer> {
    notes.writer(&headers)?;
    let mut book = notes.book.lock();
    if book.notes.len() >= MANY {
        return Err(problem(
            StatusCode::INSUFFICIENT_STORAGE,
            "the book is full",
        ));
    }
    book.last += 1;
    let note = Note {
        id: book.last,
        text: new.text,
        tags: new.tags,
    };
    book.notes.insert(note.id, note.clone());
    Ok((StatusCode::CREATED, Json(json!(note))))
}

async fn remove(
    State(notes): State<Arc<Notes>>,
    Path(id): Path<u64>,
    headers: HeaderMap,
) -> Result<StatusCode, Answer> {
    notes.writer(&headers)?;
    let removed = notes.book.lock().notes.remove(&id);
    removed
        .map(|_| StatusCode::NO_CONTENT)
        .ok_or_else(|| problem(StatusCode::NOT_FOUND, "no such note"))
}

/// Answers with the headers it got, the key among them: an upstream that echoes is what a gateway must expect.
async fn echo(State(notes): State<Arc<Notes>>, headers: HeaderMap) -> Result<Answer, Answer> {
    notes.reader(&headers)?;
    let text = |value: &http::HeaderValue| String::from_utf8_lossy(value.as_bytes()).into_owned();
    let got: BTreeMap<String, String> = headers
        .iter()
        .map(|(name, value)| (name.to_string(), text(value)))
        .collect();
    Ok((StatusCode::OK, Json(json!({ "headers": got }))))
}

fn problem(status: StatusCode, detail: &str) -> Answer {
    (status, Json(json!({ "error": detail })))
}
