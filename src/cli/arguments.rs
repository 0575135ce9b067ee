//! The command line before it is parsed: old names of flags, `clip-onnx.toml`, profiles.
//!
//! What the user types goes first, then the profile that is typed, then the file, then the file's profile.

use std::ffi::OsString;
use std::path::{Path, PathBuf};

use anyhow::{Context, bail};
use clap::builder::{PossibleValue, PossibleValuesParser};

/// The settings file that is read from the working folder.
pub const SETTINGS: &str = "clip-onnx.toml";

/// Flags of `export` for a purpose.
struct Profile {
    name: &'static str,
    flags: &'static [(&'static str, &'static str)],
}

const PROFILES: &[Profile] = &[
    Profile { name: "server", flags: &[("target", "onnxruntime"), ("precision", "fp32,int8")] },
    Profile { name: "android", flags: &[("target", "mobile"), ("precision", "fp16-weights")] },
    Profile { name: "iphone", flags: &[("target", "coreml"), ("precision", "fp16")] },
    Profile { name: "npu", flags: &[("target", "qnn")] },
    Profile { name: "browser", flags: &[("target", "web"), ("precision", "fp16"), ("demo", "")] },
    Profile { name: "immich", flags: &[("layout", "immich")] },
    Profile { name: "transformers-js", flags: &[("layout", "hf"), ("precision", "fp32,fp16,int8,int4")] },
    Profile { name: "fastembed", flags: &[("layout", "hf")] },
];

/// Old names of flags, by command. They work for one release.
const RENAMED: &[(&str, &str, &str)] = &[
    ("export", "keep", "exclude"),
    ("export", "no-auto-keep", "no-auto-exclude"),
    ("export", "image", "image-type"),
    ("export", "tokens", "token-type"),
    ("bench", "tokens", "text-length"),
];

/// Bytes of a settings file, at most.
const LARGEST: usize = 1 << 20;

/// Flags of every command, which no settings file sets.
const GENERAL: [&str; 4] = ["help", "version", "settings", "no-settings"];

/// Names of profiles, with their flags as help.
pub fn profile_names() -> PossibleValuesParser {
    let values = PROFILES.iter().map(|profile| {
        let flags = profile.flags.iter().map(|(flag, value)| Default::new(flag, &[value]).to_string());
        PossibleValue::new(profile.name).help(flags.collect::<Vec<_>>().join(" "))
    });
    values.collect::<Vec<_>>().into()
}

/// The command line as it is parsed, and what the user should know of it.
#[derive(Debug)]
pub struct Expanded {
    pub arguments: Vec<OsString>,
    pub notes: Vec<String>,
}

/// A flag that the user did not type, with its values; a switch has none.
#[derive(Clone)]
struct Default {
    flag: String,
    values: Vec<String>,
}

impl Default {
    fn new(flag: &str, values: &[&str]) -> Default {
        let values = values.iter().filter(|value| !value.is_empty()).map(ToString::to_string).collect();
        Default { flag: flag.to_owned(), values }
    }

    fn arguments(&self) -> Vec<String> {
        if self.values.is_empty() {
            return vec![format!("--{}", self.flag)];
        }
        self.values.iter().map(|value| format!("--{}={value}", self.flag)).collect()
    }
}

impl std::fmt::Display for Default {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "--{}", self.flag)?;
        self.values.iter().try_for_each(|value| write!(f, " {value}"))
    }
}

/// Adds what the settings file and the profile say to the command line of `program`.
///
/// # Errors
/// When the settings file cannot be read, or holds what no command takes.
pub fn expand(program: &clap::Command, mut arguments: Vec<OsString>) -> anyhow::Result<Expanded> {
    let unchanged = |arguments| Ok(Expanded { arguments, notes: vec![] });
    let Some((at, command)) = command(program, &arguments) else { return unchanged(arguments) };
    let mut notes = rename(command.get_name(), &mut arguments[at + 1..]);
    let typed = typed(&arguments[at + 1..]);
    let mut added = Vec::new();
    let asked = value_of(&arguments[at + 1..], "profile");
    if let Some(profile) = asked.as_deref().and_then(Profile::named) {
        added = profile.added(command, &typed, &[], &mut notes);
    }
    if let Some((file, is_named)) = settings(&arguments[1..]) {
        let used = without(read(&file, is_named, program, command, &mut notes)?, command, &typed, &added);
        if let Some(shown) = shown(&used) {
            notes.push(format!("{}: {shown}", file.display()));
        }
        let profile = used.iter().find(|(_, default)| default.flag == "profile").map(|(_, d)| d.values.join(","));
        added.extend(used);
        if let Some(profile) = profile.as_deref().and_then(Profile::named) {
            let more = profile.added(command, &typed, &added, &mut notes);
            added.extend(more);
        }
    }
    let added = added.iter().filter(|(is_on, _)| *is_on).flat_map(|(_, default)| default.arguments());
    let added: Vec<OsString> = added.map(OsString::from).collect();
    arguments.splice(at + 1..at + 1, added);
    Ok(Expanded { arguments, notes })
}

/// Flags as they would be typed; none where there are none.
fn shown(added: &[(bool, Default)]) -> Option<String> {
    let on: Vec<String> = added.iter().filter(|(is_on, _)| *is_on).map(|(_, default)| default.to_string()).collect();
    (!on.is_empty()).then(|| on.join(" "))
}

impl Profile {
    fn named(name: &str) -> Option<&'static Profile> {
        PROFILES.iter().find(|profile| profile.name == name)
    }

    /// Its flags, without those that were given before.
    fn added(
        &self,
        command: &clap::Command,
        typed: &[String],
        before: &[(bool, Default)],
        notes: &mut Vec<String>,
    ) -> Vec<(bool, Default)> {
        let defaults = self.flags.iter().map(|(flag, value)| (true, Default::new(flag, &[value]))).collect();
        let used = without(defaults, command, typed, before);
        let flags = shown(&used).unwrap_or_else(|| "adds nothing to what is given".to_owned());
        notes.push(format!("--profile {}: {flags}", self.name));
        used
    }
}

/// The command that is called, and where its name stands.
fn command<'a>(program: &'a clap::Command, arguments: &[OsString]) -> Option<(usize, &'a clap::Command)> {
    let mut at = 1;
    while arguments.get(at)?.to_str()?.starts_with('-') {
        // The one flag with a value that goes before commands.
        at += if arguments[at] == "--settings" { 2 } else { 1 };
    }
    Some((at, program.find_subcommand(arguments.get(at)?)?))
}

/// What a command's flag is called now, if it had another name.
fn renamed(command: &str, name: &str) -> Option<&'static str> {
    RENAMED.iter().find(|(of, old, _)| *of == command && *old == name).map(|(.., new)| *new)
}

/// Replaces old names of flags; gives a note for each.
fn rename(command: &str, arguments: &mut [OsString]) -> Vec<String> {
    let mut notes = Vec::new();
    for argument in arguments.iter_mut().take_while(|argument| *argument != "--") {
        let Some(text) = argument.to_str().and_then(|text| text.strip_prefix("--")) else { continue };
        let (name, value) = text.split_once('=').map_or((text, None), |(name, value)| (name, Some(value)));
        if let Some(new) = renamed(command, name) {
            notes.push(format!("--{name} is now --{new}; the old name works until the next release"));
            *argument = value.map_or(format!("--{new}"), |value| format!("--{new}={value}")).into();
        }
    }
    notes
}

/// Names of the flags that were typed, short ones by their letter.
fn typed(arguments: &[OsString]) -> Vec<String> {
    let words = arguments.iter().take_while(|argument| *argument != "--").filter_map(|argument| argument.to_str());
    let flags = words.filter_map(|word| match word.strip_prefix("--") {
        Some(long) => long.split('=').next().map(str::to_owned),
        None => word.strip_prefix('-').and_then(|short| short.chars().next()).map(String::from),
    });
    flags.collect()
}

/// The value of a flag that was typed.
fn value_of(arguments: &[OsString], flag: &str) -> Option<String> {
    let mut words = arguments.iter().take_while(|argument| *argument != "--");
    while let Some(word) = words.next() {
        let Some(text) = word.to_str().and_then(|text| text.strip_prefix("--")) else { continue };
        match text.split_once('=') {
            Some((name, value)) if name == flag => return Some(value.to_owned()),
            None if text == flag => return words.next().and_then(|value| value.to_str()).map(str::to_owned),
            _ => {}
        }
    }
    None
}

/// The settings file, and whether it was named; else it is that of the working folder.
fn settings(arguments: &[OsString]) -> Option<(PathBuf, bool)> {
    if let Some(named) = value_of(arguments, "settings") {
        return Some((named.into(), true));
    }
    let is_off = arguments.iter().any(|argument| argument == "--no-settings");
    // One that is there and cannot be read is an error, not nothing.
    (!is_off && Path::new(SETTINGS).symlink_metadata().is_ok()).then(|| (SETTINGS.into(), false))
}

/// What a settings file says of a command: a flag, and whether it is on.
///
/// # Errors
/// When it cannot be read, or has a table that is no command, or a key that is no flag of it. A file that nobody named
/// may not load native code.
fn read(
    file: &Path,
    is_named: bool,
    program: &clap::Command,
    command: &clap::Command,
    notes: &mut Vec<String>,
) -> anyhow::Result<Vec<(bool, Default)>> {
    let name = file.display();
    let text = clip_onnx::files::read_text(file).with_context(|| format!("{name} cannot be read"))?;
    if text.len() > LARGEST {
        anyhow::bail!("{name} has {} bytes; expected at most {LARGEST}", text.len());
    }
    let tables: toml::Table = text.parse().map_err(|error: toml::de::Error| {
        let line = error.span().map_or(1, |span| text[..span.start].lines().count().max(1));
        anyhow::anyhow!("{name}: line {line}: {}", error.message())
    })?;
    let mut out = Vec::new();
    for (table, value) in &tables {
        let Some(of) = program.find_subcommand(table) else {
            let names: Vec<&str> = program.get_subcommands().map(clap::Command::get_name).collect();
            bail!("{name}: `{table}` is no command; expected tables such as [export]: {}", names.join(", "));
        };
        let Some(rows) = value.as_table() else {
            bail!("{name}: `{table}` is no table; write [{table}], and settings below it");
        };
        for (old, value) in rows {
            let key = renamed(table, old).unwrap_or(old);
            if key != old {
                notes.push(format!("{name}: `{old}` is now `{key}`; the old name works until the next release"));
            }
            if key == "ort-lib" && !is_named {
                bail!(
                    "{name}: `ort-lib` loads native code, which a file of the working folder may not; set ORT_DYLIB_PATH, or name the file with --settings"
                );
            }
            let Some(argument) =
                of.get_arguments().find(|argument| argument.get_long() == Some(key) && !GENERAL.contains(&key))
            else {
                bail!("{name}: [{table}] has `{key}`, which is no flag of it; {}", instead(key, of, program));
            };
            let given = given(key, value, argument).with_context(|| {
                let hint =
                    if argument.get_value_delimiter().is_some() { ", or a list of values without commas" } else { "" };
                format!(
                    "{name}: [{table}] {key} = {value} is not a value of --{key}; write one as you would type it{hint}"
                )
            })?;
            if of.get_name() == command.get_name() {
                out.push(given);
            }
        }
    }
    Ok(out)
}

/// What a key may have been meant for.
fn instead(key: &str, of: &clap::Command, program: &clap::Command) -> String {
    let has = |command: &clap::Command| command.get_arguments().any(|argument| argument.get_long() == Some(key));
    if let Some(other) = program.get_subcommands().find(|command| has(command) && !GENERAL.contains(&key)) {
        return format!("it is a flag of [{}]", other.get_name());
    }
    let longs = of.get_arguments().filter_map(clap::Arg::get_long).filter(|long| !GENERAL.contains(long));
    let near = longs.max_by(|a, b| strsim::jaro(a, key).total_cmp(&strsim::jaro(b, key)));
    match near.filter(|near| strsim::jaro(near, key) > 0.8) {
        Some(near) => format!("did you mean `{near}`?"),
        None => format!("`clip-onnx {} --help` lists its flags", of.get_name()),
    }
}

/// A flag as a settings file gives it; none where the value is of no kind that the flag takes.
fn given(key: &str, value: &toml::Value, argument: &clap::Arg) -> Option<(bool, Default)> {
    let word = |value: &toml::Value| match value {
        toml::Value::String(text) => Some(text.clone()),
        toml::Value::Integer(number) => Some(number.to_string()),
        toml::Value::Float(number) => Some(number.to_string()),
        _ => None,
    };
    if !argument.get_action().takes_values() {
        return value.as_bool().map(|is_on| (is_on, Default::new(key, &[])));
    }
    let words = match value {
        toml::Value::Array(values) => values.iter().map(word).collect::<Option<Vec<_>>>()?,
        other => vec![word(other)?],
    };
    // A comma inside one of a list would part it in two.
    let is_list = argument.get_value_delimiter().is_some();
    if is_list && value.is_array() && words.iter().any(|word| word.contains(',')) {
        return None;
    }
    let values = if is_list { vec![words.join(",")] } else { words };
    Some((true, Default { flag: key.to_owned(), values }))
}

/// Those whose flag, or one that excludes it, was not given before.
fn without(
    defaults: Vec<(bool, Default)>,
    command: &clap::Command,
    typed: &[String],
    before: &[(bool, Default)],
) -> Vec<(bool, Default)> {
    let is_typed = |argument: &clap::Arg| {
        let long = argument.get_long().is_some_and(|long| typed.iter().any(|flag| flag == long));
        long || argument.get_short().is_some_and(|short| typed.contains(&short.to_string()))
    };
    let is_given = |argument: &clap::Arg| {
        is_typed(argument) || before.iter().any(|(_, default)| argument.get_long() == Some(&default.flag))
    };
    let given: Vec<&clap::Arg> = command.get_arguments().filter(|argument| is_given(argument)).collect();
    // Either of two may name the other.
    let excludes =
        |a: &clap::Arg, b: &clap::Arg| command.get_arg_conflicts_with(a).iter().any(|c| c.get_id() == b.get_id());
    let stays = |default: &Default| {
        let found = command.get_arguments().find(|argument| argument.get_long() == Some(&default.flag));
        found.is_none_or(|argument| {
            let is_excluded = given.iter().any(|other| excludes(argument, other) || excludes(other, argument));
            !is_given(argument) && !is_excluded
        })
    };
    defaults.into_iter().filter(|(_, default)| stays(default)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn program() -> clap::Command {
        let flag = |name: &'static str| clap::Arg::new(name).long(name);
        let export = clap::Command::new("export")
            .arg(clap::Arg::new("checkpoint"))
            .arg(flag("target"))
            .arg(flag("precision").value_delimiter(','))
            .arg(flag("exclude").action(clap::ArgAction::Append))
            .arg(flag("model").conflicts_with("config"))
            .arg(flag("config"))
            .arg(flag("out").short('o'))
            .arg(flag("profile"))
            .arg(flag("demo").action(clap::ArgAction::SetTrue));
        let mut program = clap::Command::new("clip-onnx").subcommand(export).subcommand(clap::Command::new("bench"));
        program.build();
        program
    }

    fn expanded(line: &str, settings: Option<&str>) -> anyhow::Result<(String, Vec<String>)> {
        let folder = tempfile::tempdir().unwrap();
        let mut words: Vec<OsString> = line.split(' ').map(OsString::from).collect();
        let file = folder.path().join("clip-onnx.toml");
        match settings {
            Some(text) => {
                std::fs::write(&file, text).unwrap();
                words.splice(1..1, ["--settings".into(), file.clone().into()]);
            }
            None => words.insert(1, "--no-settings".into()),
        }
        let Expanded { arguments, notes } = expand(&program(), words)?;
        let skipped = if settings.is_some() { 3 } else { 2 };
        let words: Vec<String> = arguments[skipped..].iter().map(|word| word.to_str().unwrap().to_owned()).collect();
        let notes = notes.iter().map(|note| note.replace(&file.display().to_string(), "FILE")).collect();
        Ok((words.join(" "), notes))
    }

    #[test]
    fn what_is_typed_goes_before_the_file_and_the_file_before_the_profile() {
        let line = "clip-onnx export a.pt --profile server --target web";
        let (found, notes) = expanded(line, None).unwrap();
        assert_eq!(found, "export --precision=fp32,int8 a.pt --profile server --target web");
        assert_eq!(notes, ["--profile server: --precision fp32,int8"]);
        let file = "[export]\nprecision = [\"fp16\"]\ndemo = false\nout = \"here\"\nexclude = [\"a\", \"b\"]\n";
        let (found, notes) = expanded("clip-onnx export a.pt --profile browser -o there", Some(file)).unwrap();
        let added = "--exclude=a --exclude=b --precision=fp16 --target=web --demo";
        let mut words: Vec<&str> = found.split(' ').collect();
        let mine = words.split_off(words.iter().position(|word| *word == "a.pt").unwrap());
        let mut expected: Vec<&str> = added.split(' ').chain(["export"]).collect();
        expected.sort_unstable();
        words.sort_unstable();
        assert_eq!(words, expected);
        assert_eq!(mine, ["a.pt", "--profile", "browser", "-o", "there"]);
        assert_eq!(notes, ["--profile browser: --target web --precision fp16 --demo", "FILE: --exclude a b"]);
        let (_, notes) = expanded("clip-onnx export a.pt --profile npu --target web", None).unwrap();
        assert_eq!(notes, ["--profile npu: adds nothing to what is given"]);
        let (found, _) = expanded("clip-onnx export a.pt --config c.json", Some("[export]\nmodel = \"A\"")).unwrap();
        assert_eq!(found, "export a.pt --config c.json", "one excludes the other");
        let (found, notes) = expanded("clip-onnx export a.pt", Some("[export]\nkeep = \"a\"")).unwrap();
        assert_eq!(found, "export --exclude=a a.pt");
        assert!(notes[0].contains("`keep` is now `exclude`"), "{notes:?}");
        let (found, _) = expanded("clip-onnx export a.pt", Some("[export]\nprofile = \"npu\"")).unwrap();
        assert_eq!(found, "export --profile=npu --target=qnn a.pt");
    }

    #[test]
    fn old_names_work_with_a_note() {
        let (found, notes) = expanded("clip-onnx export a.pt --keep=attn --tokens int32 -- --keep", None).unwrap();
        assert_eq!(found, "export a.pt --exclude=attn --token-type int32 -- --keep");
        assert_eq!(notes.len(), 2);
        assert!(notes[0].starts_with("--keep is now --exclude"), "{notes:?}");
    }

    #[test]
    fn settings_files_are_followed_or_refused_by_name() {
        for (text, part) in [
            ("[exprot]\n", "`exprot` is no command"),
            ("export = 1\n", "is no table"),
            ("[export]\ntargt = \"web\"\n", "did you mean `target`"),
            ("[export]\ndemo = \"yes\"\n", "not a value of --demo"),
            ("[export]\ntarget = true\n", "not a value of --target"),
            ("[export]\ntarget = [[1]]\n", "not a value of --target"),
            ("[export\n", "line 1"),
            ("[bench]\nx = 1\n", "--help` lists its flags"),
            ("[bench]\ntarget = \"web\"\n", "it is a flag of [export]"),
            ("[export]\nprecision = [\"fp32\", \"fp16,int8\"]\n", "without commas"),
            ("[export]\nhelp = true\n", "no flag of it"),
        ] {
            let error = format!("{:#}", expanded("clip-onnx export a.pt", Some(text)).unwrap_err());
            assert!(error.contains(part), "{text}: {error}");
        }
    }
}
