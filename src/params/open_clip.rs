//! open_clip's names, in three forms: a timm ViT trunk beside open_clip's own text transformer
//! (`ViT-*-SigLIP*`, what `load_big_vision_weights` fills, and MobileCLIP-B and L-14), a timm
//! FastViT trunk (MobileCLIP), and open_clip's native ViT (OpenAI, LAION).
//!
//! PyTorch layouts throughout, so nearly every row is `Plain`. Run backwards, these tables write
//! the files of `clip-onnx convert`.
//! Source: `open_clip/src/open_clip/{timm_model,transformer}.py`, timm's `vision_transformer.py`.

use super::keymap::Stored::{Dense, Plain, Scalar, Squeezed, SqueezedTwice};
use super::keymap::{BATCH_NORM, CONV, KeyMap, Row, row, rows_from};
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
    row("cls_token", "cls_token", Plain),
    row("norm_pre.weight", "norm_pre.weight", Plain),
    row("norm_pre.bias", "norm_pre.bias", Plain),
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

/// A trunk's own classifier, which MobileCLIP uses as its projection.
const TRUNK_HEAD: &[Row] = &[row("head.weight", "head.weight", Plain), row("head.bias", "head.bias", Plain)];

/// Weights and biases that FastViT's canonical names leave where they are.
const FASTVIT_BLOCK: &[Row] = &[
    row("layer_scale.gamma", "layer_scale.gamma", Plain),
    row("layer_scale_1.gamma", "layer_scale_1.gamma", Plain),
    row("layer_scale_2.gamma", "layer_scale_2.gamma", Plain),
    row("token_mixer.layer_scale.gamma", "token_mixer.layer_scale.gamma", Plain),
    row("token_mixer.qkv.weight", "token_mixer.qkv.weight", Plain),
    row("token_mixer.proj.weight", "token_mixer.proj.weight", Plain),
    row("token_mixer.proj.bias", "token_mixer.proj.bias", Plain),
];

const FASTVIT_HEAD: &[Row] = &[row("fc.weight", "head.weight", Plain), row("fc.bias", "head.bias", Plain)];

/// open_clip's own ViT.
const NATIVE: &[Row] = &[
    row("class_embedding", "cls_token", SqueezedTwice),
    row("positional_embedding", "pos_embed", Squeezed),
    row("conv1.weight", "patch_embed.proj.weight", Plain),
    row("ln_pre.weight", "norm_pre.weight", Plain),
    row("ln_pre.bias", "norm_pre.bias", Plain),
    row("ln_post.weight", "norm.weight", Plain),
    row("ln_post.bias", "norm.bias", Plain),
    row("proj", "head.weight", Dense),
];

const TEXT: &[Row] = &[
    row("token_embedding.weight", "token_embedding.weight", Plain),
    row("positional_embedding", "pos_embed", Plain),
    // Long-CLIP (Zhang et al. 2024, `model/model_longclip.py`): the first 20 positions are CLIP's own, which are well
    // trained, the others are stretched and trained in a second table.
    rows_from(20, "positional_embedding_res", "pos_embed", Plain),
    row("ln_final.weight", "norm.weight", Plain),
    row("ln_final.bias", "norm.bias", Plain),
];

/// SigLIP's text projection is a `Linear`, CLIP's a matrix used as `x @ P`.
const LINEAR_PROJECTION: &[Row] =
    &[row("text_projection.weight", "head.weight", Plain), row("text_projection.bias", "head.bias", Plain)];
const MATRIX_PROJECTION: &[Row] = &[row("text_projection", "head.weight", Dense)];

const LOGITS: &[Row] = &[row("logit_scale", "logit_scale", Scalar), row("logit_bias", "logit_bias", Scalar)];

/// `timm_proj: linear`: a projection outside the trunk.
const OUTER_HEAD: &[Row] = &[
    row("visual.head.proj.weight", "visual.head.weight", Plain),
    row("visual.head.proj.bias", "visual.head.bias", Plain),
];

/// Which of open_clip's forms a file is written in. Reading takes all of a map's rows; writing
/// needs one name for each parameter.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Form {
    /// A timm ViT with a MAP head: `ViT-*-SigLIP*`.
    Siglip,
    /// A timm ViT whose classifier is the projection: MobileCLIP's B and L-14.
    TimmVit,
    /// A timm FastViT: MobileCLIP.
    FastVit,
    /// open_clip's own ViT, text at the root.
    Native,
}

impl Form {
    /// The map to write it with. A text projection with a bias is a `Linear` there, one without
    /// a bare matrix.
    pub fn map(self, text_bias: bool) -> KeyMap {
        let projection = [if text_bias { LINEAR_PROJECTION } else { MATRIX_PROJECTION }];
        match self {
            Form::Siglip => text(vit_trunk().under("", "", OUTER_HEAD), "text.", &projection),
            Form::TimmVit => text(vit_trunk().under("visual.trunk.", "visual.", TRUNK_HEAD), "text.", &projection),
            Form::FastVit => text(fastvit_trunk(), "text.", &projection),
            Form::Native => text(native_vit(), "", &projection),
        }
    }
}

/// The text tower under `source`, with these forms of projection.
fn text(map: KeyMap, source: &str, projections: &[&'static [Row]]) -> KeyMap {
    let map = map.under(source, "text.", TEXT).under(
        format!("{source}transformer.resblocks.{{i}}."),
        "text.blocks.{i}.",
        RESBLOCK,
    );
    projections.iter().fold(map, |map, rows| map.under(source, "text.", rows))
}

/// A timm ViT trunk: SigLIP, and MobileCLIP's B and L-14.
pub fn timm_vit() -> KeyMap {
    let map = vit_trunk().under("", "", OUTER_HEAD).under("visual.trunk.", "visual.", TRUNK_HEAD);
    text(map, "text.", &[LINEAR_PROJECTION, MATRIX_PROJECTION])
}

fn vit_trunk() -> KeyMap {
    let (source, canonical) = ("visual.trunk.patch_embed.backbone.{i}.", "visual.patch_embed.backbone.{i}.");
    KeyMap::new("open_clip", Naming::OpenClip)
        .recognised_by("visual.trunk.patch_embed.proj.weight")
        .recognised_by("visual.trunk.patch_embed.backbone.0.conv.weight")
        .under("", "", LOGITS)
        .under("visual.trunk.", "visual.", TRUNK)
        .under(format!("{source}conv."), format!("{canonical}conv."), CONV)
        .under(format!("{source}bn."), format!("{canonical}bn."), BATCH_NORM)
        .under("visual.trunk.blocks.{i}.", "visual.blocks.{i}.", BLOCK)
        .ignore("*.num_batches_tracked")
        // A buffer, not a parameter.
        .ignore("text.attn_mask")
}

/// open_clip's own ViT; the text tower at the root, or under `text.`.
pub fn native() -> KeyMap {
    let projections = [LINEAR_PROJECTION, MATRIX_PROJECTION];
    text(text(native_vit(), "", &projections), "text.", &projections)
}

fn native_vit() -> KeyMap {
    KeyMap::new("open_clip", Naming::OpenClip)
        .recognised_by("visual.conv1.weight")
        .under("", "", LOGITS)
        .under("visual.", "visual.", NATIVE)
        .under("visual.transformer.resblocks.{i}.", "visual.blocks.{i}.", RESBLOCK)
        .ignore("attn_mask")
        .ignore("text.attn_mask")
        // Three numbers OpenAI's archives carry beside the weights.
        .ignore("input_resolution")
        .ignore("context_length")
        .ignore("vocab_size")
}

/// A MobileOne block: branches of the training form, and the folded form.
fn mobile_one(map: KeyMap, source: &str, canonical: &str) -> KeyMap {
    map.under(format!("{source}conv_kxk.0.conv."), format!("{canonical}conv_kxk.0.conv."), CONV)
        .under(format!("{source}conv_kxk.0.bn."), format!("{canonical}conv_kxk.0.bn."), BATCH_NORM)
        .under(format!("{source}conv_scale.conv."), format!("{canonical}conv_scale.conv."), CONV)
        .under(format!("{source}conv_scale.bn."), format!("{canonical}conv_scale.bn."), BATCH_NORM)
        .under(format!("{source}identity."), format!("{canonical}identity."), BATCH_NORM)
        .under(format!("{source}reparam_conv."), format!("{canonical}reparam_conv."), CONV)
        .under(format!("{source}se.fc1."), format!("{canonical}se.fc1."), CONV)
        .under(format!("{source}se.fc2."), format!("{canonical}se.fc2."), CONV)
}

/// A timm FastViT trunk: MobileCLIP and MobileCLIP2. Canonical names are timm's, so a row differs
/// in its prefix alone.
pub fn timm_fastvit() -> KeyMap {
    text(fastvit_trunk(), "text.", &[LINEAR_PROJECTION, MATRIX_PROJECTION])
}

fn fastvit_trunk() -> KeyMap {
    let (source, canonical) = ("visual.trunk.", "visual.");
    let mut map = KeyMap::new("open_clip", Naming::OpenClip)
        .recognised_by("visual.trunk.stem.0.conv_kxk.0.conv.weight")
        .recognised_by("visual.trunk.stem.0.reparam_conv.weight")
        .under("", "", LOGITS)
        .under("visual.trunk.head.", "visual.", FASTVIT_HEAD)
        .ignore("*.num_batches_tracked")
        .ignore("text.attn_mask");
    let mut blocks = vec!["stem.{i}.".to_owned(), "final_conv.".to_owned()];
    for stage in 0..MAX_STAGES {
        let stage = format!("stages.{stage}.");
        map = map
            .under(format!("{source}{stage}pos_emb.pos_enc."), format!("{canonical}{stage}pos_emb.pos_enc."), CONV)
            .under(
                format!("{source}{stage}pos_emb.reparam_conv."),
                format!("{canonical}{stage}pos_emb.reparam_conv."),
                CONV,
            );
        for conv in ["large_conv.", "small_conv."] {
            let at = format!("{stage}downsample.proj.0.{conv}");
            map = map.under(format!("{source}{at}conv."), format!("{canonical}{at}conv."), CONV).under(
                format!("{source}{at}bn."),
                format!("{canonical}{at}bn."),
                BATCH_NORM,
            );
        }
        let block = format!("{stage}blocks.{{i}}.");
        map = map.under(format!("{source}{block}"), format!("{canonical}{block}"), FASTVIT_BLOCK).under(
            format!("{source}{block}norm."),
            format!("{canonical}{block}norm."),
            BATCH_NORM,
        );
        for (part, rows) in [
            ("token_mixer.norm.identity.", BATCH_NORM),
            ("token_mixer.reparam_conv.", CONV),
            ("mlp.conv.conv.", CONV),
            ("mlp.conv.bn.", BATCH_NORM),
            ("mlp.fc1.", CONV),
            ("mlp.fc2.", CONV),
        ] {
            map = map.under(format!("{source}{block}{part}"), format!("{canonical}{block}{part}"), rows);
        }
        blocks.push(format!("{block}token_mixer.mixer."));
        blocks.extend([0, 1].map(|i| format!("{stage}downsample.proj.{i}.")));
    }
    for block in blocks {
        map = mobile_one(map, &format!("{source}{block}"), &format!("{canonical}{block}"));
    }
    map
}

/// More than any FastViT has.
const MAX_STAGES: usize = 8;
