//! Apple's names: MobileCLIP S0, S1, S2, B and B-LT as `ml-mobileclip` publishes them.
//!
//! `Linear`s and convolutions are already PyTorch's. CLIP's bare projection matrices are stored
//! (in, out) and used as `x @ P`, so their rows say `Dense`.
//! Source: `mobileclip/{image_encoder,text_encoder}.py`, `mobileclip/models/{mci,vit}.py`,
//! `mobileclip/modules/`.

use super::keymap::Stored::{Dense, Plain, Scalar, Unsqueezed, UnsqueezedTwice};
use super::keymap::{BATCH_NORM, CONV, KeyMap, Row, row};
use crate::config::Naming;

const SQUEEZE_EXCITE: &[Row] = &[
    row("fc1.weight", "fc1.weight", Plain),
    row("fc1.bias", "fc1.bias", Plain),
    row("fc2.weight", "fc2.weight", Plain),
    row("fc2.bias", "fc2.bias", Plain),
    row("reduce.weight", "fc1.weight", Plain),
    row("reduce.bias", "fc1.bias", Plain),
    row("expand.weight", "fc2.weight", Plain),
    row("expand.bias", "fc2.bias", Plain),
];

const LAYER_SCALES: &[Row] = &[
    row("layer_scale", "layer_scale.gamma", Plain),
    row("token_mixer.layer_scale", "token_mixer.layer_scale.gamma", Plain),
    row("layer_scale_1", "layer_scale_1.gamma", Plain),
    row("layer_scale_2", "layer_scale_2.gamma", Plain),
    row("token_mixer.qkv.weight", "token_mixer.qkv.weight", Plain),
    row("token_mixer.proj.weight", "token_mixer.proj.weight", Plain),
    row("token_mixer.proj.bias", "token_mixer.proj.bias", Plain),
];

/// Apple's transformer block, of ViT-B and of every text tower.
const BLOCK: &[Row] = &[
    row("pre_norm_mha.0.weight", "norm1.weight", Plain),
    row("pre_norm_mha.0.bias", "norm1.bias", Plain),
    row("pre_norm_mha.1.qkv_proj.weight", "attn.qkv.weight", Plain),
    row("pre_norm_mha.1.qkv_proj.bias", "attn.qkv.bias", Plain),
    row("pre_norm_mha.1.out_proj.weight", "attn.proj.weight", Plain),
    row("pre_norm_mha.1.out_proj.bias", "attn.proj.bias", Plain),
    row("pre_norm_ffn.0.weight", "norm2.weight", Plain),
    row("pre_norm_ffn.0.bias", "norm2.bias", Plain),
    row("pre_norm_ffn.1.weight", "mlp.fc1.weight", Plain),
    row("pre_norm_ffn.1.bias", "mlp.fc1.bias", Plain),
    row("pre_norm_ffn.4.weight", "mlp.fc2.weight", Plain),
    row("pre_norm_ffn.4.bias", "mlp.fc2.bias", Plain),
];

const TEXT: &[Row] = &[
    row("embedding_layer.weight", "token_embedding.weight", Plain),
    row("positional_embedding.pos_embed.pos_embed", "pos_embed", UnsqueezedTwice),
    row("final_layer_norm.weight", "norm.weight", Plain),
    row("final_layer_norm.bias", "norm.bias", Plain),
    row("projection_layer", "head.weight", Dense),
];

const VIT: &[Row] = &[
    row("cls_token", "cls_token", Plain),
    row("pos_embed.pos_embed.pos_embed", "pos_embed", Unsqueezed),
    row("post_transformer_norm.weight", "norm.weight", Plain),
    row("post_transformer_norm.bias", "norm.bias", Plain),
    row("classifier.proj", "head.weight", Dense),
];

const LOGITS: &[Row] = &[row("logit_scale", "logit_scale", Scalar)];
const HEAD: &[Row] = &[row("proj", "head.weight", Dense)];

/// A MobileOne block: branches of the training form, and the folded form.
fn mobile_one(map: KeyMap, source: &str, canonical: &str) -> KeyMap {
    map.under(format!("{source}rbr_conv.0.conv."), format!("{canonical}conv_kxk.0.conv."), CONV)
        .under(format!("{source}rbr_conv.0.bn."), format!("{canonical}conv_kxk.0.bn."), BATCH_NORM)
        .under(format!("{source}rbr_scale.conv."), format!("{canonical}conv_scale.conv."), CONV)
        .under(format!("{source}rbr_scale.bn."), format!("{canonical}conv_scale.bn."), BATCH_NORM)
        .under(format!("{source}rbr_skip."), format!("{canonical}identity."), BATCH_NORM)
        .under(format!("{source}reparam_conv."), format!("{canonical}reparam_conv."), CONV)
        .under(format!("{source}se."), format!("{canonical}se."), SQUEEZE_EXCITE)
}

/// A RepMixer or attention block of FastViT; the RepMixer ones are S0's text tower's too.
fn fastvit_block(map: KeyMap, source: &str, canonical: &str) -> KeyMap {
    let map = map
        .under(source.to_owned(), canonical.to_owned(), LAYER_SCALES)
        .under(format!("{source}norm."), format!("{canonical}norm."), BATCH_NORM)
        .under(
            format!("{source}token_mixer.norm.rbr_skip."),
            format!("{canonical}token_mixer.norm.identity."),
            BATCH_NORM,
        )
        .under(format!("{source}token_mixer.reparam_conv."), format!("{canonical}token_mixer.reparam_conv."), CONV)
        .under(format!("{source}convffn.conv.conv."), format!("{canonical}mlp.conv.conv."), CONV)
        .under(format!("{source}convffn.conv.bn."), format!("{canonical}mlp.conv.bn."), BATCH_NORM)
        .under(format!("{source}convffn.fc1."), format!("{canonical}mlp.fc1."), CONV)
        .under(format!("{source}convffn.fc2."), format!("{canonical}mlp.fc2."), CONV);
    mobile_one(map, &format!("{source}token_mixer.mixer."), &format!("{canonical}token_mixer.mixer."))
}

pub fn apple() -> KeyMap {
    let image = "image_encoder.model.";
    let mut map = KeyMap::new("mobileclip", Naming::Apple)
        .recognised_by("text_encoder.embedding_layer.weight")
        .recognised_by("image_encoder.model.head.proj")
        .under("", "", LOGITS)
        // ViT-B.
        .under(image, "visual.", VIT)
        .under(format!("{image}transformer.{{i}}."), "visual.blocks.{i}.", BLOCK)
        .under(format!("{image}patch_emb.{{i}}.block.conv."), "visual.patch_embed.backbone.{i}.conv.", CONV)
        .under(format!("{image}patch_emb.{{i}}.block.norm."), "visual.patch_embed.backbone.{i}.bn.", BATCH_NORM)
        .under("text_encoder.", "text.", TEXT)
        .under("text_encoder.transformer.{i}.", "text.blocks.{i}.", BLOCK)
        // FastViT's head.
        .under(format!("{image}head."), "visual.", HEAD)
        .ignore("*.num_batches_tracked");
    map = mobile_one(map, &format!("{image}patch_embed.{{i}}."), "visual.stem.{i}.");
    map = mobile_one(map, &format!("{image}conv_exp."), "visual.final_conv.");
    // The network is one flat list: blocks, downsampling, blocks, …; the position convolution
    // stands before the last blocks.
    for (stage, at) in [(0, 0), (1, 2), (2, 4), (3, 7)] {
        let blocks = format!("visual.stages.{stage}.blocks.{{i}}.");
        map = fastvit_block(map, &format!("{image}network.{at}.{{i}}."), &blocks);
    }
    for (stage, at) in [(1, 1), (2, 3), (3, 5)] {
        let (source, canonical) =
            (format!("{image}network.{at}.proj."), format!("visual.stages.{stage}.downsample.proj."));
        map = map
            .under(format!("{source}0.lkb_origin.conv."), format!("{canonical}0.large_conv.conv."), CONV)
            .under(format!("{source}0.lkb_origin.bn."), format!("{canonical}0.large_conv.bn."), BATCH_NORM)
            .under(format!("{source}0.small_conv.conv."), format!("{canonical}0.small_conv.conv."), CONV)
            .under(format!("{source}0.small_conv.bn."), format!("{canonical}0.small_conv.bn."), BATCH_NORM)
            .under(format!("{source}0.lkb_reparam."), format!("{canonical}0.reparam_conv."), CONV)
            .under(format!("{source}0.se."), format!("{canonical}0.se."), SQUEEZE_EXCITE);
        map = mobile_one(map, &format!("{source}1."), &format!("{canonical}1."));
    }
    map = map.under(format!("{image}network.6.pe."), "visual.stages.3.pos_emb.pos_enc.", CONV).under(
        format!("{image}network.6.reparam_conv."),
        "visual.stages.3.pos_emb.reparam_conv.",
        CONV,
    );
    // S0's text tower: the first and the last block are RepMixers, under the same list.
    fastvit_block(map, "text_encoder.transformer.{i}.", "text.blocks.{i}.")
}
