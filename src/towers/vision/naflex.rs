//! NaFlex: a ViT over a variable sequence of patches, each image with its own height and width.
//! Tschannen et al. 2025 (SigLIP 2), §2.4.2; `big_vision/models/proj/image_text/naflex_vit.py`.

use super::vit;
use crate::config::{ModelConfig, NaflexVit};
use crate::onnx::graph::{Dim, ElementType, Role};
use crate::onnx::{CompositeOps, Mask, Ops, Value};
use crate::params::Error;
use crate::tensor::Tensor;
use crate::towers::scope::Scope;
use crate::towers::{Encoded, PATCHES, Want};

/// `patches [B, N, P·P·3]` (y, x, channel), `patch_mask` (1 patch, 0 padding), `patch_y`,
/// `patch_x` int64 `[B, N]` → embedding `[B, embed_dim]`.
pub fn tower(s: &Scope, model: &ModelConfig, c: &NaflexVit, want: Want) -> Result<Encoded, Error> {
    let each = || vec![s.batch(), PATCHES];
    let values = 3 * c.patches.size * c.patches.size;
    let x = s.graph().input("patches", ElementType::Float, [each(), vec![Dim::Fixed(values)]].concat());
    let mask = s.graph().input("patch_mask", ElementType::Int64, each());
    let y_at = s.graph().input("patch_y", ElementType::Int64, each());
    let x_at = s.graph().input("patch_x", ElementType::Int64, each());

    let mask = s.named("mask", s.cast_float(mask)); // [B, N]
    let x = patch_embed(&s.at("patch_embed"), x, c)?; // [B, N, D]
    let x = s.add(x, pos_embed(&s.at("pos_embed"), s, c, mask, y_at, x_at)?);

    // Padding is never looked at. The least float32 rather than -inf: a row that is all padding
    // then attends evenly instead of giving NaN.
    let hidden = s.mul(s.sub(s.scalar(1.0), mask), s.scalar(f32::MIN));
    let hidden = s.named("padding_mask", s.unsqueeze(hidden, &[1, 2])); // [B, 1, 1, N]
    vit::encode(s, x, &c.encoder(), model, None, Some(Mask::Added(hidden)), want)
}

/// The convolution's weights as a matrix over (y, x, channel).
fn patch_embed(s: &Scope, x: Value, c: &NaflexVit) -> Result<Value, Error> {
    let (s, p, width) = (s.at("proj"), c.patches.size, c.blocks.width);
    let weight = s.param("weight", &[width, 3, p, p])?;
    let weight = weight.permute(&[2, 3, 1, 0]).reshape(&[p * p * 3, width])?;
    let x = s.matmul(x, s.initializer("weight", Role::Weight, weight));
    if !c.patches.bias {
        return Ok(x);
    }
    Ok(s.add(x, s.initializer("bias", Role::Bias, s.param("bias", &[width])?)))
}

/// Positions of an image of h × w patches: the stored grid resampled to h × w, bilinear with
/// antialias, looked up at (y, x). Resampling is linear and separable, so the position of a patch
/// is Σ wy·wx·grid over the grid, and every image of the batch has its own h and w.
fn pos_embed(at: &Scope, s: &Scope, c: &NaflexVit, mask: Value, y: Value, x: Value) -> Result<Value, Error> {
    let ([rows, columns], width) = (c.grid, c.blocks.width);
    let grid = s.param("pos_embed", &[rows, columns, width])?;
    let grid = s.initializer("pos_embed", Role::Position, grid.reshape(&[rows * columns, width])?);
    let wy = axis_weights(&at.at("y"), y, mask, rows); // [B, N, rows]
    let wx = axis_weights(&at.at("x"), x, mask, columns); // [B, N, columns]
    let weights = at.mul(at.unsqueeze(wy, &[3]), at.unsqueeze(wx, &[2])); // [B, N, rows, columns]
    let weights = at.reshape(weights, &[0, 0, (rows * columns) as i64]);
    Ok(at.matmul(weights, grid)) // [B, N, D]
}

/// Weight of grid line i for a patch at `at` of n: max(0, 1 − |(at+½)·g/n − ½ − i| / max(g/n, 1)),
/// normalised over i, where n = max(at) + 1 over the image's patches.
fn axis_weights(s: &Scope, at: Value, mask: Value, grid: usize) -> Value {
    let half = s.scalar(0.5);
    let one = s.number(1.0, 2);
    let g = s.number(grid as f32, 2);
    let at = s.mul(s.cast_float(at), mask); // padding at 0, so that it cannot stretch the image
    let n = s.add(s.reduce_max(at, &[1], true), one); // [B, 1]
    // Multiplied before it is divided, so that an image on the grid hits it exactly.
    let centre = s.sub(s.div(s.mul(s.add(at, half), g), n), half); // [B, N]
    let lines: Vec<f32> = (0..grid).map(|i| i as f32).collect();
    let lines = s.initializer("lines", Role::Constant, Tensor::from_f32("grid lines", &[grid], &lines));
    let distance = s.abs(s.sub(s.unsqueeze(centre, &[2]), lines)); // [B, N, g]
    let reach = s.unsqueeze(s.at_least(s.div(g, n), 1.0, 2), &[2]); // [B, 1, 1]
    let weight = s.at_least(s.sub(one, s.div(distance, reach)), 0.0, 2);
    s.div(weight, s.reduce_sum(weight, &[2], true))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::{Act, PatchEmbed, PatchWeight, Transformer};
    use crate::towers::testing::{Case, OPTIONS};

    /// Grids larger and smaller than the stored one, and padding, which gets the position of the first patch.
    #[test]
    fn positions_are_those_of_torch_interpolate() {
        let case = Case::read("naflex_positions");
        let width = case.setting("width");
        // Only the grid and the width are read here.
        let c = NaflexVit {
            grid: case.setting("pos_grid"),
            patches: PatchEmbed { size: 1, weight: PatchWeight::Linear, bias: true },
            pre_norm: false,
            blocks: Transformer {
                width,
                layers: 1,
                heads: 1,
                mlp_dim: 1,
                act: Act::GeluTanh,
                norm_eps: 1e-6,
                layer_scale: false,
            },
            final_norm: true,
            map_heads: 1,
            map_mlp_dim: 1,
            head: None,
        };
        case.check(OPTIONS, &|s| {
            let [mask, y, x] = ["patch_mask", "patch_y", "patch_x"].map(|name| case.input(s, name));
            pos_embed(&s.at("pos_embed"), s, &c, s.cast_float(mask), y, x)
        });
    }
}
