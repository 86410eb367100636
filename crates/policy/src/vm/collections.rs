//! Arrays, sets and objects: made, added to and searched.

use regorus::Value;

use super::{Fault, Holds, Run, weight};

impl Run<'_> {
    /// `{…: …}`. A key has one value.
    pub(super) fn insert(&mut self, object: u8, key: u8, value: u8) -> Holds {
        if self.any_undefined(&[key, value])? {
            return Ok(false);
        }
        let (key, value) = (self.key(key)?.clone(), self.get(value)?.clone());
        let mut taken = self.take(object)?;
        let fields = taken.as_object_mut().map_err(|_| Fault::Internal)?;
        if let Some(there) = fields.get(&key) {
            self.agree(there, &value)?;
        }
        fields.insert(key, value);
        self.set(object, taken)
    }

    /// What is put among others, or looked for among them.
    pub(super) fn key(&self, register: u8) -> Result<&Value, Fault> {
        let key = self.get(register)?;
        if weight::is_key(key) {
            Ok(key)
        } else {
            Err(Fault::Weight)
        }
    }

    pub(super) fn push(&mut self, array: u8, value: u8) -> Holds {
        if self.any_undefined(&[value])? {
            return Ok(false);
        }
        let value = self.get(value)?.clone();
        let mut taken = self.take(array)?;
        let items = taken.as_array_mut().map_err(|_| Fault::Internal)?;
        items.push(value);
        self.set(array, taken)
    }

    pub(super) fn add(&mut self, set: u8, value: u8) -> Holds {
        if self.any_undefined(&[value])? {
            return Ok(false);
        }
        let value = self.key(value)?.clone();
        let mut taken = self.take(set)?;
        let items = taken.as_set_mut().map_err(|_| Fault::Internal)?;
        items.insert(value);
        self.set(set, taken)
    }

    /// An array of what is defined; undefined, if any of it is not.
    pub(super) fn create_array(&mut self, params: u16) -> Holds {
        let params = self.code.data().get_array_create_params(params);
        let params = params.ok_or(Fault::Internal)?;
        let items = self.items(params.element_registers())?;
        self.set(params.dest, items.map_or(Value::Undefined, Value::from))
    }

    pub(super) fn create_set(&mut self, params: u16) -> Holds {
        let params = self.code.data().get_set_create_params(params);
        let params = params.ok_or(Fault::Internal)?;
        let set = match self.items(params.element_registers())? {
            Some(items) if !items.iter().all(weight::is_key) => return Err(Fault::Weight),
            Some(items) => {
                Value::from(items.into_iter().collect::<std::collections::BTreeSet<_>>())
            }
            None => Value::Undefined,
        };
        self.set(params.dest, set)
    }

    fn items(&self, registers: &[u8]) -> Result<Option<Vec<Value>>, Fault> {
        let mut items = Vec::with_capacity(registers.len());
        for register in registers {
            match self.get(*register)? {
                Value::Undefined => return Ok(None),
                item => items.push(item.clone()),
            }
        }
        Ok(Some(items))
    }

    /// An object of fields whose names are known and of others; undefined, if any of it is.
    pub(super) fn create_object(&mut self, params: u16) -> Holds {
        let code = self.code;
        let params = code.data().get_object_create_params(params);
        let params = params.ok_or(Fault::Internal)?;
        let mut object = code.literal(params.template_literal_idx)?.clone();
        let fields = object.as_object_mut().map_err(|_| Fault::Internal)?;
        let known = params.literal_key_field_pairs().iter();
        let known = known.map(|(key, value)| Ok((code.literal(*key)?, *value)));
        let others = params.field_pairs().iter();
        let others = others.map(|(key, value)| Ok((self.key(*key)?, *value)));
        for field in known.chain(others) {
            let (key, value) = field?;
            let value = self.get(value)?;
            if *key == Value::Undefined || *value == Value::Undefined {
                return self.set(params.dest, Value::Undefined);
            }
            // The template has every known key, without a value.
            match fields.get_mut(key) {
                Some(there) if *there == Value::Undefined => *there = value.clone(),
                Some(there) => self.agree(there, value)?,
                None => {
                    fields.insert(key.clone(), value.clone());
                }
            }
        }
        self.set(params.dest, object)
    }

    /// `x in y`.
    pub(super) fn contains(&mut self, dest: u8, collection: u8, value: u8) -> Holds {
        let value = self.key(value)?;
        let found = match self.get(collection)? {
            Value::Set(items) => items.contains(value),
            Value::Array(items) => items.contains(value),
            Value::Object(fields) => fields.values().any(|field| field == value),
            Value::Undefined => return self.set(dest, Value::Undefined),
            _ => false,
        };
        let answer = match value {
            Value::Undefined => Value::Undefined,
            _ => Value::Bool(found),
        };
        self.set(dest, answer)
    }

    pub(super) fn count(&mut self, dest: u8, collection: u8) -> Holds {
        let count = match self.get(collection)? {
            Value::Array(items) => Value::from(items.len()),
            Value::Set(items) => Value::from(items.len()),
            Value::Object(fields) => Value::from(fields.len()),
            _ => Value::Undefined,
        };
        self.set(dest, count)
    }
}
