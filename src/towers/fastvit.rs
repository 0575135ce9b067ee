//! FastViT as MobileCLIP has it: RepMixer stages, then attention. Vasu et al. 2023 (FastViT),
//! 2024 (MobileCLIP); timm's `fastvit.py`, Apple's `mobileclip/models/mci.py`.
//!
//! Everything linear is folded while it is read (`params::reparam`): what reaches the graph is
//! Conv, Gelu, the squeeze-and-excite pieces, Add, and attention.

use super::BATCH;
use super::layers::{self, Heads};
use super::scope::Scope;
use crate::config::{Act, AttnNorm, FastVitCfg, Proj, TokenMixer};
use crate::onnx::graph::{Dim, ElementType};
use crate::onnx::{ConvAttributes, Ops, Value};
use crate::params::Error;
use crate::params::reparam::{BatchNorm, Conv, linear_after};

/// `pixel_values [B, 3, H, W]` → embedding `[B, embed_dim]`.
pub fn tower(s: &Scope, c: &FastVitCfg, embed_dim: usize) -> Result<Value, Error> {
    let [height, width] = c.image_size;
    let dims = vec![BATCH, Dim::Fixed(3), Dim::Fixed(height), Dim::Fixed(width)];
    let x = s.graph().input("pixel_values", ElementType::Float, dims);

    // Stem: 3×3 dense and 3×3 depthwise, each of stride 2, then 1×1.
    let d = c.embed_dims[0];
    let one = MobileOne {
        d_in: d,
        d_out: d,
        kernel: 3,
        stride: 2,
        groups: d,
        scale_branch: c.stem_use_scale_branch,
        se: None,
    };
    let stem = s.at("stem");
    let x = mobile_one(&stem.at(0), x, &MobileOne { d_in: 3, groups: 1, ..one }, c)?;
    let x = mobile_one(&stem.at(1), x, &one, c)?;
    let x = mobile_one(&stem.at(2), x, &MobileOne { kernel: 1, stride: 1, groups: 1, ..one }, c)?;

    let mut x = x;
    let mut size = c.image_size.map(|n| n.div_ceil(2).div_ceil(2));
    for stage in 0..c.stage_layers.len() {
        let (s, d) = (s.at("stages").at(stage), c.embed_dims[stage]);
        if stage > 0 {
            x = downsample(&s.at("downsample").at("proj"), x, c, stage)?;
            size = size.map(|n| n.div_ceil(2));
        }
        if c.pos_embs[stage] {
            x = position_convolution(&s.at("pos_emb"), x, d, c.reparameterized)?;
        }
        for block in 0..c.stage_layers[stage] {
            let s = s.at("blocks").at(block);
            let mlp_dim = (d as f64 * c.mlp_ratios[stage]) as usize;
            x = match c.token_mixers[stage] {
                TokenMixer::RepMixer => {
                    let block = RepMixer {
                        dim: d,
                        mixer_kernel: [3, 3],
                        mlp_kernel: [7, 7],
                        mlp_dim,
                        scale_branch: true,
                        act: c.act,
                        bn_eps: c.bn_eps,
                        reparameterized: c.reparameterized,
                    };
                    rep_mixer_block(&s, x, &block)?
                }
                TokenMixer::Attention => attention_block(&s, x, c, d, mlp_dim, size)?,
            };
            x = s.named("output", x);
        }
    }

    let d = c.embed_dims[c.embed_dims.len() - 1];
    let wide = d * c.final_expansion as usize;
    let se = Some(squeeze_width(wide, c.se_rd_ratio_final, c.se_rd_divisor_final));
    let last = MobileOne { d_in: d, d_out: wide, kernel: 3, stride: 1, groups: d, scale_branch: true, se };
    let x = mobile_one(&s.at("final_conv"), x, &last, c)?;
    let x = s.reduce_mean(x, &[2, 3], false); // [B, wide]
    layers::head(s, x, wide, embed_dim, c.proj == Proj::Linear, c.proj_bias)
}

/// A MobileOne block. Vasu et al. 2022.
#[derive(Clone, Copy)]
struct MobileOne {
    d_in: usize,
    d_out: usize,
    kernel: usize,
    stride: usize,
    groups: usize,
    /// Whether there is a 1×1 branch beside the k×k one.
    scale_branch: bool,
    /// Width of the squeeze, where there is one.
    se: Option<usize>,
}

/// GELU(SE(Σ branches)), the branches as one convolution.
fn mobile_one(s: &Scope, x: Value, m: &MobileOne, c: &FastVitCfg) -> Result<Value, Error> {
    let shape = [m.d_out, m.d_in / m.groups, m.kernel, m.kernel];
    let skip = m.d_in == m.d_out && m.stride == 1;
    let scale = m.scale_branch && m.kernel > 1;
    let conv = branches(s, shape, m.groups, (scale, skip), c.bn_eps, c.reparameterized)?;
    let x = emit(&s.at("reparam_conv"), x, &conv, [m.stride; 2], [m.kernel / 2; 2], m.groups);
    let x = match m.se {
        Some(width) => squeeze_excite(&s.at("se"), x, m.d_out, width)?,
        None => x,
    };
    Ok(layers::activation(&s.at("act"), x, c.act))
}

/// The k×k, 1×1 and identity branches of a MobileOne block as one convolution.
fn branches(
    s: &Scope,
    shape: [usize; 4],
    groups: usize,
    (scale, skip): (bool, bool),
    bn_eps: f32,
    reparameterized: bool,
) -> Result<Conv, Error> {
    let [out, per_group, ..] = shape;
    if reparameterized {
        return folded(&s.at("reparam_conv"), shape);
    }
    let mut conv = conv_bn(&s.at("conv_kxk").at(0), shape, bn_eps)?;
    if scale {
        conv = conv.plus(&conv_bn(&s.at("conv_scale"), [out, per_group, 1, 1], bn_eps)?);
    }
    if skip {
        let bn = batch_norm(&s.at("identity"), out, bn_eps)?;
        conv = conv.plus(&Conv::identity([out, per_group, 1, 1], groups).batch_norm(&bn));
    }
    Ok(conv)
}

/// A RepMixer block: one depthwise convolution along space or text, and an MLP.
pub struct RepMixer {
    pub dim: usize,
    pub mixer_kernel: [usize; 2],
    pub mlp_kernel: [usize; 2],
    pub mlp_dim: usize,
    pub scale_branch: bool,
    pub act: Act,
    pub bn_eps: f32,
    pub reparameterized: bool,
}

/// x + g·(mixer(x) − norm(x)), then x + g·fc2(act(fc1(BN(dw(x))))). Vasu et al. 2023, eq. 2.
pub fn rep_mixer_block(s: &Scope, x: Value, c: &RepMixer) -> Result<Value, Error> {
    let shape = [c.dim, 1, c.mixer_kernel[0], c.mixer_kernel[1]];
    let mixer = s.at("token_mixer");
    let conv = if c.reparameterized {
        folded(&mixer.at("reparam_conv"), shape)?
    } else {
        let mixed = branches(&mixer.at("mixer"), shape, c.dim, (c.scale_branch, true), c.bn_eps, false)?;
        let norm = batch_norm(&mixer.at("norm").at("identity"), c.dim, c.bn_eps)?;
        let norm = Conv::identity([c.dim, 1, 1, 1], c.dim).batch_norm(&norm);
        let gamma = mixer.at("layer_scale").param("gamma", &[c.dim, 1, 1])?;
        Conv::identity(shape, c.dim).plus(&mixed.minus(&norm).layer_scaled(&gamma)?)
    };
    let x = emit(&mixer.at("reparam_conv"), x, &conv, [1, 1], c.mixer_kernel.map(|k| k / 2), c.dim);
    let y = conv_mlp(s, x, c.dim, c.mlp_dim, c.mlp_kernel, (c.act, c.bn_eps), "layer_scale")?;
    Ok(s.add(x, y))
}

/// g·fc2(act(fc1(BN(dw(x))))): no activation after the depthwise convolution.
fn conv_mlp(
    s: &Scope,
    x: Value,
    d: usize,
    mlp_dim: usize,
    kernel: [usize; 2],
    (act, bn_eps): (Act, f32),
    layer_scale: &str,
) -> Result<Value, Error> {
    let gamma = s.at(layer_scale).param("gamma", &[d, 1, 1])?;
    let s = s.at("mlp");
    let conv = conv_bn(&s.at("conv"), [d, 1, kernel[0], kernel[1]], bn_eps)?;
    let x = emit(&s.at("conv"), x, &conv, [1, 1], kernel.map(|k| k / 2), d);
    let fc1 = folded(&s.at("fc1"), [mlp_dim, d, 1, 1])?;
    let x = emit(&s.at("fc1"), x, &fc1, [1, 1], [0, 0], 1);
    let x = layers::activation(&s.at("act"), x, act);
    let fc2 = folded(&s.at("fc2"), [d, mlp_dim, 1, 1])?.layer_scaled(&gamma)?;
    Ok(emit(&s.at("fc2"), x, &fc2, [1, 1], [0, 0], 1))
}

/// x + g₁·attn(norm(x)), then x + g₂·mlp(x), over places in row-major order.
fn attention_block(
    s: &Scope,
    x: Value,
    c: &FastVitCfg,
    d: usize,
    mlp_dim: usize,
    [height, width]: [usize; 2],
) -> Result<Value, Error> {
    let (places, head_dim) = (height * width, c.head_dim);
    let a = s.at("token_mixer");
    let y = a.transpose(a.reshape(x, &[-1, d as i64, places as i64]), &[0, 2, 1]); // [B, N, D]
    let weight = a.at("qkv").param("weight", &[3 * d, d])?;
    // 1/√head_dim goes into the query's rows.
    let row_scale = |row: usize| if row < d { (head_dim as f64).powf(-0.5) } else { 1.0 };
    let (y, (weight, bias)) = match c.attn_norm {
        AttnNorm::BatchNorm => {
            let bn = batch_norm(&s.at("norm"), d, c.norm_eps)?;
            (y, linear_after(&weight, None, Some(&bn), row_scale)?)
        }
        AttnNorm::LayerNorm2d => {
            let y = layers::layer_norm(&s.at("norm"), y, d, c.norm_eps)?;
            (y, linear_after(&weight, None, None, row_scale)?)
        }
    };
    let qkv = a.at("qkv");
    let y = qkv.matmul(y, qkv.initializer("weight", weight.permute(&[1, 0])));
    // Without a norm's shift the bias is nought.
    let y = if c.attn_norm == AttnNorm::BatchNorm { qkv.add(y, qkv.initializer("bias", bias)) } else { y };
    let qkv = a.split(y, d);
    let heads = Heads { width: d, heads: d / head_dim, places: (Some(places), Some(places)), mask: None, scaled: true };
    let y = layers::attend(&a, qkv, &heads);

    let gamma = s.at("layer_scale_1").param("gamma", &[d, 1, 1])?.to_f32()?;
    let proj = a.at("proj");
    let (weight, bias) = (proj.param("weight", &[d, d])?, proj.param("bias", &[d])?);
    let (weight, bias) = linear_after(&weight, Some(&bias), None, |row| f64::from(gamma[row]))?;
    let y = proj.matmul(y, proj.initializer("weight", weight.permute(&[1, 0])));
    let y = proj.add(y, proj.initializer("bias", bias));
    let y = a.reshape(a.transpose(y, &[0, 2, 1]), &[-1, d as i64, height as i64, width as i64]);
    let x = s.add(x, y);

    let y = conv_mlp(s, x, d, mlp_dim, [7, 7], (c.act, c.bn_eps), "layer_scale_2")?;
    Ok(s.add(x, y))
}

/// Halves both sides: GELU(SE(BN(dw7×7) + BN(dw3×3))) with several outputs per input channel, then
/// a 1×1 MobileOne block.
fn downsample(s: &Scope, x: Value, c: &FastVitCfg, stage: usize) -> Result<Value, Error> {
    let (d_in, d_out) = (c.embed_dims[stage - 1], c.embed_dims[stage]);
    let large = s.at(0);
    let conv = if c.reparameterized {
        folded(&large.at("reparam_conv"), [d_out, 1, 7, 7])?
    } else {
        let conv = conv_bn(&large.at("large_conv"), [d_out, 1, 7, 7], c.bn_eps)?;
        conv.plus(&conv_bn(&large.at("small_conv"), [d_out, 1, 3, 3], c.bn_eps)?)
    };
    let x = emit(&large.at("reparam_conv"), x, &conv, [2, 2], [3, 3], d_in);
    let x = if c.se_downsamples[stage] {
        let width = squeeze_width(d_out, c.se_rd_ratio_downsample, c.se_rd_divisor_downsample);
        squeeze_excite(&large.at("se"), x, d_out, width)?
    } else {
        x
    };
    let x = layers::activation(&large.at("act"), x, c.act);
    let one = MobileOne { d_in: d_out, d_out, kernel: 1, stride: 1, groups: 1, scale_branch: false, se: None };
    mobile_one(&s.at(1), x, &one, c)
}

/// Conditional positions: x + dw7×7(x). Chu et al. 2021.
fn position_convolution(s: &Scope, x: Value, d: usize, reparameterized: bool) -> Result<Value, Error> {
    let shape = [d, 1, 7, 7];
    let conv = if reparameterized {
        folded(&s.at("reparam_conv"), shape)?
    } else {
        folded(&s.at("pos_enc"), shape)?.plus(&Conv::identity(shape, d))
    };
    Ok(emit(&s.at("reparam_conv"), x, &conv, [1, 1], [3, 3], d))
}

/// x · σ(fc2(relu(fc1(mean(x))))). Hu et al. 2018.
fn squeeze_excite(s: &Scope, x: Value, d: usize, width: usize) -> Result<Value, Error> {
    let y = s.global_average_pool(x); // [B, D, 1, 1]
    let fc1 = folded(&s.at("fc1"), [width, d, 1, 1])?;
    let y = s.relu(emit(&s.at("fc1"), y, &fc1, [1, 1], [0, 0], 1));
    let fc2 = folded(&s.at("fc2"), [d, width, 1, 1])?;
    let y = s.sigmoid(emit(&s.at("fc2"), y, &fc2, [1, 1], [0, 0], 1));
    Ok(s.mul(x, y))
}

/// max(d, ⌊(r·C + d/2) / d⌋·d): timm's `make_divisible`.
fn squeeze_width(channels: usize, ratio: f64, divisor: usize) -> usize {
    let wanted = (ratio * channels as f64 + divisor as f64 / 2.0) as usize;
    (wanted / divisor * divisor).max(divisor)
}

/// A convolution that needs no folding: kernel and bias.
fn folded(s: &Scope, shape: [usize; 4]) -> Result<Conv, Error> {
    Ok(Conv::new(&s.param("weight", &shape)?, Some(&s.param("bias", &[shape[0]])?))?)
}

/// A convolution without bias, followed by BatchNorm.
fn conv_bn(s: &Scope, shape: [usize; 4], eps: f32) -> Result<Conv, Error> {
    let conv = Conv::new(&s.at("conv").param("weight", &shape)?, None)?;
    Ok(conv.batch_norm(&batch_norm(&s.at("bn"), shape[0], eps)?))
}

/// A BatchNorm's parameters.
pub fn batch_norm(s: &Scope, channels: usize, eps: f32) -> Result<BatchNorm, Error> {
    let read = |name| s.param(name, &[channels]);
    let (weight, bias) = (read("weight")?, read("bias")?);
    Ok(BatchNorm::new(&weight, &bias, &read("running_mean")?, &read("running_var")?, eps)?)
}

/// Puts a convolution into the graph, its weights under this scope's name.
pub fn emit(s: &Scope, x: Value, conv: &Conv, stride: [usize; 2], padding: [usize; 2], groups: usize) -> Value {
    let (weight, bias) = conv.tensors(&s.name());
    let kernel = [conv.shape[2], conv.shape[3]];
    let (weight, bias) = (s.initializer("weight", weight), s.initializer("bias", bias));
    s.conv(x, weight, Some(bias), &ConvAttributes { kernel, stride, padding, groups })
}
