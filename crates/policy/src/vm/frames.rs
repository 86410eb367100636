//! Loops and comprehensions: where a condition that fails leads to, and what is collected.

use regorus::rvm::instructions::{ComprehensionMode, LoopMode, LoopStartParams};
use regorus::value::{Array, Object, ObjectCursor, Set, SetCursor};
use regorus::{Rc, Value};

use super::{Fault, Holds, Run};

/// What a body is inside of. The last one is the innermost.
pub(super) enum Frame {
    Loop(Loop),
    Comprehension(Comprehension),
}

pub(super) struct Loop {
    mode: LoopMode,
    items: Items,
    /// Where the item and its key go; the same register, if the key is not asked for.
    value: u8,
    key: u8,
    /// Where goes whether it held.
    result: u8,
    body: usize,
    end: usize,
    /// Whether it held for this item, and for any before.
    fails: bool,
    held: bool,
}

pub(super) struct Comprehension {
    mode: ComprehensionMode,
    /// Where what it collects is.
    result: u8,
    end: usize,
}

/// What is left of a collection.
enum Items {
    Array(Rc<Array>, usize),
    Set(Rc<Set>, SetCursor),
    Object(Rc<Object>, ObjectCursor),
}

impl Items {
    /// The next item and its key.
    fn next(&mut self) -> Option<(Value, Value)> {
        match self {
            Self::Array(items, at) => {
                let item = items.get(*at)?.clone();
                let key = Value::from(*at);
                *at += 1;
                Some((key, item))
            }
            Self::Set(items, cursor) => items.next(cursor).map(|item| (item.clone(), item.clone())),
            Self::Object(items, cursor) => {
                let next = items.next(cursor);
                next.map(|(key, item)| (key.clone(), item.clone()))
            }
        }
    }
}

impl Run<'_> {
    /// Goes on after a condition that fails: with the next item of the innermost loop, or after the innermost
    /// comprehension. Outside of both the body fails.
    pub(super) fn give_up(&mut self, at: &mut usize) -> Holds {
        let frames = &mut self.buffers.frames;
        if frames.len() <= self.floor {
            return Ok(false);
        }
        match frames.last_mut() {
            Some(Frame::Loop(inner)) if inner.mode == LoopMode::Every => {
                let (result, end) = (inner.result, inner.end);
                frames.pop();
                *at = end;
                self.set(result, Value::Bool(false))
            }
            Some(Frame::Loop(inner)) => {
                inner.fails = true;
                // The last instruction of a loop asks for its next item.
                *at = inner.end.saturating_sub(1);
                Ok(true)
            }
            Some(Frame::Comprehension(inner)) => {
                *at = inner.end;
                frames.pop();
                Ok(true)
            }
            None => Ok(false),
        }
    }

    pub(super) fn start_loop(&mut self, params: u16, at: &mut usize) -> Holds {
        let params = self.code.data().get_loop_params(params);
        let params = params.ok_or(Fault::Internal)?;
        let items = match self.get(params.collection)? {
            Value::Array(items) => Items::Array(Rc::clone(items), 0),
            Value::Set(items) => Items::Set(Rc::clone(items), items.cursor()),
            Value::Object(items) => Items::Object(Rc::clone(items), items.cursor()),
            Value::Undefined => {
                *at = usize::from(params.loop_end);
                let every = params.mode == LoopMode::Every;
                let result = if every {
                    Value::Undefined
                } else {
                    Value::Bool(false)
                };
                return self.set(params.result_reg, result);
            }
            _ => return Err(Fault::Loop),
        };
        self.enter_loop(params, items, at)
    }

    fn enter_loop(&mut self, params: &LoopStartParams, items: Items, at: &mut usize) -> Holds {
        self.round(
            Loop {
                mode: params.mode,
                items,
                value: params.value_reg,
                key: params.key_reg,
                result: params.result_reg,
                body: usize::from(params.body_start),
                end: usize::from(params.loop_end),
                fails: false,
                held: false,
            },
            at,
        )
    }

    pub(super) fn next_round(&mut self, at: &mut usize) -> Holds {
        let Some(Frame::Loop(mut inner)) = self.buffers.frames.pop() else {
            return Err(Fault::Internal);
        };
        inner.held |= !inner.fails;
        if inner.mode == LoopMode::Any && inner.held {
            *at = inner.end;
            return self.set(inner.result, Value::Bool(true));
        }
        inner.fails = false;
        self.round(inner, at)
    }

    /// One round of a loop with its next item, or what is after it.
    fn round(&mut self, mut inner: Loop, at: &mut usize) -> Holds {
        let Some((key, value)) = inner.items.next() else {
            // `every` ends where it does not hold.
            let holds = inner.held || inner.mode == LoopMode::Every;
            *at = inner.end;
            return self.set(inner.result, Value::Bool(holds));
        };
        if inner.key != inner.value {
            self.set(inner.key, key)?;
        }
        self.set(inner.value, value)?;
        *at = inner.body;
        self.buffers.frames.push(Frame::Loop(inner));
        Ok(true)
    }

    pub(super) fn begin_comprehension(&mut self, params: u16) -> Holds {
        let params = self.code.data().get_comprehension_begin_params(params);
        let params = params.ok_or(Fault::Internal)?;
        // It collects; what it loops over are loops of its body.
        if params.collection_reg != params.result_reg {
            return Err(Fault::Internal);
        }
        let empty = match params.mode {
            ComprehensionMode::Set => Value::new_set(),
            ComprehensionMode::Array => Value::new_array(),
            ComprehensionMode::Object => Value::new_object(),
        };
        let inner = Comprehension {
            mode: params.mode.clone(),
            result: params.result_reg,
            end: usize::from(params.comprehension_end),
        };
        self.buffers.frames.push(Frame::Comprehension(inner));
        self.set(params.result_reg, empty)
    }

    /// Adds to the innermost comprehension; what is undefined is not there.
    pub(super) fn collect(&mut self, value: u8, key: Option<u8>) -> Holds {
        let inner = self.buffers.frames.iter().skip(self.floor).rev();
        let inner = inner.into_iter().find_map(|frame| match frame {
            Frame::Comprehension(inner) => Some((inner.mode.clone(), inner.result)),
            Frame::Loop(_) => None,
        });
        let (mode, result) = inner.ok_or(Fault::Internal)?;
        match (mode, key) {
            (ComprehensionMode::Array, _) => self.push(result, value),
            (ComprehensionMode::Set, _) => self.add(result, value),
            (ComprehensionMode::Object, Some(key)) => self.insert(result, key, value),
            (ComprehensionMode::Object, None) => Err(Fault::Internal),
        }
    }

    pub(super) fn end_comprehension(&mut self) -> Holds {
        match self.buffers.frames.pop() {
            Some(Frame::Comprehension(_)) => Ok(true),
            Some(Frame::Loop(_)) | None => Err(Fault::Internal),
        }
    }
}
