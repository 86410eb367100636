//! Lists and tables of the config, whose items are read one by one.

use serde_json::{Value, json};

use super::mistake::{At, Notes, Place};
use super::node::Kind;
use super::shape::{Here, Shape, annotate};

/// A list; each item with its place. An item that is wrong is left out, and noted.
impl<T: Shape> Shape for Vec<At<T>> {
    fn schema() -> Value {
        json!({ "type": "array", "items": T::schema() })
    }
    fn read(here: &Here<'_>, notes: &mut Notes) -> Option<Self> {
        let items = match &here.node.kind {
            Kind::List(items) => items.as_slice(),
            Kind::Scalar(Value::Null) => &[],
            Kind::Scalar(_) | Kind::Map(_) | Kind::Broken => {
                return here.wrong_type("a list", notes);
            }
        };
        let mut list = Self::new();
        for (index, node) in items.iter().enumerate() {
            let item = here.at_index(index, node);
            list.extend(item.read(notes));
        }
        Some(list)
    }
}

/// A list of at least one.
#[derive(Clone, Debug)]
pub(super) struct NonEmpty<T>(pub(super) Vec<At<T>>);

impl<T: Shape> Shape for NonEmpty<T> {
    fn schema() -> Value {
        annotate(Vec::<At<T>>::schema(), "minItems", 1.into())
    }
    fn read(here: &Here<'_>, notes: &mut Notes) -> Option<Self> {
        match &here.node.kind {
            Kind::List(items) if items.is_empty() => {
                here.wrong_value("expected at least one", notes)
            }
            Kind::List(_) => Shape::read(here, notes).map(Self),
            Kind::Scalar(_) | Kind::Map(_) | Kind::Broken => here.wrong_type("a list", notes),
        }
    }
}

/// One value, or a list of at least one.
#[derive(Clone, Debug)]
pub(super) struct OneOrMore<T>(pub(super) Vec<At<T>>);

impl<T: Shape> Shape for OneOrMore<T> {
    fn schema() -> Value {
        json!({ "anyOf": [T::schema(), NonEmpty::<T>::schema()] })
    }
    fn read(here: &Here<'_>, notes: &mut Notes) -> Option<Self> {
        match &here.node.kind {
            Kind::List(_) => NonEmpty::read(here, notes).map(|list| Self(list.0)),
            Kind::Scalar(_) | Kind::Map(_) | Kind::Broken => Some(Self(vec![here.read(notes)?])),
        }
    }
}

/// A mapping whose keys are names; each entry with its name's place. One that is wrong is left out, and noted.
#[derive(Clone, Debug)]
pub(super) struct Table<T>(pub(super) Vec<(At<String>, T)>);

impl<T: Shape> Shape for Table<T> {
    fn schema() -> Value {
        json!({ "type": "object", "additionalProperties": T::schema() })
    }
    fn read(here: &Here<'_>, notes: &mut Notes) -> Option<Self> {
        let pairs = match &here.node.kind {
            Kind::Map(pairs) => pairs.as_slice(),
            Kind::Scalar(Value::Null) => &[],
            Kind::Scalar(_) | Kind::List(_) | Kind::Broken => {
                return here.wrong_type("a mapping", notes);
            }
        };
        let mut table = Vec::new();
        for pair in pairs {
            let entry = here.at_key(&pair.key, pair.mark, &pair.node);
            if let Some(value) = T::read(&entry, notes) {
                let place = Place {
                    path: entry.place.path,
                    mark: pair.mark,
                };
                table.push((
                    At {
                        value: pair.key.clone(),
                        place,
                    },
                    value,
                ));
            }
        }
        Some(Self(table))
    }
}
