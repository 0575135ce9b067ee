//! Commands and flags: strings become typed requests, outcomes become text.

use std::io::{IsTerminal, Write};
use std::path::PathBuf;

use clap::{Args, CommandFactory, Parser, Subcommand};
use clip_onnx::config::{Dialect, known};
use clip_onnx::onnx::Target;
use clip_onnx::onnx::target::{PORTABLE, PROFILES, Profile};
use clip_onnx::onnx::write::ExternalData;
use clip_onnx::pipeline::{Choice, Convert, Export, convert, export, inspect};
use clip_onnx::towers::Build;
use clip_onnx::verify;

mod progress;
mod show;

use progress::Bars;

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

Exit codes: 0 fine; 1 written, but verification failed; 2 could not do it.";

#[derive(Subcommand)]
enum Command {
    /// Write a checkpoint's towers as ONNX, and verify them
    ///
    /// Writes a folder, whole or not at all: vision_model.onnx, text_model.onnx, manifest.json
    /// (every file with size and SHA-256, all metadata, the options used) and report.json (the
    /// verification). The same checkpoint and options give the same bytes, the report aside.
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
    Export(ExportArgs),
    /// Run ONNX towers with tract and compare them with reference embeddings
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
}

#[derive(Args)]
struct ChoiceArgs {
    /// Model by name, instead of finding it from names and shapes (`clip-onnx models` lists them)
    #[arg(long, value_name = "NAME", conflicts_with = "config")]
    model: Option<String>,
    /// Model from a JSON file of the form of models/*.json, or a transformers config.json
    #[arg(long, value_name = "FILE")]
    config: Option<PathBuf>,
    /// Whose numbers to follow: `original` (the authors' code), `open_clip` or `transformers`.
    /// Default: the naming the file was published under, or what `convert` recorded in it
    #[arg(long, value_name = "NAME", value_parser = parse_dialect)]
    dialect: Option<Dialect>,
}

impl From<ChoiceArgs> for Choice {
    fn from(args: ChoiceArgs) -> Choice {
        Choice { model: args.model, config: args.config, dialect: args.dialect }
    }
}

#[derive(Args)]
struct BuildArgs {
    /// Who the files are for: `portable` (opset 17, loads everywhere) or `onnxruntime` (opset 23, its
    /// `Attention`, text cut at the batch's last end token, weights beside the model)
    #[arg(long, value_name = "NAME", value_parser = parse_profile, default_value = PORTABLE.name)]
    target: &'static Profile,
    /// Version of the operator set, within what the target allows: 17 to 22 for `portable`, 23 or 24
    /// for `onnxruntime`
    #[arg(long, value_name = "N")]
    opset: Option<i64>,
    /// Leave embeddings as they come, without L2 normalisation
    #[arg(long)]
    no_normalize: bool,
    /// Take texts of any length up to the context: input_ids [batch_size, sequence_length]. For causal
    /// text towers (CLIP, MobileCLIP-B); short texts then cost what they are long
    #[arg(long)]
    dynamic_text: bool,
    /// Leave training-time branches, BatchNorms and layer scales as nodes of the graph, to compare
    #[arg(long)]
    no_fold: bool,
    /// Compute the last block for all places, though one is pooled, to compare
    #[arg(long)]
    no_last_block: bool,
    /// Compute keys and values of the MAP head for all places, to compare
    #[arg(long)]
    no_map_query: bool,
    /// Compute text behind the batch's last end token, to compare (target `onnxruntime`)
    #[arg(long)]
    no_text_cut: bool,
    /// Keep depthwise convolutions of several outputs a channel as one, to compare
    #[arg(long)]
    no_plain_depthwise: bool,
}

impl BuildArgs {
    fn build(&self) -> anyhow::Result<Build> {
        let target = match self.opset {
            None => Target::new(self.target),
            Some(opset) => Target::with_opset(self.target, opset).ok_or_else(|| {
                let (name, opsets) = (self.target.name, &self.target.opsets);
                anyhow::anyhow!(
                    "--opset {opset} is not of target `{name}`, which has {} to {}; choose one of those, or another --target",
                    opsets.start(),
                    opsets.end()
                )
            })?,
        };
        Ok(Build {
            target,
            normalize: !self.no_normalize,
            fold: !self.no_fold,
            last_block: !self.no_last_block,
            map_query: !self.no_map_query,
            text_cut: !self.no_text_cut,
            dynamic_text: self.dynamic_text,
            plain_depthwise: !self.no_plain_depthwise,
        })
    }
}

#[derive(Args)]
struct ExportArgs {
    /// The checkpoint, as published: a file, the index of a sharded one, or a folder that holds it
    checkpoint: PathBuf,
    /// Folder to write
    #[arg(long, short, value_name = "DIR")]
    out: PathBuf,
    /// Replace the folder if it is one of clip-onnx's
    #[arg(long)]
    force: bool,
    #[command(flatten)]
    choice: ChoiceArgs,
    /// Image size to build for: a number, or HEIGHTxWIDTH. Positions are resampled by the rule of
    /// the model's dialect; a NaFlex model becomes an ordinary one of that size
    #[arg(long, value_name = "HxW", value_parser = parse_image_size)]
    image_size: Option<[usize; 2]>,
    #[command(flatten)]
    build: BuildArgs,
    /// Write weights beside the model (<file>_data) even below 2 GiB
    #[arg(long)]
    external_data: bool,
    /// Leave out SHA-256 sums, of the checkpoint and of what is written, and do not check those the
    /// checkpoint carries: about half the time
    #[arg(long)]
    no_hash: bool,
    /// Reference embeddings to hold the files to
    #[arg(long, value_name = "FILE.npz")]
    reference: Option<PathBuf>,
    /// Batch sizes to verify at
    #[arg(long, value_name = "N,N", value_delimiter = ',', default_values_t = verify::BATCHES, value_parser = parse_batch)]
    batches: Vec<usize>,
    /// Do not load and run the files; no report.json is written
    #[arg(long, conflicts_with = "reference")]
    no_verify: bool,
}

#[derive(Args)]
struct VerifyArgs {
    /// Folder of an export, or ONNX files
    #[arg(required = true, value_name = "DIR|FILE")]
    models: Vec<PathBuf>,
    /// Reference embeddings
    #[arg(long, value_name = "FILE.npz")]
    reference: Option<PathBuf>,
    /// Batch sizes to run at
    #[arg(long, value_name = "N,N", value_delimiter = ',', default_values_t = verify::BATCHES, value_parser = parse_batch)]
    batches: Vec<usize>,
    /// Print the report as JSON
    #[arg(long)]
    json: bool,
}

#[derive(Args)]
struct ConvertArgs {
    /// The checkpoint, as published: a file, the index of a sharded one, or a folder that holds it
    checkpoint: PathBuf,
    /// The .safetensors file to write
    #[arg(long, short, value_name = "FILE")]
    out: PathBuf,
    /// Replace the file if it is there
    #[arg(long)]
    force: bool,
    #[command(flatten)]
    choice: ChoiceArgs,
    /// Image size to resample positions to: a number, or HEIGHTxWIDTH; freezes NaFlex
    #[arg(long, value_name = "HxW", value_parser = parse_image_size)]
    image_size: Option<[usize; 2]>,
    /// Fold MobileCLIP's training-time branches, under timm's names for the folded form
    #[arg(long)]
    reparameterize: bool,
}

#[derive(Args)]
struct InspectArgs {
    /// A checkpoint or an ONNX file
    file: PathBuf,
    #[command(flatten)]
    choice: ChoiceArgs,
    /// List tensors whose name contains TEXT; all without it
    #[arg(long, value_name = "TEXT", num_args = 0..=1, default_missing_value = "")]
    tensors: Option<String>,
    /// Print JSON
    #[arg(long)]
    json: bool,
}

fn parse_profile(text: &str) -> Result<&'static Profile, String> {
    let found = PROFILES.into_iter().find(|profile| profile.name == text);
    found.ok_or_else(|| "expected `portable` or `onnxruntime`".to_owned())
}

fn parse_dialect(text: &str) -> Result<Dialect, String> {
    Dialect::parse(text).ok_or_else(|| "expected `original`, `open_clip` or `transformers`".to_owned())
}

fn parse_image_size(text: &str) -> Result<[usize; 2], String> {
    let number = |text: &str| text.trim().parse::<usize>().ok().filter(|&n| n > 0);
    let size = match text.split_once(['x', 'X']) {
        Some((height, width)) => number(height).zip(number(width)),
        None => number(text).map(|side| (side, side)),
    };
    size.map(|(height, width)| [height, width]).ok_or_else(|| "expected pixels as N or HEIGHTxWIDTH".to_owned())
}

fn parse_batch(text: &str) -> Result<usize, String> {
    let batch = text.trim().parse::<usize>().ok().filter(|n| (1..=1024).contains(n));
    batch.ok_or_else(|| "expected a batch size from 1 to 1024".to_owned())
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
            let request = Export {
                checkpoint: args.checkpoint,
                out: args.out,
                force: args.force,
                choice: args.choice.into(),
                image_size: args.image_size,
                build: args.build.build()?,
                external_data: if args.external_data { ExternalData::Always } else { ExternalData::Auto },
                hash: !args.no_hash,
                verify: !args.no_verify,
                reference: args.reference,
                batches: args.batches,
            };
            let exported = export(&request, &bars)?;
            bars.finish();
            told(show::exported(&mut out, &request, &exported));
            Ok(exported.report.is_none_or(|report| report.passed))
        }
        Command::Verify(args) => {
            let mut models = Vec::new();
            for path in args.models {
                if path.is_dir() { models.extend(verify::models_in(&path)?) } else { models.push(path) }
            }
            let request = verify::Request {
                models,
                reference: args.reference,
                batches: args.batches,
                notes: vec![],
                shown_in: None,
            };
            let report = verify::verify(&request, &|what| bars.say(what))?;
            bars.finish();
            let text = if args.json { serde_json::to_string_pretty(&report)? } else { report.to_string() };
            told(writeln!(out, "{text}"));
            Ok(report.passed)
        }
        Command::Convert(args) => {
            let request = Convert {
                checkpoint: args.checkpoint,
                out: args.out,
                force: args.force,
                choice: args.choice.into(),
                image_size: args.image_size,
                reparameterize: args.reparameterize,
            };
            let converted = convert(&request, &bars)?;
            bars.finish();
            told(show::converted(&mut out, &request, &converted));
            Ok(true)
        }
        Command::Inspect(args) => {
            let inspected = inspect(&args.file, &args.choice.into())?;
            if args.json {
                told(writeln!(out, "{}", serde_json::to_string_pretty(&inspected)?));
            } else {
                told(show::inspected(&mut out, &inspected, args.tensors.as_deref()));
            }
            Ok(true)
        }
        Command::Models { json: true } => {
            let all: Vec<_> = known().collect();
            told(writeln!(out, "{}", serde_json::to_string_pretty(&all)?));
            Ok(true)
        }
        Command::Models { json: false } => {
            told(show::models(&mut out));
            Ok(true)
        }
        Command::Completions { shell } => {
            // Into memory first: the generator panics where it cannot write.
            let mut script = Vec::new();
            clap_complete::generate(shell, &mut Cli::command(), "clip-onnx", &mut script);
            told(out.write_all(&script));
            Ok(true)
        }
    }
}

/// What was done is done, whether or not somebody listens: a reader that went away is no failure,
/// and a full disk behind the output is worth a note.
fn told(outcome: std::io::Result<()>) {
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
    fn image_sizes_are_height_by_width() {
        assert_eq!(parse_image_size("224"), Ok([224, 224]));
        assert_eq!(parse_image_size("384x256"), Ok([384, 256]));
        for wrong in ["", "0", "-1", "12x", "x", "1x2x3", "99999999999999999999"] {
            assert!(parse_image_size(wrong).is_err(), "{wrong}");
        }
    }
}
