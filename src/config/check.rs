//! Fields that contradict each other, or that no tower can be built from.

use super::{FastVitCfg, ModelConfig, PatchEmbed, Proj, TextCfg, TextModel, VisionCfg, VisionPool, VitCfg};

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
        match &self.vision_cfg {
            VisionCfg::FastVit(fastvit) => check_fastvit(fastvit, self.embed_dim)?,
            VisionCfg::Vit(vit) => {
                check_vit(vit, self.embed_dim)?;
                ensure(vit.pos_grid.is_none(), "vision_cfg.pos_grid", "given", "no such field for `vit`")?;
                let size = vit
                    .image_size
                    .ok_or_else(|| problem("vision_cfg.image_size", "absent", "[height, width] for `vit`"))?;
                check_image_size(vit, size)?;
            }
            VisionCfg::NaflexVit(vit) => {
                check_vit(vit, self.embed_dim)?;
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
        self.preprocess_cfg.check()?;
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
    ensure(fits, "image size", format!("{}x{}", size[0], size[1]), expected)?;
    let Some(stem) = &vit.conv_stem else { return Ok(()) };
    let grid = vit.grid_of(size);
    let made = size.map(|side| {
        let layers = stem.kernels.iter().zip(&stem.strides).zip(&stem.paddings);
        layers.fold(side, |n, ((kernel, stride), padding)| {
            (n + 2 * padding).checked_sub(*kernel).map_or(0, |rest| rest / stride + 1)
        })
    });
    let found = format!("kernels {:?}, strides {:?}, paddings {:?}", stem.kernels, stem.strides, stem.paddings);
    let expected = format!(
        "what makes {}x{} places of {}x{} pixels, not {}x{}",
        grid[0], grid[1], size[0], size[1], made[0], made[1]
    );
    ensure(made == grid, "vision_cfg.conv_stem", found, expected)
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
    check_stem(vit)?;
    let placed = vit.class_token || !vit.pos_embed_class;
    ensure(placed, "vision_cfg.pos_embed_class", true, "false without class_token")?;
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

fn check_stem(vit: &VitCfg) -> Result<(), Problem> {
    let at = "vision_cfg.conv_stem";
    let Some(stem) = &vit.conv_stem else {
        let needed = vit.patch_embed == PatchEmbed::ConvStem;
        return ensure(!needed, at, "absent", "given with patch_embed `conv_stem`");
    };
    ensure(vit.patch_embed == PatchEmbed::ConvStem, at, "given", "no such field without patch_embed `conv_stem`")?;
    let count = stem.channels.len();
    let lengths = [stem.kernels.len(), stem.strides.len(), stem.paddings.len()];
    ensure(
        count >= 1 && lengths == [count; 3],
        at,
        format!("{count} channels, {lengths:?} others"),
        "one entry a convolution",
    )?;
    for i in 0..count {
        dims(
            "vision_cfg.conv_stem.",
            &[("channels", stem.channels[i]), ("kernels", stem.kernels[i]), ("strides", stem.strides[i])],
        )?;
        ensure(
            stem.paddings[i] < stem.kernels[i],
            "vision_cfg.conv_stem.paddings",
            stem.paddings[i],
            "less than the kernel",
        )?;
    }
    eps("vision_cfg.conv_stem.bn_", stem.bn_eps)?;
    let last = stem.channels.last().copied().unwrap_or(0);
    ensure(last == vit.width, "vision_cfg.conv_stem.channels", last, format!("width {} last", vit.width))?;
    let product: usize = stem.strides.iter().product();
    ensure(
        product == vit.patch_size,
        "vision_cfg.conv_stem.strides",
        product,
        format!("patch_size {} as their product", vit.patch_size),
    )
}

fn check_fastvit(c: &FastVitCfg, embed_dim: usize) -> Result<(), Problem> {
    let at = "vision_cfg.";
    let stages = c.stage_layers.len();
    let others = [
        ("embed_dims", c.embed_dims.len()),
        ("mlp_ratios", c.mlp_ratios.len()),
        ("token_mixers", c.token_mixers.len()),
        ("pos_embs", c.pos_embs.len()),
        ("se_downsamples", c.se_downsamples.len()),
    ];
    ensure((1..=8).contains(&stages), "vision_cfg.stage_layers", format!("{stages} long"), "1 to 8 stages")?;
    for (field, length) in others {
        ensure(
            length == stages,
            &format!("{at}{field}"),
            format!("{length} long"),
            format!("one entry for each of {stages} stages"),
        )?;
    }
    for stage in 0..stages {
        dims(at, &[("stage_layers", c.stage_layers[stage]), ("embed_dims", c.embed_dims[stage])])?;
        let ratio = c.mlp_ratios[stage];
        ensure((0.1..=16.0).contains(&ratio), "vision_cfg.mlp_ratios", ratio, "0.1 to 16")?;
        // A downsampling makes several outputs of each input channel.
        let grows = stage == 0 || c.embed_dims[stage].is_multiple_of(c.embed_dims[stage - 1]);
        ensure(grows, "vision_cfg.embed_dims", format!("{:?}", c.embed_dims), "each a multiple of the one before")?;
        if c.token_mixers[stage] == super::TokenMixer::Attention {
            let width = c.embed_dims[stage];
            let fits = c.head_dim > 0 && width.is_multiple_of(c.head_dim);
            let expected =
                format!("a divisor of the {width} channels of stage {stage}, whose token_mixers is attention");
            ensure(fits, "vision_cfg.head_dim", c.head_dim, expected)?;
        }
    }
    ensure(
        !c.se_downsamples[0],
        "vision_cfg.se_downsamples",
        true,
        "false first: nothing is downsampled into stage 0",
    )?;
    dims(
        at,
        &[
            ("head_dim", c.head_dim),
            ("se_rd_divisor_downsample", c.se_rd_divisor_downsample),
            ("se_rd_divisor_final", c.se_rd_divisor_final),
        ],
    )?;
    for (field, ratio) in
        [("se_rd_ratio_downsample", c.se_rd_ratio_downsample), ("se_rd_ratio_final", c.se_rd_ratio_final)]
    {
        ensure(ratio > 0.0 && ratio <= 1.0, &format!("{at}{field}"), ratio, "above 0 and at most 1")?;
    }
    ensure(
        (1.0..=16.0).contains(&c.final_expansion) && c.final_expansion.fract() == 0.0,
        "vision_cfg.final_expansion",
        c.final_expansion,
        "a whole number from 1 to 16",
    )?;
    eps(at, c.norm_eps)?;
    eps("vision_cfg.bn_", c.bn_eps)?;
    ensure(
        c.pool == VisionPool::Avg,
        "vision_cfg.pool",
        format!("{:?}", c.pool).to_lowercase(),
        "`avg` for `fastvit`",
    )?;
    // Stem and downsamplings each halve a side; what is left must be at least a place.
    let least = 4 << (stages - 1);
    let fits = c.image_size.iter().all(|side| (least..=1 << 14).contains(side));
    let size = format!("{}x{}", c.image_size[0], c.image_size[1]);
    ensure(fits, "vision_cfg.image_size", size, format!("sides from {least} to {}", 1 << 14))?;
    projection(at, c.proj, c.proj_bias, c.embed_dims[stages - 1] * c.final_expansion as usize, embed_dim)
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
    let length = text.context_length;
    ensure(length <= 4096, "text_cfg.context_length", length, "at most 4096")?;
    divides(at, "heads", text.heads, text.width)?;
    eps(at, text.norm_eps)?;
    let ids = [("pad_id", Some(text.pad_id)), ("sot_id", text.sot_id), ("eot_id", Some(text.eot_id))];
    for (field, id) in ids.into_iter().filter_map(|(field, id)| Some((field, id?))) {
        let known = usize::try_from(id).is_ok_and(|id| id < text.vocab_size);
        ensure(known, &format!("{at}{field}"), id, format!("an id below vocab_size {}", text.vocab_size))?;
    }
    let given = [
        text.repmixer_kernel.is_some(),
        text.repmixer_mlp_dim.is_some(),
        text.bn_eps.is_some(),
        text.reparameterized.is_some(),
    ];
    match text.model_type {
        TextModel::Transformer => {
            ensure(
                given == [false; 4],
                "text_cfg.repmixer_*, bn_eps, reparameterized",
                "given",
                "no such fields for `transformer`",
            )?;
        }
        TextModel::Mct => {
            ensure(
                given == [true; 4],
                "text_cfg.repmixer_*, bn_eps, reparameterized",
                "partly absent",
                "all given for `mct`",
            )?;
            let [height, width] = text.repmixer_kernel.unwrap_or_default();
            let odd = height == 1 && width % 2 == 1 && width <= 1 << 10;
            ensure(odd, "text_cfg.repmixer_kernel", format!("[{height}, {width}]"), "[1, an odd number]")?;
            dims(at, &[("repmixer_mlp_dim", text.repmixer_mlp_dim.unwrap_or_default())])?;
            eps("text_cfg.bn_", text.bn_eps.unwrap_or_default())?;
        }
    }
    projection(at, text.proj, text.proj_bias, text.width, embed_dim)
}

fn divides(at: &str, field: &str, heads: usize, width: usize) -> Result<(), Problem> {
    ensure(width.is_multiple_of(heads), &format!("{at}{field}"), heads, format!("a divisor of width {width}"))
}

fn eps(at: &str, eps: f32) -> Result<(), Problem> {
    let field = if at.ends_with("bn_") { format!("{at}eps") } else { format!("{at}norm_eps") };
    ensure(eps > 0.0 && eps <= 0.1, &field, eps, "above 0 and at most 0.1")
}

fn projection(at: &str, proj: Proj, bias: bool, width: usize, embed_dim: usize) -> Result<(), Problem> {
    if proj == Proj::Linear {
        return Ok(());
    }
    ensure(!bias, &format!("{at}proj_bias"), bias, "false with proj `none`")?;
    let expected = format!("`linear`, as width {width} is not embed_dim {embed_dim}");
    ensure(width == embed_dim, &format!("{at}proj"), "`none`", expected)
}
