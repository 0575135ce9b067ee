//! ViT over an image of fixed size. Dosovitskiy et al. 2021; timm's `VisionTransformer`.

use super::convs::{Geometry, batch_norm, biased, emit, unbiased};
use super::image::Image;
use super::layers::{self, Transformer};
use super::naflex;
use super::pool::{self, Place};
use super::scope::Scope;
use crate::config::{ClassToken, ConvStem, Encoder, ModelConfig, PatchEmbed, Pool, Stem, StemConv, Vit};
use crate::onnx::graph::Dim;
use crate::onnx::{ConvAttributes, Mask, Ops, Value};
use crate::params::Error;
use crate::tensor::Tensor;

/// Pixels → embedding `[B, embed_dim]`.
pub fn tower(s: &Scope, model: &ModelConfig, c: &Vit) -> Result<Value, Error> {
    let ([rows, columns], width) = (c.grid(), c.encoder.blocks.width);
    let patches = rows * columns;

    let padded = matches!(&c.stem, Stem::Convs(stem) if stem.convs.first().is_some_and(|conv| conv.padding > 0));
    let image = Image::input(s, c.image_size, model, padded); // [B, 3, H, W]
    let x = match &c.stem {
        Stem::Convs(stem) => conv_stem(&s.at("patch_embed").at("backbone"), image, stem)?,
        Stem::Patches(patches) => patch_embed(&s.at("patch_embed").at("proj"), image, patches, width)?,
    }; // [B, D, rows, columns]
    let x = s.reshape(x, &[-1, width as i64, patches as i64]);
    let x = s.transpose(x, &[0, 2, 1]); // [B, N, D]

    let placed = c.class_token == ClassToken::Positioned;
    let positions = s.param("pos_embed", &[1, usize::from(placed) + patches, width])?;
    let (x, places) = if c.class_token.is_some() {
        // A row of zeros in front, then one table that holds the token and all positions:
        // no Expand to the batch.
        let token = s.param("cls_token", &[1, 1, width])?.to_f32()?;
        let mut table = positions.to_f32()?;
        if placed {
            table.iter_mut().zip(&token).for_each(|(at, token)| *at += token);
        } else {
            table.splice(..0, token);
        }
        let table = Tensor::from_f32("class token and positions", &[1, patches + 1, width], &table);
        let rows = s.build().rows().filter(|_| s.graph().target().avoids("Pad"));
        (with_class_token(s, x, &table, rows)?, patches + 1)
    } else {
        (s.add(x, s.initializer("pos_embed", positions)), patches)
    };
    let x = layers::rows(s, x, width);

    encode(s, x, &c.encoder, model, Some(places), None)
}

/// Patches `[B, N, D]` with what `table [1, N + 1, D]` has for their places, behind its first row: a row of
/// noughts in front gets it by the sum, or it is joined on, once for each of a known number of rows.
fn with_class_token(s: &Scope, x: Value, table: &Tensor, rows: Option<usize>) -> Result<Value, Error> {
    let Some(rows) = rows else {
        let x = s.pad_front(x, 3, 1);
        return Ok(s.add(x, s.initializer("pos_embed", table.clone())));
    };
    let [places, width] = [1, 2].map(|axis| table.shape()[axis]);
    let numbers = table.to_f32()?;
    let token = Tensor::from_f32("class token", &[rows, 1, width], &numbers[..width].repeat(rows));
    let positions = Tensor::from_f32("positions", &[1, places - 1, width], &numbers[width..]);
    let x = s.add(x, s.initializer("pos_embed", positions));
    Ok(s.concat(&[s.initializer("cls_token", token), x], 1))
}

/// Embedded patches → blocks → pooling → projection: all that comes after positions.
/// `mask` is of the blocks and of pooling.
pub fn encode(
    s: &Scope,
    x: Value,
    c: &Encoder,
    model: &ModelConfig,
    places: Option<usize>,
    mask: Option<Mask>,
) -> Result<Value, Error> {
    let (transformer, width, norm_eps) = (Transformer::of(&c.blocks, places, mask), c.blocks.width, c.blocks.norm_eps);
    let x = if c.pre_norm { layers::layer_norm(&s.at("norm_pre"), x, width, norm_eps)? } else { x };
    let norm = |x: Value| match c.final_norm {
        true => layers::layer_norm(&s.at("norm"), x, width, norm_eps),
        false => Ok(x),
    };
    let dim = places.map_or(naflex::PATCHES, Dim::Fixed);
    let all = || -> Result<Value, Error> {
        Ok(super::places(s, norm(layers::blocks(s, x, &transformer)?)?, dim.clone(), width))
    };
    let x = match c.pool {
        Pool::Map { heads, mlp_dim } => pool::map_head(&s.at("attn_pool"), all()?, &transformer, heads, mlp_dim)?,
        Pool::Avg => s.reduce_mean(layers::places(s, all()?, places, width), &[1], false),
        Pool::Token if s.build().ports.hidden || s.build().ports.patches => {
            class_token(s, layers::blocks(s, x, &transformer)?, norm, &transformer)?
        }
        Pool::Token => norm(pool::blocks(s, x, Place::Fixed(0), &transformer)?)?,
    }; // [B, D]
    layers::head(s, x, width, model.embed_dim, c.head)
}

/// The class token of all places, normed, `[B, D]`, where the places are asked for too. transformers has
/// them before the norm.
fn class_token(
    s: &Scope,
    x: Value,
    norm: impl Fn(Value) -> Result<Value, Error>,
    c: &Transformer,
) -> Result<Value, Error> {
    let count = c.places.unwrap_or_default();
    let x = layers::places(s, x, c.places, c.width);
    let x = norm(super::hidden(s, x, Dim::Fixed(count), c.width))?;
    if s.build().ports.patches {
        let p = s.at("patches");
        let rest = p.slice(x, p.ints(&[1]), p.ints(&[count as i64]), 1);
        super::patches(s, rest, Dim::Fixed(count.saturating_sub(1)), c.width);
    }
    Ok(Place::Fixed(0).take(&s.at("pool"), layers::rows(s, x, c.width), c))
}

/// Each patch times one matrix, as a convolution whose stride is its kernel.
fn patch_embed(s: &Scope, image: Image, c: &PatchEmbed, width: usize) -> Result<Value, Error> {
    let (shape, side) = ([width, 3, c.size, c.size], [c.size; 2]);
    if image.rescale.is_some() {
        let conv = if c.bias { biased(s, shape)? } else { unbiased(s, shape)? };
        let geometry = Geometry { shape, stride: side, padding: [0, 0], groups: 1 };
        return emit(s, image.value, &conv.after(image.rescale), geometry);
    }
    let weight = s.initializer("weight", s.param("weight", &shape)?);
    let bias = if c.bias { Some(s.initializer("bias", s.param("bias", &[width])?)) } else { None };
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
