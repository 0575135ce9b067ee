//! EVA-02's ViT: rotary positions, SwiGLU, and a LayerNorm inside attention and inside the MLP. Fang et al. 2023, §2;
//! timm's `Eva`.

use super::image::Image;
use super::vit::patch_embed;
use crate::config::{Eva, ModelConfig, PatchEmbed, PatchWeight};
use crate::onnx::graph::Role;
use crate::onnx::{CompositeOps, Heads, Ops, Value};
use crate::params::Error;
use crate::ports::Ports;
use crate::tensor::Tensor;
use crate::towers::layers::{self, affine, layer_norm, linear};
use crate::towers::pool::Position;
use crate::towers::scope::Scope;
use crate::towers::{Encoded, Tokens, Want};

/// Pixels → embedding `[B, embed_dim]`.
pub fn tower(s: &Scope, model: &ModelConfig, c: &Eva, ports: &Ports, want: Want) -> Result<Encoded, Error> {
    let image = Image::input(s, c.image_size, model, ports, false); // [B, 3, H, W]
    let patch = PatchEmbed { size: c.patch_size, weight: PatchWeight::Conv, bias: true };
    let x = patch_embed(&s.at("patch_embed").at("proj"), image, &patch, c.width)?; // [B, D, rows, columns]
    let [rows, columns] = c.grid();
    let x = s.transpose(s.reshape(x, &[-1, c.width as i64, (rows * columns) as i64]), &[0, 2, 1]); // [B, N, D]

    let mut token = s.param("cls_token", &[1, 1, c.width])?.to_f32()?;
    let mut positions = s.param("pos_embed", &[1, 1 + rows * columns, c.width])?.to_f32()?;
    token.iter_mut().zip(positions.drain(..c.width)).for_each(|(token, position)| *token += position);
    let x = s.prepend_token(x, token, positions); // [B, 1 + N, D]

    let rotary = Rotary::new(s, c);
    let blocks = s.at("blocks");
    let last = c.layers - 1;
    let x = (0..last).try_fold(x, |x, i| block(&blocks.at(i), x, c, &rotary, None))?;
    let pooled = Position::Fixed(0);
    let norm = |x| layer_norm(&s.at("norm"), x, c.width, c.norm_eps);
    if want == Want::Pooled && s.options().last_block {
        let x = block(&blocks.at(last), x, c, &rotary, Some(pooled))?; // [B, D]
        return Ok(Encoded::pooled(layers::head(s, norm(x)?, c.width, model.embed_dim, c.head)?));
    }
    let unnormed = block(&blocks.at(last), x, c, &rotary, None)?;
    let tokens = norm(unnormed)?; // [B, 1 + N, D]
    let x = pooled.take(&s.at("pool"), tokens, c.width); // [B, D]
    let x = layers::head(s, x, c.width, model.embed_dim, c.head)?;
    let Encoded { tokens, pooled } = Encoded::with_tokens(x, tokens, Some(1 + rows * columns), c.width);
    Ok(Encoded { tokens: tokens.map(|tokens| Tokens { unnormed, class_token: true, ..tokens }), pooled })
}

/// x + Attn(LN(x)), then x + MLP(LN(x)), of all positions, `[B, N, D]`, or of one behind attention, `[B, D]`.
fn block(s: &Scope, x: Value, c: &Eva, rotary: &Rotary, of: Option<Position>) -> Result<Value, Error> {
    let take = |x: Value| of.map_or(x, |position| position.take(s, x, c.width));
    let y = layer_norm(&s.at("norm1"), x, c.width, c.norm_eps)?;
    let y = take(attend(&s.at("attn"), y, c, rotary)?);
    let a = s.at("attn");
    let y = layer_norm(&a.at("norm"), y, c.width, c.norm_eps)?;
    let x = s.add(take(x), linear(&a.at("proj"), y, c.width, c.width)?);
    let y = layer_norm(&s.at("norm2"), x, c.width, c.norm_eps)?;
    Ok(s.named("output", s.add(x, swiglu(&s.at("mlp"), y, c)?)))
}

/// Heads of self-attention side by side, `[B, N, D]`: queries and keys of patches are rotated, keys have no bias.
fn attend(s: &Scope, x: Value, c: &Eva, rotary: &Rotary) -> Result<Value, Error> {
    let (d, fold) = (c.width, s.options().fold);
    let parameters = |name: &str| -> Result<(Tensor, Tensor), Error> {
        let s = s.at(name);
        Ok((s.param("weight", &[d, d])?, s.param("bias", &[d])?))
    };
    let (queries, values) = (parameters("q_proj")?, parameters("v_proj")?);
    let keys = s.at("k_proj").param("weight", &[d, d])?;
    // 1/√head_dim goes into the queries' weights.
    let scale = if fold { (c.head_dim() as f64).powf(-0.5) } else { 1.0 };
    let weight = Tensor::concat(&[queries.0.scaled(scale), keys])?; // [2*D, D]
    let bias = Tensor::concat(&[queries.1.scaled(scale), queries.1.zeros_like()])?;

    let qk = s.at("qk");
    let queries_and_keys = affine(&qk, x, &in_halves(&weight, c)?, Some(in_halves(&bias, c)?)); // [B, N, 2*D]
    let [q, k] = s.split(rotary.turn(&qk, queries_and_keys), d);
    let v = affine(&s.at("v"), x, &values.0, Some(values.1)); // [B, N, D]
    let [rows, columns] = c.grid();
    let positions = Some(1 + rows * columns);
    let heads = Heads { width: d, heads: c.heads, positions, mask: None, scaled: fold, one_query: false };
    Ok(s.attention([q, k, v], heads))
}

/// fc2(LN(SiLU(fc1_g(x)) · fc1_x(x))). Shazeer 2020.
fn swiglu(s: &Scope, x: Value, c: &Eva) -> Result<Value, Error> {
    let gate = linear(&s.at("fc1_g"), x, c.width, c.mlp_dim)?;
    let act = s.at("act");
    let gate = act.mul(gate, act.sigmoid(gate));
    let y = s.mul(gate, linear(&s.at("fc1_x"), x, c.width, c.mlp_dim)?);
    let y = layer_norm(&s.at("norm"), y, c.mlp_dim, c.norm_eps)?;
    linear(&s.at("fc2"), y, c.mlp_dim, c.width)
}

/// Rows of queries and keys with the even channels of each head before the odd ones: what is turned against each other
/// stands half a head apart then, instead of side by side. Scores are the same, as both are ordered alike.
fn in_halves(rows: &Tensor, c: &Eva) -> Result<Tensor, Error> {
    let shape = rows.shape();
    let (heads, half, rest) = (2 * c.heads, c.head_dim() / 2, shape[1..].iter().product::<usize>());
    Ok(rows.reshape(&[heads, half, 2, rest])?.permute(&[0, 2, 1, 3]).reshape(&shape)?)
}

/// z·cos + rot(z)·sin of queries and keys, `[B, N, 2*D]`, by tables `[N, 2*D]`. Su et al. 2021, eq. 34.
struct Rotary {
    cos: Value,
    /// With the sign of rot: a head's first half is turned against its second.
    sin: Value,
    halves: Vec<i64>,
    shapes: [Vec<i64>; 2],
}

impl Rotary {
    fn new(s: &Scope, c: &Eva) -> Rotary {
        let (heads, half) = (2 * c.heads, c.head_dim() / 2);
        let angles = angles(c);
        let table = |of: &dyn Fn(f64) -> [f64; 2]| -> Vec<f32> {
            let row = |row: &Vec<f64>| -> Vec<f32> {
                let [first, second]: [Vec<f32>; 2] =
                    [0, 1].map(|at| row.iter().map(|&angle| of(angle)[at] as f32).collect());
                [first, second].concat().repeat(heads)
            };
            angles.iter().flat_map(row).collect()
        };
        let s = s.at("rope");
        let shape = [angles.len(), 2 * c.width];
        let constant =
            |name: &str, values: Vec<f32>| s.initializer(name, Role::Position, Tensor::from_f32(name, &shape, &values));
        Rotary {
            cos: constant("cos", table(&|angle| [angle.cos(); 2])),
            sin: constant("sin", table(&|angle| [-angle.sin(), angle.sin()])),
            halves: (0..2 * heads as i64).map(|at| at ^ 1).collect(),
            shapes: [vec![0, 0, 2 * heads as i64, half as i64], vec![0, 0, 2 * c.width as i64]],
        }
    }

    fn turn(&self, s: &Scope, x: Value) -> Value {
        let s = s.at("rope");
        let halves = s.reshape(x, &self.shapes[0]); // [B, N, 4*H, head_dim/2]
        let turned = s.reshape(s.gather(halves, s.ints(&self.halves), 2), &self.shapes[1]); // [B, N, 2*D]
        s.add(s.mul(x, self.cos), s.mul(turned, self.sin))
    }
}

/// Angles of every position, `[1 + N, head_dim/2]`: none of the class token; of a patch its row, then its column, each
/// scaled to the reference grid, times head_dim/4 frequencies.
fn angles(c: &Eva) -> Vec<Vec<f64>> {
    let (count, [rows, columns]) = (c.head_dim() / 4, c.grid());
    let [by_row, by_column] = [0, 1].map(|axis| c.rope.reference[axis] as f64 / c.grid()[axis] as f64);
    let frequencies: Vec<f64> = (0..count).map(|j| c.rope.temperature.powf(-(j as f64) / count as f64)).collect();
    let of = |row: usize, column: usize| -> Vec<f64> {
        let scaled = [row as f64 * by_row, column as f64 * by_column];
        scaled.iter().flat_map(|position| frequencies.iter().map(move |frequency| position * frequency)).collect()
    };
    let patches = (0..rows).flat_map(|row| (0..columns).map(move |column| (row, column)));
    std::iter::once(vec![0.0; 2 * count]).chain(patches.map(|(row, column)| of(row, column))).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::Rope;
    use crate::towers::testing::{Case, OPTIONS, assert_near};

    /// A tower with the settings of a case, one pixel a patch.
    fn config(case: &Case, [width, heads, mlp_dim]: [usize; 3]) -> Eva {
        Eva {
            image_size: case.setting("grid"),
            patch_size: 1,
            width,
            layers: 1,
            heads,
            mlp_dim,
            norm_eps: case.setting::<Option<f32>>("norm_eps").unwrap_or(1e-6),
            rope: Rope { reference: case.setting("ref_feat_shape"), temperature: case.setting("rope_temperature") },
            head: None,
        }
    }

    #[test]
    fn a_block_is_that_of_timm_at_all_positions_and_at_one() {
        for name in ["eva_block_b", "eva_block_l"] {
            let case = Case::read(name);
            assert!(case.setting::<bool>("scale_mlp") && case.setting::<bool>("scale_attn_inner"));
            let c = config(&case, ["width", "heads", "mlp_dim"].map(|field| case.setting(field)));
            let of = |position: Option<Position>| {
                let (case, c) = (&case, &c);
                move |s: &Scope| block(s, case.input(s, "input"), c, &Rotary::new(s, c), position)
            };
            case.check(OPTIONS, &of(None));
            for position in [0, case.shape("input")[1] - 1] {
                case.check_against(&case.output_at(position), OPTIONS, &of(Some(Position::Fixed(position))));
            }
        }
    }

    #[test]
    fn queries_and_keys_are_rotated_as_in_timm() {
        let case = Case::read("rotary");
        let &[_, heads, positions, head_dim] = case.shape("input") else { panic!("[B, H, N, D/H]") };
        let width = heads * head_dim;
        let c = config(&case, [width, heads, 1]);
        assert_eq!(c.head_dim(), case.setting::<usize>("head_dim"));
        let [h, n, half, d] = [heads, positions, head_dim / 2, width].map(|n| n as i64);
        for keys in [false, true] {
            case.check(OPTIONS, &|s| {
                let table = [positions - 1, head_dim];
                s.param("sin", &table)?; // Compared by another test.
                s.param("cos", &table)?;
                let x = s.transpose(case.input(s, "input"), &[0, 2, 1, 3]); // [B, N, H, D/H]
                // As `in_halves` orders the rows of the weights: even channels of a head, then the odd ones.
                let x = s.reshape(x, &[0, n * h, half, 2]);
                let x = s.reshape(s.transpose(x, &[0, 1, 3, 2]), &[0, n, d]); // [B, N, D]
                let [q, k] = s.split(Rotary::new(s, &c).turn(s, s.concat(&[x, x], 2)), width);
                let y = s.reshape(if keys { k } else { q }, &[0, n * h, 2, half]);
                let y = s.reshape(s.transpose(y, &[0, 1, 3, 2]), &[0, n, h, 2 * half]);
                Ok(s.transpose(y, &[0, 2, 1, 3])) // [B, H, N, D/H]
            });
        }
    }

    #[test]
    fn angles_are_those_of_timm() {
        let case = Case::read("rotary");
        let head_dim = case.setting("head_dim");
        let angles = angles(&config(&case, [head_dim, 1, 1]));
        let (token, patches) = (&angles[0], angles[1..].concat());
        assert!(token.iter().all(|&angle| angle == 0.0));
        for (name, of) in [("sin", f64::sin as fn(f64) -> f64), ("cos", f64::cos)] {
            // timm's tables have each angle twice, for both channels of a pair.
            let waves: Vec<f32> = patches.iter().flat_map(|&angle| [of(angle) as f32; 2]).collect();
            assert_near(&waves, &case.numbers(name), name);
        }
    }

    #[test]
    fn in_halves_orders_each_head_by_parity() {
        let case = Case::read("eva_block_b");
        let c = config(&case, ["width", "heads", "mlp_dim"].map(|field| case.setting(field)));
        let rows: Vec<f32> = (0..2 * c.width).map(|row| row as f32).collect();
        let ordered = in_halves(&Tensor::from_f32("rows", &[2 * c.width], &rows), &c).unwrap().to_f32().unwrap();
        assert_eq!(ordered[..8], [0.0, 2.0, 4.0, 6.0, 1.0, 3.0, 5.0, 7.0]);
        assert_eq!(ordered[8..16], [8.0, 10.0, 12.0, 14.0, 9.0, 11.0, 13.0, 15.0]);
    }
}
