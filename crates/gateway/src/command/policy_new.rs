//! `remit policy new`: a policy to begin with, of a tool's routes or of what an MCP server says it has.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use clap::Args;
use policy::{Policy, Severity, Source};
use serde_json::{Value, json};
use tasks::{OperationPattern, ToolName};

use crate::command::outcome::{Failure, Screen, pretty};

#[derive(Args, Debug)]
pub(crate) struct PolicyNew {
    /// The tool's name, as in the config.
    tool: ToolName,
    /// An operation over HTTP, such as `GET /orders/*`. May be repeated.
    #[arg(long = "route", value_name = "PATTERN")]
    routes: Vec<String>,
    /// A file with one such operation in each line.
    #[arg(long, value_name = "FILE")]
    routes_file: Option<PathBuf>,
    /// What an MCP server answers to `tools/list`, as JSON; `-` for standard input.
    #[arg(long, value_name = "FILE", conflicts_with_all = ["routes", "routes_file"])]
    mcp: Option<PathBuf>,
    /// The folder of the policy.
    #[arg(long, default_value = "policy")]
    into: PathBuf,
    /// Write over files that are there.
    #[arg(long)]
    force: bool,
}

/// What a tool can do, by what it does to the world.
#[derive(Default)]
struct Operations {
    read: Vec<String>,
    write: Vec<String>,
    execute: Vec<String>,
    is_mcp: bool,
}

impl PolicyNew {
    pub(crate) fn run(self, screen: &Screen) -> Result<ExitCode, Failure> {
        let operations = self.operations()?;
        let files = files(&self.tool, &operations);
        let findings = Policy::check(files.clone());
        if let Some(broken) = findings
            .iter()
            .find(|found| found.severity == Severity::Error)
        {
            // What is written here is ours: a name that we can't write is all that can be wrong.
            return Err(Failure::new(
                "new",
                format!("no policy can be made of it: {}", broken.message),
            ));
        }
        self.write(&files)?;
        let written: Vec<PathBuf> = files
            .iter()
            .map(|file| self.into.join(&file.path))
            .collect();
        let entry = operations.entry(&self.tool);
        let told = json!({ "files": written, "tools": entry });
        screen.show(&told, |screen| {
            let mut text = String::new();
            for file in &written {
                text.push_str(&format!("{} {}\n", screen.good("wrote"), file.display()));
            }
            text.push_str(
                "\nreading is allowed, everything else is refused by name. Into the config:\n\n",
            );
            text.push_str(&entry);
            let into = self.into.display();
            text.push_str(&format!(
                "\nthen: remit policy check {into} && remit policy test {into}"
            ));
            text
        })?;
        Ok(ExitCode::SUCCESS)
    }

    fn operations(&self) -> Result<Operations, Failure> {
        if let Some(path) = &self.mcp {
            return of_mcp(path);
        }
        let mut routes = self.routes.clone();
        if let Some(path) = &self.routes_file {
            let lines = text(path)?;
            let lines = lines.lines().map(str::trim);
            let lines = lines.filter(|line| !line.is_empty() && !line.starts_with('#'));
            routes.extend(lines.map(str::to_owned));
        }
        if routes.is_empty() {
            return Err(Failure::new("operations_missing", "say what the tool can do")
                .hint("`--route 'GET /orders/*' --route 'POST /orders'`, `--routes-file FILE`, or `--mcp FILE`"));
        }
        let mut operations = Operations::default();
        for route in routes {
            if let Err(error) = route.parse::<OperationPattern>() {
                return Err(Failure::new(
                    "route",
                    format!("`{route}` is no operation: {error}"),
                ));
            }
            match route.split(' ').next() {
                Some("GET" | "HEAD" | "OPTIONS") => operations.read.push(route),
                Some("DELETE") => operations.execute.push(route),
                Some("POST" | "PUT" | "PATCH") => operations.write.push(route),
                _ => operations.execute.push(route),
            }
        }
        Ok(operations)
    }

    fn write(&self, files: &[Source]) -> Result<(), Failure> {
        for file in files {
            let path = self.into.join(&file.path);
            if path.exists() && !self.force {
                return Err(
                    Failure::new("exists", format!("`{}` is there", path.display()))
                        .hint("`--into` names another folder, `--force` writes over it"),
                );
            }
        }
        for file in files {
            let path = self.into.join(&file.path);
            let folder = path.parent().unwrap_or_else(|| Path::new("."));
            let written = fs::create_dir_all(folder).and_then(|()| fs::write(&path, &file.text));
            written.map_err(|error| {
                Failure::new("unwritable", format!("`{}`: {error}", path.display()))
            })?;
        }
        Ok(())
    }
}

/// What an MCP server has. Its hints are its own word: a tool is read only if it says so, and irreversible unless it
/// says it is not, which is what the hints mean where they are missing.
fn of_mcp(path: &Path) -> Result<Operations, Failure> {
    let wrong = |what: &str| Failure::new("tools_list", format!("`{}`: {what}", path.display()));
    let answer: Value =
        serde_json::from_str(&text(path)?).map_err(|error| wrong(&error.to_string()))?;
    let listed = answer
        .pointer("/result/tools")
        .or_else(|| answer.get("tools"));
    let tools = listed
        .and_then(Value::as_array)
        .ok_or_else(|| wrong("no `tools` in it: it must be the answer to `tools/list`"))?;
    let mut operations = Operations {
        is_mcp: true,
        ..Operations::default()
    };
    for tool in tools {
        let name = tool.get("name").and_then(Value::as_str);
        let name = name.ok_or_else(|| wrong("a tool without a name"))?;
        if let Err(error) = name.parse::<OperationPattern>() {
            return Err(wrong(&format!("`{name}` is no operation: {error}")));
        }
        let hint = |hint: &str| {
            let hint = tool.pointer(&format!("/annotations/{hint}"));
            hint.and_then(Value::as_bool)
        };
        let class = match (hint("readOnlyHint"), hint("destructiveHint")) {
            (Some(true), _) => &mut operations.read,
            (_, Some(false)) => &mut operations.write,
            _ => &mut operations.execute,
        };
        class.push(name.to_owned());
    }
    Ok(operations)
}

fn text(path: &Path) -> Result<String, Failure> {
    let read = if path == Path::new("-") {
        std::io::read_to_string(std::io::stdin())
    } else {
        fs::read_to_string(path)
    };
    read.map_err(|error| Failure::new("unreadable", format!("`{}`: {error}", path.display())))
}

impl Operations {
    fn classes(&self) -> [(&'static str, &[String]); 3] {
        [
            ("read", &self.read),
            ("write", &self.write),
            ("execute", &self.execute),
        ]
    }

    /// The entry of the config.
    fn entry(&self, tool: &ToolName) -> String {
        let mut text =
            format!("tools:\n  {tool}:\n    upstream: https://{tool}.example   # where it is\n");
        if self.is_mcp {
            text.push_str("    protocol: mcp\n");
        }
        text.push_str("    access:\n");
        for (access, patterns) in self.classes() {
            if !patterns.is_empty() {
                text.push_str(&format!("      {access}: {}\n", list(patterns)));
            }
        }
        text
    }
}

/// Texts as JSON, which is YAML and Rego too.
fn list(texts: &[String]) -> String {
    let texts: Vec<String> = texts
        .iter()
        .map(|text| Value::from(text.as_str()).to_string())
        .collect();
    format!("[{}]", texts.join(", "))
}

/// The rules, their tests, and a sample of each kind of operation.
fn files(tool: &ToolName, operations: &Operations) -> Vec<Source> {
    let source = |path: String, text: String| Source {
        path: path.into(),
        text,
    };
    let mut files = vec![
        source(format!("{tool}.rego"), rules(tool, operations)),
        source(format!("{tool}_test.rego"), tests(tool, operations)),
    ];
    for (access, patterns) in operations.classes() {
        if let Some(operation) = patterns.first() {
            let input = json!({
                "agent": { "id": "agent" },
                "task": { "id": "task", "owner": "alice" },
                "tool": { "name": tool.as_str(), "operation": operation, "access": access },
                "request": { "arguments": {} },
            });
            files.push(source(
                format!("samples/{tool}_{access}.json"),
                pretty(&input),
            ));
        }
    }
    files
}

fn rules(tool: &ToolName, operations: &Operations) -> String {
    let others: Vec<String> = operations
        .write
        .iter()
        .chain(&operations.execute)
        .cloned()
        .collect();
    let example = others.first().map_or("POST /orders", String::as_str);
    format!(
        r#"# What agents may do with {tool}: read. Whatever changes something is refused by name until somebody allows it here.
package remit.tools.{tool}

# Operations that change something and are allowed all the same, such as {example}
allowed := set()

allow if input.tool.access == "read"

allow if input.tool.operation in allowed

deny contains {{"reason": "not_allowed_yet", "message": message}} if {{
	input.tool.access != "read"
	not input.tool.operation in allowed
	message := sprintf("%s changes something, and nobody has allowed that yet.", [input.tool.operation])
}}
"#
    )
}

fn tests(tool: &ToolName, operations: &Operations) -> String {
    let mut text = format!(
        r#"package remit.{tool}_test

decision(operation, access) := answer if {{
	answer := data.remit.decision with input as {{
		"agent": {{"id": "agent"}},
		"task": {{"id": "task", "owner": "alice"}},
		"tool": {{"name": "{tool}", "operation": operation, "access": access}},
		"request": {{"arguments": {{}}}},
	}}
}}
"#
    );
    for (access, patterns) in operations.classes() {
        if patterns.is_empty() {
            continue;
        }
        let expect = match access {
            "read" => "verdict == \"allow\"",
            _ => "reason == \"not_allowed_yet\"",
        };
        text.push_str(&format!(
            "\ntest_{access} if {{\n\tevery operation in {} {{\n\t\tdecision(operation, \"{access}\").{expect}\n\t}}\n}}\n",
            list(patterns)
        ));
    }
    text
}
