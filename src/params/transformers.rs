//! transformers' names: CLIPModel, SiglipModel and Siglip2Model, as `save_pretrained` writes them.
//!
//! Both towers have the same blocks. `Linear`s are PyTorch's; the MAP head's attention is torch's
//! own `MultiheadAttention`, with query, key and value in one weight, of which the canonical form
//! keeps the query apart.
//! Source: transformers `models/{clip,siglip,siglip2}/modeling_*.py`.

use super::keymap::Stored::{
    FirstOfThree, FlatPatch, LastTwoOfThree, Plain, Scalar, SquareGrid, Squeezed, SqueezedTwice,
};
use super::keymap::{KeyMap, Row, row, rows_from};
use crate::config::Naming;

const BLOCK: &[Row] = &[
    row("layer_norm1.weight", "norm1.weight", Plain),
    row("layer_norm1.bias", "norm1.bias", Plain),
    row("self_attn.{q_proj,k_proj,v_proj}.weight", "attn.qkv.weight", Plain),
    row("self_attn.{q_proj,k_proj,v_proj}.bias", "attn.qkv.bias", Plain),
    row("self_attn.out_proj.weight", "attn.proj.weight", Plain),
    row("self_attn.out_proj.bias", "attn.proj.bias", Plain),
    row("layer_norm2.weight", "norm2.weight", Plain),
    row("layer_norm2.bias", "norm2.bias", Plain),
    row("mlp.fc1.weight", "mlp.fc1.weight", Plain),
    row("mlp.fc1.bias", "mlp.fc1.bias", Plain),
    row("mlp.fc2.weight", "mlp.fc2.weight", Plain),
    row("mlp.fc2.bias", "mlp.fc2.bias", Plain),
];

const IMAGE: &[Row] = &[
    row("embeddings.class_embedding", "cls_token", SqueezedTwice),
    // Spelled so upstream.
    row("pre_layrnorm.weight", "norm_pre.weight", Plain),
    row("pre_layrnorm.bias", "norm_pre.bias", Plain),
    row("post_layernorm.weight", "norm.weight", Plain),
    row("post_layernorm.bias", "norm.bias", Plain),
    row("embeddings.patch_embedding.bias", "patch_embed.proj.bias", Plain),
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
    row("attention.out_proj.weight", "proj.weight", Plain),
    row("attention.out_proj.bias", "proj.bias", Plain),
    row("layernorm.weight", "norm.weight", Plain),
    row("layernorm.bias", "norm.bias", Plain),
    row("mlp.fc1.weight", "mlp.fc1.weight", Plain),
    row("mlp.fc1.bias", "mlp.fc1.bias", Plain),
    row("mlp.fc2.weight", "mlp.fc2.weight", Plain),
    row("mlp.fc2.bias", "mlp.fc2.bias", Plain),
];

const TEXT: &[Row] = &[
    row("embeddings.token_embedding.weight", "token_embedding.weight", Plain),
    row("embeddings.position_embedding.weight", "pos_embed", Plain),
    rows_from(20, "embeddings.position_embedding_res.weight", "pos_embed", Plain),
    row("final_layer_norm.weight", "norm.weight", Plain),
    row("final_layer_norm.bias", "norm.bias", Plain),
    row("head.weight", "head.weight", Plain),
    row("head.bias", "head.bias", Plain),
];

/// Beside both towers; CLIP's projections are outside them, without bias.
const ROOT: &[Row] = &[
    row("logit_scale", "logit_scale", Scalar),
    row("logit_bias", "logit_bias", Scalar),
    row("visual_projection.weight", "visual.head.weight", Plain),
    row("text_projection.weight", "text.head.weight", Plain),
];

const PATCHES: &str = "vision_model.embeddings.patch_embedding.weight";

/// CLIPModel and SiglipModel.
pub fn fixed() -> KeyMap {
    towers(FIXED).recognised_by(PATCHES).recognised_by("text_model.embeddings.token_embedding.weight")
}

/// Siglip2Model, which has a matrix where the others have a convolution.
pub fn naflex() -> KeyMap {
    towers(NAFLEX).recognised_by_rank(PATCHES, 2)
}

fn towers(embeddings: &'static [Row]) -> KeyMap {
    KeyMap::new("transformers", Naming::Transformers)
        .under("", "", ROOT)
        .under("vision_model.", "visual.", IMAGE)
        .under("vision_model.", "visual.", embeddings)
        .under("vision_model.encoder.layers.{i}.", "visual.blocks.{i}.", BLOCK)
        .under("vision_model.head.", "visual.attn_pool.", MAP_HEAD)
        .under("text_model.", "text.", TEXT)
        .under("text_model.encoder.layers.{i}.", "text.blocks.{i}.", BLOCK)
        // Buffers of 0, 1, 2, … in files of old.
        .ignore("vision_model.embeddings.position_ids")
        .ignore("text_model.embeddings.position_ids")
}
