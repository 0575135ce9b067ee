//! ViT over an image of fixed size. Dosovitskiy et al. 2021; timm's `VisionTransformer`.

use super::convs::{Geometry, batch_norm, biased, emit, unbiased};
use super::image::Image;
use super::layers::{self, Transformer};
use super::naflex;
use super::pool::{self, Place};
use super::scope::Scope;
use crate::config::{ConvStemCfg, ModelConfig, Proj, VisionPool, VitCfg};
use crate::onnx::graph::Dim;
use crate::onnx::{ConvAttributes, Mask, Ops, Value};
use crate::params::Error;
use crate::tensor::Tensor;

/// Pixels → embedding `[B, embed_dim]`.
pub fn tower(s: &Scope, model: &ModelConfig, c: &VitCfg) -> Result<Value, Error> {
    let size = c.image_size.unwrap_or_default();
    let [rows, columns] = c.grid_of(size);
    let patches = rows * columns;

    let padded = c.conv_stem.as_ref().is_some_and(|stem| stem.paddings.first().is_some_and(|&n| n > 0));
    let image = Image::input(s, size, model, padded); // [B, 3, H, W]
    let x = match &c.conv_stem {
        Some(stem) => conv_stem(&s.at("patch_embed").at("backbone"), image, stem, c.patch_bias)?,
        None => patch_embed(&s.at("patch_embed").at("proj"), image, c)?,
    }; // [B, D, rows, columns]
    let x = s.reshape(x, &[-1, c.width as i64, patches as i64]);
    let x = s.transpose(x, &[0, 2, 1]); // [B, N, D]

    let positions = s.param("pos_embed", &[1, usize::from(c.pos_embed_class) + patches, c.width])?;
    let (x, places) = if c.class_token {
        // A row of zeros in front, then one table that holds the token and all positions:
        // no Expand to the batch.
        let token = s.param("cls_token", &[1, 1, c.width])?.to_f32()?;
        let mut table = positions.to_f32()?;
        if c.pos_embed_class {
            table.iter_mut().zip(&token).for_each(|(at, token)| *at += token);
        } else {
            table.splice(..0, token);
        }
        let table = Tensor::from_f32("class token and positions", &[1, patches + 1, c.width], &table);
        let rows = s.build().rows().filter(|_| s.graph().target().avoids("Pad"));
        (with_class_token(s, x, &table, rows)?, patches + 1)
    } else {
        (s.add(x, s.initializer("pos_embed", positions)), patches)
    };
    let x = layers::rows(s, x, c.width);

    encode(s, x, c, model, Some(places), None)
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
    c: &VitCfg,
    model: &ModelConfig,
    places: Option<usize>,
    mask: Option<Mask>,
) -> Result<Value, Error> {
    let transformer = Transformer {
        width: c.width,
        layers: c.layers,
        heads: c.heads,
        mlp_dim: c.mlp_dim,
        act: c.act,
        norm_eps: c.norm_eps,
        places,
        mask,
    };
    let x = if c.pre_norm { layers::layer_norm(&s.at("norm_pre"), x, c.width, c.norm_eps)? } else { x };
    let norm = |x: Value| match c.final_norm {
        true => layers::layer_norm(&s.at("norm"), x, c.width, c.norm_eps),
        false => Ok(x),
    };
    let dim = places.map_or(naflex::PATCHES, Dim::Fixed);
    let all = || -> Result<Value, Error> {
        Ok(super::places(s, norm(layers::blocks(s, x, &transformer)?)?, dim.clone(), c.width))
    };
    let x = match (c.pool, c.map_heads, c.map_mlp_dim) {
        (VisionPool::Map, Some(heads), Some(mlp_dim)) => {
            pool::map_head(&s.at("attn_pool"), all()?, &transformer, heads, mlp_dim)?
        }
        (VisionPool::Avg, ..) => s.reduce_mean(layers::places(s, all()?, places, c.width), &[1], false),
        (VisionPool::Token | VisionPool::Map, ..) if s.build().ports.hidden || s.build().ports.patches => {
            class_token(s, layers::blocks(s, x, &transformer)?, norm, &transformer)?
        }
        // A configuration with `map` and no heads does not pass its check.
        (VisionPool::Token | VisionPool::Map, ..) => norm(pool::blocks(s, x, Place::Fixed(0), &transformer)?)?,
    }; // [B, D]
    layers::head(s, x, c.width, model.embed_dim, c.proj == Proj::Linear, c.proj_bias)
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
fn patch_embed(s: &Scope, image: Image, c: &VitCfg) -> Result<Value, Error> {
    let (shape, side) = ([c.width, 3, c.patch_size, c.patch_size], [c.patch_size; 2]);
    if image.rescale.is_some() {
        let conv = if c.patch_bias { biased(s, shape)? } else { unbiased(s, shape)? };
        let geometry = Geometry { shape, stride: side, padding: [0, 0], groups: 1 };
        return emit(s, image.value, &conv.after(image.rescale), geometry);
    }
    let weight = s.initializer("weight", s.param("weight", &shape)?);
    let bias = if c.patch_bias { Some(s.initializer("bias", s.param("bias", &[c.width])?)) } else { None };
    Ok(s.conv(image.value, weight, bias, &ConvAttributes { kernel: side, stride: side, padding: [0, 0], groups: 1 }))
}

/// Convolutions in place of one patch matrix: BatchNorm, folded, and the activation after all but
/// the last. Xiao et al. 2021, as MobileCLIP-B has it.
fn conv_stem(s: &Scope, image: Image, c: &ConvStemCfg, last_bias: bool) -> Result<Value, Error> {
    let (mut x, mut rescale, mut d_in) = (image.value, image.rescale, 3);
    for (i, &d_out) in c.channels.iter().enumerate() {
        let (s, last) = (s.at(i), i + 1 == c.channels.len());
        let shape = [d_out, d_in, c.kernels[i], c.kernels[i]];
        let conv = if last && last_bias { biased(&s.at("conv"), shape)? } else { unbiased(&s.at("conv"), shape)? };
        let conv = if last { conv } else { conv.normed(batch_norm(&s.at("bn"), d_out, c.bn_eps)?) };
        let (padding, stride) = ([c.paddings[i]; 2], [c.strides[i]; 2]);
        let conv = conv.after(rescale.take());
        x = emit(&s.at("conv"), x, &conv, Geometry { shape, stride, padding, groups: 1 })?;
        if !last {
            x = layers::activation(&s.at("act"), x, c.act);
        }
        d_in = d_out;
    }
    Ok(x)
}
