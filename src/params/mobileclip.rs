//! Apple's names: MobileCLIP S0, S1, S2, B and B-LT as `ml-mobileclip` publishes them.
//!
//! `Linear`s and convolutions are already PyTorch's. CLIP's bare projection matrices are stored
//! (in, out) and used as `x @ P`, so their rows say `Dense`.
//! Source: `mobileclip/{image_encoder,text_encoder}.py`, `mobileclip/models/{mci,vit}.py`,
//! `mobileclip/modules/`.

use super::keymap::Stored::{Dense, Plain, Scalar, Unsqueezed, UnsqueezedTwice};
use super::keymap::{
    CONV_BN, KeyMap, Row, Section, affine, batch_norm, layer_scale, row, same, same_affine, same_batch_norm, within,
};
use crate::config::Naming;

/// A squeeze-and-excite module under both of its names.
const SQUEEZE_EXCITE: &[Row] =
    &[same_affine("fc1"), same_affine("fc2"), affine("reduce", "fc1"), affine("expand", "fc2")];

/// A MobileOne block: branches of the training form, and the folded form.
const MOBILE_ONE: &[Row] = &[
    within("rbr_conv.0.", "conv_kxk.0.", CONV_BN),
    within("rbr_scale.", "conv_scale.", CONV_BN),
    batch_norm("rbr_skip", "identity"),
    same_affine("reparam_conv"),
    within("se.", "se.", SQUEEZE_EXCITE),
];

/// A RepMixer or attention block of FastViT; the RepMixer ones are S0's text tower's too.
const FASTVIT_BLOCK: &[Row] = &[
    layer_scale("layer_scale", "layer_scale"),
    layer_scale("layer_scale_1", "layer_scale_1"),
    layer_scale("layer_scale_2", "layer_scale_2"),
    same_batch_norm("norm"),
    within("token_mixer.mixer.", "token_mixer.mixer.", MOBILE_ONE),
    batch_norm("token_mixer.norm.rbr_skip", "token_mixer.norm.identity"),
    layer_scale("token_mixer.layer_scale", "token_mixer.layer_scale"),
    same_affine("token_mixer.reparam_conv"),
    same("token_mixer.qkv.weight"),
    same_affine("token_mixer.proj"),
    within("convffn.conv.", "mlp.conv.", CONV_BN),
    affine("convffn.fc1", "mlp.fc1"),
    affine("convffn.fc2", "mlp.fc2"),
];

const DOWNSAMPLE: &[Row] = &[
    within("proj.0.lkb_origin.", "downsample.proj.0.large_conv.", CONV_BN),
    within("proj.0.small_conv.", "downsample.proj.0.small_conv.", CONV_BN),
    affine("proj.0.lkb_reparam", "downsample.proj.0.reparam_conv"),
    within("proj.0.se.", "downsample.proj.0.se.", SQUEEZE_EXCITE),
    within("proj.1.", "downsample.proj.1.", MOBILE_ONE),
];

/// FastViT. The network is one flat list: blocks, downsampling, blocks, …; the position convolution is before the
/// last blocks.
const FASTVIT: &[Row] = &[
    within("patch_embed.{i}.", "stem.{i}.", MOBILE_ONE),
    within("network.0.{i}.", "stages.0.blocks.{i}.", FASTVIT_BLOCK),
    within("network.1.", "stages.1.", DOWNSAMPLE),
    within("network.2.{i}.", "stages.1.blocks.{i}.", FASTVIT_BLOCK),
    within("network.3.", "stages.2.", DOWNSAMPLE),
    within("network.4.{i}.", "stages.2.blocks.{i}.", FASTVIT_BLOCK),
    within("network.5.", "stages.3.", DOWNSAMPLE),
    affine("network.6.pe", "stages.3.pos_emb.pos_enc"),
    affine("network.6.reparam_conv", "stages.3.pos_emb.reparam_conv"),
    within("network.7.{i}.", "stages.3.blocks.{i}.", FASTVIT_BLOCK),
    within("conv_exp.", "final_conv.", MOBILE_ONE),
    row("head.proj", "head.weight", Dense),
];

/// Apple's transformer block, of ViT-B and of every text tower.
const BLOCK: &[Row] = &[
    affine("pre_norm_mha.0", "norm1"),
    affine("pre_norm_mha.1.qkv_proj", "attn.qkv"),
    affine("pre_norm_mha.1.out_proj", "attn.proj"),
    affine("pre_norm_ffn.0", "norm2"),
    affine("pre_norm_ffn.1", "mlp.fc1"),
    affine("pre_norm_ffn.4", "mlp.fc2"),
];

/// ViT-B.
const VIT: &[Row] = &[
    affine("patch_emb.{i}.block.conv", "patch_embed.backbone.{i}.conv"),
    batch_norm("patch_emb.{i}.block.norm", "patch_embed.backbone.{i}.bn"),
    same("cls_token"),
    row("pos_embed.pos_embed.pos_embed", "pos_embed", Unsqueezed),
    within("transformer.{i}.", "blocks.{i}.", BLOCK),
    affine("post_transformer_norm", "norm"),
    row("classifier.proj", "head.weight", Dense),
];

const TEXT: &[Row] = &[
    affine("final_layer_norm", "norm"),
    row("embedding_layer.weight", "token_embedding.weight", Plain),
    row("positional_embedding.pos_embed.pos_embed", "pos_embed", UnsqueezedTwice),
    within("transformer.{i}.", "blocks.{i}.", BLOCK),
    // S0's first and last block are RepMixers.
    within("transformer.{i}.", "blocks.{i}.", FASTVIT_BLOCK),
    row("projection_layer", "head.weight", Dense),
];

const LOGITS: &[Row] = &[row("logit_scale", "logit_scale", Scalar)];

pub fn apple() -> KeyMap {
    let image = "image_encoder.model.";
    let image = Section::default()
        .under(image, "visual.", VIT)
        .under(image, "visual.", FASTVIT)
        .recognised_by("image_encoder.model.head.proj")
        .recognised_by("image_encoder.model.classifier.proj")
        .ignore("*.num_batches_tracked");
    let text =
        Section::default().under("text_encoder.", "text.", TEXT).recognised_by("text_encoder.embedding_layer.weight");
    // The text tower first: every variant is recognised by it, and errors name its mark.
    KeyMap::new("mobileclip", Naming::Apple, [Section::of(LOGITS), text, image])
}
