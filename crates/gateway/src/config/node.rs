//! A YAML document as a tree in which every key and value knows its line and column.
//!
//! **Invariant.** A tree is no larger than its text: aliases are refused, never expanded.

use std::collections::HashMap;
use std::collections::hash_map::Entry;

use saphyr_parser::{Event, Parser, ScalarStyle, Span};
use serde_json::{Map, Value};

use super::mistake::{Mark, Notes, Place};

/// How deep a config may nest; the deepest of our own keys is at 6.
const DEPTH: usize = 32;

/// One value of the document.
#[derive(Clone, Debug)]
pub(super) struct Node {
    pub(super) mark: Mark,
    pub(super) kind: Kind,
}

/// What a value is.
#[derive(Clone, Debug)]
pub(super) enum Kind {
    /// A plain scalar of YAML's core schema, or a text.
    Scalar(Value),
    /// A sequence.
    List(Vec<Node>),
    /// A mapping, in the file's order; no key twice.
    Map(Vec<Pair>),
    /// Its mistake is already noted.
    Broken,
}

/// A key and its value.
#[derive(Clone, Debug)]
pub(super) struct Pair {
    pub(super) key: String,
    pub(super) mark: Mark,
    pub(super) node: Node,
}

impl Node {
    /// Reads a text that holds one document; what is wrong with its YAML is noted.
    pub(super) fn parse(text: &str, notes: &mut Notes) -> Option<Self> {
        let mut tree = Tree::default();
        for event in Parser::new_from_str(text) {
            match event {
                Ok((event, span)) => tree.take(event, mark(&span), notes)?,
                Err(error) => {
                    let place = Place {
                        path: String::new(),
                        mark: Mark {
                            line: error.marker().line(),
                            column: error.marker().col() + 1,
                        },
                    };
                    notes.mistake(&place, "invalid_yaml", error.info());
                    return None;
                }
            }
        }
        if tree.root.is_none() {
            notes.mistake(&Place::default(), "empty", "config is empty");
        }
        tree.root
    }

    /// A default, standing where its section stands.
    pub(super) fn from_value(value: Value, mark: Mark) -> Self {
        let kind = match value {
            Value::Array(items) => Kind::List(
                items
                    .into_iter()
                    .map(|item| Self::from_value(item, mark))
                    .collect(),
            ),
            Value::Object(map) => Kind::Map(
                map.into_iter()
                    .map(|(key, value)| Pair {
                        key,
                        mark,
                        node: Self::from_value(value, mark),
                    })
                    .collect(),
            ),
            scalar => Kind::Scalar(scalar),
        };
        Self { mark, kind }
    }

    /// The value without its marks; none if a part of it is broken.
    pub(super) fn to_value(&self) -> Option<Value> {
        match &self.kind {
            Kind::Scalar(value) => Some(value.clone()),
            Kind::List(items) => items.iter().map(Self::to_value).collect(),
            Kind::Map(entries) => entries
                .iter()
                .map(|entry| Some((entry.key.clone(), entry.node.to_value()?)))
                .collect::<Option<Map<_, _>>>()
                .map(Value::Object),
            Kind::Broken => None,
        }
    }

    /// What it is, in an operator's words.
    pub(super) fn describe(&self) -> &'static str {
        match &self.kind {
            Kind::Scalar(Value::Null) => "nothing",
            Kind::Scalar(Value::Bool(_)) => "`true` or `false`",
            Kind::Scalar(Value::Number(_)) => "a number",
            Kind::Scalar(_) => "a text",
            Kind::List(_) => "a list",
            Kind::Map(_) => "a mapping",
            Kind::Broken => "unreadable",
        }
    }
}

/// The tree while it grows, one event at a time.
#[derive(Default)]
struct Tree {
    root: Option<Node>,
    documents: usize,
    open: Vec<Open>,
}

/// A sequence or mapping whose end was not seen yet.
enum Open {
    List(Mark, Vec<Node>),
    Map {
        mark: Mark,
        entries: Vec<Pair>,
        seen: HashMap<String, usize>,
        key: Option<(Option<String>, Mark)>,
    },
}

impl Tree {
    /// Takes one event; none where it makes no sense to go on.
    fn take(&mut self, event: Event<'_>, mark: Mark, notes: &mut Notes) -> Option<()> {
        match event {
            Event::DocumentStart(_) => {
                self.documents += 1;
                if self.documents > 1 {
                    notes.mistake(
                        &self.place(mark),
                        "many_documents",
                        "a config is one document",
                    );
                    return None;
                }
            }
            Event::Alias(_) => {
                notes.mistake(
                    &self.place(mark),
                    "alias",
                    "aliases are not expanded: write the value out",
                );
                self.put(
                    Node {
                        mark,
                        kind: Kind::Broken,
                    },
                    notes,
                );
            }
            Event::Scalar(text, style, _, tag) => {
                self.refuse_tag(tag.is_some(), mark, notes);
                let kind = Kind::Scalar(scalar(&text, style));
                self.put(Node { mark, kind }, notes);
            }
            Event::SequenceStart(_, tag) => {
                self.refuse_tag(tag.is_some(), mark, notes);
                self.descend(Open::List(mark, Vec::new()), mark, notes)?;
            }
            Event::MappingStart(_, tag) => {
                self.refuse_tag(tag.is_some(), mark, notes);
                let open = Open::Map {
                    mark,
                    entries: Vec::new(),
                    seen: HashMap::new(),
                    key: None,
                };
                self.descend(open, mark, notes)?;
            }
            Event::SequenceEnd | Event::MappingEnd => {
                let node = match self.open.pop()? {
                    Open::List(mark, items) => Node {
                        mark,
                        kind: Kind::List(items),
                    },
                    Open::Map { mark, entries, .. } => Node {
                        mark,
                        kind: Kind::Map(entries),
                    },
                };
                self.put(node, notes);
            }
            Event::Nothing | Event::StreamStart | Event::StreamEnd | Event::DocumentEnd => {}
        }
        Some(())
    }

    fn descend(&mut self, open: Open, mark: Mark, notes: &mut Notes) -> Option<()> {
        if self.open.len() >= DEPTH {
            notes.mistake(
                &self.place(mark),
                "too_deep",
                format!("config nests deeper than {DEPTH}"),
            );
            return None;
        }
        self.open.push(open);
        Some(())
    }

    /// Puts a finished value where it belongs: into its sequence, as a key, as a key's value, or at the root.
    fn put(&mut self, node: Node, notes: &mut Notes) {
        let place = self.place(node.mark);
        match self.open.last_mut() {
            None => self.root = Some(node),
            Some(Open::List(_, items)) => items.push(node),
            Some(Open::Map {
                entries, seen, key, ..
            }) => match key.take() {
                None => {
                    let text = key_text(&node);
                    if text.is_none() {
                        notes.mistake(&place, "wrong_type", "a key is a text");
                    }
                    *key = Some((text, node.mark));
                }
                Some((None, _)) => {}
                Some((Some(text), mark)) => match seen.entry(text.clone()) {
                    Entry::Vacant(first) => {
                        first.insert(mark.line);
                        entries.push(Pair {
                            key: text,
                            mark,
                            node,
                        });
                    }
                    Entry::Occupied(first) => notes.mistake(
                        &Place {
                            path: place.path,
                            mark,
                        },
                        "duplicate_key",
                        format!("key is already there, on line {}", first.get()),
                    ),
                },
            },
        }
    }

    fn refuse_tag(&self, tagged: bool, mark: Mark, notes: &mut Notes) {
        if tagged {
            notes.mistake(
                &self.place(mark),
                "tag",
                "tags such as `!!str` are not used here",
            );
        }
    }

    /// The keys that are open, with a mark.
    fn place(&self, mark: Mark) -> Place {
        let mut path = String::new();
        for open in &self.open {
            match open {
                Open::List(_, items) => push_index(&mut path, items.len()),
                Open::Map {
                    key: Some((Some(key), _)),
                    ..
                } => push_key(&mut path, key),
                Open::Map { .. } => {}
            }
        }
        Place { path, mark }
    }
}

/// Adds a key to a path, in a spelling that is safe to print.
pub(super) fn push_key(path: &mut String, key: &str) {
    if !path.is_empty() {
        path.push('.');
    }
    path.push_str(&printable(key));
}

/// Adds an index to a path.
pub(super) fn push_index(path: &mut String, index: usize) {
    path.push_str(&format!("[{index}]"));
}

/// A text from the file as it may stand in a message: no control characters, not too long.
pub(super) fn printable(text: &str) -> String {
    text.chars().take(64).flat_map(char::escape_debug).collect()
}

fn key_text(node: &Node) -> Option<String> {
    match &node.kind {
        Kind::Scalar(Value::String(text)) => Some(text.clone()),
        // `on`-like surprises of other YAML versions don't exist here, but `1:` is a number.
        Kind::Scalar(_) | Kind::List(_) | Kind::Map(_) | Kind::Broken => None,
    }
}

/// The value of a scalar in YAML 1.2's core schema (section 10.3); numbers as JSON writes them.
fn scalar(text: &str, style: ScalarStyle) -> Value {
    if style != ScalarStyle::Plain {
        return Value::String(text.to_owned());
    }
    match text {
        "" | "~" | "null" | "Null" | "NULL" => Value::Null,
        "true" | "True" | "TRUE" => Value::Bool(true),
        "false" | "False" | "FALSE" => Value::Bool(false),
        _ => match serde_json::from_str(text) {
            Ok(Value::Number(number)) => Value::Number(number),
            _ => Value::String(text.to_owned()),
        },
    }
}

fn mark(span: &Span) -> Mark {
    Mark {
        line: span.start.line(),
        column: span.start.col() + 1,
    }
}
