//! Commands and flags: strings become typed requests, outcomes become text.

use std::io::{IsTerminal, Write};
use std::path::PathBuf;

use clap::{CommandFactory, FromArgMatches, Parser, Subcommand, ValueHint};
use clip_onnx::config::{known, registry};
use clip_onnx::engine::Engines;
use clip_onnx::pipeline::{Convert, Inspected, Progress, convert, export, inspect};
use clip_onnx::providers;
use clip_onnx::verify::Verify;
use clip_onnx::verify::report::Verdict;

mod args;
mod arguments;
mod classify;
mod embedding;
mod export;
mod help;
mod labels;
mod manual;
mod memory;
mod plain;
mod progress;
mod show;
mod spell;
mod timing;
mod values;

use args::{BenchArgs, ConvertArgs, InspectArgs, VerifyArgs, models};
use classify::ClassifyArgs;
use embedding::EmbedArgs;
use export::ExportArgs;
use memory::Use;
use progress::Bars;
pub use spell::error;

/// Turns published CLIP-family checkpoints into verified ONNX.
///
/// Reads the file a model was published in (big_vision's .npz, Apple's .pt, open_clip's and
/// transformers' .pt, .bin and .safetensors), writes one ONNX file per tower, runs the files and compares
/// them with reference embeddings. Needs neither Python nor torch.
#[derive(Parser)]
#[command(name = "clip-onnx", version, propagate_version = true, after_long_help = help::PROGRAM)]
struct Cli {
    /// Settings file [default: clip-onnx.toml in the working folder]
    #[arg(long, global = true, value_name = "FILE", value_hint = ValueHint::FilePath)]
    settings: Option<PathBuf>,
    /// Ignore clip-onnx.toml
    #[arg(long, global = true, conflicts_with = "settings")]
    no_settings: bool,
    /// Memory that may be used, such as 4G; Linux only
    ///
    /// Default of the commands that run ONNX files: by the sizes of the files and of a batch. A process that asks
    /// for more ends with exit code 2.
    #[arg(long, global = true, value_name = "SIZE", value_parser = values::bytes)]
    max_memory: Option<u64>,
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Write a checkpoint's towers as ONNX, and verify them
    ///
    /// Writes a folder, whole or not at all: vision_model.onnx, text_model.onnx, manifest.json
    /// (each file with size and SHA-256, metadata, options), report.json (the verification) and report.html
    /// (the same, drawn). The same checkpoint and options give the same bytes, except in the reports.
    #[command(after_long_help = help::EXPORT)]
    Export(Box<ExportArgs>),
    /// Run ONNX towers, and compare them with reference embeddings
    ///
    /// Takes a folder of an export, or any ONNX towers: one float image input [N, 3, H, W], or
    /// one integer input [N, L]. Without a reference it checks that outputs are finite, of unit length
    /// where the file normalises, and independent of the batch; the verdict is then `not compared`.
    #[command(after_long_help = help::VERIFY)]
    Verify(VerifyArgs),
    /// Time ONNX towers with tract and ONNX Runtime
    ///
    /// Each file, engine and number of threads is timed in its own process: latency after one warm-up run,
    /// load time, and peak memory with mapped files. tract runs on one thread. NaFlex towers get images of
    /// 16 x 16 patches. Compare figures of one run only, on a machine that does nothing else.
    #[command(after_long_help = help::BENCH)]
    Bench(BenchArgs),
    /// Embed photographs and sentences with an exported folder
    ///
    /// Photographs are decoded and resized, and sentences tokenized, as the folder's manifest says. A file
    /// that is not an image is named and skipped, and the exit code is then 1.
    #[command(after_long_help = help::EMBED)]
    Embed(EmbedArgs),
    /// Give the probabilities of labels for photographs
    ///
    /// Computed with the checkpoint's own scale and bias. CLIP's probabilities sum to 1; SigLIP's are
    /// independent of each other.
    #[command(after_long_help = help::CLASSIFY)]
    Classify(ClassifyArgs),
    /// Write a checkpoint under open_clip's names, as safetensors
    ///
    /// The same weights in the same precision; open_clip loads them with strict=True. The file records
    /// dialect and configuration, and `export` follows them.
    #[command(after_long_help = help::CONVERT)]
    Convert(ConvertArgs),
    /// Describe a checkpoint or an ONNX file
    ///
    /// Of a checkpoint: format, naming, model, dialect, parameters per tower, missing and unexpected
    /// tensors. Of an ONNX file: inputs, outputs, opset, operators, metadata, size.
    #[command(after_long_help = help::INSPECT)]
    Inspect(InspectArgs),
    /// List the models that are known by name
    Models {
        /// List open_clip's configurations instead, with the published weights of each
        ///
        /// What is not supported is named.
        #[arg(long)]
        open_clip: bool,
        /// Print JSON: the full configuration of every model, with its dialects
        #[arg(long)]
        json: bool,
    },
    /// Print a completion script for a shell
    #[command(after_long_help = help::COMPLETIONS)]
    Completions {
        /// Shell
        shell: clap_complete::Shell,
    },
    /// Print a manual page, or write all of them
    #[command(after_long_help = help::MAN)]
    Man {
        /// Command whose page to print [default: the program's page]
        #[arg(conflicts_with = "out")]
        command: Option<String>,
        /// Write all pages into this folder: clip-onnx.1, clip-onnx-export.1, …
        #[arg(long, value_name = "DIR", value_hint = ValueHint::DirPath)]
        out: Option<PathBuf>,
    },
}

/// Runs the command line; false when a verification failed.
///
/// # Errors
/// Whatever kept the command from being carried out.
pub fn run() -> anyhow::Result<bool> {
    let bars = Bars::new(std::io::stderr().is_terminal());
    let mut program = Cli::command();
    program.build();
    let expanded = arguments::expand(&program, std::env::args_os().collect())?;
    expanded.notes.iter().for_each(|note| bars.warn(note));
    let matches = program.get_matches_from(expanded.arguments);
    let cli = Cli::from_arg_matches(&matches).unwrap_or_else(|error| error.exit());
    let mut out = std::io::stdout().lock();
    memory::asked(cli.max_memory)?;
    match cli.command {
        Command::Export(args) => {
            let request = args.request(&|message| bars.warn(message))?;
            let exported = export(&request, &bars)?;
            bars.finish();
            printed(show::exported(&mut out, &request, &exported));
            Ok(exported.report.as_ref().is_none_or(|report| report.verdict != Verdict::Failed))
        }
        Command::Verify(args) => {
            let files = models(args.models)?;
            let batch = args.batches.iter().copied().max().unwrap_or(1);
            let read = files.iter().chain(&args.reference).map(PathBuf::as_path).collect();
            memory::bound(cli.max_memory, &Use { files: read, batch, items: 0 })?;
            let mut request = Verify::new(files);
            request = request.engines(Engines::from(args.engines).open()?).batches(args.batches);
            if let Some(drop) = args.max_drop {
                request = request.max_drop(drop);
            }
            if let Some(reference) = args.reference {
                request = request.reference(reference);
            }
            let report = request.run(&|what| bars.say(what))?;
            bars.finish();
            let text = if args.json { plain::json(&report)? } else { plain::lines(&report.to_string()) };
            let text = spell::spelled(&text);
            shown(writeln!(out, "{text}"))?;
            Ok(report.verdict != Verdict::Failed)
        }
        Command::Bench(args) => {
            let rows = timing::bench(args, cli.max_memory, &bars)?;
            bars.finish();
            shown(rows.print(&mut out))?;
            if let Some(reasons) = rows.failure() {
                anyhow::bail!(reasons);
            }
            Ok(true)
        }
        Command::Embed(args) => embedding::embed(args, cli.max_memory, &bars, &mut out),
        Command::Classify(args) => classify::classify(args, cli.max_memory, &bars, &mut out),
        Command::Convert(args) => {
            if args.out.extension().is_none_or(|extension| extension != "safetensors") && !args.out.is_dir() {
                anyhow::bail!("{} does not end in .safetensors, which is what is written", args.out.display());
            }
            let mut request = Convert::new(&args.checkpoint, &args.out);
            request.source = args.choice.source(args.checkpoint, args.image_size);
            request.replace = args.force;
            request.reparameterize = args.reparameterize;
            let converted = convert(&request, &bars)?;
            bars.finish();
            printed(show::converted(&mut out, &request, &converted));
            Ok(true)
        }
        Command::Inspect(args) => {
            if let Some(flag) = args.ignored() {
                anyhow::bail!("{} is an ONNX file; {flag} is for checkpoints", args.file.display());
            }
            let inspected = inspect(&args.choice.source(args.file.clone(), None))?;
            let taken = match &inspected {
                Inspected::Onnx(_) => providers::check(&args.file, &args.provider)?,
                Inspected::Checkpoint(_) if args.provider.is_empty() => vec![],
                Inspected::Checkpoint(_) => {
                    anyhow::bail!("{} is a checkpoint; --provider is for ONNX files", args.file.display())
                }
            };
            if args.json {
                let mut json = serde_json::to_value(&inspected)?;
                if !args.provider.is_empty() {
                    json["providers"] = serde_json::to_value(&taken)?;
                }
                shown(writeln!(out, "{}", spell::spelled(&plain::json(&json)?)))?;
            } else {
                shown(show::inspected(&mut out, &inspected, args.tensors.as_deref()))?;
                shown(show::taken(&mut out, &taken))?;
            }
            Ok(true)
        }
        Command::Models { json: true, open_clip } => {
            let all = if open_clip {
                serde_json::to_string_pretty(&registry().collect::<Vec<_>>())?
            } else {
                serde_json::to_string_pretty(&known().collect::<Vec<_>>())?
            };
            shown(writeln!(out, "{all}"))?;
            Ok(true)
        }
        Command::Models { json: false, open_clip } => {
            shown(if open_clip { show::registered(&mut out) } else { show::models(&mut out) })?;
            Ok(true)
        }
        Command::Completions { shell } => {
            // Into memory first: the generator panics where it cannot write.
            let mut script = Vec::new();
            clap_complete::generate(shell, &mut Cli::command(), "clip-onnx", &mut script);
            // clap_complete 4.6.11 takes the hyphen of our name for a command's in bash's labels, and no flag
            // of a command would be completed.
            let script = String::from_utf8(script)?.replace("clip__subcmd__onnx", "clip__onnx");
            shown(out.write_all(script.as_bytes()))?;
            Ok(true)
        }
        Command::Man { command, out: None } => {
            shown(out.write_all(&manual::page(Cli::command(), command.as_deref())?.text))?;
            Ok(true)
        }
        Command::Man { out: Some(folder), .. } => {
            manual::write(Cli::command(), &folder)?;
            Ok(true)
        }
    }
}

/// What was asked for is what is printed: where it cannot be, the command failed. A reader that went away is no failure.
///
/// # Errors
/// When the output cannot be written.
fn shown(outcome: std::io::Result<()>) -> anyhow::Result<()> {
    match outcome {
        Err(error) if error.kind() != std::io::ErrorKind::BrokenPipe => {
            Err(anyhow::anyhow!("the output could not be written: {error}"))
        }
        _ => Ok(()),
    }
}

/// Files are written, whether or not somebody listens: a reader that went away is no failure,
/// and a full disk behind the output is worth a note.
fn printed(outcome: std::io::Result<()>) {
    if let Err(error) = outcome
        && error.kind() != std::io::ErrorKind::BrokenPipe
    {
        eprintln!("clip-onnx: note: the outcome could not be printed: {error}");
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_flags_are_consistent() {
        Cli::command().debug_assert();
    }

    #[test]
    fn first_sentences_are_short_and_every_flag_of_export_has_a_heading() {
        let mut program = Cli::command();
        program.build();
        for command in program.get_subcommands() {
            for argument in command.get_arguments() {
                let help = argument.get_help().map(ToString::to_string).unwrap_or_default();
                let name = format!("{} {}", command.get_name(), argument.get_id());
                assert!(argument.is_hide_set() || (1..80).contains(&help.len()), "{name}: {help}");
                let general = ["checkpoint", "profile", "settings", "no_settings", "max_memory", "help", "version"];
                if command.get_name() == "export" && !general.contains(&argument.get_id().as_str()) {
                    assert!(argument.get_help_heading().is_some(), "{name}");
                }
            }
        }
    }
}
