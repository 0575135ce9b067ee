//! `docs/architecture.md` says which module of `src` may use which: its table is held to the imports there are.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

use crate::common::root;

/// The one module that runs models: no other file imports an engine's crate.
const ENGINES: &str = "engine";

fn is_engine(name: &str) -> bool {
    name.starts_with("tract_") || name == "ort"
}

/// A row of the table: modules of one floor, and those that they use.
#[derive(Debug)]
struct Floor {
    modules: BTreeSet<String>,
    uses: BTreeSet<String>,
}

#[test]
fn the_table_of_floors_is_true() {
    let floors = floors(&std::fs::read_to_string(root().join("docs/architecture.md")).unwrap());
    let sources = sources();
    let present: BTreeSet<&str> = sources.iter().map(|source| source.top()).collect();
    let mut wrong = Vec::new();

    let mut rows = BTreeMap::new();
    for (at, floor) in floors.iter().enumerate() {
        for module in &floor.modules {
            if !present.contains(module.as_str()) {
                wrong.push(format!("the table lists {module}, which src does not have"));
            }
            if rows.insert(module.as_str(), at).is_some() {
                wrong.push(format!("the table lists {module} twice"));
            }
        }
    }
    let mut unused: BTreeSet<(usize, &str)> = BTreeSet::new();
    for (at, floor) in floors.iter().enumerate() {
        for used in &floor.uses {
            match rows.get(used.as_str()) {
                None => wrong.push(format!("the table says that {used} is used, and has no row for it")),
                Some(below) if *below <= at => wrong.push(format!("{used} is used by a row that is not above its own")),
                Some(_) => drop(unused.insert((at, used))),
            }
        }
    }
    for source in &sources {
        let Some(&at) = rows.get(source.top()) else {
            wrong.push(format!("{}: the table has no row for {}", source.file, source.top()));
            continue;
        };
        for module in source.modules(&present) {
            unused.remove(&(at, module));
            if !floors[at].uses.contains(module) {
                wrong.push(format!("{}: imports {module}, which the table does not allow", source.file));
            }
        }
    }
    for (at, module) in unused {
        wrong.push(format!("no file of {:?} imports {module}, which the table says they use", floors[at].modules));
    }
    assert!(wrong.is_empty(), "{wrong:#?}");
}

#[test]
fn only_one_module_runs_engines() {
    let (inside, outside): (Vec<Source>, Vec<Source>) =
        sources().into_iter().partition(|source| source.top() == ENGINES);
    let importing = |sources: &[Source]| -> Vec<String> {
        sources.iter().filter(|s| s.paths.iter().any(|path| is_engine(&path[0]))).map(|s| s.file.clone()).collect()
    };
    assert!(importing(&inside).len() >= 2, "tract and ONNX Runtime are found where they are used");
    let outside = importing(&outside);
    assert!(outside.is_empty(), "import an engine outside of src/{ENGINES}: {outside:?}");
}

/// What the two tests above rest on.
#[test]
fn imports_are_found_in_every_spelling() {
    let text = r##"
        //! [`crate::comment`]
        use std::fmt;
        use crate::{a::One, b, super_b::{self, Two as Three}};
        use super::super::c;
        use super::{near, super::d::{e, f}};
        /* use crate::no; */
        fn quoted<'a>() -> &'a str { "crate::no::x" }
        fn raw() -> (&'static str, char) { (r#"" crate::no::x "#, '"') }
        fn inline() -> crate::g::Three { matches!(x, super::super::h::Four) }
        fn method() { x.ort().collect::<i::Five>() }
        #[cfg(test)]
        mod tests {
            use crate::no;
        }
        use tract_onnx::prelude::*;
    "##;
    let source = Source::read("a/b.rs", text);
    let all = ["a", "b", "super_b", "c", "d", "g", "h", "no", "comment", "near", "i"];
    let found = source.modules(&BTreeSet::from(all));
    assert_eq!(found.into_iter().collect::<Vec<_>>(), ["b", "c", "d", "g", "h", "super_b"]);
    assert!(source.paths.contains(&vec!["tract_onnx".to_owned(), "prelude".to_owned(), "*".to_owned()]));
    assert!(!source.paths.iter().any(|path| path[0] == "ort"));
    let main = Source::read("main.rs", "mod cli; fn main() { cli::run(); clip_onnx::files::map(); }");
    assert_eq!(main.modules(&BTreeSet::from(["cli", "files"])), BTreeSet::from(["cli", "files"]));
}

/// The rows of the one table whose first heading is `floor`.
fn floors(text: &str) -> Vec<Floor> {
    let rows = text.lines().skip_while(|line| !line.starts_with("| floor |")).skip(2);
    let names = |cell: &str| cell.split('`').skip(1).step_by(2).map(str::to_owned).collect::<BTreeSet<String>>();
    let floors = rows.take_while(|line| line.starts_with('|')).map(|line| {
        let cells: Vec<&str> = line.split('|').map(str::trim).collect();
        let floor = Floor { modules: names(cells[1]), uses: names(cells[2]) };
        assert!(!floor.modules.is_empty(), "no module in: {line}");
        assert!(floor.uses.is_empty() == (cells[2] == "nothing"), "neither modules nor `nothing` in: {line}");
        floor
    });
    let floors: Vec<Floor> = floors.collect();
    assert!(!floors.is_empty(), "docs/architecture.md has no table of floors");
    floors
}

/// A file of `src`, and the paths in it that can lead to another module.
struct Source {
    file: String,
    /// From the root of the crate: `onnx`, `providers` for `onnx/providers.rs`.
    module: Vec<String>,
    paths: Vec<Vec<String>>,
}

impl Source {
    fn read(file: &str, text: &str) -> Source {
        let module = file.trim_end_matches(".rs").split('/').map(str::to_owned).collect();
        Source { file: file.to_owned(), module, paths: paths(&tokens(text)) }
    }

    /// The module right below the root that this file belongs to.
    fn top(&self) -> &str {
        &self.module[0]
    }

    /// Other top-level modules that this file imports, of those that there are.
    fn modules<'a>(&self, present: &BTreeSet<&'a str>) -> BTreeSet<&'a str> {
        let found = self.paths.iter().filter_map(|path| {
            let name = match path[0].as_str() {
                "crate" | "clip_onnx" => path.get(1),
                "super" => {
                    let climbed = path.iter().take_while(|part| *part == "super").count();
                    if climbed == self.module.len() { path.get(climbed) } else { None }
                }
                // The modules that the program's root declares are in its scope.
                _ if self.top() == "main" => path.first(),
                _ => None,
            };
            present.get(name?.as_str()).copied()
        });
        found.filter(|name| *name != self.top()).collect()
    }
}

/// All but the list of modules, `lib.rs`, and files that are for tests alone.
fn sources() -> Vec<Source> {
    fn collect(folder: &Path, out: &mut Vec<PathBuf>) {
        for entry in std::fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                collect(&path, out);
            } else if path.extension().is_some_and(|e| e == "rs")
                && !path.ends_with("src/lib.rs")
                && !path.ends_with("testing.rs")
            {
                out.push(path);
            }
        }
    }
    let (src, mut files) = (root().join("src"), Vec::new());
    collect(&src, &mut files);
    files.sort();
    assert!(files.len() >= 100, "{} files", files.len());
    let name = |path: &Path| path.strip_prefix(&src).unwrap().to_str().unwrap().replace('\\', "/");
    files.iter().map(|path| Source::read(&name(path), &std::fs::read_to_string(path).unwrap())).collect()
}

/// Every path of a `use` or in code, groups spelt out. Paths that go on from a method or a name are not begun anew.
fn paths(tokens: &[String]) -> Vec<Vec<String>> {
    let (mut out, mut at) = (Vec::new(), 0);
    while at < tokens.len() {
        let goes_on = at > 0 && matches!(tokens[at - 1].as_str(), "." | "::");
        if is_name(&tokens[at]) && !goes_on && tokens.get(at + 1).is_some_and(|next| next == "::") {
            at = path(tokens, at, &mut Vec::new(), &mut out);
        } else {
            at += 1;
        }
    }
    out
}

/// Adds the paths that begin at `at`, behind `prefix`; gives where they end.
fn path(tokens: &[String], mut at: usize, prefix: &mut Vec<String>, out: &mut Vec<Vec<String>>) -> usize {
    let length = prefix.len();
    loop {
        match tokens.get(at).map(String::as_str) {
            Some("{") => {
                at += 1;
                while tokens[at] != "}" {
                    at = if tokens[at] == "," { at + 1 } else { path(tokens, at, prefix, out) };
                }
                prefix.truncate(length);
                return at + 1;
            }
            Some(part) if part == "*" || is_name(part) => prefix.push(part.to_owned()),
            // A type's arguments, as in `collect::<…>`: paths in them are found by themselves.
            _ => break,
        }
        at += 1;
        if tokens.get(at).is_none_or(|next| next != "::") {
            break;
        }
        at += 1;
    }
    out.push(prefix.clone());
    prefix.truncate(length);
    // `as Name` of a group.
    if length > 0 && tokens.get(at).is_some_and(|next| next == "as") { at + 2 } else { at }
}

fn is_name(token: &str) -> bool {
    token.starts_with(|c: char| c == '_' || c.is_alphabetic())
}

/// Names, `::` and single signs; without comments, strings, characters and unit tests.
fn tokens(text: &str) -> Vec<String> {
    const TESTS: [&str; 7] = ["#", "[", "cfg", "(", "test", ")", "]"];
    let (mut rest, mut out) = (text, Vec::<String>::new());
    while let Some(first) = rest.chars().next() {
        let length = skipped(rest).unwrap_or_else(|| {
            let name = rest.find(|c: char| c != '_' && !c.is_alphanumeric()).unwrap_or(rest.len());
            let length = if name > 0 {
                name
            } else if rest.starts_with("::") {
                2
            } else {
                first.len_utf8()
            };
            out.push(rest[..length].to_owned());
            length
        });
        rest = &rest[length..];
    }
    while let Some(start) = out.windows(TESTS.len()).position(|window| window == TESTS) {
        // The item ends with its semicolon, or with its outermost brace.
        let mut depth = 0;
        let ends = |token: &String| {
            depth += i32::from(token == "{") - i32::from(token == "}");
            depth == 0 && (token == ";" || token == "}")
        };
        let end = out[start..].iter().position(ends).expect("an item after `#[cfg(test)]`");
        out.drain(start..=start + end);
    }
    out
}

/// How long the white space, comment, string, character or lifetime is that `text` begins with, if it does.
fn skipped(text: &str) -> Option<usize> {
    let until = |from: usize, end: &str| Some(text[from..].find(end).map_or(text.len(), |at| from + at + end.len()));
    let quoted = |quote: char| {
        let mut escaped = false;
        let ends = |c: char| {
            let ends = c == quote && !escaped;
            escaped = c == '\\' && !escaped;
            ends
        };
        Some(text[1..].find(ends).map_or(text.len(), |at| at + 2))
    };
    let raw = text.strip_prefix("br").or(text.strip_prefix('r')).map(|rest| rest.trim_start_matches('#'));
    if text.starts_with("//") {
        until(0, "\n")
    } else if text.starts_with("/*") {
        until(2, "*/")
    } else if let Some(rest) = raw.filter(|rest| rest.starts_with('"')) {
        let start = text.len() - rest.len();
        until(start + 1, &format!("\"{}", "#".repeat(text[..start].matches('#').count())))
    } else if text.starts_with('"') {
        quoted('"')
    } else if let Some(rest) = text.strip_prefix('\'') {
        let mut chars = rest.chars();
        let is_lifetime = chars.next() != Some('\\') && chars.next() != Some('\'');
        if is_lifetime { Some(1) } else { quoted('\'') }
    } else if text.starts_with(char::is_whitespace) {
        Some(text.len() - text.trim_start().len())
    } else {
        None
    }
}
