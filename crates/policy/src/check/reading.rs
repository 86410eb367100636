//! Reads what a file's rules refer to and call.

use std::collections::{BTreeMap, BTreeSet};

use regorus::unstable::{
    AssignOp, Expr, Literal, LiteralStmt, Query, Ref, Rule, RuleBody, RuleHead, Span,
};

use super::language::Oddity;
use super::scopes::{self, Scope};
use super::{Parsed, head, odd, path};

/// What one file's rules refer to and call, in their order.
#[derive(Default)]
pub(crate) struct Reading {
    pub(crate) rules: Vec<RuleReading>,
}

/// What one rule refers to and calls.
#[derive(Default)]
pub(crate) struct RuleReading {
    pub(crate) references: Vec<Reference>,
    pub(crate) calls: Vec<Call>,
    /// `with` modifiers: what is replaced, and what by if that is a reference.
    pub(crate) replacements: Vec<(Span, Vec<String>, Option<Vec<String>>)>,
    /// What an engine takes for something else.
    pub(crate) oddities: Vec<(Oddity, Span)>,
}

/// One reference, resolved through imports and the package's own rules.
pub(crate) struct Reference {
    pub(crate) span: Span,
    /// From `data` or `input` on, as far as it is fixed.
    pub(crate) path: Vec<String>,
}

/// One call.
pub(crate) struct Call {
    pub(crate) span: Span,
    /// As written, or from `data` on where it is a rule's.
    pub(crate) path: Vec<String>,
    /// Its arguments, each where it is a text.
    pub(crate) texts: Vec<Option<String>>,
    pub(crate) arguments: usize,
}

struct Reader<'a> {
    package: &'a [String],
    /// What each alias stands for.
    imports: BTreeMap<String, Vec<String>>,
    /// The names of the package's rules, whatever file they are in.
    own: &'a BTreeSet<String>,
    /// The queries that are being read, the innermost last.
    scopes: Vec<Scope>,
    /// Whether a `not` stands before what is read, in the same query.
    is_negated: bool,
    /// Whether it does, in this query or in one around it.
    is_below_not: bool,
    reading: RuleReading,
}

impl Reading {
    /// Reads one file among all.
    pub(crate) fn new(module: &Parsed, all: &[Parsed]) -> Self {
        let imports = imports(module);
        let own = all
            .iter()
            .filter(|other| other.package == module.package)
            .flat_map(Parsed::rules)
            .filter_map(|rule| head(rule).into_iter().next())
            .collect();
        let rules = module.rules().map(|rule| {
            let mut reader = Reader {
                package: &module.package,
                imports: imports.clone(),
                own: &own,
                scopes: Vec::new(),
                is_negated: false,
                is_below_not: false,
                reading: RuleReading::default(),
            };
            reader.rule(rule);
            reader.reading
        });
        Self {
            rules: rules.collect(),
        }
    }
}

/// What each alias of a file stands for.
pub(super) fn imports(module: &Parsed) -> BTreeMap<String, Vec<String>> {
    let mut imports = BTreeMap::new();
    for import in &module.module.imports {
        let path = path(&import.refr);
        let alias = match &import.r#as {
            Some(alias) => Some(alias.text().to_owned()),
            None => path.last().cloned(),
        };
        if let Some(alias) = alias
            && path
                .first()
                .is_some_and(|first| first == "data" || first == "input")
        {
            imports.insert(alias, path);
        }
    }
    imports
}

impl Reader<'_> {
    fn rule(&mut self, rule: &Rule) {
        match rule {
            Rule::Spec { head, bodies, .. } => {
                match head {
                    RuleHead::Compr { refr, assign, .. } => {
                        self.indices(refr);
                        self.each(assign.iter().map(|assign| &assign.value));
                    }
                    RuleHead::Set { refr, key, .. } => {
                        self.indices(refr);
                        self.each(key);
                    }
                    RuleHead::Func {
                        refr, args, assign, ..
                    } => {
                        self.scopes.push(Scope::of_parameters(args));
                        for value in odd::values_before_else(assign.as_ref(), bodies) {
                            if odd::may_be_undefined(value, &|name: &str| self.is_other(name)) {
                                self.find(Oddity::ElseValue, value.span());
                            }
                        }
                        for arg in args.iter().filter(|arg| odd::has_object(arg)) {
                            self.find(Oddity::ObjectPattern, arg.span());
                        }
                        self.indices(refr);
                        self.each(args);
                        self.each(assign.iter().map(|assign| &assign.value));
                    }
                }
                for (number, body) in bodies.iter().enumerate() {
                    if number > 0 && !body.is_else {
                        self.find(Oddity::ChainedBody, &body.span);
                    }
                    self.body(body);
                }
            }
            Rule::Default { args, value, .. } => {
                self.each(args);
                self.expression(value);
            }
        }
    }

    fn body(&mut self, body: &RuleBody) {
        self.each(body.assign.iter().map(|assign| &assign.value));
        self.query(&body.query);
    }

    fn query(&mut self, query: &Query) {
        self.query_with(query, Scope::default(), &[]);
    }

    /// Reads a query with the names that stand in front of it, and what is made of what it finds.
    fn query_with(&mut self, query: &Query, names: Scope, made: &[&Expr]) {
        let depth = self.scopes.len();
        self.scopes.extend([names, Scope::of_query(query)]);
        let is_negated = std::mem::take(&mut self.is_negated);
        for expression in made {
            self.expression(expression);
        }
        for statement in &query.stmts {
            self.statement(statement);
        }
        self.is_negated = is_negated;
        self.scopes.truncate(depth);
    }

    fn find(&mut self, oddity: Oddity, span: &Span) {
        self.reading.oddities.push((oddity, span.clone()));
    }

    fn statement(&mut self, statement: &LiteralStmt) {
        match &statement.literal {
            Literal::SomeVars { vars, .. } => {
                for var in vars {
                    if self.own.contains(var.text()) || self.imports.contains_key(var.text()) {
                        self.find(Oddity::ShadowedName, var);
                    }
                }
            }
            Literal::SomeIn {
                key,
                value,
                collection,
                ..
            } => {
                for pattern in key.iter().chain([value]) {
                    if odd::has_object(pattern) {
                        self.find(Oddity::ObjectPattern, pattern.span());
                    }
                    if self.is_below_not && scopes::variable(pattern).is_none() {
                        self.find(Oddity::NegatedPattern, pattern.span());
                    }
                }
                self.each(key);
                self.each([value, collection]);
            }
            Literal::Expr { expr, .. } => self.expression(expr),
            Literal::NotExpr { span, expr } => {
                let is_literal = matches!(
                    expr.as_ref(),
                    Expr::Set { .. } | Expr::Object { .. } | Expr::SetCompr { .. }
                );
                if is_literal {
                    self.find(Oddity::NegatedLiteral, span);
                }
                let was_below = std::mem::replace(&mut self.is_below_not, true);
                self.is_negated = true;
                self.expression(expr);
                self.is_negated = false;
                self.is_below_not = was_below;
            }
            Literal::Every {
                key,
                value,
                domain,
                query,
                ..
            } => {
                self.expression(domain);
                self.query_with(query, Scope::of_spans(key.iter().chain([value])), &[]);
            }
        }
        for modifier in &statement.with_mods {
            let replaced = self.resolve(&modifier.refr);
            let by = matches!(
                modifier.r#as.as_ref(),
                Expr::Var { .. } | Expr::RefDot { .. } | Expr::RefBrack { .. }
            );
            let by = by.then(|| self.resolve(&modifier.r#as));
            self.reading
                .replacements
                .push((modifier.span.clone(), replaced, by));
            self.expression(&modifier.r#as);
        }
    }

    fn each<'e>(&mut self, expressions: impl IntoIterator<Item = &'e Ref<Expr>>) {
        for expression in expressions {
            self.expression(expression);
        }
    }

    fn expression(&mut self, expression: &Expr) {
        for oddity in self.odd(expression) {
            self.find(oddity, expression.span());
        }
        match expression {
            Expr::String { .. }
            | Expr::RawString { .. }
            | Expr::Number { .. }
            | Expr::Bool { .. }
            | Expr::Null { .. } => {}
            Expr::Var { .. } | Expr::RefDot { .. } | Expr::RefBrack { .. } => {
                self.reading.references.push(Reference {
                    span: expression.span().clone(),
                    path: self.resolve(expression),
                });
                self.indices(expression);
            }
            Expr::Array { items, .. } | Expr::Set { items, .. } => self.each(items),
            Expr::Object { fields, .. } => {
                for (_, key, value) in fields {
                    self.each([key, value]);
                }
            }
            Expr::ArrayCompr { term, query, .. } | Expr::SetCompr { term, query, .. } => {
                self.query_with(query, Scope::default(), &[term]);
            }
            Expr::ObjectCompr {
                key, value, query, ..
            } => {
                self.query_with(query, Scope::default(), &[key, value]);
            }
            Expr::Call {
                span, fcn, params, ..
            } => {
                self.call(span, fcn, params);
                self.each(params);
            }
            Expr::UnaryExpr { expr, .. } => self.expression(expr),
            Expr::BinExpr { lhs, rhs, .. }
            | Expr::BoolExpr { lhs, rhs, .. }
            | Expr::ArithExpr { lhs, rhs, .. }
            | Expr::AssignExpr { lhs, rhs, .. } => self.each([lhs, rhs]),
            Expr::Membership {
                key,
                value,
                collection,
                ..
            } => {
                self.each(key);
                self.each([value, collection]);
            }
        }
    }

    /// What an engine takes for something else in this expression, without what is inside of it.
    fn odd(&self, expression: &Expr) -> Vec<Oddity> {
        let is_bound = |name: &str| self.is_other(name) || scopes::is_bound(name, &self.scopes);
        let mut found = Vec::new();
        match expression {
            Expr::Membership { key: Some(_), .. } => found.push(Oddity::KeyedMembership),
            Expr::Object { fields, .. } => found.extend(odd::keys(fields)),
            Expr::AssignExpr { op, lhs, rhs, .. } => {
                let is_pattern = matches!(op, AssignOp::Eq) || scopes::variable(lhs).is_none();
                if self.is_below_not && is_pattern {
                    found.push(Oddity::NegatedPattern);
                }
                if matches!(op, AssignOp::ColEq) && scopes::variable(lhs) == Some("_") {
                    found.push(Oddity::AssignedWildcard);
                }
                let takes_object = match op {
                    AssignOp::ColEq => odd::has_object(lhs),
                    AssignOp::Eq => [lhs, rhs]
                        .into_iter()
                        .any(|side| odd::is_object_pattern(side, &is_bound)),
                };
                if takes_object {
                    found.push(Oddity::ObjectPattern);
                }
            }
            Expr::RefBrack { index, .. } => {
                let is_pattern = matches!(index.as_ref(), Expr::Array { .. } | Expr::Object { .. });
                if self.is_below_not && is_pattern {
                    found.push(Oddity::NegatedPattern);
                }
                if odd::is_object_pattern(index, &is_bound) {
                    found.push(Oddity::ObjectPattern);
                }
                let is_named =
                    |name: &str| self.is_other(name) || scopes::is_named(name, &self.scopes);
                if self.is_negated && odd::seeks(expression, &is_named) {
                    found.push(Oddity::NegatedLoop);
                }
                if odd::is_keyed_after_search(expression, &is_bound) {
                    found.push(Oddity::DataKey);
                }
            }
            _ => {}
        }
        found
    }

    /// Whether a name is a rule's or an import's.
    fn is_other(&self, name: &str) -> bool {
        self.own.contains(name) || self.imports.contains_key(name)
    }

    /// Reads what stands in the brackets of a reference, and what it starts from if that is no name.
    fn indices(&mut self, expression: &Expr) {
        match expression {
            Expr::Var { .. } => {}
            Expr::RefDot { refr, .. } => self.indices(refr),
            Expr::RefBrack { refr, index, .. } => {
                self.indices(refr);
                self.expression(index);
            }
            other => self.expression(other),
        }
    }

    fn call(&mut self, span: &Span, function: &Expr, params: &[Ref<Expr>]) {
        let text = |param: &Ref<Expr>| match param.as_ref() {
            Expr::String { value, .. } | Expr::RawString { value, .. } => {
                value.as_string().ok().map(|text| text.to_string())
            }
            _ => None,
        };
        let path = self.resolve(function);
        if path.first().is_some_and(|first| first == "data") {
            self.reading.references.push(Reference {
                span: span.clone(),
                path: path.clone(),
            });
        }
        self.reading.calls.push(Call {
            span: span.clone(),
            path,
            texts: params.iter().map(text).collect(),
            arguments: params.len(),
        });
    }

    /// The path of a reference from `data` or `input` on; as written where it starts with a local name.
    ///
    /// A local variable that is called like a rule of its package is taken for that rule: doubt finds a
    /// recursion where there is none, rather than none where there is one.
    fn resolve(&self, expression: &Expr) -> Vec<String> {
        let words = path(expression);
        let Some((first, rest)) = words.split_first() else {
            return words;
        };
        // Nothing else can be called so, whatever an import or a rule says: what is read of a call must be found.
        let start: Vec<String> = if first == "input" || first == "data" {
            vec![first.clone()]
        } else if let Some(import) = self.imports.get(first) {
            import.clone()
        } else if self.own.contains(first) {
            let package = self.package.iter().cloned();
            std::iter::once("data".to_owned())
                .chain(package)
                .chain([first.clone()])
                .collect()
        } else {
            vec![first.clone()]
        };
        start.into_iter().chain(rest.iter().cloned()).collect()
    }
}
