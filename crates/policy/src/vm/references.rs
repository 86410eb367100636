//! References into a value: `a[b]`, `a.b[c].d`.

use regorus::rvm::instructions::LiteralOrRegister;
use regorus::{Rc, Value};

use super::{Fault, Holds, Run};

impl Run<'_> {
    pub(super) fn index(&mut self, dest: u8, container: u8, key: u8) -> Holds {
        let found = self.get(container)?[self.key(key)?].clone();
        self.set(dest, found)
    }

    /// `a.b[c].d`: only what is at its end is copied.
    pub(super) fn follow(&mut self, params: u16) -> Holds {
        let code = self.code;
        let params = code.data().get_chained_index_params(params);
        let params = params.ok_or(Fault::Internal)?;
        let root = self.get(params.root)?;
        let mut found = root;
        for component in &params.path_components {
            let (container, key) = (found, self.component(component)?);
            found = &container[key];
            if let (Value::Undefined, Value::Number(_)) = (found, key)
                && is_same(root, self.data)
            {
                // In `data` a number stands for the name it is written as: JSON has no other keys.
                found = &container[&Value::from(key.to_string())];
            }
        }
        let found = found.clone();
        self.set(params.dest, found)
    }

    pub(super) fn component<'a>(
        &'a self,
        component: &LiteralOrRegister,
    ) -> Result<&'a Value, Fault> {
        match component {
            LiteralOrRegister::Literal(literal) => self.code.literal(*literal),
            LiteralOrRegister::Register(register) => self.key(*register),
        }
    }
}

/// Whether two values are one object.
fn is_same(one: &Value, other: &Value) -> bool {
    matches!((one, other), (Value::Object(one), Value::Object(other)) if Rc::ptr_eq(one, other))
}
