//! `strings.render_template`: of Go's templates what says the same everywhere; the rest fails.
//!
//! There are `{{.a.b}}`, `{{$name}}`, `{{if}}`, `{{range}}` with and without names, `{{else}}`, `{{end}}` and the signs
//! that trim spaces. There are no functions, no pipes, no comments, no `with`; a number is no condition, as OPA takes 0 in
//! data for true; and only texts, numbers and truth values are written.

use std::vec::IntoIter;

use regorus::Value;

use super::{Builtin, text};

pub(super) const BUILTINS: &[Builtin] = &[Builtin {
    name: "strings.render_template",
    arguments: 2,
    function: |arguments| {
        let template = text(arguments, 0)?;
        let Some(data @ Value::Object(_)) = arguments.get(1) else {
            anyhow::bail!("argument 2 must be an object");
        };
        Ok(Value::from(render(template, data)?))
    },
}];

/// How deep blocks may be in one another.
const DEEPEST: usize = 8;

/// How many parts of a template are rendered at most, those in a loop each time, and items gone through.
const MOST: usize = 10_000;

/// The longest text that is made, in bytes: that of the longest body that is read.
const LONGEST: usize = 1 << 20;

fn render(template: &str, data: &Value) -> anyhow::Result<String> {
    let mut parser = Parser {
        pieces: pieces(template)?.into_iter(),
        names: vec![""],
        depth: 0,
    };
    let (nodes, End::OfText) = parser.block()? else {
        anyhow::bail!("an `else` or an `end` of nothing");
    };
    let mut rendering = Rendering {
        names: vec![("", Item::Value(data))],
        written: String::new(),
        left: MOST,
    };
    rendering.all(&nodes, Item::Value(data))?;
    Ok(rendering.written)
}

/// A text, or what is between `{{` and `}}`.
enum Piece<'a> {
    Text(&'a str),
    Action(&'a str),
}

fn pieces(template: &str) -> anyhow::Result<Vec<Piece<'_>>> {
    let is_space = |character| matches!(character, ' ' | '\t' | '\r' | '\n');
    let mut pieces = Vec::new();
    let (mut rest, mut trims) = (template, false);
    loop {
        let (text, action) = match rest.split_once("{{") {
            Some((text, action)) => (text, Some(action)),
            None => (rest, None),
        };
        let text = match trims {
            true => text.trim_start_matches(is_space),
            false => text,
        };
        let Some(action) = action else {
            pieces.push(Piece::Text(text));
            return Ok(pieces);
        };
        let closed = action.split_once("}}");
        let (mut action, after) = closed.ok_or_else(|| anyhow::anyhow!("a `{{{{` is open"))?;
        let inner = action.strip_prefix('-');
        let inner = inner.filter(|inner| inner.starts_with(is_space));
        pieces.push(Piece::Text(match inner {
            Some(_) => text.trim_end_matches(is_space),
            None => text,
        }));
        action = inner.unwrap_or(action);
        let inner = action.strip_suffix('-');
        let inner = inner.filter(|inner| inner.ends_with(is_space));
        trims = inner.is_some();
        pieces.push(Piece::Action(
            inner.unwrap_or(action).trim_matches(is_space),
        ));
        rest = after;
    }
}

enum Node<'a> {
    Text(&'a str),
    Write(Path<'a>),
    If {
        condition: Path<'a>,
        then: Vec<Self>,
        otherwise: Vec<Self>,
    },
    Range {
        /// None, the item's, or the index's and the item's.
        names: Vec<&'a str>,
        over: Path<'a>,
        each: Vec<Self>,
        otherwise: Vec<Self>,
    },
}

/// `$name.a.b`, `.a.b`.
struct Path<'a> {
    /// A name, empty for all data; nothing for what a loop is at.
    from: Option<&'a str>,
    fields: Vec<&'a str>,
}

/// What a block ends with.
#[derive(Clone, Copy)]
enum End<'a> {
    OfText,
    OfBlock,
    /// With what comes after the word.
    Else(&'a str),
}

struct Parser<'a> {
    pieces: IntoIter<Piece<'a>>,
    names: Vec<&'a str>,
    depth: usize,
}

impl<'a> Parser<'a> {
    fn block(&mut self) -> anyhow::Result<(Vec<Node<'a>>, End<'a>)> {
        let mut nodes = Vec::new();
        while let Some(piece) = self.pieces.next() {
            let action = match piece {
                Piece::Text(text) => {
                    nodes.push(Node::Text(text));
                    continue;
                }
                Piece::Action(action) => action,
            };
            let split = action.split_once(|character: char| character.is_ascii_whitespace());
            let (word, rest) = split.unwrap_or((action, ""));
            nodes.push(match word {
                "end" if rest.is_empty() => return Ok((nodes, End::OfBlock)),
                "else" => return Ok((nodes, End::Else(rest.trim_start()))),
                "if" => self.conditional(rest)?,
                "range" => self.range(rest)?,
                _ => Node::Write(self.path(action)?),
            });
        }
        Ok((nodes, End::OfText))
    }

    fn conditional(&mut self, condition: &'a str) -> anyhow::Result<Node<'a>> {
        let condition = self.path(condition)?;
        let (then, end) = self.inner()?;
        let otherwise = match end {
            End::Else(rest) if !rest.is_empty() => {
                let chained = rest.strip_prefix("if");
                let chained = chained.filter(|rest| rest.starts_with(char::is_whitespace));
                let chained = chained.ok_or_else(|| anyhow::anyhow!("`else` takes an `if`"))?;
                self.depth += 1;
                anyhow::ensure!(self.depth <= DEEPEST, "blocks are deeper than {DEEPEST}");
                let chained = self.conditional(chained)?;
                self.depth -= 1;
                vec![chained]
            }
            end => self.otherwise(end)?,
        };
        Ok(Node::If {
            condition,
            then,
            otherwise,
        })
    }

    fn range(&mut self, text: &'a str) -> anyhow::Result<Node<'a>> {
        let (names, over) = match text.split_once(":=") {
            Some((names, over)) => (names.split(',').map(name).collect::<Option<Vec<_>>>(), over),
            None => (Some(Vec::new()), text),
        };
        let names = names.filter(|names| names.len() <= 2);
        let names = names.ok_or_else(|| anyhow::anyhow!("a loop names at most two variables"))?;
        let over = self.path(over)?;
        let outer = self.names.len();
        self.names.extend(&names);
        let (each, end) = self.inner()?;
        self.names.truncate(outer);
        let otherwise = self.otherwise(end)?;
        Ok(Node::Range {
            names,
            over,
            each,
            otherwise,
        })
    }

    fn otherwise(&mut self, end: End<'a>) -> anyhow::Result<Vec<Node<'a>>> {
        match end {
            End::OfBlock => Ok(Vec::new()),
            End::Else("") => match self.inner()? {
                (nodes, End::OfBlock) => Ok(nodes),
                _ => anyhow::bail!("an `else` without an `end`"),
            },
            End::OfText | End::Else(_) => anyhow::bail!("a block without an `end`"),
        }
    }

    fn inner(&mut self) -> anyhow::Result<(Vec<Node<'a>>, End<'a>)> {
        self.depth += 1;
        anyhow::ensure!(self.depth <= DEEPEST, "blocks are deeper than {DEEPEST}");
        let block = self.block()?;
        self.depth -= 1;
        Ok(block)
    }

    fn path(&self, text: &'a str) -> anyhow::Result<Path<'a>> {
        let text = text.trim();
        let path = if text == "." {
            Some((None, Vec::new()))
        } else {
            let (from, fields) = text.split_once('.').unwrap_or((text, ""));
            let from = match from {
                "" => Some(None),
                "$" => Some(Some("")),
                from => name(from).map(Some),
            };
            let fields: Vec<_> = match text.contains('.') {
                true => fields.split('.').collect(),
                false => Vec::new(),
            };
            let are_words = !text.is_empty() && fields.iter().all(|field| is_word(field));
            from.filter(|_| are_words).map(|from| (from, fields))
        };
        let (from, fields) = path.ok_or_else(|| anyhow::anyhow!("`{text}` is not supported"))?;
        let is_known = from.is_none_or(|from| self.names.contains(&from));
        anyhow::ensure!(is_known, "there is no variable `{text}`");
        Ok(Path { from, fields })
    }
}

/// The name of a variable, without its `$`.
fn name(text: &str) -> Option<&str> {
    let name = text.trim().strip_prefix('$')?;
    is_word(name).then_some(name)
}

fn is_word(text: &str) -> bool {
    text.starts_with(|first: char| first.is_ascii_alphabetic() || first == '_')
        && text
            .bytes()
            .all(|byte| byte.is_ascii_alphanumeric() || byte == b'_')
}

/// What a path leads to.
#[derive(Clone, Copy)]
enum Item<'a> {
    Value(&'a Value),
    Index(usize),
}

struct Rendering<'a> {
    names: Vec<(&'a str, Item<'a>)>,
    written: String,
    left: usize,
}

impl<'a> Rendering<'a> {
    fn all(&mut self, nodes: &'a [Node<'a>], at: Item<'a>) -> anyhow::Result<()> {
        nodes.iter().try_for_each(|node| self.one(node, at))
    }

    fn one(&mut self, node: &'a Node<'a>, at: Item<'a>) -> anyhow::Result<()> {
        self.count(1)?;
        match node {
            Node::Text(text) => self.written.push_str(text),
            Node::Write(path) => match self.find(path, at)? {
                Some(Item::Index(index)) => self.written.push_str(&index.to_string()),
                Some(Item::Value(Value::String(text))) => self.written.push_str(text),
                Some(Item::Value(value @ (Value::Number(_) | Value::Bool(_)))) => {
                    self.written.push_str(&value.to_string());
                }
                Some(Item::Value(_)) => anyhow::bail!("a value that can't be written"),
                None => self.written.push_str("<undefined>"),
            },
            Node::If {
                condition,
                then,
                otherwise,
            } => match is_true(self.find(condition, at)?)? {
                true => self.all(then, at)?,
                false => self.all(otherwise, at)?,
            },
            Node::Range {
                names,
                over,
                each,
                otherwise,
            } => {
                let over = self.find(over, at)?;
                self.count(length(over)?)?;
                let items = items(over)?;
                if items.is_empty() {
                    self.all(otherwise, at)?;
                }
                for (index, item) in items {
                    self.each(names, each, index, item)?;
                }
            }
        }
        anyhow::ensure!(
            self.written.len() <= LONGEST,
            "a text of over {LONGEST} bytes"
        );
        Ok(())
    }

    fn count(&mut self, parts: usize) -> anyhow::Result<()> {
        let left = self.left.checked_sub(parts);
        self.left = left.ok_or_else(|| anyhow::anyhow!("more than {MOST} parts"))?;
        Ok(())
    }

    fn each(
        &mut self,
        names: &'a [&'a str],
        nodes: &'a [Node<'a>],
        index: Item<'a>,
        item: Item<'a>,
    ) -> anyhow::Result<()> {
        let outer = self.names.len();
        match names {
            [] => (),
            [one] => self.names.push((one, item)),
            [first, rest @ ..] => {
                self.names.push((first, index));
                self.names.extend(rest.iter().map(|name| (*name, item)));
            }
        }
        self.all(nodes, item)?;
        self.names.truncate(outer);
        Ok(())
    }

    /// Nothing if the last field is missing.
    fn find(&self, path: &Path<'_>, at: Item<'a>) -> anyhow::Result<Option<Item<'a>>> {
        let named = |from| self.names.iter().rev().find(|(name, _)| *name == from);
        let mut found = match path.from {
            None => Some(at),
            Some(from) => named(from).map(|(_, item)| *item),
        };
        for field in &path.fields {
            let Some(Item::Value(value @ Value::Object(_))) = found else {
                anyhow::bail!("there is no `{field}` in what is no object");
            };
            let value = &value[*field];
            found = (*value != Value::Undefined).then_some(Item::Value(value));
        }
        Ok(found)
    }
}

fn is_true(item: Option<Item<'_>>) -> anyhow::Result<bool> {
    match item {
        Some(Item::Index(index)) => Ok(index != 0),
        Some(Item::Value(Value::Null)) => Ok(false),
        Some(Item::Value(Value::Bool(value))) => Ok(*value),
        Some(Item::Value(Value::String(text))) => Ok(!text.is_empty()),
        Some(Item::Value(Value::Number(_))) => anyhow::bail!("a number is no condition"),
        item => Ok(length(item)? > 0),
    }
}

/// How much a loop goes through.
fn length(item: Option<Item<'_>>) -> anyhow::Result<usize> {
    match item {
        Some(Item::Value(Value::Array(items))) => Ok(items.len()),
        Some(Item::Value(Value::Set(items))) => Ok(items.len()),
        Some(Item::Value(Value::Object(items))) => Ok(items.len()),
        _ => anyhow::bail!("no collection to go through"),
    }
}

/// What a loop goes through, with the index or the key of each.
fn items(item: Option<Item<'_>>) -> anyhow::Result<Vec<(Item<'_>, Item<'_>)>> {
    fn indexed<'a>(items: impl Iterator<Item = &'a Value>) -> Vec<(Item<'a>, Item<'a>)> {
        let items = items.enumerate();
        let pairs = items.map(|(index, item)| (Item::Index(index), Item::Value(item)));
        pairs.collect()
    }
    match item {
        Some(Item::Value(Value::Array(items))) => Ok(indexed(items.iter())),
        Some(Item::Value(Value::Set(items))) => Ok(indexed(items.iter())),
        Some(Item::Value(Value::Object(items))) => {
            let pairs = items.iter().map(|(key, item)| match key {
                Value::String(_) => Ok((Item::Value(key), Item::Value(item))),
                _ => anyhow::bail!("a key that is no string"),
            });
            pairs.collect()
        }
        _ => anyhow::bail!("no collection to go through"),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn call(template: &str, data: serde_json::Value) -> Option<String> {
        render(template, &Value::from(data)).ok()
    }

    #[track_caller]
    fn check(template: &str, data: serde_json::Value, expect: &str) {
        assert_eq!(call(template, data).as_deref(), Some(expect));
    }

    #[track_caller]
    fn check_fails(template: &str) {
        let data = json!({ "a": "x", "n": 0, "o": { "b": 1 }, "l": [1], "z": null });
        assert_eq!(call(template, data), None);
    }

    #[test]
    fn fields_are_written() {
        check("a {{.x}} b", json!({ "x": "<&>" }), "a <&> b");
        check(
            "{{ .x.y_1 }}{{$.z}}",
            json!({ "x": { "y_1": 1.5 }, "z": true }),
            "1.5true",
        );
        check("", json!({}), "");
    }
    #[test]
    fn missing_fields_are_undefined() {
        check("{{.x}} {{.y}}", json!({ "y": 1 }), "<undefined> 1");
    }
    #[test]
    fn lists_are_gone_through() {
        let template = "{{range $i, $name := .l}}{{if $i}},{{end}}hello {{$name}}{{end}}";
        check(template, json!({ "l": ["a", "b"] }), "hello a,hello b");
        check("{{range .l}}{{.}}{{end}}", json!({ "l": [1, 2] }), "12");
        check(
            "{{range $x := .l}}{{$x.y}}{{end}}",
            json!({ "l": [{ "y": 1 }] }),
            "1",
        );
        check(
            "{{range .l}}a{{else}}none{{end}}",
            json!({ "l": [] }),
            "none",
        );
    }
    #[test]
    fn objects_are_gone_through_by_key() {
        let template = "{{range $k, $v := .o}}{{$k}}={{$v}} {{end}}";
        check(template, json!({ "o": { "b": 1, "a": 2 } }), "a=2 b=1 ");
    }
    #[test]
    fn inner_names_hide_outer_ones() {
        let template = "{{range $x := .l}}{{range $x := .}}{{$x}}{{end}}{{len}}{{end}}";
        check(
            &template.replace("{{len}}", ""),
            json!({ "l": [[1], [2]] }),
            "12",
        );
    }
    #[test]
    fn conditions_choose() {
        let template = "{{if .a}}a{{else if .b}}b{{else}}c{{end}}";
        check(template, json!({ "a": true, "b": "" }), "a");
        check(template, json!({ "a": null, "b": "x" }), "b");
        check(template, json!({ "a": [], "b": {} }), "c");
    }
    #[test]
    fn spaces_are_trimmed() {
        check("a \n{{- .x -}}\t b", json!({ "x": 1 }), "a1b");
        check("a {{.x}} b", json!({ "x": 1 }), "a 1 b");
    }
    #[test]
    fn what_there_is_not_fails() {
        for template in [
            "{{",
            "{{}}",
            "{{.a | len}}",
            "{{len .l}}",
            "{{\"a\"}}",
            "{{1}}",
            "{{-.a}}",
            "{{/* a */}}",
            "{{with .a}}{{end}}",
            "{{$x := .a}}",
            "{{$x}}",
            "{{.a.}}",
            "{{..a}}",
            "{{.1}}",
            "{{.a .a}}",
        ] {
            check_fails(template);
        }
    }
    #[test]
    fn blocks_must_end() {
        for template in [
            "{{if .a}}",
            "{{end}}",
            "{{else}}",
            "{{if .a}}{{else}}{{else}}{{end}}",
            "{{range .l}}",
            "{{range .l}}{{else if .a}}{{end}}",
            "{{if .a}}{{else range .l}}{{end}}",
            "{{if}}{{end}}",
        ] {
            check_fails(template);
        }
    }
    #[test]
    fn what_is_not_the_same_everywhere_fails() {
        for template in [
            "{{.l}}",
            "{{.o}}",
            "{{.z}}",
            "{{.}}",
            "{{.missing.x}}",
            "{{.a.x}}",
            "{{if .n}}{{end}}",
            "{{if .missing}}{{end}}",
            "{{range .missing}}{{end}}",
            "{{range .a}}{{end}}",
            "{{range .z}}{{end}}",
            "{{range $i, $j, $k := .l}}{{end}}",
            "{{range $x := .l}}{{else}}{{$x}}{{end}}",
        ] {
            check_fails(template);
        }
    }
    #[test]
    fn deep_blocks_fail() {
        let nested = |depth| "{{if .a}}".repeat(depth) + &"{{end}}".repeat(depth);
        check(&nested(8), json!({ "a": true }), "");
        check_fails(&nested(9));
        check_fails(&nested(100_000));
        check_fails(&("{{if .a}}".to_owned() + &"{{else if .a}}".repeat(100_000) + "{{end}}"));
    }
    #[test]
    fn loops_in_loops_have_a_limit() {
        let data = json!({ "l": vec![1; 100] });
        let one = "{{range $.l}}a{{end}}";
        assert!(call(one, data.clone()).is_some());
        let three = "{{range $.l}}{{range $.l}}{{range $.l}}{{end}}{{end}}{{end}}";
        assert!(call(three, data).is_none());
        let long = json!({ "l": vec![1; 10_000] });
        assert!(call("{{range .l}}{{end}}", long).is_none());
    }
    #[test]
    fn long_texts_fail() {
        let data = json!({ "l": vec![1; 100], "a": "x".repeat(11_000) });
        assert!(call("{{range .l}}{{$.a}}{{end}}", data).is_none());
    }
}
