//! Commands and flags: strings become typed requests, outcomes become text.

use std::io::{IsTerminal, Write};
use std::path::PathBuf;

use clap::{CommandFactory, Parser, Subcommand};
use clip_onnx::config::known;
use clip_onnx::engine::Engines;
use clip_onnx::pipeline::{Convert, Inspected, Progress, convert, export, inspect};
use clip_onnx::providers;
use clip_onnx::verify::Verify;
use clip_onnx::verify::report::Verdict;

mod args;
mod embedding;
mod labels;
mod manual;
mod parse;
mod progress;
mod show;
mod spell;
mod timing;

use args::{BenchArgs, ConvertArgs, ExportArgs, InspectArgs, VerifyArgs, models};
use embedding::{ClassifyArgs, EmbedArgs};
use progress::Bars;
pub use spell::error;

/// Turns published CLIP-family checkpoints into verified ONNX.
///
/// Reads the file a model was published in (Google's big_vision .npz, Apple's .pt, open_clip's and
/// transformers' .pt, .bin and .safetensors), writes one ONNX file per tower, loads them with tract
/// and compares them with reference embeddings. No Python, no torch, no tracing.
#[derive(Parser)]
#[command(name = "clip-onnx", version, propagate_version = true, after_long_help = EXAMPLES)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

const EXAMPLES: &str = "\
Examples:
  Export a downloaded SigLIP checkpoint; the model is found from names and shapes:
      clip-onnx export webli_en_b16_224_63724782.npz --out siglip

  The same, held to reference embeddings:
      clip-onnx export webli_en_b16_224_63724782.npz --out siglip --reference siglip_reference.npz

  A NaFlex checkpoint frozen to 384 x 256 pixels:
      clip-onnx export siglip2_b16_naflex.npz --out naflex --image-size 384x256

  What a file is:
      clip-onnx inspect siglip/vision_model.onnx

Exit codes:
  0  fine
  1  written, but verification failed or something was skipped
  2  could not do it";

#[derive(Subcommand)]
enum Command {
    /// Write a checkpoint's towers as ONNX, and verify them
    ///
    /// Writes a folder, whole or not at all: vision_model.onnx, text_model.onnx, manifest.json
    /// (every file with size and SHA-256, all metadata, the options used), report.json (the
    /// verification) and report.html (the same, drawn). The same checkpoint and options give the same bytes, the reports aside.
    #[command(after_long_help = "\
Inputs and outputs:
  vision_model.onnx   pixel_values float32 [batch_size, 3, H, W] -> image_embeds [batch_size, D]
  text_model.onnx     input_ids int64 [batch_size, L]            -> text_embeds  [batch_size, D]
  NaFlex              patches float32 [batch_size, num_patches, P*P*3], patch_mask, patch_y and
                      patch_x int64 [batch_size, num_patches]    -> image_embeds [batch_size, D]

Examples:
  clip-onnx export siglip2_b16_224.npz --out siglip2
  clip-onnx export model.npz --config my-model.json --out model --reference reference.npz
  clip-onnx export siglip2_b16_224.npz --out siglip2-384 --image-size 384 --no-normalize")]
    Export(Box<ExportArgs>),
    /// Run ONNX towers with tract and ONNX Runtime, and compare them with reference embeddings
    ///
    /// Takes a folder an export wrote, or any ONNX towers: one float image input [N, 3, H, W], or
    /// one integer input [N, L]. Without a reference it still checks that outputs are finite, of
    /// unit length where the file says so, and independent of the batch.
    #[command(after_long_help = "\
Examples:
  clip-onnx verify siglip --reference siglip_reference.npz
  clip-onnx verify somebody_elses_vision_model.onnx --reference siglip_reference.npz --batches 1,8

The reference is an .npz with `image`, `image_embedding`, `image_embedding_normalized`, `tokens`,
`text_embedding`, `text_embedding_normalized`, `logits_per_image`, `logit_scale_exp` and
`logit_bias`, or what of it the towers need. scripts/make_reference.py writes one.")]
    Verify(VerifyArgs),
    /// Time ONNX towers with tract and ONNX Runtime
    ///
    /// Takes a folder an export wrote, or any ONNX towers `verify` takes. Every file, engine and number of
    /// threads is timed in a process of its own: latency after one run to warm up, time to load, and the
    /// most memory the process held, mapped files included. tract runs on one thread. NaFlex towers get
    /// images of 16 x 16 patches. What an engine cannot run is listed as "not run"; a file that none can is
    /// an error. Compare figures of one run only, on a machine that does nothing else.
    #[command(after_long_help = "\
Examples:
  clip-onnx bench siglip --batches 1,8 --threads 1,2 --ort-lib libonnxruntime.so.1.23.0
  clip-onnx bench clip/text_model.onnx --tokens 12 --json")]
    Bench(BenchArgs),
    /// Embed photographs and sentences with an exported folder
    ///
    /// Decodes, resizes and cuts into tokens as the model's authors do, which the folder's manifest says, and
    /// runs the towers with tract, or with ONNX Runtime where its library is named. A file that is no
    /// photograph is named and skipped. The status is then 1.
    #[command(after_long_help = "\
Examples:
  clip-onnx embed siglip --image photos --out photos.npy --ort-lib libonnxruntime.so
  clip-onnx embed mobileclip --image a.jpg b.png --text 'a red bicycle' 'two cats'
  clip-onnx embed mobileclip --texts queries.txt -o queries.safetensors

CLIP's and MobileCLIP's vocabulary is built in. SigLIP's tokenizer.json is the folder's (export
--tokenizer), or named with --tokenizer.")]
    Embed(EmbedArgs),
    /// Say what a photograph shows, of labels given or built in
    ///
    /// Probabilities with the checkpoint's own scale and bias: CLIP's sum to one, SigLIP's are each by
    /// themselves.
    #[command(after_long_help = "\
Examples:
  clip-onnx classify mobileclip photo.jpg bicycle cat 'empty street'
  clip-onnx classify mobileclip photo.jpg --labels imagenet.txt --template 'a photo of the {}.' --json")]
    Classify(ClassifyArgs),
    /// Write a checkpoint under open_clip's names, as safetensors
    ///
    /// The same weights in the same precision, loadable by open_clip with strict=True. The
    /// dialect and the configuration are recorded in the file, and `export` honours them.
    #[command(after_long_help = "\
Examples:
  clip-onnx convert webli_en_b16_224_63724782.npz -o siglip.safetensors
  clip-onnx convert siglip2_b16_naflex.npz -o naflex_256.safetensors --image-size 256")]
    Convert(ConvertArgs),
    /// Say what a checkpoint or an ONNX file is
    ///
    /// A checkpoint: format, naming, model, dialect, parameters per tower, what is missing or
    /// unexpected. An ONNX file: inputs, outputs, opset, operators, metadata, size.
    #[command(after_long_help = "\
Examples:
  clip-onnx inspect webli_en_b16_224_63724782.npz
  clip-onnx inspect webli_en_b16_224_63724782.npz --tensors MAPHead
  clip-onnx inspect siglip/vision_model.onnx --json")]
    Inspect(InspectArgs),
    /// List the models that are known
    Models {
        /// Print JSON: the full configuration of every model
        #[arg(long)]
        json: bool,
    },
    /// Print a completion script for a shell
    #[command(after_long_help = "\
Examples:
  clip-onnx completions bash > /etc/bash_completion.d/clip-onnx
  clip-onnx completions zsh  > ~/.zfunc/_clip-onnx")]
    Completions { shell: clap_complete::Shell },
    /// Print a manual page, or write them all
    ///
    /// Pages in roff: one of the program and one of each command, made of the words of --help.
    #[command(after_long_help = "\
Examples:
  clip-onnx man export | man -l -
  clip-onnx man --out ~/.cargo/share/man/man1")]
    Man {
        /// The command to print the page of; without it, the program's own
        #[arg(conflicts_with = "out")]
        command: Option<String>,
        /// Write every page into this folder, as clip-onnx.1, clip-onnx-export.1 and so on
        #[arg(long, value_name = "DIR")]
        out: Option<PathBuf>,
    },
}

/// Runs the command line; false when a verification failed.
///
/// # Errors
/// Whatever kept the command from being carried out.
pub fn run() -> anyhow::Result<bool> {
    let cli = Cli::parse();
    let bars = Bars::new(std::io::stderr().is_terminal());
    let mut out = std::io::stdout().lock();
    match cli.command {
        Command::Export(args) => {
            let request = args.request(&|message| bars.warn(message))?;
            let exported = export(&request, &bars)?;
            bars.finish();
            printed(show::exported(&mut out, &exported));
            Ok(exported.report.as_ref().is_none_or(|report| report.verdict != Verdict::Failed))
        }
        Command::Verify(args) => {
            let mut request = Verify::new(models(args.models)?);
            request = request.engines(Engines::from(args.engines).open()?).batches(args.batches);
            if let Some(drop) = args.max_drop {
                request = request.max_drop(drop);
            }
            if let Some(reference) = args.reference {
                request = request.reference(reference);
            }
            let report = request.run(&|what| bars.say(what))?;
            bars.finish();
            let text = if args.json { serde_json::to_string_pretty(&report)? } else { report.to_string() };
            printed(writeln!(out, "{text}"));
            Ok(report.verdict != Verdict::Failed)
        }
        Command::Bench(args) => {
            let rows = timing::bench(args, &bars)?;
            bars.finish();
            printed(rows.print(&mut out));
            if let Some(reasons) = rows.failure() {
                anyhow::bail!(reasons);
            }
            Ok(true)
        }
        Command::Embed(args) => embedding::embed(args, &bars, &mut out),
        Command::Classify(args) => {
            embedding::classify(args, &bars, &mut out)?;
            Ok(true)
        }
        Command::Convert(args) => {
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
                printed(writeln!(out, "{}", spell::spelled(&serde_json::to_string_pretty(&json)?)));
            } else {
                printed(show::inspected(&mut out, &inspected, args.tensors.as_deref()));
                printed(show::taken(&mut out, &taken));
            }
            Ok(true)
        }
        Command::Models { json: true } => {
            let all: Vec<_> = known().collect();
            printed(writeln!(out, "{}", serde_json::to_string_pretty(&all)?));
            Ok(true)
        }
        Command::Models { json: false } => {
            printed(show::models(&mut out));
            Ok(true)
        }
        Command::Completions { shell } => {
            // Into memory first: the generator panics where it cannot write.
            let mut script = Vec::new();
            clap_complete::generate(shell, &mut Cli::command(), "clip-onnx", &mut script);
            // clap_complete 4.6.11 takes the hyphen of our name for a command's in bash's labels, and no flag
            // of a command would be completed.
            let script = String::from_utf8(script)?.replace("clip__subcmd__onnx", "clip__onnx");
            printed(out.write_all(script.as_bytes()));
            Ok(true)
        }
        Command::Man { command, out: None } => {
            printed(out.write_all(&manual::page(Cli::command(), command.as_deref())?.text));
            Ok(true)
        }
        Command::Man { out: Some(folder), .. } => {
            manual::write(Cli::command(), &folder)?;
            Ok(true)
        }
    }
}

/// What was done is done, whether or not somebody listens: a reader that went away is no failure,
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
}
