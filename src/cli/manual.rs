//! Manual pages, made of the words of `--help`.
//!
//! No date is in them: the same program gives the same bytes, so that pages kept in a repository or a
//! package change only when the words do.

use std::io;
use std::path::Path;

use clap_mangen::Man;
use clap_mangen::roff::{Roff, bold, roman};

/// The page of one command.
pub struct Page {
    /// As `man` is asked for it: `clip-onnx-export`.
    name: String,
    pub text: Vec<u8>,
}

/// The page of `command`, or of the program where none is named.
///
/// # Errors
/// When there is no such command.
pub fn page(program: clap::Command, command: Option<&str>) -> anyhow::Result<Page> {
    let own = program.get_name().to_owned();
    let name = command.map_or(own.clone(), |command| format!("{own}-{command}"));
    let found = pages(program)?.into_iter().find(|page| page.name == name);
    found.ok_or_else(|| anyhow::anyhow!("no command `{}`; `{own} --help` lists them", command.unwrap_or_default()))
}

/// Writes every page into `folder`.
///
/// # Errors
/// When the folder cannot be made or a page not be written.
pub fn write(program: clap::Command, folder: &Path) -> anyhow::Result<()> {
    let named = |path: &Path, error: io::Error| anyhow::anyhow!("{}: {error}", path.display());
    std::fs::create_dir_all(folder).map_err(|error| named(folder, error))?;
    for page in pages(program)? {
        let path = folder.join(format!("{}.1", page.name));
        std::fs::write(&path, page.text).map_err(|error| named(&path, error))?;
    }
    Ok(())
}

/// The program's page, then those of its commands.
fn pages(program: clap::Command) -> io::Result<Vec<Page>> {
    // `help` has nothing to say that the pages do not.
    let mut program = program.disable_help_subcommand(true);
    program.build();
    let source = format!("{} {}", program.get_name(), program.get_version().unwrap_or_default());
    let shown = program.get_subcommands().filter(|command| !command.is_hide_set());
    let commands: Vec<clap::Command> = shown.cloned().collect();
    let own = program.get_name().to_owned();
    let names: Vec<String> = commands.iter().map(|command| format!("{own}-{}", command.get_name())).collect();
    let mut pages = vec![Page { text: text(program, &source, &[])?, name: own.clone() }];
    for (command, name) in commands.into_iter().zip(names) {
        pages.push(Page { text: text(command, &source, &[&own])?, name });
    }
    Ok(pages)
}

fn text(command: clap::Command, source: &str, see_also: &[&str]) -> io::Result<Vec<u8>> {
    // What `--help` ends with gets sections of its own, and the version is in the footer.
    let ending = command.get_after_long_help().map(ToString::to_string).unwrap_or_default();
    let command = command.after_long_help(None).version(None);
    let mut text = Vec::new();
    Man::new(command).source(source).manual("").render(&mut text)?;
    let mut roff = Roff::new();
    sections(&mut roff, &ending);
    if !see_also.is_empty() {
        roff.control("SH", ["SEE ALSO"]);
        for page in see_also {
            roff.text([bold(*page), roman("(1)")]);
        }
    }
    text.extend(roff.to_roff().into_bytes());
    Ok(text)
}

/// `Heading:` begins a section; what is indented under it stays as it is, the rest is prose.
fn sections(roff: &mut Roff, ending: &str) {
    let (mut literal, mut gap) = (false, false);
    for line in ending.lines() {
        if line.is_empty() {
            gap = true;
            continue;
        }
        let indented = line.starts_with("  ");
        if literal != indented {
            roff.control(if indented { "nf" } else { "fi" }, []);
            literal = indented;
        }
        match line.strip_suffix(':') {
            Some(heading) if !indented => {
                roff.control("SH", [heading.to_uppercase().as_str()]);
            }
            _ => {
                if gap {
                    roff.control("PP", []);
                }
                roff.text([roman(line.strip_prefix("  ").unwrap_or(line))]);
            }
        }
        gap = false;
    }
    if literal {
        roff.control("fi", []);
    }
}
