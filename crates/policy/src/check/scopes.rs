//! Which names a query may use: those that its own statements mention, and those that they surely bind.

use std::collections::BTreeSet;

use regorus::Value;
use regorus::unstable::{AssignOp, Expr, Literal, Query, Ref, Span};

/// The names of a query, without those of the queries inside it.
#[derive(Default)]
pub(super) struct Scope {
    /// Named outside of `not`: something may bind them there.
    named: BTreeSet<String>,
    /// Bound by `:=`, `some … in`, `every` or a parameter.
    bound: BTreeSet<String>,
}

impl Scope {
    /// The parameters of a function.
    pub(super) fn of_parameters(parameters: &[Ref<Expr>]) -> Self {
        let mut scope = Self::default();
        for parameter in parameters {
            variables(parameter, &mut scope.bound);
        }
        scope
    }

    /// What `every` binds for its query.
    pub(super) fn of_spans<'a>(spans: impl IntoIterator<Item = &'a Span>) -> Self {
        let spans = spans.into_iter().map(|span| span.text().to_owned());
        Self {
            named: BTreeSet::new(),
            bound: spans.collect(),
        }
    }

    pub(super) fn of_query(query: &Query) -> Self {
        let mut scope = Self::default();
        for statement in &query.stmts {
            match &statement.literal {
                Literal::SomeVars { .. } | Literal::NotExpr { .. } => {}
                Literal::SomeIn {
                    key,
                    value,
                    collection,
                    ..
                } => {
                    for pattern in key.iter().chain([value]) {
                        variables(pattern, &mut scope.bound);
                    }
                    variables(collection, &mut scope.named);
                }
                Literal::Expr { expr, .. } => {
                    if let Expr::AssignExpr {
                        op: AssignOp::ColEq,
                        lhs,
                        ..
                    } = expr.as_ref()
                    {
                        variables(lhs, &mut scope.bound);
                    }
                    variables(expr, &mut scope.named);
                }
                Literal::Every { domain, .. } => variables(domain, &mut scope.named),
            }
        }
        scope
    }
}

/// Whether one of the scopes may bind a name.
pub(super) fn is_named(name: &str, scopes: &[Scope]) -> bool {
    let mut scopes = scopes.iter();
    scopes.any(|scope| scope.named.contains(name) || scope.bound.contains(name))
}

/// Whether one of the scopes surely binds a name.
pub(super) fn is_bound(name: &str, scopes: &[Scope]) -> bool {
    scopes.iter().any(|scope| scope.bound.contains(name))
}

/// The name of a variable.
pub(super) fn variable(expression: &Expr) -> Option<&str> {
    match expression {
        Expr::Var {
            value: Value::String(name),
            ..
        } => Some(name),
        _ => None,
    }
}

/// Collects the variables of an expression, without those of queries inside it.
pub(super) fn variables(expression: &Expr, names: &mut BTreeSet<String>) {
    if let Some(name) = variable(expression) {
        names.insert(name.to_owned());
    }
    for part in parts(expression) {
        variables(part, names);
    }
}

/// The expressions right inside of one, without queries.
pub(super) fn parts(expression: &Expr) -> Vec<&Expr> {
    match expression {
        Expr::String { .. }
        | Expr::RawString { .. }
        | Expr::Number { .. }
        | Expr::Bool { .. }
        | Expr::Null { .. }
        | Expr::Var { .. }
        | Expr::ArrayCompr { .. }
        | Expr::SetCompr { .. }
        | Expr::ObjectCompr { .. } => Vec::new(),
        Expr::Array { items, .. } | Expr::Set { items, .. } => {
            items.iter().map(Ref::as_ref).collect()
        }
        Expr::Object { fields, .. } => {
            let parts = fields
                .iter()
                .flat_map(|(_, key, value)| [key.as_ref(), value]);
            parts.collect()
        }
        Expr::Call { params, .. } => params.iter().map(Ref::as_ref).collect(),
        Expr::UnaryExpr { expr, .. } => vec![expr],
        Expr::RefDot { refr, .. } => vec![refr],
        Expr::RefBrack { refr, index, .. } => vec![refr, index],
        Expr::BinExpr { lhs, rhs, .. }
        | Expr::BoolExpr { lhs, rhs, .. }
        | Expr::ArithExpr { lhs, rhs, .. }
        | Expr::AssignExpr { lhs, rhs, .. } => vec![lhs, rhs],
        Expr::Membership {
            key,
            value,
            collection,
            ..
        } => {
            let parts = key.iter().chain([value, collection]);
            parts.map(Ref::as_ref).collect()
        }
    }
}
