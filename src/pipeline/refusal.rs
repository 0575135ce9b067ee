//! What something is that cannot be exported, in words: another kind of file, or another architecture.

use std::path::Path;

use serde_json::Value;

use super::{Error, Setting, Source};
use crate::checkpoint::{self, Checkpoint};
use crate::config::{self, ModelConfig};
use crate::files::read_json;
use crate::modality::Modality;
use crate::output::MANIFEST;
use crate::params::Params;

/// What is supported, for messages.
const SUPPORTED: &str = "supported are CLIP and open_clip ViTs, EVA02-CLIP, Long-CLIP, MobileCLIP and MobileCLIP2, SigLIP and SigLIP 2 (`clip-onnx models` lists them)";

/// Parts of names that tell an architecture, the most telling first.
const ARCHITECTURES: &[(&str, &str)] = &[
    ("visual.layer1.0.conv1", "a CLIP ResNet (RN50 and its kin)"),
    ("visual.attnpool.", "a CLIP ResNet (RN50 and its kin)"),
    ("text_decoder.", "CoCa"),
    ("visual.attn_pool.query", "CoCa, or a ViT with an attentional pooler"),
    ("visual.blocks.0.attn.q_proj", "EVA-CLIP, by its authors' names"),
    ("visual.trunk.stem.0.weight", "a ConvNeXt image tower"),
    ("visual.trunk.stages.0.blocks.0.conv_dw", "a ConvNeXt image tower"),
    ("visual.trunk.stages.0.blocks.0.conv.", "a ViTamin image tower"),
    ("text.transformer.encoder.layer.", "a text tower of transformers (BERT, RoBERTa or XLM-RoBERTa)"),
    ("text.transformer.embeddings.", "a text tower of transformers (BERT, RoBERTa or XLM-RoBERTa)"),
    ("text.transformer.shared.", "a text tower of transformers (T5 or mT5)"),
    ("resblocks.0.ls_1.", "a ViT with layer scales"),
    ("text_model.embeddings.LayerNorm", "a text tower with BERT's blocks (AltCLIP, Chinese-CLIP)"),
    ("qformer.", "BLIP-2 or InstructBLIP"),
    ("text_encoder.bert.", "BLIP"),
    ("visual_encoder.", "BLIP"),
    ("language_model.", "a language model that sees images"),
    ("lm_head.", "a language model"),
    ("encoder.layer.0.layer_scale1", "DINOv2"),
    ("blocks.0.ls1.gamma", "DINOv2, or a ViT with layer scales"),
    ("conv1.weight", "an image classifier"),
];

/// Parts of names that tell a tower of another architecture beside one that is supported.
const OTHER_TOWERS: &[(Modality, &str, &str)] = &[
    (Modality::Text, "bert.", "BERT or a kin of it"),
    (Modality::Text, "roberta.", "RoBERTa"),
    (Modality::Text, "word_embeddings", "BERT or a kin of it"),
    (Modality::Text, "text_model.", "another encoder"),
    (Modality::Text, "text_encoder.", "another encoder"),
    (Modality::Text, "text.", "another encoder"),
    (Modality::Image, "visual.", "another encoder"),
    (Modality::Image, "vision_model.", "another encoder"),
    (Modality::Image, "image_encoder.", "another encoder"),
];

/// Whether a path is no checkpoint but something else that is known; None where it may be one.
pub fn another_kind(path: &Path) -> Option<Error> {
    let shown = path.display().to_string();
    let unsupported = |what: String, way_out: String| Some(Error::Unsupported { path: shown.clone(), what, way_out });
    if !path.exists() && ModelConfig::named(&shown).is_ok() {
        return unsupported(
            "it is the name of a model, and there is no such file".to_owned(),
            format!("name its checkpoint, and the model with {}", Setting::Model),
        );
    }
    if !path.exists() {
        return hub_name(&shown).and_then(|name| {
            unsupported(
                "there is no such file or folder, and names of a hub are not downloaded".to_owned(),
                format!("run `hf download {name} --local-dir DIR`, then name DIR"),
            )
        });
    }
    if is_onnx(path) {
        return unsupported(
            "it is an ONNX model already, not a checkpoint".to_owned(),
            format!(
                "`clip-onnx inspect {shown}` says what is in it, `clip-onnx verify {shown}` and `clip-onnx bench {shown}` run it"
            ),
        );
    }
    let has_checkpoint = || checkpoint::locate(path).is_ok();
    if path.is_dir() && is_export(path) && !has_checkpoint() {
        return unsupported(
            "it is a folder that an export wrote, not a checkpoint".to_owned(),
            format!("`clip-onnx verify {shown}`, `clip-onnx embed {shown}` and `clip-onnx bench {shown}` take it"),
        );
    }
    let folder = if path.is_dir() { path } else { path.parent()? };
    let is_adapter = if path.is_dir() {
        !has_checkpoint()
    } else {
        path.file_name().is_some_and(|name| name.to_string_lossy().starts_with("adapter_model."))
    };
    let adapter = read_json(&folder.join("adapter_config.json")).ok().filter(|_| is_adapter)?;
    let adapter: Value = serde_json::from_str(&adapter).unwrap_or_default();
    let base = adapter.get("base_model_name_or_path").and_then(Value::as_str).unwrap_or("its base model");
    unsupported(
        format!("it is a LoRA adapter, which needs {base}"),
        format!("name the checkpoint of its base model, and this folder with {}", Setting::Adapter),
    )
}

/// `org/name`, where a path looks like a name on a hub.
fn hub_name(path: &str) -> Option<&str> {
    let name = ["https://huggingface.co/", "hf-hub:", "hf://"].iter().find_map(|start| path.strip_prefix(start));
    if let Some(name) = name {
        return Some(name.trim_end_matches('/'));
    }
    let good = |part: &str| {
        !part.is_empty()
            && !part.starts_with('.')
            && part.chars().all(|c| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.'))
    };
    let (organisation, name) = path.split_once('/')?;
    let endings = [".npz", ".pt", ".pth", ".bin", ".safetensors", ".onnx", ".json"];
    let is_file = endings.iter().any(|end| name.ends_with(end));
    (good(organisation) && good(name) && !is_file && !Path::new(organisation).exists()).then_some(path)
}

/// Whether a file is an ONNX model: by its name, or by its first field, the IR version. A safetensors header's length
/// may begin with the same byte; its ninth is a brace then.
pub fn is_onnx(path: &Path) -> bool {
    if !path.is_file() {
        return false;
    }
    if path.extension().is_some_and(|e| e.eq_ignore_ascii_case("onnx")) {
        return true;
    }
    let mut first = [0; 9];
    let read = std::fs::File::open(path).and_then(|mut file| std::io::Read::read_exact(&mut file, &mut first));
    read.is_ok() && first[0] == 0x08 && first[8] != b'{'
}

/// Whether a folder is one that an export wrote.
fn is_export(folder: &Path) -> bool {
    let text = read_json(&folder.join(MANIFEST)).unwrap_or_default();
    let json: Value = serde_json::from_str(&text).unwrap_or_default();
    json.get("tool").and_then(Value::as_str) == Some(env!("CARGO_PKG_NAME"))
}

/// Of which architecture a checkpoint is, by the configurations beside it or by its tensors' names, and what is
/// supported.
pub fn architecture(checkpoint: &Checkpoint) -> String {
    let json = |name: &str| -> Option<Value> {
        let (_, text) = checkpoint.beside(name).ok()??;
        serde_json::from_str(&text).ok()
    };
    let of_transformers = json("config.json").and_then(|json| {
        let kind = json.get("model_type")?.as_str()?.to_owned();
        (!config::is_transformers_type(&kind)).then(|| format!("model_type `{kind}` in config.json"))
    });
    let of_open_clip = json("open_clip_config.json").and_then(|json| {
        let text = |at: &str| json.pointer(at).and_then(Value::as_str).map(str::to_owned);
        let trunk = text("/model_cfg/vision_cfg/timm_model_name").map(|name| format!("timm_model_name `{name}`"));
        let language = text("/model_cfg/text_cfg/hf_model_name").map(|name| format!("hf_model_name `{name}`"));
        trunk.or(language).map(|name| format!("{name} in open_clip_config.json"))
    });
    let by_names = || {
        let has = |part: &str| checkpoint.tensors().iter().any(|(name, _)| name.contains(part));
        let found = ARCHITECTURES.iter().find(|(part, _)| has(part));
        found.map(|(part, architecture)| format!("names such as `{part}` are of {architecture}"))
    };
    match of_transformers.or(of_open_clip).or_else(by_names) {
        Some(found) => format!("{found}; {SUPPORTED}"),
        None => SUPPORTED.to_owned(),
    }
}

/// Refuses a checkpoint whose other tower is there, but of an architecture that is not supported: to leave out weights that
/// people use takes their word.
///
/// # Errors
/// [`Error::Unsupported`].
pub fn another_tower(checkpoint: &Checkpoint, params: &Params, source: &Source) -> Result<(), Error> {
    let Some(missing) = Modality::ALL.into_iter().find(|tower| !params.has(*tower)) else { return Ok(()) };
    if source.only.is_some() {
        return Ok(());
    }
    let starts = |name: &str, part: &str| name.starts_with(part) || name.contains(&format!(".{part}"));
    let has = |part: &str| params.left_out().iter().any(|name| starts(name, part));
    let found = OTHER_TOWERS.iter().find(|(tower, part, _)| *tower == missing && has(part));
    let Some((_, part, architecture)) = found else { return Ok(()) };
    let other = missing.other();
    Err(Error::Unsupported {
        path: checkpoint.path().display().to_string(),
        what: format!("its {missing} tower is {architecture} (names such as `{part}`), which is not supported"),
        way_out: format!("export the {other} tower alone with {} {other}", Setting::Only),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_of_a_hub_are_told_from_paths() {
        for name in ["openai/clip-vit-base-patch32", "google/siglip-so400m-patch14-384", "hf-hub:timm/ViT-B-16-SigLIP"]
        {
            let remedy = another_kind(Path::new(name)).unwrap().remedy().unwrap();
            assert!(remedy.contains("hf download "), "{remedy}");
        }
        for path in ["models/clip.safetensors", "./a/b", "a/b/c", "clip", "../clip/model"] {
            assert!(another_kind(Path::new(path)).is_none(), "{path}");
        }
    }
}
