//! big_vision's names: SigLIP, SigLIP 2, NaFlex and LiT, as Google publishes them in `.npz`.
//!
//! Flax stores kernels in-first: Dense (in, out), Conv (h, w, in, out), attention
//! (in, heads, head_dim) going in and (heads, head_dim, out) coming out.
//! Source: `big_vision/models/{vit,proj/image_text/two_towers}.py` and their `load` functions,
//! which also read the older spellings.

use super::keymap::Stored::{Dense, HeadsBias, HeadsIn, HeadsOut, Patch, Plain, Scalar, Unsqueezed};
use super::keymap::{KeyMap, Row, Section, added, row, stacked, within};
use crate::config::Naming;

/// Flax's `LayerNorm`.
const fn norm(source: &'static str, canonical: &'static str) -> Row {
    const TENSORS: &[Row] = &[row("/scale", ".weight", Plain), row("/bias", ".bias", Plain)];
    within(source, canonical, TENSORS)
}

/// Flax's `Dense`.
const fn linear(source: &'static str, canonical: &'static str) -> Row {
    const TENSORS: &[Row] = &[row("/kernel", ".weight", Dense), row("/bias", ".bias", Plain)];
    within(source, canonical, TENSORS)
}

const BLOCK: &[Row] = &[
    norm("LayerNorm_0", "norm1"),
    row("MultiHeadDotProductAttention_0/{query,key,value}/kernel", "attn.qkv.weight", HeadsIn),
    row("MultiHeadDotProductAttention_0/{query,key,value}/bias", "attn.qkv.bias", HeadsBias),
    row("MultiHeadDotProductAttention_0/out/kernel", "attn.proj.weight", HeadsOut),
    row("MultiHeadDotProductAttention_0/out/bias", "attn.proj.bias", Plain),
    norm("LayerNorm_1", "norm2"),
    linear("MlpBlock_0/Dense_0", "mlp.fc1"),
    linear("MlpBlock_0/Dense_1", "mlp.fc2"),
];

const MAP_HEAD: &[Row] = &[
    row("probe", "latent", Plain),
    row("MultiHeadDotProductAttention_0/query/kernel", "q.weight", HeadsIn),
    row("MultiHeadDotProductAttention_0/query/bias", "q.bias", HeadsBias),
    row("MultiHeadDotProductAttention_0/{key,value}/kernel", "kv.weight", HeadsIn),
    row("MultiHeadDotProductAttention_0/{key,value}/bias", "kv.bias", HeadsBias),
    row("MultiHeadDotProductAttention_0/out/kernel", "proj.weight", HeadsOut),
    row("MultiHeadDotProductAttention_0/out/bias", "proj.bias", Plain),
    norm("LayerNorm_0", "norm"),
    linear("MlpBlock_0/Dense_0", "mlp.fc1"),
    linear("MlpBlock_0/Dense_1", "mlp.fc2"),
];

const IMAGE: &[Row] = &[
    row("embedding/kernel", "patch_embed.proj.weight", Patch),
    row("embedding/bias", "patch_embed.proj.bias", Plain),
    // [1, N, D]; NaFlex [rows, columns, D].
    row("pos_embedding", "pos_embed", Plain),
    // The original ViT had its positions in a module, and until 2022 the encoder had them.
    row("Transformer/posembed_input/pos_embedding", "pos_embed", Plain),
    row("Transformer/pos_embedding", "pos_embed", Plain),
    norm("Transformer/encoder_norm", "norm"),
    linear("head", "head"),
    within("Transformer/encoderblock_{i}/", "blocks.{i}.", BLOCK),
    // nn.scan: all blocks on axis 0.
    stacked("Transformer/encoderblock/", "blocks.{i}.", BLOCK),
    within("MAPHead_0/", "attn_pool.", MAP_HEAD),
    // The MAP head was inlined while ViT-G was developed.
    within("", "attn_pool.", MAP_HEAD),
];

const TEXT: &[Row] = &[
    row("Embed_0/embedding", "token_embedding.weight", Plain),
    row("pos_embedding", "pos_embed", Unsqueezed),
    // Text towers trained while the encoder still added positions of its own: both are used.
    added("Encoder_0/pos_embedding", "pos_embed", Unsqueezed),
    norm("Encoder_0/encoder_norm", "norm"),
    linear("head", "head"),
    within("Encoder_0/encoderblock_{i}/", "blocks.{i}.", BLOCK),
    stacked("Encoder_0/encoderblock/", "blocks.{i}.", BLOCK),
];

const LOGITS: &[Row] = &[
    // The temperature is stored as its logarithm, as in CLIP: two_towers.py applies exp.
    row("t", "logit_scale", Scalar),
    row("b", "logit_bias", Scalar),
];

pub fn siglip() -> KeyMap {
    let image = Section::default()
        .under("img/", "visual.", IMAGE)
        .recognised_by("img/embedding/kernel")
        // Training checkpoints hold the optimizer's state and clock in addition to the parameters.
        .ignore("opt/*")
        .ignore("chrono/*");
    let text = Section::default().under("txt/", "text.", TEXT).recognised_by("txt/Embed_0/embedding");
    KeyMap::new("big_vision", Naming::BigVision, [Section::of(LOGITS), image, text])
        .optional_root("params/")
        .optional_root("opt/target/")
}
