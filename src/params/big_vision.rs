//! big_vision's names: SigLIP, SigLIP 2, NaFlex and LiT, as Google publishes them in `.npz`.
//!
//! Flax stores kernels in-first: Dense (in, out), Conv (h, w, in, out), attention
//! (in, heads, head_dim) going in and (heads, head_dim, out) coming out.
//! Source: `big_vision/models/{vit,proj/image_text/two_towers}.py` and their `load` functions,
//! which also tell the older spellings.

use super::keymap::Stored::{Dense, HeadsBias, HeadsIn, HeadsOut, Patch, Plain, Scalar, Unsqueezed};
use super::keymap::{KeyMap, Row, added, row};
use crate::config::Naming;

const BLOCK: &[Row] = &[
    row("LayerNorm_0/scale", "norm1.weight", Plain),
    row("LayerNorm_0/bias", "norm1.bias", Plain),
    row("MultiHeadDotProductAttention_0/{query,key,value}/kernel", "attn.qkv.weight", HeadsIn),
    row("MultiHeadDotProductAttention_0/{query,key,value}/bias", "attn.qkv.bias", HeadsBias),
    row("MultiHeadDotProductAttention_0/out/kernel", "attn.proj.weight", HeadsOut),
    row("MultiHeadDotProductAttention_0/out/bias", "attn.proj.bias", Plain),
    row("LayerNorm_1/scale", "norm2.weight", Plain),
    row("LayerNorm_1/bias", "norm2.bias", Plain),
    row("MlpBlock_0/Dense_0/kernel", "mlp.fc1.weight", Dense),
    row("MlpBlock_0/Dense_0/bias", "mlp.fc1.bias", Plain),
    row("MlpBlock_0/Dense_1/kernel", "mlp.fc2.weight", Dense),
    row("MlpBlock_0/Dense_1/bias", "mlp.fc2.bias", Plain),
];

const MAP_HEAD: &[Row] = &[
    row("probe", "latent", Plain),
    row("MultiHeadDotProductAttention_0/query/kernel", "q.weight", HeadsIn),
    row("MultiHeadDotProductAttention_0/query/bias", "q.bias", HeadsBias),
    row("MultiHeadDotProductAttention_0/{key,value}/kernel", "kv.weight", HeadsIn),
    row("MultiHeadDotProductAttention_0/{key,value}/bias", "kv.bias", HeadsBias),
    row("MultiHeadDotProductAttention_0/out/kernel", "proj.weight", HeadsOut),
    row("MultiHeadDotProductAttention_0/out/bias", "proj.bias", Plain),
    row("LayerNorm_0/scale", "norm.weight", Plain),
    row("LayerNorm_0/bias", "norm.bias", Plain),
    row("MlpBlock_0/Dense_0/kernel", "mlp.fc1.weight", Dense),
    row("MlpBlock_0/Dense_0/bias", "mlp.fc1.bias", Plain),
    row("MlpBlock_0/Dense_1/kernel", "mlp.fc2.weight", Dense),
    row("MlpBlock_0/Dense_1/bias", "mlp.fc2.bias", Plain),
];

const IMAGE: &[Row] = &[
    row("embedding/kernel", "patch_embed.proj.weight", Patch),
    row("embedding/bias", "patch_embed.proj.bias", Plain),
    // [1, N, D]; NaFlex [rows, columns, D].
    row("pos_embedding", "pos_embed", Plain),
    // The original ViT had its positions in a module, and until 2022 the encoder had them.
    row("Transformer/posembed_input/pos_embedding", "pos_embed", Plain),
    row("Transformer/pos_embedding", "pos_embed", Plain),
    row("Transformer/encoder_norm/scale", "norm.weight", Plain),
    row("Transformer/encoder_norm/bias", "norm.bias", Plain),
    row("head/kernel", "head.weight", Dense),
    row("head/bias", "head.bias", Plain),
];

const TEXT: &[Row] = &[
    row("Embed_0/embedding", "token_embedding.weight", Plain),
    row("pos_embedding", "pos_embed", Unsqueezed),
    // Text towers trained while the encoder still added positions of its own: both are used.
    added("Encoder_0/pos_embedding", "pos_embed", Unsqueezed),
    row("Encoder_0/encoder_norm/scale", "norm.weight", Plain),
    row("Encoder_0/encoder_norm/bias", "norm.bias", Plain),
    row("head/kernel", "head.weight", Dense),
    row("head/bias", "head.bias", Plain),
];

const LOGITS: &[Row] = &[
    // The temperature is stored as its logarithm, as in CLIP: two_towers.py applies exp.
    row("t", "logit_scale", Scalar),
    row("b", "logit_bias", Scalar),
];

pub fn siglip() -> KeyMap {
    KeyMap::new("big_vision", Naming::BigVision)
        .recognised_by("img/embedding/kernel")
        .recognised_by("txt/Embed_0/embedding")
        .optional_root("params/")
        .optional_root("opt/target/")
        .under("", "", LOGITS)
        .under("img/", "visual.", IMAGE)
        .under("img/Transformer/encoderblock_{i}/", "visual.blocks.{i}.", BLOCK)
        // nn.scan: depth is axis 0.
        .stacked("img/Transformer/encoderblock/", "visual.blocks.{i}.", BLOCK)
        .under("img/MAPHead_0/", "visual.attn_pool.", MAP_HEAD)
        // The MAP head was inlined while ViT-G was developed.
        .under("img/", "visual.attn_pool.", MAP_HEAD)
        .under("txt/", "text.", TEXT)
        .under("txt/Encoder_0/encoderblock_{i}/", "text.blocks.{i}.", BLOCK)
        .stacked("txt/Encoder_0/encoderblock/", "text.blocks.{i}.", BLOCK)
        // Training checkpoints hold the optimizer's state and clock beside the parameters.
        .ignore("opt/*")
        .ignore("chrono/*")
}
