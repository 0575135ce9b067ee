//! Fields that contradict each other, or that no tower can be built from.

use super::{ModelConfig, Proj, TextCfg, TextPool, VisionCfg, VisionPool, VitCfg};

/// One field, what it holds, and what would do.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
#[error("{field} is {found}, expected {expected}")]
pub struct Problem {
    pub field: String,
    pub found: String,
    pub expected: String,
}

/// Larger than any dimension of any model, small enough that products of three stay in 64 bits.
const LARGEST: usize = 1 << 20;

fn problem(field: impl Into<String>, found: impl ToString, expected: impl Into<String>) -> Problem {
    Problem { field: field.into(), found: found.to_string(), expected: expected.into() }
}

fn ensure(good: bool, field: &str, found: impl ToString, expected: impl Into<String>) -> Result<(), Problem> {
    if good { Ok(()) } else { Err(problem(field, found, expected)) }
}

fn dims(at: &str, fields: &[(&str, usize)]) -> Result<(), Problem> {
    for &(field, value) in fields {
        let name = format!("{at}{field}");
        ensure((1..=LARGEST).contains(&value), &name, value, format!("1 to {LARGEST}"))?;
    }
    Ok(())
}

impl ModelConfig {
    /// Whether a graph can be built from these fields.
    ///
    /// # Errors
    /// The first [`Problem`] found.
    pub fn check(&self) -> Result<(), Problem> {
        dims("", &[("embed_dim", self.embed_dim)])?;
        if let Some(max) = self.logit_scale_max {
            ensure(max.is_finite() && max > 0.0, "logit_scale_max", max, "a positive number or null")?;
        }
        let vit = self.vision_cfg.vit();
        check_vit(vit, self.embed_dim)?;
        match &self.vision_cfg {
            VisionCfg::Vit(_) => {
                ensure(vit.pos_grid.is_none(), "vision_cfg.pos_grid", "given", "no such field for `vit`")?;
                let size = vit
                    .image_size
                    .ok_or_else(|| problem("vision_cfg.image_size", "absent", "[height, width] for `vit`"))?;
                check_image_size(vit, size)?;
            }
            VisionCfg::NaflexVit(_) => {
                let unfit = "no such field for `naflexvit`";
                ensure(vit.image_size.is_none(), "vision_cfg.image_size", "given", unfit)?;
                let grid = vit
                    .pos_grid
                    .ok_or_else(|| problem("vision_cfg.pos_grid", "absent", "[rows, columns] for `naflexvit`"))?;
                dims("vision_cfg.pos_grid.", &[("rows", grid[0]), ("columns", grid[1])])?;
                ensure(!vit.class_token, "vision_cfg.class_token", true, "false for `naflexvit`")?;
                let pool = format!("{:?}", vit.pool).to_lowercase();
                ensure(vit.pool == VisionPool::Map, "vision_cfg.pool", pool, "`map` for `naflexvit`")?;
            }
        }
        check_text(&self.text_cfg, self.embed_dim)
    }
}

/// Whether the tower can take images of `size` pixels, height and width.
///
/// # Errors
/// When a side is smaller than a patch or beyond reason.
pub fn check_image_size(vit: &VitCfg, size: [usize; 2]) -> Result<(), Problem> {
    let fits = size.iter().all(|side| (vit.patch_size..=1 << 14).contains(side));
    let expected = format!("sides of at least one patch ({} pixels) and at most {}", vit.patch_size, 1 << 14);
    ensure(fits, "image size", format!("{}x{}", size[0], size[1]), expected)
}

fn check_vit(vit: &VitCfg, embed_dim: usize) -> Result<(), Problem> {
    let at = "vision_cfg.";
    dims(
        at,
        &[
            ("patch_size", vit.patch_size),
            ("width", vit.width),
            ("layers", vit.layers),
            ("heads", vit.heads),
            ("mlp_dim", vit.mlp_dim),
        ],
    )?;
    divides(at, "heads", vit.heads, vit.width)?;
    eps(at, vit.norm_eps)?;
    let placed = vit.class_token || !vit.pos_embed_class;
    ensure(placed, "vision_cfg.pos_embed_class", true, "false without a class token")?;
    match vit.pool {
        VisionPool::Map => {
            let absent = |field: &str| problem(format!("{at}{field}"), "absent", "a number with pool `map`");
            let heads = vit.map_heads.ok_or_else(|| absent("map_heads"))?;
            let mlp_dim = vit.map_mlp_dim.ok_or_else(|| absent("map_mlp_dim"))?;
            dims(at, &[("map_heads", heads), ("map_mlp_dim", mlp_dim)])?;
            divides(at, "map_heads", heads, vit.width)?;
        }
        VisionPool::Token | VisionPool::Avg => {
            let unfit = "no such field without pool `map`";
            ensure(vit.map_heads.is_none(), "vision_cfg.map_heads", "given", unfit)?;
            ensure(vit.map_mlp_dim.is_none(), "vision_cfg.map_mlp_dim", "given", unfit)?;
        }
    }
    projection(at, vit.proj, vit.proj_bias, vit.width, embed_dim)
}

fn check_text(text: &TextCfg, embed_dim: usize) -> Result<(), Problem> {
    let at = "text_cfg.";
    dims(
        at,
        &[
            ("context_length", text.context_length),
            ("vocab_size", text.vocab_size),
            ("width", text.width),
            ("layers", text.layers),
            ("heads", text.heads),
            ("mlp_dim", text.mlp_dim),
        ],
    )?;
    divides(at, "heads", text.heads, text.width)?;
    eps(at, text.norm_eps)?;
    let ids = [("pad_id", Some(text.pad_id)), ("sot_id", text.sot_id), ("eot_id", Some(text.eot_id))];
    for (field, id) in ids.into_iter().filter_map(|(field, id)| Some((field, id?))) {
        let known = usize::try_from(id).is_ok_and(|id| id < text.vocab_size);
        ensure(known, &format!("{at}{field}"), id, format!("an id below vocab_size {}", text.vocab_size))?;
    }
    if text.pool_type == TextPool::Eos {
        let expected = "another id than pad_id with pool_type `eos`";
        ensure(text.eot_id != text.pad_id, "text_cfg.eot_id", text.eot_id, expected)?;
    }
    projection(at, text.proj, text.proj_bias, text.width, embed_dim)
}

fn divides(at: &str, field: &str, heads: usize, width: usize) -> Result<(), Problem> {
    ensure(width.is_multiple_of(heads), &format!("{at}{field}"), heads, format!("a divisor of width {width}"))
}

fn eps(at: &str, eps: f32) -> Result<(), Problem> {
    ensure(eps > 0.0 && eps <= 0.1, &format!("{at}norm_eps"), eps, "above 0 and at most 0.1")
}

fn projection(at: &str, proj: Proj, bias: bool, width: usize, embed_dim: usize) -> Result<(), Problem> {
    if proj == Proj::Linear {
        return Ok(());
    }
    ensure(!bias, &format!("{at}proj_bias"), bias, "false with proj `none`")?;
    let expected = format!("`linear`, as width {width} is not embed_dim {embed_dim}");
    ensure(width == embed_dim, &format!("{at}proj"), "`none`", expected)
}
