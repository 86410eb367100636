//! References into `data` whose end the compiler could not see: rules, files, or both together.

use regorus::Value;
use regorus::rvm::instructions::LiteralOrRegister;

use super::{Fault, Holds, Run};

/// What is there: below the names of packages and rules, and below those of files.
struct Place<'p> {
    rules: &'p Value,
    data: &'p Value,
}

impl<'p> Place<'p> {
    /// What is below a name. A number stands for the name it is written as, as it does for the reference.
    fn below(&self, key: &Value) -> Self {
        let (rules, data) = (&self.rules[key], &self.data[key]);
        match (rules, data, key) {
            (Value::Undefined, Value::Undefined, Value::Number(_)) => {
                let key = Value::from(key.to_string());
                Self {
                    rules: &self.rules[&key],
                    data: &self.data[&key],
                }
            }
            _ => Self { rules, data },
        }
    }
}

impl<'p> Run<'p> {
    pub(super) fn look_up(&mut self, params: u16) -> Holds {
        let code = self.code;
        let params = code.data().get_virtual_data_document_lookup_params(params);
        let params = params.ok_or(Fault::Internal)?;
        let found = self.document(&params.path_components)?;
        self.set(params.dest, found)
    }

    fn document(&mut self, path: &[LiteralOrRegister]) -> Result<Value, Fault> {
        let mut place = Place {
            rules: &self.code.rules,
            data: self.data,
        };
        for (at, component) in path.iter().enumerate() {
            place = place.below(self.component(component)?);
            if let Value::Number(_) = place.rules {
                let answer = self.rule(index(place.rules)?)?;
                let mut found = &answer;
                for component in path.iter().skip(at + 1) {
                    found = &found[self.component(component)?];
                }
                return Ok(found.clone());
            }
        }
        self.whole(&place)
    }

    /// All that is below a place: what files say, and what rules say over it.
    fn whole(&mut self, place: &Place<'p>) -> Result<Value, Fault> {
        let Value::Object(rules) = place.rules else {
            return Ok(place.data.clone());
        };
        let mut whole = match place.data {
            Value::Object(_) => place.data.clone(),
            _ => Value::new_object(),
        };
        for (name, below) in rules.iter() {
            let said = match below {
                Value::Number(_) => self.rule(index(below)?)?,
                _ => self.whole(&place.below(name))?,
            };
            if said != Value::Undefined {
                let fields = whole.as_object_mut().map_err(|_| Fault::Internal)?;
                fields.insert(name.clone(), said);
            }
        }
        Ok(whole)
    }
}

/// The rule that a name stands for.
fn index(number: &Value) -> Result<u16, Fault> {
    number.as_u16().map_err(|_| Fault::Internal)
}
