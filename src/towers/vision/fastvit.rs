//! FastViT as MobileCLIP has it: RepMixer stages, then attention. Vasu et al. 2023 (FastViT),
//! 2024 (MobileCLIP); timm's `fastvit.py`, Apple's `mobileclip/models/mci.py`.
//!
//! Everything linear is folded when it is written ([`crate::towers::convs`]): what reaches the graph is
//! Conv, Gelu, the parts of squeeze-and-excite, Add, and attention.

use super::image::Image;
use crate::config::{AttnNorm, FastVit, ModelConfig, TokenMixer};
use crate::onnx::graph::Role;
use crate::onnx::{CompositeOps, Heads, Ops, Value};
use crate::params::Error;
use crate::params::reparam::{Linear, Rescale, RowScale, columns_interleaved, linear_after};
use crate::ports::Ports;
use crate::towers::convs::{
    Geometry, batch_norm, batch_normalization, biased, conv_bn, emit, emit_depthwise, emit_interleaved,
};
use crate::towers::rep_mixer::{RepMixer, branches, conv_mlp, rep_mixer_block};
use crate::towers::scope::Scope;
use crate::towers::{Encoded, Want, layers};

/// Pixels → embedding `[B, embed_dim]`.
pub fn tower(s: &Scope, model: &ModelConfig, c: &FastVit, ports: &Ports, want: Want) -> Result<Encoded, Error> {
    let image = Image::input(s, c.image_size, model, ports, true); // [B, 3, H, W]

    // Stem: 3×3 dense and 3×3 depthwise, each of stride 2, then 1×1.
    let d = c.stages[0].width;
    let one = MobileOne {
        d_in: d,
        d_out: d,
        kernel: 3,
        stride: 2,
        groups: d,
        scale_branch: c.stem_scale_branch,
        se: None,
        read_next: true,
        rescale: None,
    };
    let stem = s.at("stem");
    let first = MobileOne { d_in: 3, groups: 1, rescale: image.rescale, ..one };
    let x = mobile_one(&stem.at(0), (image.value, 1), &first, c)?;
    let x = mobile_one(&stem.at(1), x, &one, c)?;
    let (mut x, _) = mobile_one(&stem.at(2), x, &MobileOne { kernel: 1, stride: 1, groups: 1, ..one }, c)?;

    let mut size = c.image_size.map(|n| n.div_ceil(2).div_ceil(2));
    for (at, stage) in c.stages.iter().enumerate() {
        let (s, d) = (s.at("stages").at(at), stage.width);
        if at > 0 {
            x = downsample(&s.at("downsample").at("proj"), x, c, at)?;
            size = size.map(|n| n.div_ceil(2));
        }
        if stage.pos_emb {
            x = position_convolution(&s.at("pos_emb"), x, d, c.reparameterized)?;
        }
        for block in 0..stage.layers {
            let s = s.at("blocks").at(block);
            let mlp_dim = stage.mlp_dim();
            x = match stage.mixer {
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

    let wide = c.final_width();
    let d = wide / c.final_expansion;
    let se = Some(c.se_final.width(wide));
    let read_next = c.head.is_some() && want == Want::Pooled;
    let last = MobileOne {
        d_in: d,
        d_out: wide,
        kernel: 3,
        stride: 1,
        groups: d,
        scale_branch: true,
        se,
        read_next,
        rescale: None,
    };
    let (x, order) = mobile_one(&s.at("final_conv"), (x, 1), &last, c)?;
    let tokens = (want == Want::Tokens).then(|| {
        let (tokens, positions) = (s.at("tokens"), size[0] * size[1]);
        let flat = tokens.reshape(x, &[-1, wide as i64, positions as i64]);
        (tokens.transpose(flat, &[0, 2, 1]), positions) // [B, N, wide]
    });
    let pooled = s.reduce_mean(x, &[2, 3], false); // [B, wide]
    let pooled = match c.head {
        None => pooled,
        Some(head) => {
            let s = s.at("head");
            let weight = columns_interleaved(&s.param("weight", &[model.embed_dim, wide])?, order)?;
            let bias = if head.bias { Some(s.param("bias", &[model.embed_dim])?) } else { None };
            layers::affine(&s, pooled, &weight, bias)
        }
    };
    Ok(match tokens {
        Some((tokens, positions)) => Encoded::with_tokens(pooled, tokens, Some(positions), wide),
        None => Encoded::pooled(pooled),
    })
}

/// A MobileOne block. Vasu et al. 2022.
#[derive(Clone, Copy)]
struct MobileOne {
    d_in: usize,
    d_out: usize,
    kernel: usize,
    stride: usize,
    groups: usize,
    /// Whether there is a 1×1 branch parallel to the k×k one.
    scale_branch: bool,
    /// Width of the squeeze, where there is one.
    se: Option<usize>,
    /// Whether weights read what comes out, and can have it in any order of channels.
    read_next: bool,
    /// What is done to pixels before it.
    rescale: Option<Rescale>,
}

/// GELU(SE(Σ branches)). `order` is that of the input's channels, and the one given back that of the
/// output's: see [`emit_depthwise`].
fn mobile_one(s: &Scope, (x, order): (Value, usize), m: &MobileOne, c: &FastVit) -> Result<(Value, usize), Error> {
    let shape = [m.d_out, m.d_in / m.groups, m.kernel, m.kernel];
    let skip = m.d_in == m.d_out && m.stride == 1;
    let scale = m.scale_branch && m.kernel > 1;
    let conv = branches(s, shape, (scale, skip), c.bn_eps, c.reparameterized)?.after(m.rescale);
    let geometry = Geometry { stride: [m.stride; 2], ..Geometry::same(shape, m.groups) };
    let r = s.at("reparam_conv");
    let (x, order) = if m.groups == m.d_in && m.read_next {
        emit_depthwise(&r, x, &conv, geometry)?
    } else {
        (emit_interleaved(&r, x, &conv, geometry, [order, 1])?, 1)
    };
    let x = match m.se {
        Some(width) => squeeze_excite(&s.at("se"), x, m.d_out, width, order)?,
        None => x,
    };
    Ok((layers::activation(&s.at("act"), x, c.act), order))
}

/// x + g₁·attn(norm(x)), then x + g₂·mlp(x), over positions in row-major order.
fn attention_block(
    s: &Scope,
    x: Value,
    c: &FastVit,
    d: usize,
    mlp_dim: usize,
    [height, width]: [usize; 2],
) -> Result<Value, Error> {
    let (positions, head_dim, fold) = (height * width, c.head_dim, s.options().fold);
    let a = s.at("token_mixer");
    let flat = |x: Value| a.transpose(a.reshape(x, &[-1, d as i64, positions as i64]), &[0, 2, 1]); // [B, N, D]
    let qkv = a.at("qkv");
    let weight = qkv.param("weight", &[3 * d, d])?;
    // 1/√head_dim goes into the query's rows.
    let row_scale =
        if fold { RowScale::First { rows: d, factor: (head_dim as f64).powf(-0.5) } } else { RowScale::One };
    let (y, weight, bias) = match c.attn_norm {
        AttnNorm::BatchNorm => {
            let norm = batch_norm(&s.at("norm"), d, c.norm_eps)?;
            if fold {
                let (weight, bias) = linear_after(&weight, None, Some(&norm), row_scale);
                (flat(x), weight, Some(bias))
            } else {
                (flat(batch_normalization(&s.at("norm"), x, &norm)), weight, None)
            }
        }
        AttnNorm::LayerNorm2d => {
            let y = layers::layer_norm(&s.at("norm"), flat(x), d, c.norm_eps)?;
            // Without a norm's shift there is no bias.
            (y, linear_after(&weight, None, None, row_scale).0, None)
        }
    };
    let y = layers::affine(&qkv, y, &weight, bias);
    let (heads, positions) = (d / head_dim, Some(positions));
    let heads = Heads { width: d, heads, positions, mask: None, scaled: fold, one_query: false };
    let y = a.attention(a.split(y, d), heads); // [B, N, D]

    let gamma = s.at("layer_scale_1").param("gamma", &[d, 1, 1])?;
    let proj = a.at("proj");
    let (weight, bias) = (proj.param("weight", &[d, d])?, proj.param("bias", &[d])?);
    let (weight, bias) =
        if fold { linear_after(&weight, Some(&bias), None, RowScale::Each(gamma.clone())) } else { (weight, bias) };
    let y = layers::affine(&proj, y, &weight, Some(bias)); // [B, N, D]
    let y = a.reshape(a.transpose(y, &[0, 2, 1]), &[-1, d as i64, height as i64, width as i64]);
    let scale = s.at("layer_scale_1");
    let y = if fold { y } else { scale.mul(y, scale.initializer("gamma", Role::Norm, gamma)) };
    let x = s.add(x, y);

    let y = conv_mlp(s, x, d, mlp_dim, [7, 7], (c.act, c.bn_eps), "layer_scale_2")?;
    Ok(s.add(x, y))
}

/// Halves both sides: GELU(SE(BN(dw7×7) + BN(dw3×3))) with several outputs per input channel, then
/// a 1×1 MobileOne block.
fn downsample(s: &Scope, x: Value, c: &FastVit, stage: usize) -> Result<Value, Error> {
    let (d_in, d_out) = (c.stages[stage - 1].width, c.stages[stage].width);
    let large = s.at(0);
    let shape = [d_out, 1, 7, 7];
    let conv = if c.reparameterized {
        biased(&large.at("reparam_conv"), shape)?
    } else {
        let conv = conv_bn(&large.at("large_conv"), shape, c.bn_eps)?;
        conv.plus(conv_bn(&large.at("small_conv"), [d_out, 1, 3, 3], c.bn_eps)?)
    };
    let geometry = Geometry { stride: [2, 2], ..Geometry::same(shape, d_in) };
    let (x, order) = emit_depthwise(&large.at("reparam_conv"), x, &conv, geometry)?;
    let x = if c.stages[stage].se_downsample {
        squeeze_excite(&large.at("se"), x, d_out, c.se_downsample.width(d_out), order)?
    } else {
        x
    };
    let x = layers::activation(&large.at("act"), x, c.act);
    let one = MobileOne {
        d_in: d_out,
        d_out,
        kernel: 1,
        stride: 1,
        groups: 1,
        scale_branch: false,
        se: None,
        read_next: true,
        rescale: None,
    };
    Ok(mobile_one(&s.at(1), (x, order), &one, c)?.0)
}

/// Conditional positions: x + dw7×7(x). Chu et al. 2021.
fn position_convolution(s: &Scope, x: Value, d: usize, reparameterized: bool) -> Result<Value, Error> {
    let shape = [d, 1, 7, 7];
    let conv = if reparameterized {
        biased(&s.at("reparam_conv"), shape)?
    } else {
        Linear::Identity.plus(biased(&s.at("pos_enc"), shape)?)
    };
    emit(&s.at("reparam_conv"), x, &conv, Geometry::same(shape, d))
}

/// x · σ(fc2(relu(fc1(mean(x))))), its channels in this order. Hu et al. 2018.
fn squeeze_excite(s: &Scope, x: Value, d: usize, width: usize, order: usize) -> Result<Value, Error> {
    let y = s.global_average_pool(x); // [B, D, 1, 1]
    let (fc1, fc2) = (s.at("fc1"), s.at("fc2"));
    let shape = [width, d, 1, 1];
    let y = emit_interleaved(&fc1, y, &biased(&fc1, shape)?, Geometry::same(shape, 1), [order, 1])?;
    let shape = [d, width, 1, 1];
    let y = emit_interleaved(&fc2, s.relu(y), &biased(&fc2, shape)?, Geometry::same(shape, 1), [1, order])?;
    Ok(s.mul(x, s.sigmoid(y)))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::{SqueezeExcite, Stage};
    use crate::towers::scope::Options;
    use crate::towers::testing::{Case, OPTIONS};

    /// A tower with the settings of a case, and stages of these widths.
    fn config(case: &Case, widths: &[usize]) -> FastVit {
        let stage = |&width: &usize| Stage {
            layers: 1,
            width,
            mlp_ratio: 1.0,
            mixer: TokenMixer::Attention,
            pos_emb: false,
            se_downsample: true,
        };
        let se = |channels: usize| SqueezeExcite {
            ratio: case.setting::<Option<usize>>("se").unwrap_or(channels) as f64 / channels as f64,
            divisor: 1,
        };
        let widest = widths.last().copied().unwrap_or(1);
        FastVit {
            image_size: [32; 2],
            act: case.setting("act"),
            stages: widths.iter().map(stage).collect(),
            stem_scale_branch: true,
            attn_norm: case.setting::<Option<AttnNorm>>("attn_norm").unwrap_or(AttnNorm::BatchNorm),
            norm_eps: case.setting::<Option<f32>>("norm_eps").unwrap_or(1e-5),
            head_dim: case.setting::<Option<usize>>("head_dim").unwrap_or(1),
            se_downsample: se(widest),
            se_final: se(widest),
            final_expansion: 1,
            bn_eps: case.setting("bn_eps"),
            reparameterized: false,
            head: None,
        }
    }

    #[test]
    fn a_mobile_one_block_is_that_of_timm() {
        for (name, read_next) in [
            ("mobile_one", true),
            ("mobile_one", false),
            ("mobile_one_stem", true),
            ("mobile_one_final", true),
            ("mobile_one_final", false),
        ] {
            let case = Case::read(name);
            let block = MobileOne {
                d_in: case.setting("d_in"),
                d_out: case.setting("d_out"),
                kernel: case.setting("kernel"),
                stride: case.setting("stride"),
                groups: case.setting("groups"),
                scale_branch: case.setting("scale_branch"),
                se: case.setting("se"),
                read_next,
                rescale: None,
            };
            case.check(OPTIONS, &|s| {
                let (y, order) = mobile_one(s, (case.input(s, "input"), 1), &block, &config(&case, &[]))?;
                let depthwise = block.groups == block.d_in && read_next && s.options().fold;
                assert_eq!(order, if depthwise { block.d_out / block.d_in } else { 1 });
                // What reads it has its weights in that order; here the channels are put back.
                let runs = block.d_out / order;
                let back: Vec<i64> = (0..block.d_out).map(|c| (c % order * runs + c / order) as i64).collect();
                Ok(s.gather(y, s.ints(&back), 1))
            });
        }
    }

    #[test]
    fn squeeze_and_excite_is_that_of_timm() {
        let case = Case::read("squeeze_excite");
        let [dim, width] = ["dim", "se"].map(|field| case.setting(field));
        case.check(OPTIONS, &|s| squeeze_excite(s, case.input(s, "input"), dim, width, 1));
    }

    #[test]
    fn an_attention_block_is_that_of_timm() {
        let case = Case::read("attention_block");
        let [dim, mlp_dim] = ["dim", "mlp_dim"].map(|field| case.setting(field));
        let &[_, _, height, width] = case.shape("input") else { panic!("[B, D, H, W]") };
        let c = config(&case, &[dim]);
        case.check(OPTIONS, &|s| attention_block(s, case.input(s, "input"), &c, dim, mlp_dim, [height, width]));
    }

    #[test]
    fn a_downsampling_is_that_of_timm() {
        let case = Case::read("downsample");
        let c = config(&case, &[case.setting("d_in"), case.setting("d_out")]);
        for plain_depthwise in [true, false] {
            let options = Options { plain_depthwise, ..OPTIONS };
            case.check(options, &|s| downsample(s, case.input(s, "input"), &c, 1));
        }
    }
}
