//! ViT over an image of fixed size. Dosovitskiy et al. 2021; timm's `VisionTransformer`.

use super::image::Image;
use crate::config::{ClassToken, ConvStem, Encoder, ModelConfig, PatchEmbed, Pool, Stem, StemConv, Vit};
use crate::onnx::graph::Role;
use crate::onnx::{CompositeOps, ConvAttributes, Mask, Ops, Value};
use crate::params::Error;
use crate::ports::Ports;
use crate::towers::convs::{Geometry, batch_norm, biased, emit, unbiased};
use crate::towers::layers::{self, Transformer};
use crate::towers::pool::{self, Position};
use crate::towers::scope::Scope;
use crate::towers::{Encoded, Tokens, Want};

/// Pixels → embedding `[B, embed_dim]`.
pub fn tower(s: &Scope, model: &ModelConfig, c: &Vit, ports: &Ports, want: Want) -> Result<Encoded, Error> {
    let padded = matches!(&c.stem, Stem::Convs(stem) if stem.convs.first().is_some_and(|conv| conv.padding > 0));
    let image = Image::input(s, c.image_size, model, ports, padded); // [B, 3, H, W]
    let (x, positions) = embed(s, image, c)?; // [B, N, D] or [B, 1 + N, D]
    encode(s, x, &c.encoder, model, Some(positions), None, want)
}

/// Patches and the class token, where there is one, with their positions added; and how many positions there are.
fn embed(s: &Scope, image: Image, c: &Vit) -> Result<(Value, usize), Error> {
    let ([rows, columns], width) = (c.grid(), c.encoder.blocks.width);
    let patches = rows * columns;
    let x = match &c.stem {
        Stem::Convs(stem) => conv_stem(&s.at("patch_embed").at("backbone"), image, stem)?,
        Stem::Patches(patches) => patch_embed(&s.at("patch_embed").at("proj"), image, patches, width)?,
    }; // [B, D, rows, columns]
    let x = s.reshape(x, &[-1, width as i64, patches as i64]);
    let x = s.transpose(x, &[0, 2, 1]); // [B, N, D]

    let positioned = c.class_token == ClassToken::Positioned;
    let positions = s.param("pos_embed", &[1, usize::from(positioned) + patches, width])?;
    if !c.class_token.is_some() {
        return Ok((s.add(x, s.initializer("pos_embed", Role::Position, positions)), patches));
    }
    let mut token = s.param("cls_token", &[1, 1, width])?.to_f32()?;
    let mut positions = positions.to_f32()?;
    if positioned {
        token.iter_mut().zip(positions.drain(..width)).for_each(|(token, position)| *token += position);
    }
    Ok((s.prepend_token(x, token, positions), patches + 1)) // [B, 1 + N, D]
}

/// Embedded patches → blocks → pooling → projection: all that comes after positions. `mask` is of the blocks and of
/// pooling; `positions` is their number, where it is known at export.
pub fn encode(
    s: &Scope,
    x: Value,
    c: &Encoder,
    model: &ModelConfig,
    positions: Option<usize>,
    mask: Option<Mask>,
    want: Want,
) -> Result<Encoded, Error> {
    let (width, norm_eps) = (c.blocks.width, c.blocks.norm_eps);
    let transformer = Transformer::of(&c.blocks, positions, mask);
    let x = if c.pre_norm { layers::layer_norm(&s.at("norm_pre"), x, width, norm_eps)? } else { x };
    let norm = |x: Value| match c.final_norm {
        true => layers::layer_norm(&s.at("norm"), x, width, norm_eps),
        false => Ok(x),
    };
    let all = || layers::blocks(s, x, &transformer);
    let encoded = |pooled, tokens| Encoded::with_tokens(pooled, tokens, positions, width);
    let Encoded { tokens, pooled } = match c.pool {
        Pool::Map { heads, mlp_dim } => {
            let tokens = norm(all()?)?; // [B, N, D]
            encoded(pool::map_head(&s.at("attn_pool"), tokens, &transformer, heads, mlp_dim)?, tokens)
        }
        Pool::Avg { class_token, norm_after } => {
            let unnormed = all()?;
            let tokens = if norm_after { unnormed } else { norm(unnormed)? }; // [B, N, D] or [B, 1 + N, D]
            let patches = match positions.filter(|_| class_token) {
                Some(positions) => s.slice(tokens, s.ints(&[1]), s.ints(&[positions as i64]), 1),
                None => tokens,
            };
            let mean = s.reduce_mean(patches, &[1], false);
            let Encoded { tokens, pooled } = encoded(if norm_after { norm(mean)? } else { mean }, tokens);
            Encoded { tokens: tokens.map(|tokens| Tokens { unnormed, class_token, ..tokens }), pooled }
        }
        Pool::Token if want == Want::Pooled => {
            Encoded::pooled(norm(pool::blocks(s, x, Position::Fixed(0), &transformer)?)?)
        }
        Pool::Token => {
            let unnormed = all()?;
            let tokens = norm(unnormed)?; // [B, 1 + N, D]
            let Encoded { tokens, pooled } = encoded(Position::Fixed(0).take(&s.at("pool"), tokens, width), tokens);
            Encoded { tokens: tokens.map(|tokens| Tokens { unnormed, class_token: true, ..tokens }), pooled }
        }
    }; // [B, D]
    let pooled = layers::head(s, pooled, width, model.embed_dim, c.head)?;
    Ok(Encoded { tokens, pooled })
}

/// Each patch times one matrix, as a convolution whose stride is its kernel: `[B, D, rows, columns]`.
pub fn patch_embed(s: &Scope, image: Image, c: &PatchEmbed, width: usize) -> Result<Value, Error> {
    let (shape, side) = ([width, 3, c.size, c.size], [c.size; 2]);
    if image.rescale.is_some() {
        let conv = if c.bias { biased(s, shape)? } else { unbiased(s, shape)? };
        let geometry = Geometry { shape, stride: side, padding: [0, 0], groups: 1 };
        return emit(s, image.value, &conv.after(image.rescale), geometry);
    }
    let weight = s.initializer("weight", Role::Kernel, s.param("weight", &shape)?);
    let bias = if c.bias { Some(s.initializer("bias", Role::Bias, s.param("bias", &[width])?)) } else { None };
    Ok(s.conv(image.value, weight, bias, &ConvAttributes { kernel: side, stride: side, padding: [0, 0], groups: 1 }))
}

/// Convolutions in place of one patch matrix: BatchNorm, folded, and the activation after all but
/// the last. Xiao et al. 2021, as MobileCLIP-B has it.
fn conv_stem(s: &Scope, image: Image, c: &ConvStem) -> Result<Value, Error> {
    let (mut x, mut rescale, mut d_in) = (image.value, image.rescale, 3);
    for (i, &StemConv { channels: d_out, kernel, stride, padding }) in c.convs.iter().enumerate() {
        let (s, last) = (s.at(i), i + 1 == c.convs.len());
        let shape = [d_out, d_in, kernel, kernel];
        let conv = if last && c.bias { biased(&s.at("conv"), shape)? } else { unbiased(&s.at("conv"), shape)? };
        let conv = if last { conv } else { conv.normed(batch_norm(&s.at("bn"), d_out, c.bn_eps)?) };
        let conv = conv.after(rescale.take());
        let geometry = Geometry { shape, stride: [stride; 2], padding: [padding; 2], groups: 1 };
        x = emit(&s.at("conv"), x, &conv, geometry)?;
        if !last {
            x = layers::activation(&s.at("act"), x, c.act);
        }
        d_in = d_out;
    }
    Ok(x)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::{Act, PatchWeight, Transformer as Blocks};
    use crate::towers::testing::{Case, OPTIONS};

    fn image(case: &Case, s: &Scope) -> Image {
        Image { value: case.input(s, "input"), rescale: None }
    }

    #[test]
    fn a_convolution_stem_is_that_of_timm() {
        let case = Case::read("conv_stem");
        let [channels, kernels, strides, paddings] =
            ["channels", "kernels", "strides", "paddings"].map(|field| case.setting::<Vec<usize>>(field));
        let conv = |at: usize| StemConv {
            channels: channels[at],
            kernel: kernels[at],
            stride: strides[at],
            padding: paddings[at],
        };
        let c = ConvStem {
            convs: (0..channels.len()).map(conv).collect(),
            act: case.setting("act"),
            bn_eps: case.setting("bn_eps"),
            bias: case.setting("patch_bias"),
        };
        case.check(OPTIONS, &|s| conv_stem(s, image(&case, s), &c));
    }

    #[test]
    fn patches_and_positions_are_those_of_timm() {
        let case = Case::read("patch_embed");
        let [size, width] = ["patch_size", "width"].map(|field| case.setting(field));
        let stem = PatchEmbed { size, weight: PatchWeight::Conv, bias: case.setting("patch_bias") };
        assert!(case.setting::<bool>("class_token") && case.setting::<bool>("pos_embed_class"));
        // Of the encoder, only the width is read here.
        let blocks =
            Blocks { width, layers: 1, heads: 1, mlp_dim: 1, act: Act::Gelu, norm_eps: 1e-6, layer_scale: false };
        let c = Vit {
            image_size: case.setting("image_size"),
            stem: Stem::Patches(stem),
            class_token: ClassToken::Positioned,
            encoder: Encoder { pre_norm: false, blocks, final_norm: true, pool: Pool::Token, head: None },
        };
        case.check(OPTIONS, &|s| {
            let (x, positions) = embed(s, image(&case, s), &c)?;
            assert_eq!(positions, case.shape("output")[1]);
            Ok(x)
        });
    }
}
