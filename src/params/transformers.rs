//! transformers' names: CLIPModel, SiglipModel and Siglip2Model, as `save_pretrained` writes them.
//!
//! Both towers have the same blocks. `Linear`s are PyTorch's; the MAP head's attention is torch's
//! own `MultiheadAttention`, with query, key and value in one weight, of which the canonical form
//! has the query in a tensor of its own.
//! Source: transformers `models/{clip,siglip,siglip2}/modeling_*.py`.

use super::keymap::Stored::{
    FirstOfThree, FlatPatch, LastTwoOfThree, Plain, Scalar, SquareGrid, Squeezed, SqueezedTwice,
};
use super::keymap::{KeyMap, Row, Section, affine, row, rows_from, same_affine, within};
use crate::config::Naming;

const BLOCK: &[Row] = &[
    affine("layer_norm1", "norm1"),
    affine("self_attn.{q_proj,k_proj,v_proj}", "attn.qkv"),
    affine("self_attn.out_proj", "attn.proj"),
    affine("layer_norm2", "norm2"),
    same_affine("mlp.fc1"),
    same_affine("mlp.fc2"),
];

const IMAGE: &[Row] = &[
    row("embeddings.class_embedding", "cls_token", SqueezedTwice),
    // Spelled so upstream.
    affine("pre_layrnorm", "norm_pre"),
    within("encoder.layers.{i}.", "blocks.{i}.", BLOCK),
    // AltCLIP, as transformers writes it since 5.
    within("encoder.layer.{i}.", "blocks.{i}.", BLOCK),
    affine("post_layernorm", "norm"),
    row("embeddings.patch_embedding.bias", "patch_embed.proj.bias", Plain),
    within("head.", "attn_pool.", MAP_HEAD),
];

/// Patches by a convolution, positions as a list.
const FIXED: &[Row] = &[
    row("embeddings.patch_embedding.weight", "patch_embed.proj.weight", Plain),
    row("embeddings.position_embedding.weight", "pos_embed", Squeezed),
];

/// Patches by a matrix, positions as a square grid written as a list: Siglip2Model.
const NAFLEX: &[Row] = &[
    row("embeddings.patch_embedding.weight", "patch_embed.proj.weight", FlatPatch),
    row("embeddings.position_embedding.weight", "pos_embed", SquareGrid),
];

const MAP_HEAD: &[Row] = &[
    row("probe", "latent", Plain),
    row("attention.in_proj_weight", "q.weight", FirstOfThree),
    row("attention.in_proj_bias", "q.bias", FirstOfThree),
    row("attention.in_proj_weight", "kv.weight", LastTwoOfThree),
    row("attention.in_proj_bias", "kv.bias", LastTwoOfThree),
    affine("attention.out_proj", "proj"),
    affine("layernorm", "norm"),
    same_affine("mlp.fc1"),
    same_affine("mlp.fc2"),
];

const TEXT: &[Row] = &[
    row("embeddings.token_embedding.weight", "token_embedding.weight", Plain),
    row("embeddings.position_embedding.weight", "pos_embed", Plain),
    rows_from(20, "embeddings.position_embedding_res.weight", "pos_embed", Plain),
    within("encoder.layers.{i}.", "blocks.{i}.", BLOCK),
    affine("final_layer_norm", "norm"),
    same_affine("head"),
];

/// Outside both towers; CLIP's projections are there, without bias.
const ROOT: &[Row] = &[
    row("logit_scale", "logit_scale", Scalar),
    row("logit_bias", "logit_bias", Scalar),
    row("visual_projection.weight", "visual.head.weight", Plain),
    row("text_projection.weight", "text.head.weight", Plain),
];

const PATCHES: &str = "vision_model.embeddings.patch_embedding.weight";

/// CLIPModel and SiglipModel.
pub fn fixed() -> KeyMap {
    let text = text().recognised_by("text_model.embeddings.token_embedding.weight");
    map(image(FIXED).recognised_by(PATCHES), text)
}

/// Siglip2Model, which has a matrix where the others have a convolution.
pub fn naflex() -> KeyMap {
    map(image(NAFLEX).recognised_by_rank(PATCHES, 2), text())
}

fn map(image: Section, text: Section) -> KeyMap {
    KeyMap::new("transformers", Naming::Transformers, [Section::of(ROOT), image, text])
}

fn image(embeddings: &[Row]) -> Section {
    Section::default()
        .under("vision_model.", "visual.", IMAGE)
        .under("vision_model.", "visual.", embeddings)
        // A buffer of 0, 1, 2, … in old files.
        .ignore("vision_model.embeddings.position_ids")
}

fn text() -> Section {
    Section::default().under("text_model.", "text.", TEXT).ignore("text_model.embeddings.position_ids")
}
