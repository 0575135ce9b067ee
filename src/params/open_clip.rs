//! open_clip's names: a timm ViT trunk beside open_clip's own text transformer
//! (`CustomTextCLIP`), the form of `ViT-*-SigLIP*` and what `load_big_vision_weights` fills.
//!
//! PyTorch layouts throughout, so every row is `Plain`. Run backwards, these tables write the
//! files of `clip-onnx convert`.
//! Source: `open_clip/src/open_clip/{timm_model,transformer}.py`, timm's `vision_transformer.py`.

use super::keymap::Layout::{Plain, Scalar};
use super::keymap::{KeyMap, Row, row};
use crate::config::Naming;

/// timm's block.
const BLOCK: &[Row] = &[
    row("norm1.weight", "norm1.weight", Plain),
    row("norm1.bias", "norm1.bias", Plain),
    row("attn.qkv.weight", "attn.qkv.weight", Plain),
    row("attn.qkv.bias", "attn.qkv.bias", Plain),
    row("attn.proj.weight", "attn.proj.weight", Plain),
    row("attn.proj.bias", "attn.proj.bias", Plain),
    row("norm2.weight", "norm2.weight", Plain),
    row("norm2.bias", "norm2.bias", Plain),
    row("mlp.fc1.weight", "mlp.fc1.weight", Plain),
    row("mlp.fc1.bias", "mlp.fc1.bias", Plain),
    row("mlp.fc2.weight", "mlp.fc2.weight", Plain),
    row("mlp.fc2.bias", "mlp.fc2.bias", Plain),
];

/// open_clip's own block.
const RESBLOCK: &[Row] = &[
    row("ln_1.weight", "norm1.weight", Plain),
    row("ln_1.bias", "norm1.bias", Plain),
    row("attn.in_proj_weight", "attn.qkv.weight", Plain),
    row("attn.in_proj_bias", "attn.qkv.bias", Plain),
    row("attn.out_proj.weight", "attn.proj.weight", Plain),
    row("attn.out_proj.bias", "attn.proj.bias", Plain),
    row("ln_2.weight", "norm2.weight", Plain),
    row("ln_2.bias", "norm2.bias", Plain),
    row("mlp.c_fc.weight", "mlp.fc1.weight", Plain),
    row("mlp.c_fc.bias", "mlp.fc1.bias", Plain),
    row("mlp.c_proj.weight", "mlp.fc2.weight", Plain),
    row("mlp.c_proj.bias", "mlp.fc2.bias", Plain),
];

const TRUNK: &[Row] = &[
    row("patch_embed.proj.weight", "patch_embed.proj.weight", Plain),
    row("patch_embed.proj.bias", "patch_embed.proj.bias", Plain),
    row("pos_embed", "pos_embed", Plain),
    row("norm.weight", "norm.weight", Plain),
    row("norm.bias", "norm.bias", Plain),
    row("attn_pool.latent", "attn_pool.latent", Plain),
    row("attn_pool.q.weight", "attn_pool.q.weight", Plain),
    row("attn_pool.q.bias", "attn_pool.q.bias", Plain),
    row("attn_pool.kv.weight", "attn_pool.kv.weight", Plain),
    row("attn_pool.kv.bias", "attn_pool.kv.bias", Plain),
    row("attn_pool.proj.weight", "attn_pool.proj.weight", Plain),
    row("attn_pool.proj.bias", "attn_pool.proj.bias", Plain),
    row("attn_pool.norm.weight", "attn_pool.norm.weight", Plain),
    row("attn_pool.norm.bias", "attn_pool.norm.bias", Plain),
    row("attn_pool.mlp.fc1.weight", "attn_pool.mlp.fc1.weight", Plain),
    row("attn_pool.mlp.fc1.bias", "attn_pool.mlp.fc1.bias", Plain),
    row("attn_pool.mlp.fc2.weight", "attn_pool.mlp.fc2.weight", Plain),
    row("attn_pool.mlp.fc2.bias", "attn_pool.mlp.fc2.bias", Plain),
];

const TEXT: &[Row] = &[
    row("token_embedding.weight", "token_embedding.weight", Plain),
    row("positional_embedding", "pos_embed", Plain),
    row("ln_final.weight", "norm.weight", Plain),
    row("ln_final.bias", "norm.bias", Plain),
    row("text_projection.weight", "head.weight", Plain),
    row("text_projection.bias", "head.bias", Plain),
];

const ROOT: &[Row] = &[
    row("logit_scale", "logit_scale", Scalar),
    row("logit_bias", "logit_bias", Scalar),
    // `timm_proj: linear`: a projection outside the trunk.
    row("visual.head.proj.weight", "visual.head.weight", Plain),
    row("visual.head.proj.bias", "visual.head.bias", Plain),
];

pub fn timm_vit() -> KeyMap {
    KeyMap::new("open_clip", Naming::OpenClip)
        .recognised_by("visual.trunk.patch_embed.proj.weight")
        .under("", "", ROOT)
        .under("visual.trunk.", "visual.", TRUNK)
        .under("visual.trunk.blocks.{i}.", "visual.blocks.{i}.", BLOCK)
        .under("text.", "text.", TEXT)
        .under("text.transformer.resblocks.{i}.", "text.blocks.{i}.", RESBLOCK)
}
