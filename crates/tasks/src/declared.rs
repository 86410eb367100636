//! What an agent says of its call.

use http::{HeaderMap, HeaderName, HeaderValue};
use serde_json::{Map, Value};
use sfv::visitor::{DictionaryVisitor, EntryVisitor};
use sfv::{BareItem, Dictionary, Item, KeyRef, ListEntry, Parser};

use crate::{TaskId, Unbound};

/// The longest `Agent-Context`, in bytes.
const MAX_CONTEXT: usize = 2048;

/// The longest `Agent-Tool`, in bytes; our own bound.
const MAX_TOOL: usize = 1024;

/// The names of the headers in which agents declare their call.
#[derive(Clone, Debug)]
pub struct DeclarationHeaders {
    /// `agent-task` unless configured.
    pub task: HeaderName,
    /// `agent-tool` unless configured.
    pub tool: HeaderName,
    /// `agent-context` unless configured.
    pub context: HeaderName,
}

impl Default for DeclarationHeaders {
    fn default() -> Self {
        Self {
            task: HeaderName::from_static("agent-task"),
            tool: HeaderName::from_static("agent-tool"),
            context: HeaderName::from_static("agent-context"),
        }
    }
}

/// What an agent says of its call. Untrusted.
#[derive(Clone, Debug, Default)]
pub struct Declared {
    /// `Agent-Task`: a task id.
    pub task: Option<String>,
    /// `Agent-Tool`, before the first `/`.
    pub tool: Option<String>,
    /// `Agent-Tool`, after the first `/`.
    pub operation: Option<String>,
    /// `Agent-Context`: strings, tokens, numbers, booleans.
    pub context: Map<String, Value>,
}

impl Declared {
    /// Reads the declaring headers. One that comes twice has two readings, and is refused.
    pub(crate) fn read(headers: &HeaderMap, names: &DeclarationHeaders) -> Result<Self, Unbound> {
        let mut declared = Self::default();
        if let Some(value) = single(headers, &names.task)? {
            declared.task = Some(read_task(value).map_err(|p| malformed(&names.task, p))?);
        }
        if let Some(value) = single(headers, &names.tool)? {
            let (tool, operation) = read_tool(value).map_err(|p| malformed(&names.tool, p))?;
            declared.tool = Some(tool);
            declared.operation = operation;
        }
        if let Some(value) = single(headers, &names.context)? {
            declared.context = read_context(value).map_err(|p| malformed(&names.context, p))?;
        }
        Ok(declared)
    }
}

fn malformed(header: &HeaderName, problem: &'static str) -> Unbound {
    Unbound::Malformed {
        header: header.to_string(),
        problem,
    }
}

fn single<'a>(
    headers: &'a HeaderMap,
    name: &HeaderName,
) -> Result<Option<&'a HeaderValue>, Unbound> {
    let mut values = headers.get_all(name).iter();
    let first = values.next();
    if values.next().is_some() {
        return Err(malformed(name, "it was sent twice"));
    }
    Ok(first)
}

fn read_task(value: &HeaderValue) -> Result<String, &'static str> {
    let text = value.to_str().map_err(|_| "it is not visible ASCII")?;
    let id: TaskId = text.parse().map_err(|_| "it is not a task id")?;
    Ok(id.to_string())
}

fn read_tool(value: &HeaderValue) -> Result<(String, Option<String>), &'static str> {
    if value.len() > MAX_TOOL {
        return Err("it is longer than 1024 bytes");
    }
    let text = value.to_str().map_err(|_| "it is not visible ASCII")?;
    let (tool, operation) = match text.split_once('/') {
        Some((tool, operation)) => (tool, Some(operation)),
        None => (text, None),
    };
    if tool.is_empty() || operation == Some("") {
        return Err("it is not `<tool>[/<operation>]`");
    }
    Ok((tool.to_owned(), operation.map(str::to_owned)))
}

fn read_context(value: &HeaderValue) -> Result<Map<String, Value>, &'static str> {
    if value.len() > MAX_CONTEXT {
        return Err("it is longer than 2 KiB");
    }
    Parser::new(value.as_bytes())
        .parse_dictionary_with_visitor(Once(Dictionary::new()))
        .map_err(|_| "it is not a dictionary of RFC 9651 with unique keys")?
        .into_iter()
        .map(|(key, entry)| match entry {
            ListEntry::Item(item) => Ok((key.as_str().to_owned(), plain(item)?)),
            ListEntry::InnerList(_) => Err("it holds a list"),
        })
        .collect()
}

fn plain(item: Item) -> Result<Value, &'static str> {
    if !item.params.is_empty() {
        return Err("it holds parameters");
    }
    match item.bare_item {
        BareItem::String(text) => Ok(text.as_str().into()),
        BareItem::Token(token) => Ok(token.as_str().into()),
        BareItem::Integer(integer) => Ok(i64::from(integer).into()),
        BareItem::Decimal(decimal) => Ok(f64::from(decimal).into()),
        BareItem::Boolean(boolean) => Ok(boolean.into()),
        BareItem::ByteSequence(_) => Err("it holds a byte sequence"),
        BareItem::Date(_) => Err("it holds a date"),
        BareItem::DisplayString(_) => Err("it holds a display string"),
    }
}

/// A dictionary in which each key comes once. RFC 9651 lets the last one win, so another reader might
/// see another value than policy did.
struct Once(Dictionary);

#[derive(Debug, thiserror::Error)]
#[error("a key comes twice")]
struct Twice;

impl<'de> DictionaryVisitor<'de> for Once {
    type Out = Dictionary;
    type Error = Twice;

    fn entry(&mut self, key: &'de KeyRef) -> Result<impl EntryVisitor<'de>, Twice> {
        if self.0.contains_key(key) {
            return Err(Twice);
        }
        DictionaryVisitor::entry(&mut self.0, key).map_err(|never| match never {})
    }

    fn finish(self) -> Result<Dictionary, Twice> {
        Ok(self.0)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::{any, proptest};
    use serde_json::json;

    use super::*;

    const ID: &str = "01890a5d-ac96-774b-bcce-b302099a8057";

    fn read(headers: &[(&str, &[u8])]) -> Result<Declared, String> {
        let mut map = HeaderMap::new();
        for (name, value) in headers {
            map.append(
                HeaderName::from_bytes(name.as_bytes()).unwrap(),
                HeaderValue::from_bytes(value).unwrap(),
            );
        }
        Declared::read(&map, &DeclarationHeaders::default()).map_err(|error| error.to_string())
    }

    #[track_caller]
    fn check_context(context: &str, expect: Result<Value, &str>) {
        let got = read(&[("agent-context", context.as_bytes())]);
        let expect =
            expect.map_err(|problem| format!("header `agent-context` can't be read: {problem}"));
        assert_eq!(got.map(|d| Value::Object(d.context)), expect);
    }

    #[track_caller]
    fn check_tool(text: &str, expect: Option<(&str, Option<&str>)>) {
        let got = read(&[("agent-tool", text.as_bytes())]).ok();
        let got = got
            .as_ref()
            .map(|d| (d.tool.as_deref().unwrap(), d.operation.as_deref()));
        assert_eq!(got, expect, "{text}");
    }

    #[track_caller]
    fn check_refused(headers: &[(&str, &[u8])], expect: &str) {
        assert_eq!(read(headers).unwrap_err(), expect);
    }

    #[test]
    fn nothing_declared_is_nothing() {
        let declared = read(&[]).unwrap();
        assert!(declared.task.is_none() && declared.tool.is_none() && declared.context.is_empty());
    }

    #[test]
    fn a_task_is_read() {
        let declared = read(&[("agent-task", ID.as_bytes())]).unwrap();
        assert_eq!(declared.task.as_deref(), Some(ID));
    }

    #[test]
    fn a_task_that_is_no_id_is_refused() {
        let problem = "header `agent-task` can't be read: it is not a task id";
        check_refused(&[("agent-task", b"7")], problem);
        check_refused(&[("agent-task", b"")], problem);
    }

    #[test]
    fn a_header_sent_twice_is_refused() {
        let problem = "header `agent-task` can't be read: it was sent twice";
        check_refused(
            &[("agent-task", ID.as_bytes()), ("agent-task", ID.as_bytes())],
            problem,
        );
        let problem = "header `agent-context` can't be read: it was sent twice";
        check_refused(
            &[("agent-context", b"a=1"), ("agent-context", b"b=1")],
            problem,
        );
    }

    #[test]
    fn a_tool_is_split_at_its_first_slash() {
        check_tool("github", Some(("github", None)));
        check_tool(
            "github/create_issue",
            Some(("github", Some("create_issue"))),
        );
        check_tool("github/GET /a/b", Some(("github", Some("GET /a/b"))));
    }

    #[test]
    fn an_empty_tool_or_operation_is_refused() {
        check_tool("", None);
        check_tool("/x", None);
        check_tool("github/", None);
        check_tool(&"a".repeat(1025), None);
    }

    #[test]
    fn a_context_of_plain_values_is_read() {
        check_context(
            r#"ticket="OPS-12", intent=close, n=-3, x=1.5, yes, no=?0"#,
            Ok(
                json!({"ticket": "OPS-12", "intent": "close", "n": -3, "x": 1.5, "yes": true, "no": false}),
            ),
        );
        check_context("", Ok(json!({})));
    }

    #[test]
    fn a_context_of_other_values_is_refused() {
        check_context("a=:aGk=:", Err("it holds a byte sequence"));
        check_context("a=@1659578233", Err("it holds a date"));
        check_context("a=%\"x\"", Err("it holds a display string"));
        check_context("a=(1 2)", Err("it holds a list"));
        check_context("a=1;b=2", Err("it holds parameters"));
    }

    #[test]
    fn a_context_that_is_no_dictionary_is_refused() {
        let problem = "it is not a dictionary of RFC 9651 with unique keys";
        check_context("a=1,", Err(problem));
        check_context("A=1", Err(problem));
        check_context("a=1, a=2", Err(problem));
        check_context("a=\"x", Err(problem));
        check_context("{}", Err(problem));
    }

    #[test]
    fn a_context_of_more_than_2_kib_is_refused() {
        check_context(
            &format!("a=\"{}\"", "x".repeat(2043)),
            Ok(json!({"a": "x".repeat(2043)})),
        );
        check_context(
            &format!("a=\"{}\"", "x".repeat(2045)),
            Err("it is longer than 2 KiB"),
        );
    }

    #[test]
    fn the_names_are_configurable() {
        let names = DeclarationHeaders {
            tool: HeaderName::from_static("x-tool"),
            ..DeclarationHeaders::default()
        };
        let mut headers = HeaderMap::new();
        headers.insert("x-tool", HeaderValue::from_static("github"));
        headers.insert("agent-tool", HeaderValue::from_static("gitlab"));
        let declared = Declared::read(&headers, &names).unwrap();
        assert_eq!(declared.tool.as_deref(), Some("github"));
    }

    proptest! {
        #[test]
        fn no_bytes_panic(bytes in any::<Vec<u8>>()) {
            if let Ok(value) = HeaderValue::from_bytes(&bytes) {
                let headers: HeaderMap = ["agent-task", "agent-tool", "agent-context"]
                    .map(|name| (HeaderName::from_static(name), value.clone()))
                    .into_iter()
                    .collect();
                let _read = Declared::read(&headers, &DeclarationHeaders::default());
            }
        }
    }
}
