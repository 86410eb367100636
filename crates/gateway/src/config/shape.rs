//! What a part of the config looks like: one declaration reads it, and describes it as JSON Schema.

use serde_json::{Map, Value, json};

use super::mistake::{At, Mark, Notes, Place};
use super::node::{Kind, Node, printable, push_index, push_key};

/// A type that can be read from the config.
///
/// `read` answers `None` only after it noted a mistake.
pub(super) trait Shape: Sized {
    /// Its JSON Schema (2020-12).
    fn schema() -> Value;
    /// Reads it.
    fn read(here: &Here<'_>, notes: &mut Notes) -> Option<Self>;
}

/// A value of the document, and where it stands.
#[derive(Clone, Debug)]
pub(super) struct Here<'a> {
    pub(super) node: &'a Node,
    pub(super) place: Place,
    /// Where its key stands: the place of what is missing in it.
    key: Mark,
}

impl<'a> Here<'a> {
    /// The whole document.
    pub(super) fn root(node: &'a Node) -> Self {
        Self {
            node,
            place: Place {
                path: String::new(),
                mark: node.mark,
            },
            key: node.mark,
        }
    }

    /// The value of a key below.
    pub(super) fn at_key<'n>(&self, key: &str, mark: Mark, node: &'n Node) -> Here<'n> {
        let mut path = self.place.path.clone();
        push_key(&mut path, key);
        Here {
            node,
            place: Place {
                path,
                mark: node.mark,
            },
            key: mark,
        }
    }

    /// The value of an item below.
    pub(super) fn at_index<'n>(&self, index: usize, node: &'n Node) -> Here<'n> {
        let mut path = self.place.path.clone();
        push_index(&mut path, index);
        Here {
            node,
            place: Place {
                path,
                mark: node.mark,
            },
            key: node.mark,
        }
    }

    /// Reads it, and keeps its place; a mapping stands where its key stands.
    pub(super) fn read<T: Shape>(&self, notes: &mut Notes) -> Option<At<T>> {
        let mark = match self.node.kind {
            Kind::Map(_) => self.key,
            Kind::Scalar(_) | Kind::List(_) | Kind::Broken => self.node.mark,
        };
        let place = Place {
            path: self.place.path.clone(),
            mark,
        };
        Some(At {
            value: T::read(self, notes)?,
            place,
        })
    }

    /// The place of what is missing in it.
    pub(super) fn section_place(&self) -> Place {
        Place {
            path: self.place.path.clone(),
            mark: self.key,
        }
    }

    /// The text here; `expects` says what it should be.
    pub(super) fn text(&self, expects: &str, notes: &mut Notes) -> Option<&'a str> {
        match &self.node.kind {
            Kind::Scalar(Value::String(text)) => Some(text),
            Kind::Scalar(_) | Kind::List(_) | Kind::Map(_) => self.wrong_type(expects, notes),
            Kind::Broken => None,
        }
    }

    /// Notes that something else is expected here. The value is not repeated: it may be a secret.
    pub(super) fn wrong_type<T>(&self, expects: &str, notes: &mut Notes) -> Option<T> {
        if !matches!(self.node.kind, Kind::Broken) {
            let found = self.node.describe();
            notes.mistake(
                &self.place,
                "wrong_type",
                format!("expected {expects}, found {found}"),
            );
        }
        None
    }

    /// Notes that the value is of the right type, but wrong.
    pub(super) fn wrong_value<T>(
        &self,
        message: impl Into<String>,
        notes: &mut Notes,
    ) -> Option<T> {
        notes.mistake(&self.place, "wrong_value", message);
        None
    }
}

/// A mapping with fixed keys, while it is read.
#[derive(Debug)]
pub(super) struct Section<'a> {
    here: Here<'a>,
    pairs: &'a [super::node::Pair],
}

impl<'a> Section<'a> {
    /// Opens it; keys that are neither `known` nor `later` are noted.
    pub(super) fn open(
        here: &Here<'a>,
        known: &[&'static str],
        later: &[(&'static str, &'static str)],
        notes: &mut Notes,
    ) -> Option<Self> {
        let pairs = match &here.node.kind {
            Kind::Map(pairs) => pairs.as_slice(),
            Kind::Scalar(Value::Null) => &[],
            Kind::Scalar(_) | Kind::List(_) | Kind::Broken => {
                return here.wrong_type("a mapping", notes);
            }
        };
        for pair in pairs {
            let key = pair.key.as_str();
            let mut place = here.at_key(key, pair.mark, &pair.node).place;
            place.mark = pair.mark;
            if let Some((_, what)) = later.iter().find(|(name, _)| *name == key) {
                notes.not_built(&place, what);
            } else if !known.contains(&key) {
                let message = format!("unknown key{}", suggest(key, known));
                notes.mistake(&place, "unknown_key", message);
            }
        }
        Some(Self {
            here: here.clone(),
            pairs,
        })
    }

    /// Reads a key that must be there.
    pub(super) fn required<T: Shape>(&self, key: &str, notes: &mut Notes) -> Option<At<T>> {
        let Some(here) = self.find(key) else {
            notes.mistake(
                &self.here.section_place(),
                "missing_key",
                format!("key `{key}` is missing"),
            );
            return None;
        };
        here.read(notes)
    }

    /// Reads a key that may be there.
    pub(super) fn optional<T: Shape>(&self, key: &str, notes: &mut Notes) -> Option<At<T>> {
        self.find(key)?.read(notes)
    }

    /// Reads a key, or what it stands for when it is not there.
    pub(super) fn default<T: Shape>(
        &self,
        key: &str,
        default: Value,
        notes: &mut Notes,
    ) -> Option<At<T>> {
        if let Some(here) = self.find(key) {
            return here.read(notes);
        }
        let node = Node::from_value(default, self.here.key);
        self.here.at_key(key, self.here.key, &node).read(notes)
    }

    fn find(&self, key: &str) -> Option<Here<'a>> {
        let pair = self.pairs.iter().find(|pair| pair.key == key)?;
        Some(self.here.at_key(key, pair.mark, &pair.node))
    }
}

/// Declares a mapping with fixed keys: its struct, its schema, its reading, from one list.
///
/// Each key is `required`, `optional` or has a `default` as the config would spell it. Keys in
/// `later` are designed, but can't be used yet. A key in parentheses tells one variant from
/// another, and was read before. A field is `None` if its key was not there or was wrong.
macro_rules! section {
    (
        $(#[doc = $about:literal])+
        struct $name:ident $(($tag:ident: $word:literal))? {
            $(
                $(#[doc = $doc:literal])+
                $field:ident: $type:ty = $presence:ident $(($default:tt))?;
            )*
        }
        $(later { $($later:ident: $what:literal),+ $(,)? })?
    ) => {
        $(#[doc = $about])+
        #[derive(Clone, Debug)]
        pub(in crate::config) struct $name {
            $($(#[doc = $doc])+ pub(in crate::config) $field: Option<$crate::config::mistake::At<$type>>,)*
        }
        impl $crate::config::shape::Shape for $name {
            fn schema() -> serde_json::Value {
                $crate::config::shape::object(
                    concat!($($about, "\n"),+),
                    vec![
                        $($crate::config::shape::Property::required(
                            stringify!($tag),
                            concat!("Which of them it is: `", $word, "`."),
                            serde_json::json!({ "const": $word }),
                        ),)?
                        $(
                        $crate::config::shape::Property::$presence(
                            stringify!($field),
                            concat!($($doc, "\n"),+),
                            <$type as $crate::config::shape::Shape>::schema(),
                            $(serde_json::json!($default),)?
                        ),
                    )*],
                )
            }
            fn read(
                here: &$crate::config::shape::Here<'_>,
                notes: &mut $crate::config::mistake::Notes,
            ) -> Option<Self> {
                let section = $crate::config::shape::Section::open(
                    here,
                    &[$(stringify!($tag),)? $(stringify!($field)),*],
                    &[$($((stringify!($later), $what)),+)?],
                    notes,
                )?;
                Some(Self {
                    $($field: section.$presence(
                        stringify!($field),
                        $(serde_json::json!($default),)?
                        notes,
                    ),)*
                })
            }
        }
    };
}
pub(super) use section;

/// Declares how the values of a closed set are spelled. Words in `later` are designed, but can't be used yet.
macro_rules! words {
    ($type:ty { $($word:literal => $value:expr),+ $(,)? } $(later { $($later:literal: $what:literal),+ $(,)? })?) => {
        impl $crate::config::shape::Shape for $type {
            fn schema() -> serde_json::Value {
                serde_json::json!({ "enum": [$($word),+] })
            }
            fn read(
                here: &$crate::config::shape::Here<'_>,
                notes: &mut $crate::config::mistake::Notes,
            ) -> Option<Self> {
                let known = [$($word),+];
                match here.text(&$crate::config::shape::choice(&known), notes)? {
                    $($word => Some($value),)+
                    $($($later => {
                        notes.not_built(&here.place, $what);
                        None
                    })+)?
                    other => here.wrong_value($crate::config::shape::not_a_choice(other, &known), notes),
                }
            }
        }
    };
}
pub(super) use words;

/// One key of a section, for the schema.
#[derive(Debug)]
pub(super) struct Property {
    name: &'static str,
    schema: Value,
    required: bool,
}

impl Property {
    /// A key that must be there.
    pub(super) fn required(name: &'static str, about: &str, schema: Value) -> Self {
        Self {
            name,
            schema: annotate(schema, "description", flow(about).into()),
            required: true,
        }
    }

    /// A key that may be there.
    pub(super) fn optional(name: &'static str, about: &str, schema: Value) -> Self {
        Self {
            required: false,
            ..Self::required(name, about, schema)
        }
    }

    /// A key with a default.
    pub(super) fn default(name: &'static str, about: &str, schema: Value, default: Value) -> Self {
        Self::optional(name, about, annotate(schema, "default", default))
    }
}

/// The schema of a section.
pub(super) fn object(about: &str, properties: Vec<Property>) -> Value {
    let required: Vec<_> = properties
        .iter()
        .filter(|p| p.required)
        .map(|p| p.name)
        .collect();
    let order: Vec<_> = properties.iter().map(|p| p.name).collect();
    let properties: Map<_, _> = properties
        .into_iter()
        .map(|p| (p.name.to_owned(), p.schema))
        .collect();
    json!({
        "type": "object",
        "description": flow(about),
        "additionalProperties": false,
        "required": required,
        "properties": properties,
        // Objects of JSON have no order; the reference keeps the one of the declaration.
        "x-order": order,
    })
}

/// Adds a keyword to a schema.
pub(super) fn annotate(mut schema: Value, keyword: &str, value: Value) -> Value {
    if let Value::Object(map) = &mut schema {
        map.insert(keyword.to_owned(), value);
    }
    schema
}

/// The lines of a doc comment as one.
fn flow(doc: &str) -> String {
    doc.split_whitespace().collect::<Vec<_>>().join(" ")
}

/// The words one may choose from.
pub(super) fn choice(known: &[&str]) -> String {
    let quoted: Vec<_> = known.iter().map(|word| format!("`{word}`")).collect();
    match quoted.split_last() {
        Some((last, rest)) if !rest.is_empty() => format!("{} or {last}", rest.join(", ")),
        _ => quoted.concat(),
    }
}

/// What to say of a word that is none of those.
pub(super) fn not_a_choice(word: &str, known: &[&str]) -> String {
    // Only what looks like a misspelling is repeated.
    match closest(word, known) {
        Some(near) => format!(
            "`{}` is not known here: did you mean `{near}`?",
            printable(word)
        ),
        None => format!("expected {}", choice(known)),
    }
}

fn suggest(key: &str, known: &[&str]) -> String {
    match closest(key, known) {
        Some(near) => format!(": did you mean `{near}`?"),
        None if known.is_empty() => String::new(),
        None => format!("; known here: {}", known.join(", ")),
    }
}

/// The known word that was probably meant; 0.8 is where Jaro-Winkler tells a slip from another word.
fn closest<'a>(word: &str, known: &[&'a str]) -> Option<&'a str> {
    let word: String = word.chars().take(64).flat_map(char::to_lowercase).collect();
    known
        .iter()
        .map(|known| (strsim::jaro_winkler(&word, &known.to_lowercase()), *known))
        .filter(|(likeness, _)| *likeness >= 0.8)
        .max_by(|(one, _), (other, _)| one.total_cmp(other))
        .map(|(_, known)| known)
}
