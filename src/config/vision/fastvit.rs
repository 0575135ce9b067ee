//! FastViT as MobileCLIP has it: stages of convolutions, the last of attention. Vasu et al. 2023 (FastViT), 2024
//! (MobileCLIP). Kernels are the architecture's.

use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::vit::PoolName;
use super::{AT, Dims, ImageInput, OpenClipForm, Positions, VisionCfg, VisionFamily};
use crate::config::check::{self, LARGEST_SIDE, Problem, dims, ensure, eps, layers};
use crate::config::parts::Proj;
use crate::config::trunks::{Timm, lacks};
use crate::config::{Act, Head, known};

/// MobileCLIP's image tower.
#[derive(Clone, Debug, PartialEq)]
pub struct FastVit {
    /// Height, width in pixels.
    pub image_size: [usize; 2],
    /// Activation of convolutions and MLPs.
    pub act: Act,
    /// Stages in the order of computation, each at a lower resolution than the one before.
    pub stages: Vec<Stage>,
    /// 1 × 1 branches in parallel with the stem's 3 × 3, before folding.
    pub stem_scale_branch: bool,
    /// Norm before attention, in the stages that have attention.
    pub attn_norm: AttnNorm,
    /// Epsilon of the norm before attention.
    pub norm_eps: f32,
    /// Channels of an attention head.
    pub head_dim: usize,
    /// Squeeze-and-excite of the downsampling into stages that have one.
    pub se_downsample: SqueezeExcite,
    /// Squeeze-and-excite of the last convolution.
    pub se_final: SqueezeExcite,
    /// Channels of the last convolution over those of the last stage.
    pub final_expansion: usize,
    /// Epsilon of every BatchNorm but the one before attention.
    pub bn_eps: f32,
    /// Branches folded to one convolution each, by the authors' tool.
    pub reparameterized: bool,
    /// Projection to the embedding; None where the pooled vector is the embedding.
    pub head: Option<Head>,
}

/// Blocks of one resolution.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Stage {
    /// Number of blocks.
    pub layers: usize,
    /// Channels of every position.
    pub width: usize,
    /// Width of the MLPs over the channels.
    pub mlp_ratio: f64,
    /// What mixes positions in the stage's blocks.
    pub mixer: TokenMixer,
    /// Position convolution before the blocks.
    pub pos_emb: bool,
    /// Squeeze-and-excite in the downsampling into the stage.
    pub se_downsample: bool,
}

impl Stage {
    /// Width of the MLPs.
    pub fn mlp_dim(&self) -> usize {
        (self.width as f64 * self.mlp_ratio) as usize
    }
}

/// What mixes positions in a block.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum TokenMixer {
    /// Depthwise convolution. Vasu et al. 2023 (FastViT).
    RepMixer,
    /// Multi-head self-attention over all positions.
    Attention,
}

/// Norm before attention.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum AttnNorm {
    /// BatchNorm, which is an affine map at inference.
    #[serde(rename = "batch_norm")]
    BatchNorm,
    /// LayerNorm over channels.
    #[serde(rename = "layer_norm_2d")]
    LayerNorm2d,
}

/// Reduced width of a squeeze-and-excite. Hu et al. 2018.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct SqueezeExcite {
    /// Of the channels.
    pub ratio: f64,
    /// The width is a multiple of it.
    pub divisor: usize,
}

impl SqueezeExcite {
    /// max(d, ⌊(r·C + d/2) / d⌋·d) for C channels: timm's `make_divisible`.
    pub fn width(&self, channels: usize) -> usize {
        let wanted = (self.ratio * channels as f64 + self.divisor as f64 / 2.0) as usize;
        (wanted / self.divisor * self.divisor).max(self.divisor)
    }
}

impl FastVit {
    /// Channels that are pooled.
    pub fn final_width(&self) -> usize {
        self.stages.last().map_or(0, |stage| stage.width) * self.final_expansion
    }

    fn check_stages(&self) -> Result<(), Problem> {
        let count = self.stages.len();
        ensure((1..=8).contains(&count), "vision_cfg.stage_layers", format!("{count} long"), "1 to 8 stages")?;
        let widths: Vec<usize> = self.stages.iter().map(|stage| stage.width).collect();
        for (at, stage) in self.stages.iter().enumerate() {
            let width = stage.width;
            layers(AT, "stage_layers", stage.layers)?;
            check::widths(AT, &[("embed_dims", width)])?;
            let ratio = stage.mlp_ratio;
            ensure((0.1..=16.0).contains(&ratio), "vision_cfg.mlp_ratios", ratio, "0.1 to 16")?;
            // A downsampling makes several outputs of each input channel.
            let grows = at == 0 || width.is_multiple_of(widths[at - 1]);
            ensure(grows, "vision_cfg.embed_dims", format!("{widths:?}"), "each a multiple of the one before")?;
            if stage.mixer == TokenMixer::Attention {
                let fits = self.head_dim > 0 && width.is_multiple_of(self.head_dim);
                let expected =
                    format!("a divisor of the {width} channels of stage {at}, whose token_mixers is attention");
                ensure(fits, "vision_cfg.head_dim", self.head_dim, expected)?;
            }
        }
        let first = self.stages.iter().take(1).any(|stage| stage.se_downsample);
        ensure(!first, "vision_cfg.se_downsamples", true, "false first: nothing is downsampled into stage 0")
    }
}

impl VisionFamily for FastVit {
    fn check(&self, embed_dim: usize) -> Result<(), Problem> {
        self.check_stages()?;
        dims(
            AT,
            &[
                ("head_dim", self.head_dim),
                ("se_rd_divisor_downsample", self.se_downsample.divisor),
                ("se_rd_divisor_final", self.se_final.divisor),
            ],
        )?;
        for (field, SqueezeExcite { ratio, .. }) in
            [("se_rd_ratio_downsample", self.se_downsample), ("se_rd_ratio_final", self.se_final)]
        {
            ensure(ratio > 0.0 && ratio <= 1.0, &format!("{AT}{field}"), ratio, "above 0 and at most 1")?;
        }
        let expansion = self.final_expansion;
        ensure((1..=16).contains(&expansion), "vision_cfg.final_expansion", expansion, EXPANSION)?;
        eps(AT, "norm_eps", self.norm_eps)?;
        eps(AT, "bn_eps", self.bn_eps)?;
        // Stem and downsamplings each halve a side; at least one position has to be left.
        let least = 4 << (self.stages.len() - 1);
        let fits = self.image_size.iter().all(|side| (least..=LARGEST_SIDE).contains(side));
        let size = format!("{}x{}", self.image_size[0], self.image_size[1]);
        ensure(fits, "vision_cfg.image_size", size, format!("sides from {least} to {LARGEST_SIDE}"))?;
        Head::check(self.head, AT, self.final_width(), embed_dim)
    }

    fn input(&self) -> ImageInput {
        ImageInput::Pixels(self.image_size)
    }

    /// None: its positions are convolutions.
    fn positions(&self) -> Option<Positions> {
        None
    }

    fn at_image_size(&self, size: [usize; 2]) -> Result<VisionCfg, Problem> {
        Ok(VisionCfg::FastVit(FastVit { image_size: size, ..self.clone() }))
    }

    fn act(&self) -> Act {
        self.act
    }

    /// None of a ViT's: it has no patches, and its stages differ in width.
    fn dims(&self) -> Dims {
        Dims { patch_size: None, blocks: None }
    }

    fn head(&self) -> Option<Head> {
        self.head
    }

    fn head_mut(&mut self) -> &mut Option<Head> {
        &mut self.head
    }

    fn reparameterized_mut(&mut self) -> Option<&mut bool> {
        Some(&mut self.reparameterized)
    }

    /// Named by the number of the known MobileCLIP whose stages it has.
    fn timm(&self) -> Result<Option<Timm>, String> {
        let stages = |of: &FastVit| of.stages.iter().map(|stage| (stage.layers, stage.width)).collect::<Vec<_>>();
        let mine = stages(self);
        let same =
            known().find(|known| matches!(&known.vision_cfg, Some(VisionCfg::FastVit(known)) if stages(known) == mine));
        match same.and_then(|known| known.model.chars().last()).filter(char::is_ascii_digit) {
            Some(size) => Ok(Some(Timm { name: format!("fastvit_mci{size}"), pool: "avg", proj: Value::Null })),
            None => {
                let layers: Vec<usize> = self.stages.iter().map(|stage| stage.layers).collect();
                lacks(format!("FastViT with stages of {layers:?} blocks"))
            }
        }
    }

    fn open_clip_form(&self) -> OpenClipForm {
        OpenClipForm::FastVit
    }
}

const EXPANSION: &str = "an integer from 1 to 16";

/// [`FastVit`] as JSON has it: one entry of each list a stage. Field names are timm's.
#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct FastVitFields {
    image_size: [usize; 2],
    act: Act,
    norm_eps: f32,
    stage_layers: Vec<usize>,
    embed_dims: Vec<usize>,
    mlp_ratios: Vec<f64>,
    token_mixers: Vec<TokenMixer>,
    pos_embs: Vec<bool>,
    se_downsamples: Vec<bool>,
    stem_use_scale_branch: bool,
    attn_norm: AttnNorm,
    head_dim: usize,
    se_rd_ratio_downsample: f64,
    se_rd_divisor_downsample: usize,
    se_rd_ratio_final: f64,
    se_rd_divisor_final: usize,
    final_expansion: f64,
    bn_eps: f32,
    reparameterized: bool,
    pool: PoolName,
    proj: Proj,
    proj_bias: bool,
}

impl FastVitFields {
    fn stages(&self) -> Result<Vec<Stage>, Problem> {
        let count = self.stage_layers.len();
        for (field, length) in [
            ("embed_dims", self.embed_dims.len()),
            ("mlp_ratios", self.mlp_ratios.len()),
            ("token_mixers", self.token_mixers.len()),
            ("pos_embs", self.pos_embs.len()),
            ("se_downsamples", self.se_downsamples.len()),
        ] {
            let expected = format!("one entry for each of {count} stages");
            ensure(length == count, &format!("{AT}{field}"), format!("{length} long"), expected)?;
        }
        let stage = |at: usize| Stage {
            layers: self.stage_layers[at],
            width: self.embed_dims[at],
            mlp_ratio: self.mlp_ratios[at],
            mixer: self.token_mixers[at],
            pos_emb: self.pos_embs[at],
            se_downsample: self.se_downsamples[at],
        };
        Ok((0..count).map(stage).collect())
    }
}

impl TryFrom<FastVitFields> for FastVit {
    type Error = Problem;

    fn try_from(f: FastVitFields) -> Result<FastVit, Problem> {
        let pool = format!("`{}`", format!("{:?}", f.pool).to_lowercase());
        ensure(f.pool == PoolName::Avg, "vision_cfg.pool", pool, "`avg` for `fastvit`")?;
        let expansion = f.final_expansion;
        let whole = (1.0..=16.0).contains(&expansion) && expansion.fract() == 0.0;
        ensure(whole, "vision_cfg.final_expansion", expansion, EXPANSION)?;
        Ok(FastVit {
            image_size: f.image_size,
            act: f.act,
            stages: f.stages()?,
            stem_scale_branch: f.stem_use_scale_branch,
            attn_norm: f.attn_norm,
            norm_eps: f.norm_eps,
            head_dim: f.head_dim,
            se_downsample: SqueezeExcite { ratio: f.se_rd_ratio_downsample, divisor: f.se_rd_divisor_downsample },
            se_final: SqueezeExcite { ratio: f.se_rd_ratio_final, divisor: f.se_rd_divisor_final },
            final_expansion: expansion as usize,
            bn_eps: f.bn_eps,
            reparameterized: f.reparameterized,
            head: Head::read(AT, f.proj, f.proj_bias)?,
        })
    }
}

impl From<FastVit> for FastVitFields {
    fn from(vit: FastVit) -> FastVitFields {
        fn of<T>(vit: &FastVit, field: impl Fn(&Stage) -> T) -> Vec<T> {
            vit.stages.iter().map(field).collect()
        }
        let (proj, proj_bias) = Head::write(vit.head);
        FastVitFields {
            image_size: vit.image_size,
            act: vit.act,
            norm_eps: vit.norm_eps,
            stage_layers: of(&vit, |stage| stage.layers),
            embed_dims: of(&vit, |stage| stage.width),
            mlp_ratios: of(&vit, |stage| stage.mlp_ratio),
            token_mixers: of(&vit, |stage| stage.mixer),
            pos_embs: of(&vit, |stage| stage.pos_emb),
            se_downsamples: of(&vit, |stage| stage.se_downsample),
            stem_use_scale_branch: vit.stem_scale_branch,
            attn_norm: vit.attn_norm,
            head_dim: vit.head_dim,
            se_rd_ratio_downsample: vit.se_downsample.ratio,
            se_rd_divisor_downsample: vit.se_downsample.divisor,
            se_rd_ratio_final: vit.se_final.ratio,
            se_rd_divisor_final: vit.se_final.divisor,
            final_expansion: vit.final_expansion as f64,
            bn_eps: vit.bn_eps,
            reparameterized: vit.reparameterized,
            pool: PoolName::Avg,
            proj,
            proj_bias,
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::config::ModelConfig;
    use crate::config::known::refusal;

    const MODEL: &str = "MobileCLIP-S0";

    fn fastvit() -> FastVit {
        let Some(VisionCfg::FastVit(fastvit)) = &ModelConfig::named(MODEL).unwrap().vision_cfg else {
            panic!("{MODEL}")
        };
        fastvit.clone()
    }

    #[test]
    fn json_is_the_same_after_reading_and_writing() {
        let fastvits = known().filter_map(|config| match &config.vision_cfg {
            Some(VisionCfg::FastVit(fastvit)) => Some(fastvit.clone()),
            _ => None,
        });
        let same = |fastvit: FastVit| {
            assert_eq!(FastVit::try_from(FastVitFields::from(fastvit.clone())).unwrap(), fastvit);
        };
        assert!(fastvits.map(same).count() >= 8);
    }

    #[test]
    fn what_contradicts_itself_is_refused_by_name() {
        for (field, value, message) in [
            ("embed_dims", json!([64, 128, 256]), "vision_cfg.embed_dims is 3 long, expected one entry for each of 4"),
            ("embed_dims", json!([64, 128, 250, 512]), "vision_cfg.embed_dims is [64, 128, 250, 512], expected each a"),
            ("stage_layers", json!([2, 6, 0, 2]), "vision_cfg.stage_layers is 0"),
            ("mlp_ratios", json!([3.0, 3.0, 3.0, 99.0]), "vision_cfg.mlp_ratios is 99, expected 0.1 to 16"),
            ("se_downsamples", json!([true, false, true, true]), "vision_cfg.se_downsamples is true, expected false"),
            ("head_dim", json!(48), "vision_cfg.head_dim is 48, expected a divisor of the 512 channels of stage 3"),
            ("se_rd_divisor_final", json!(0), "vision_cfg.se_rd_divisor_final is 0"),
            ("se_rd_ratio_downsample", json!(0), "vision_cfg.se_rd_ratio_downsample is 0, expected above 0"),
            ("final_expansion", json!(1.5), "vision_cfg.final_expansion is 1.5, expected an integer"),
            ("pool", json!("token"), "vision_cfg.pool is `token`, expected `avg` for `fastvit`"),
            ("image_size", json!([16, 256]), "vision_cfg.image_size is 16x256, expected sides from 32 to 2048"),
            ("proj", json!("none"), "vision_cfg.proj is `none`, expected `linear`, as width 1024 is not embed_dim 512"),
        ] {
            let error = refusal(MODEL, &format!("/vision_cfg/{field}"), Some(value));
            assert!(error.contains(message), "{field}: {error}");
        }
        let none = refusal(MODEL, "/vision_cfg/stage_layers", Some(json!([])));
        assert!(none.contains("vision_cfg.embed_dims is 4 long, expected one entry for each of 0 stages"), "{none}");
    }

    #[test]
    fn it_answers_for_itself() {
        let mut fastvit = fastvit();
        assert_eq!((fastvit.input(), fastvit.positions()), (ImageInput::Pixels([256, 256]), None));
        assert_eq!(fastvit.dims(), Dims { patch_size: None, blocks: None });
        assert_eq!((fastvit.act(), fastvit.final_width()), (Act::Gelu, 1024));
        assert_eq!(fastvit.timm().unwrap().unwrap().name, "fastvit_mci0");
        assert_eq!(fastvit.reparameterized_mut(), Some(&mut false));
        let VisionCfg::FastVit(other) = fastvit.at_image_size([128, 64]).unwrap() else { panic!("a FastViT") };
        assert_eq!(other, FastVit { image_size: [128, 64], ..fastvit.clone() });
        fastvit.stages[0].layers = 3;
        assert!(fastvit.timm().unwrap_err().contains("FastViT with stages of [3, 6, 10, 2] blocks"));
    }

    #[test]
    fn squeezes_are_as_wide_as_timms() {
        // timm's make_divisible(256 / 4, 8), and int(1024 / 16).
        assert_eq!(fastvit().se_downsample.width(256), 64);
        assert_eq!(fastvit().se_final.width(1024), 64);
        assert_eq!(SqueezeExcite { ratio: 0.25, divisor: 8 }.width(20), 8);
    }
}
