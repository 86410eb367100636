//! Reads what a file's rules refer to and call.

use std::collections::{BTreeMap, BTreeSet};

use regorus::unstable::{Expr, Literal, LiteralStmt, Query, Ref, Rule, RuleBody, RuleHead, Span};

use super::{Parsed, head, path};

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
    /// `not {…}`, where a body is meant and a literal is read.
    pub(crate) negated_literals: Vec<Span>,
    /// Comprehensions that do not begin with a loop.
    pub(crate) unlooped: Vec<Span>,
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
    /// The first argument, where it is a text.
    pub(crate) first_text: Option<String>,
    pub(crate) arguments: usize,
}

struct Reader<'a> {
    package: &'a [String],
    /// What each alias stands for.
    imports: BTreeMap<String, Vec<String>>,
    /// The names of the package's rules, whatever file they are in.
    own: &'a BTreeSet<String>,
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

fn imports(module: &Parsed) -> BTreeMap<String, Vec<String>> {
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
                        self.indices(refr);
                        self.each(args);
                        self.each(assign.iter().map(|assign| &assign.value));
                    }
                }
                for body in bodies {
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
        for statement in &query.stmts {
            self.statement(statement);
        }
    }

    fn comprehension(&mut self, query: &Query) {
        if !begins_with_loop(query) {
            self.reading.unlooped.push(query.span.clone());
        }
        self.query(query);
    }

    fn statement(&mut self, statement: &LiteralStmt) {
        match &statement.literal {
            Literal::SomeVars { .. } => {}
            Literal::SomeIn {
                key,
                value,
                collection,
                ..
            } => {
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
                    self.reading.negated_literals.push(span.clone());
                }
                self.expression(expr);
            }
            Literal::Every { domain, query, .. } => {
                self.expression(domain);
                self.query(query);
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
                self.expression(term);
                self.comprehension(query);
            }
            Expr::ObjectCompr {
                key, value, query, ..
            } => {
                self.each([key, value]);
                self.comprehension(query);
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
        let first_text = match params.first().map(Ref::as_ref) {
            Some(Expr::String { value, .. } | Expr::RawString { value, .. }) => {
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
            first_text,
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

/// Whether a query loops from its first statement on: `some … in …`, or a reference with `[_]` or a key that is to be found.
fn begins_with_loop(query: &Query) -> bool {
    let mut unbound = vec!["_"];
    for statement in &query.stmts {
        return match &statement.literal {
            Literal::SomeVars { vars, .. } => {
                unbound.extend(vars.iter().map(Span::text));
                continue;
            }
            Literal::SomeIn { .. } => true,
            Literal::Expr { expr, .. } => iterates(expr, &unbound),
            Literal::NotExpr { .. } | Literal::Every { .. } => false,
        };
    }
    false
}

fn iterates(expression: &Expr, unbound: &[&str]) -> bool {
    match expression {
        Expr::RefDot { refr, .. } => iterates(refr, unbound),
        Expr::RefBrack { refr, index, .. } => {
            let is_sought =
                matches!(index.as_ref(), Expr::Var { span, .. } if unbound.contains(&span.text()));
            is_sought || iterates(refr, unbound)
        }
        Expr::AssignExpr { lhs, rhs, .. } | Expr::BoolExpr { lhs, rhs, .. } => {
            iterates(lhs, unbound) || iterates(rhs, unbound)
        }
        _ => false,
    }
}
