//! Builtins of OPA that regorus lacks or gets wrong, for both engines: by name and meaning of OPA.
//!
//! The interpreter takes each as an extension, which goes before a builtin of the same name. The compiler is told
//! of those that it does not know, and [`crate::vm::Code`] finds all of them by name.

mod cidr;
mod claims;
mod crypto;
mod durations;
mod globs;
mod keys;
mod numbers;
mod patterns;
mod templates;
mod texts;
mod tokens;
mod uris;

use std::sync::LazyLock;

use regorus::unstable::{BUILTINS, Expr, Ref, Span};
use regorus::{Engine, Value};

/// A builtin of our own.
pub(crate) struct Builtin {
    /// As OPA calls it.
    pub(crate) name: &'static str,
    /// How many arguments it takes.
    pub(crate) arguments: u8,
    /// Its answer, or why there is none. No argument is undefined.
    pub(crate) function: fn(&[Value]) -> anyhow::Result<Value>,
}

/// All of them.
pub(crate) fn all() -> impl Iterator<Item = &'static Builtin> {
    [
        cidr::BUILTINS,
        claims::BUILTINS,
        crypto::BUILTINS,
        durations::BUILTINS,
        globs::BUILTINS,
        numbers::BUILTINS,
        patterns::BUILTINS,
        templates::BUILTINS,
        texts::BUILTINS,
        tokens::BUILTINS,
        uris::BUILTINS,
    ]
    .into_iter()
    .flatten()
    .chain(PANICS)
}

/// For the test of what a panic does.
#[cfg(test)]
const PANICS: &[Builtin] = &[Builtin {
    name: "test.panic",
    arguments: 0,
    function: |_| panic!("on purpose"),
}];
#[cfg(not(test))]
const PANICS: &[Builtin] = &[];

/// The one of a name.
pub(crate) fn find(name: &str) -> Option<&'static Builtin> {
    all().find(|builtin| builtin.name == name)
}

/// Tells the interpreter of all of them.
pub(crate) fn extend(engine: &mut Engine) -> anyhow::Result<()> {
    for builtin in all() {
        let function = move |arguments: Vec<Value>| (builtin.function)(&arguments);
        engine.add_extension(
            builtin.name.to_owned(),
            builtin.arguments,
            Box::new(function),
        )?;
    }
    Ok(())
}

/// Those that the compiler does not know: their names, and how many arguments they take.
pub(crate) fn unknown() -> Vec<(&'static str, usize)> {
    let unknown = all().filter(|builtin| !BUILTINS.contains_key(builtin.name));
    unknown
        .map(|builtin| (builtin.name, usize::from(builtin.arguments)))
        .collect()
}

/// A builtin of regorus. It is told where it is called from, and whether it is to be strict.
pub(crate) type OfEngine = fn(&Span, &[Ref<Expr>], &[Value], bool) -> anyhow::Result<Value>;

/// How many arguments a builtin may have.
const MOST_ARGUMENTS: usize = 8;

/// Where builtins think they are called from: they want to know it for the texts of errors, which nobody reads here.
static NOWHERE: LazyLock<Option<(Span, Vec<Ref<Expr>>)>> = LazyLock::new(|| {
    let source = regorus::unstable::Source::from_contents(String::new(), String::new()).ok()?;
    let span = Span {
        source,
        line: 1,
        col: 1,
        start: 0,
        end: 0,
    };
    let nothing = Ref::new(Expr::Null {
        span: span.clone(),
        value: Value::Null,
        eidx: 0,
    });
    Some((span, vec![nothing; MOST_ARGUMENTS]))
});

/// Calls a builtin of regorus, strictly.
pub(crate) fn of_engine(function: OfEngine, arguments: &[Value]) -> anyhow::Result<Value> {
    let nowhere = NOWHERE.as_ref();
    let (span, nothing) = nowhere.ok_or_else(|| anyhow::anyhow!("builtins can't be called"))?;
    let expressions = nothing.get(..arguments.len());
    let expressions = expressions.ok_or_else(|| anyhow::anyhow!("too many arguments"))?;
    function(span, expressions, arguments, true)
}

/// The same by name, for those that are called by ours.
pub(crate) fn named(name: &str, arguments: &[Value]) -> anyhow::Result<Value> {
    let Some((function, _)) = BUILTINS.get(name) else {
        anyhow::bail!("there is no builtin `{name}`");
    };
    of_engine(*function, arguments)
}

/// An argument that must be a text.
fn text(arguments: &[Value], at: usize) -> anyhow::Result<&str> {
    match arguments.get(at) {
        Some(Value::String(text)) => Ok(text),
        _ => anyhow::bail!("argument {} must be a string", at + 1),
    }
}

/// An argument that must be a whole number.
fn whole(arguments: &[Value], at: usize) -> anyhow::Result<i64> {
    let number = arguments.get(at).and_then(|value| value.as_i64().ok());
    number.ok_or_else(|| anyhow::anyhow!("argument {} must be a whole number", at + 1))
}
