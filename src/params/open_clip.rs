//! open_clip's names. An image tower is a timm ViT trunk (`ViT-*-SigLIP*`, what `load_big_vision_weights` fills, and
//! MobileCLIP-B and L-14), a timm FastViT trunk (MobileCLIP), or open_clip's native ViT (OpenAI, LAION); the text tower
//! is open_clip's own transformer, under `text.` or at the root.
//!
//! Names and layouts are PyTorch's and mostly the canonical ones. Run backwards, these tables write the files of
//! `clip-onnx convert`.
//! Source: `open_clip/src/open_clip/{timm_model,transformer}.py`, timm's `vision_transformer.py` and `fastvit.py`.

use super::keymap::Stored::{Dense, Plain, Scalar, Squeezed, SqueezedTwice};
use super::keymap::{
    CONV_BN, KeyMap, Row, Section, affine, row, rows_from, same, same_affine, same_batch_norm, same_within, within,
};
use crate::config::Naming;

/// timm's block.
const BLOCK: &[Row] = &[
    same_affine("norm1"),
    same_affine("attn.qkv"),
    same_affine("attn.proj"),
    same_affine("norm2"),
    same_affine("mlp.fc1"),
    same_affine("mlp.fc2"),
    same("ls1.gamma"),
    same("ls2.gamma"),
];

/// What timm's EVA-02 block has besides, in the place of joined queries, keys and values and of the first layer. Keys
/// have no bias.
const EVA_BLOCK: &[Row] = &[
    same_affine("attn.q_proj"),
    same("attn.k_proj.weight"),
    same_affine("attn.v_proj"),
    same_affine("attn.norm"),
    same_affine("mlp.fc1_g"),
    same_affine("mlp.fc1_x"),
    same_affine("mlp.norm"),
];

/// open_clip's own block.
const RESBLOCK: &[Row] = &[
    affine("ln_1", "norm1"),
    row("attn.in_proj_weight", "attn.qkv.weight", Plain),
    row("attn.in_proj_bias", "attn.qkv.bias", Plain),
    affine("attn.out_proj", "attn.proj"),
    affine("ln_2", "norm2"),
    affine("mlp.c_fc", "mlp.fc1"),
    affine("mlp.c_proj", "mlp.fc2"),
    row("ls_1.gamma", "ls1.gamma", Plain),
    row("ls_2.gamma", "ls2.gamma", Plain),
];

/// timm's ViT, without a classifier.
const VIT: &[Row] = &[
    same_affine("patch_embed.proj"),
    same_within("patch_embed.backbone.{i}.", CONV_BN),
    same("pos_embed"),
    same("cls_token"),
    same_affine("norm_pre"),
    same_within("blocks.{i}.", BLOCK),
    same_within("blocks.{i}.", EVA_BLOCK),
    same_affine("norm"),
    same("attn_pool.latent"),
    same_affine("attn_pool.q"),
    same_affine("attn_pool.kv"),
    same_affine("attn_pool.proj"),
    same_affine("attn_pool.norm"),
    same_affine("attn_pool.mlp.fc1"),
    same_affine("attn_pool.mlp.fc2"),
];

/// A trunk's own classifier, which MobileCLIP uses as its projection.
const CLASSIFIER: &[Row] = &[affine("visual.trunk.head", "visual.head")];

/// `timm_proj: linear`: a projection outside the trunk.
const PROJECTION: &[Row] = &[affine("visual.head.proj", "visual.head")];

/// A MobileOne block: branches of the training form, and the folded form.
const MOBILE_ONE: &[Row] = &[
    same_within("conv_kxk.0.", CONV_BN),
    same_within("conv_scale.", CONV_BN),
    same_batch_norm("identity"),
    same_affine("reparam_conv"),
    same_affine("se.fc1"),
    same_affine("se.fc2"),
];

/// A RepMixer or attention block of FastViT.
const FASTVIT_BLOCK: &[Row] = &[
    same("layer_scale.gamma"),
    same("layer_scale_1.gamma"),
    same("layer_scale_2.gamma"),
    same_batch_norm("norm"),
    same_within("token_mixer.mixer.", MOBILE_ONE),
    same_batch_norm("token_mixer.norm.identity"),
    same("token_mixer.layer_scale.gamma"),
    same_affine("token_mixer.reparam_conv"),
    same("token_mixer.qkv.weight"),
    same_affine("token_mixer.proj"),
    same_within("mlp.conv.", CONV_BN),
    same_affine("mlp.fc1"),
    same_affine("mlp.fc2"),
];

const FASTVIT_STAGE: &[Row] = &[
    same_within("downsample.proj.0.large_conv.", CONV_BN),
    same_within("downsample.proj.0.small_conv.", CONV_BN),
    same_within("downsample.proj.{i}.", MOBILE_ONE),
    same_affine("pos_emb.pos_enc"),
    same_affine("pos_emb.reparam_conv"),
    same_within("blocks.{i}.", FASTVIT_BLOCK),
];

/// timm's FastViT. Canonical names are timm's.
const FASTVIT: &[Row] = &[
    same_within("stem.{i}.", MOBILE_ONE),
    same_within("stages.{s}.", FASTVIT_STAGE),
    same_within("final_conv.", MOBILE_ONE),
    affine("head.fc", "head"),
];

/// open_clip's own ViT.
const NATIVE: &[Row] = &[
    row("class_embedding", "cls_token", SqueezedTwice),
    row("positional_embedding", "pos_embed", Squeezed),
    row("conv1.weight", "patch_embed.proj.weight", Plain),
    affine("ln_pre", "norm_pre"),
    within("transformer.resblocks.{i}.", "blocks.{i}.", RESBLOCK),
    affine("ln_post", "norm"),
    row("proj", "head.weight", Dense),
];

const TEXT: &[Row] = &[
    same("token_embedding.weight"),
    row("positional_embedding", "pos_embed", Plain),
    // Long-CLIP (Zhang et al. 2024, `model/model_longclip.py`): the first 20 positions are CLIP's own, which are well
    // trained, the others are stretched and trained in a second table.
    rows_from(20, "positional_embedding_res", "pos_embed", Plain),
    within("transformer.resblocks.{i}.", "blocks.{i}.", RESBLOCK),
    affine("ln_final", "norm"),
];

/// SigLIP's text projection is a `Linear`, CLIP's a matrix used as `x @ P`.
const LINEAR_PROJECTION: &[Row] = &[affine("text_projection", "head")];
const MATRIX_PROJECTION: &[Row] = &[row("text_projection", "head.weight", Dense)];

const LOGITS: &[Row] = &[row("logit_scale", "logit_scale", Scalar), row("logit_bias", "logit_bias", Scalar)];

/// Which of open_clip's forms a file is written in. Reading takes all of a map's rows; writing
/// needs one name for each parameter.
pub use crate::config::OpenClipForm as Form;

impl Form {
    /// The map to write it with. A text projection with a bias is a `Linear` there, one without
    /// a bare matrix.
    pub fn map(self, text_bias: bool) -> KeyMap {
        let projection = [if text_bias { LINEAR_PROJECTION } else { MATRIX_PROJECTION }];
        match self {
            Form::Siglip => map([vit_trunk(&[PROJECTION]), text("text.", &projection)]),
            Form::TimmVit => map([vit_trunk(&[CLASSIFIER]), text("text.", &projection)]),
            Form::FastVit => map([fastvit_trunk(), text("text.", &projection)]),
            Form::Native => map([native_vit(), text("", &projection)]),
        }
    }
}

const BOTH_PROJECTIONS: &[&[Row]] = &[LINEAR_PROJECTION, MATRIX_PROJECTION];

/// A timm ViT trunk: SigLIP, and MobileCLIP's B and L-14.
pub fn timm_vit() -> KeyMap {
    map([vit_trunk(&[PROJECTION, CLASSIFIER]), text("text.", BOTH_PROJECTIONS)])
}

/// A timm FastViT trunk: MobileCLIP and MobileCLIP2.
pub fn timm_fastvit() -> KeyMap {
    map([fastvit_trunk(), text("text.", BOTH_PROJECTIONS)])
}

/// open_clip's own ViT; the text tower at the root, or under `text.`.
pub fn native() -> KeyMap {
    let root = text("", BOTH_PROJECTIONS).recognised_by("token_embedding.weight");
    map([native_vit(), root, text("text.", BOTH_PROJECTIONS).recognised_by("text.token_embedding.weight")])
}

/// Any of the image towers with any of the text towers.
fn map(towers: impl IntoIterator<Item = Section>) -> KeyMap {
    KeyMap::new("open_clip", Naming::OpenClip, [Section::of(LOGITS)].into_iter().chain(towers))
}

/// An image tower: a timm ViT trunk with these forms of projection.
fn vit_trunk(projections: &[&[Row]]) -> Section {
    let trunk = Section::default()
        .under("visual.trunk.", "visual.", VIT)
        .recognised_by("visual.trunk.patch_embed.proj.weight")
        .recognised_by("visual.trunk.patch_embed.backbone.0.conv.weight")
        .ignore("*.num_batches_tracked");
    projections.iter().fold(trunk, |trunk, table| trunk.under("", "", table))
}

/// An image tower: a timm FastViT trunk.
fn fastvit_trunk() -> Section {
    Section::default()
        .under("visual.trunk.", "visual.", FASTVIT)
        .recognised_by("visual.trunk.stem.0.conv_kxk.0.conv.weight")
        .recognised_by("visual.trunk.stem.0.reparam_conv.weight")
        .ignore("*.num_batches_tracked")
}

/// An image tower: open_clip's own ViT.
fn native_vit() -> Section {
    Section::default()
        .under("visual.", "visual.", NATIVE)
        .recognised_by("visual.conv1.weight")
        // Three numbers that OpenAI's archives have in addition to the weights.
        .ignore("input_resolution")
        .ignore("context_length")
        .ignore("vocab_size")
}

/// The text tower whose names begin with `source`, with these forms of projection.
fn text(source: &str, projections: &[&[Row]]) -> Section {
    // The mask is a buffer, not a parameter.
    let text = Section::default().under(source, "text.", TEXT).ignore(format!("{source}attn_mask"));
    projections.iter().fold(text, |text, table| text.under(source, "text.", table))
}
