//! Folders that somebody's runtime loads as they are: names of files, of inputs and outputs, and what
//! stands beside the towers.

use std::path::PathBuf;

use crate::config::{Family, ModelConfig};
use crate::modality::Modality;
use crate::ports::{PixelFormat, Ports};

pub mod clip_as_service;
pub mod demo;
pub mod hf;
pub mod manifest;
pub mod open_clip;

/// Whose folder it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Layout {
    /// Two towers, side by side.
    Plain,
    /// transformers.js, optimum, fastembed.
    Hf,
    /// Immich's float contract.
    Immich,
    /// Its newer one, fed bytes.
    ImmichUint8,
    /// Jina's clip-as-service.
    ClipAsService,
    /// A repository that open_clip loads, with the weights under its names, and the ONNX towers in `onnx/`.
    OpenClip,
}

impl Layout {
    /// Every layout.
    pub const ALL: [Layout; 6] =
        [Layout::Plain, Layout::Hf, Layout::Immich, Layout::ImmichUint8, Layout::ClipAsService, Layout::OpenClip];

    /// What flags and manifests call it.
    pub fn name(self) -> &'static str {
        match self {
            Layout::Plain => "plain",
            Layout::Hf => "hf",
            Layout::Immich => "immich",
            Layout::ImmichUint8 => "immich-uint8",
            Layout::ClipAsService => "clip-as-service",
            Layout::OpenClip => "open_clip",
        }
    }

    /// Whose folder it is, in a few words.
    pub fn summary(self) -> &'static str {
        match self {
            Layout::Plain => "two towers side by side",
            Layout::Hf => "transformers.js, optimum, fastembed",
            Layout::Immich => "Immich, fed floats",
            Layout::ImmichUint8 => "Immich, fed bytes (its newer contract)",
            Layout::ClipAsService => "clip-as-service (clip-server)",
            Layout::OpenClip => "a repository that open_clip loads, with ONNX towers in onnx/",
        }
    }

    /// By name.
    pub fn parse(name: &str) -> Option<Layout> {
        Layout::ALL.into_iter().find(|layout| layout.name() == name)
    }

    /// Whether embeddings are normalised inside, as its runtime expects; either way where nothing is said.
    pub fn normalizes(self) -> Option<bool> {
        match self {
            Layout::Plain | Layout::OpenClip => None,
            // They normalise themselves, and `pooler_output` is what the model gives.
            Layout::Hf => Some(false),
            Layout::Immich | Layout::ImmichUint8 => Some(true),
            Layout::ClipAsService => Some(false),
        }
    }

    /// Names, element types and axis order of the inputs and outputs that the layout's runtime expects of this family.
    pub fn ports(self, family: Family) -> Ports {
        match self {
            Layout::Plain | Layout::OpenClip => Ports::PLAIN,
            Layout::ClipAsService => Ports { int32: true, mask: Some("attention_mask"), ..Ports::PLAIN },
            Layout::Hf if family.is_siglip() => {
                Ports { image_embeds: "pooler_output", text_embeds: "pooler_output", hidden: true, ..Ports::PLAIN }
            }
            Layout::Hf => Ports::PLAIN,
            Layout::Immich => Ports {
                image: "image",
                pixels: PixelFormat::Float,
                image_embeds: "embedding",
                tokens: "text",
                text_embeds: "embedding",
                int32: true,
                ..Ports::PLAIN
            },
            Layout::ImmichUint8 => Ports {
                pixels: PixelFormat::Bytes { last: true, alpha: false, resize: false },
                image_embeds: "image_embedding",
                text_embeds: "text_embedding",
                ..Layout::Immich.ports(family)
            },
        }
    }

    /// Where a file goes that is written as `vision_model….onnx`, `text_model….onnx`, or what both towers are in,
    /// or its weights.
    pub fn place(self, file: &str) -> PathBuf {
        if matches!(self, Layout::Hf | Layout::OpenClip) {
            return PathBuf::from("onnx").join(file);
        }
        let (image, rest) = match (file.strip_prefix("vision_model"), file.strip_prefix("text_model")) {
            (Some(rest), _) => (true, rest),
            (_, Some(rest)) => (false, rest),
            _ => return PathBuf::from(file),
        };
        // Weights beside a model are named in it: they keep their name.
        let is_model = file.ends_with(".onnx");
        match self {
            Layout::Plain | Layout::Hf | Layout::OpenClip => PathBuf::from(file),
            Layout::Immich | Layout::ImmichUint8 => {
                let folder = PathBuf::from(if image { "visual" } else { "textual" });
                if is_model { folder.join(format!("model{rest}")) } else { folder.join(file) }
            }
            Layout::ClipAsService if is_model => {
                PathBuf::from(format!("{}{rest}", if image { "visual" } else { "textual" }))
            }
            Layout::ClipAsService => PathBuf::from(file),
        }
    }

    /// Where the tokenizer's files go; none where its runtime has its own.
    pub fn tokenizer_folder(self) -> Option<&'static str> {
        match self {
            Layout::Plain | Layout::Hf | Layout::OpenClip => Some(""),
            Layout::Immich | Layout::ImmichUint8 => Some("textual"),
            Layout::ClipAsService => None,
        }
    }

    /// What its runtime cannot do to photographs that the model needs; None where all is well, or where files say
    /// nothing of pixels.
    pub fn lacks(self, config: &ModelConfig) -> Option<String> {
        match self {
            Layout::Plain | Layout::ClipAsService => None,
            Layout::Hf => hf::lacks(config),
            Layout::Immich | Layout::ImmichUint8 | Layout::OpenClip => open_clip::lacks(config),
        }
    }

    /// What else stands in the folder: paths and contents.
    pub fn files(self, config: &ModelConfig) -> Vec<(PathBuf, serde_json::Value)> {
        match self {
            Layout::Plain | Layout::ClipAsService => vec![],
            // What open_clip has no model for is refused before.
            Layout::OpenClip => open_clip::hub_config(config)
                .map(|json| vec![(PathBuf::from("open_clip_config.json"), json)])
                .unwrap_or_default(),
            Layout::Hf => {
                let pixels = config.has(Modality::Image);
                let pixels = pixels.then(|| (PathBuf::from("preprocessor_config.json"), hf::preprocessor(config)));
                std::iter::once((PathBuf::from("config.json"), hf::config(config))).chain(pixels).collect()
            }
            Layout::Immich | Layout::ImmichUint8 => vec![
                (PathBuf::from("config.json"), open_clip::model_cfg(config)),
                (PathBuf::from("visual/preprocess_cfg.json"), open_clip::preprocess_cfg(config)),
            ],
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn files_go_where_runtimes_look() {
        let place = |layout: Layout, file: &str| layout.place(file).display().to_string();
        assert_eq!(place(Layout::Hf, "vision_model_q4f16.onnx"), "onnx/vision_model_q4f16.onnx");
        assert_eq!(place(Layout::Immich, "text_model.onnx"), "textual/model.onnx");
        assert_eq!(place(Layout::Immich, "vision_model.onnx_data"), "visual/vision_model.onnx_data");
        assert_eq!(place(Layout::ClipAsService, "vision_model.onnx"), "visual.onnx");
        assert_eq!(place(Layout::Plain, "text_model_int8.onnx"), "text_model_int8.onnx");
    }
}
