//! EVA-02's ViT as EVA-CLIP has it: rotary positions besides learned ones, SwiGLU, and a LayerNorm inside attention and
//! inside the MLP. Fang et al. 2023 (EVA-02), Sun et al. 2023 (EVA-CLIP); timm's `eva.py`.

use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::{AT, Dims, ImageInput, OpenClipForm, PositionLayout, Positions, VisionCfg, VisionFamily};
use crate::config::check::{self, LARGEST_SIDE, Problem, dims, divides, ensure, eps, widths};
use crate::config::parts::Proj;
use crate::config::trunks::{Timm, lacks};
use crate::config::{Act, Head};

/// EVA-CLIP's image tower: a class token with a position of its own, which is pooled; queries and values with bias, keys
/// without.
#[derive(Clone, Debug, PartialEq)]
pub struct Eva {
    /// Height, width in pixels.
    pub image_size: [usize; 2],
    /// Side of a patch in pixels.
    pub patch_size: usize,
    /// Channels of every position between blocks.
    pub width: usize,
    /// Number of blocks.
    pub layers: usize,
    /// Attention heads; a divisor of the width.
    pub heads: usize,
    /// Width of the gate and of what it gates.
    pub mlp_dim: usize,
    /// Epsilon of every LayerNorm in the tower.
    pub norm_eps: f32,
    /// Rotary position embedding of queries and keys.
    pub rope: Rope,
    /// Projection to the embedding; None where the pooled vector is the embedding.
    pub head: Option<Head>,
}

/// Rotary positions of patches. Su et al. 2021; timm's `RotaryEmbeddingCat`.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Rope {
    /// Rows and columns that positions are scaled to, whatever the grid of patches.
    pub reference: [usize; 2],
    /// Angles of a patch are its row and column times 1 / temperature^(j/n), n = head_dim / 4.
    pub temperature: f64,
}

impl Eva {
    /// Rows and columns of patches.
    pub fn grid(&self) -> [usize; 2] {
        self.image_size.map(|side| side / self.patch_size)
    }

    /// Channels of a head.
    pub fn head_dim(&self) -> usize {
        self.width / self.heads
    }
}

/// timm's models: name, width, layers, patch and side of the image.
const TIMM: &[(&str, usize, usize, usize, usize)] = &[
    ("eva02_base_patch16_clip_224", 768, 12, 16, 224),
    ("eva02_large_patch14_clip_224", 1024, 24, 14, 224),
    ("eva02_large_patch14_clip_336", 1024, 24, 14, 336),
];

impl VisionFamily for Eva {
    fn check(&self, embed_dim: usize) -> Result<(), Problem> {
        let Eva { patch_size, width, layers, heads, mlp_dim, .. } = *self;
        dims(AT, &[("patch_size", patch_size)])?;
        check::layers(AT, "layers", layers)?;
        widths(AT, &[("width", width), ("heads", heads), ("mlp_dim", mlp_dim)])?;
        divides(AT, "heads", heads, width)?;
        let expected = format!("heads of a multiple of 4 channels, as rotary positions need; width {width}");
        ensure(self.head_dim().is_multiple_of(4), "vision_cfg.heads", heads, expected)?;
        eps(AT, "norm_eps", self.norm_eps)?;
        let Rope { reference: [rows, columns], temperature } = self.rope;
        let good = [rows, columns].iter().all(|side| (1..=LARGEST_SIDE).contains(side));
        ensure(good, "vision_cfg.ref_feat_shape", format!("{rows}x{columns}"), "rows and columns of 1 or more")?;
        let good = (1.0..=1e9).contains(&temperature);
        ensure(good, "vision_cfg.rope_temperature", temperature, "a number from 1 to 1e9")?;
        check::image_size(self.image_size, patch_size)?;
        Head::check(self.head, AT, width, embed_dim)
    }

    fn input(&self) -> ImageInput {
        ImageInput::Pixels(self.image_size)
    }

    fn positions(&self) -> Option<Positions> {
        Some(Positions { grid: self.grid(), width: self.width, layout: PositionLayout::Sequence { prefix: 1 } })
    }

    /// Rotary positions follow from the new grid.
    fn at_image_size(&self, size: [usize; 2]) -> Result<VisionCfg, Problem> {
        Ok(VisionCfg::Eva(Eva { image_size: size, ..self.clone() }))
    }

    /// What other libraries call the activation that SiLU gates take the place of.
    fn act(&self) -> Act {
        Act::Gelu
    }

    /// Its blocks are none that other libraries describe by a ViT's fields.
    fn dims(&self) -> Dims {
        Dims { patch_size: Some(self.patch_size), blocks: None }
    }

    fn head(&self) -> Option<Head> {
        self.head
    }

    fn head_mut(&mut self) -> &mut Option<Head> {
        &mut self.head
    }

    fn reparameterized_mut(&mut self) -> Option<&mut bool> {
        None
    }

    fn timm(&self) -> Result<Option<Timm>, String> {
        let Eva { image_size: [height, width], .. } = *self;
        let same = |&&(_, dim, layers, patch, side): &&(&str, usize, usize, usize, usize)| {
            (dim, layers, patch) == (self.width, self.layers, self.patch_size) && [height, width] == [side; 2]
        };
        match TIMM.iter().find(same) {
            Some((name, ..)) => Ok(Some(Timm { name: (*name).to_owned(), pool: "token", proj: Value::Null })),
            None => lacks(format!(
                "EVA-02 tower of {} channels, {} blocks and patches of {}, for {height} x {width} pixels",
                self.width, self.layers, self.patch_size
            )),
        }
    }

    fn open_clip_form(&self) -> OpenClipForm {
        OpenClipForm::TimmVit
    }
}

/// [`Eva`] as JSON has it. Field names are timm's and open_clip's.
#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct EvaFields {
    image_size: [usize; 2],
    patch_size: usize,
    width: usize,
    layers: usize,
    heads: usize,
    mlp_dim: usize,
    norm_eps: f32,
    ref_feat_shape: [usize; 2],
    rope_temperature: f64,
    proj: Proj,
    proj_bias: bool,
}

impl TryFrom<EvaFields> for Eva {
    type Error = Problem;

    fn try_from(f: EvaFields) -> Result<Eva, Problem> {
        Ok(Eva {
            image_size: f.image_size,
            patch_size: f.patch_size,
            width: f.width,
            layers: f.layers,
            heads: f.heads,
            mlp_dim: f.mlp_dim,
            norm_eps: f.norm_eps,
            rope: Rope { reference: f.ref_feat_shape, temperature: f.rope_temperature },
            head: Head::read(AT, f.proj, f.proj_bias)?,
        })
    }
}

impl From<Eva> for EvaFields {
    fn from(eva: Eva) -> EvaFields {
        let (proj, proj_bias) = Head::write(eva.head);
        EvaFields {
            image_size: eva.image_size,
            patch_size: eva.patch_size,
            width: eva.width,
            layers: eva.layers,
            heads: eva.heads,
            mlp_dim: eva.mlp_dim,
            norm_eps: eva.norm_eps,
            ref_feat_shape: eva.rope.reference,
            rope_temperature: eva.rope.temperature,
            proj,
            proj_bias,
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::config::known::refusal;
    use crate::config::{ModelConfig, known};

    const MODEL: &str = "EVA02-L-14-336";

    fn eva() -> Eva {
        let Some(VisionCfg::Eva(eva)) = &ModelConfig::named(MODEL).unwrap().vision_cfg else { panic!("{MODEL}") };
        eva.clone()
    }

    #[test]
    fn json_is_the_same_after_reading_and_writing() {
        let evas = known().filter_map(|config| match &config.vision_cfg {
            Some(VisionCfg::Eva(eva)) => Some(eva.clone()),
            _ => None,
        });
        let same = |eva: Eva| assert_eq!(Eva::try_from(EvaFields::from(eva.clone())).unwrap(), eva);
        assert_eq!(evas.map(same).count(), 3);
    }

    #[test]
    fn what_contradicts_itself_is_refused_by_name() {
        for (field, value, message) in [
            ("heads", json!(15), "vision_cfg.heads is 15"),
            ("heads", json!(512), "vision_cfg.heads is 512, expected heads of a multiple of 4 channels"),
            ("ref_feat_shape", json!([0, 16]), "vision_cfg.ref_feat_shape is 0x16"),
            ("rope_temperature", json!(0.0), "vision_cfg.rope_temperature is 0"),
            ("patch_size", json!(0), "vision_cfg.patch_size is 0"),
        ] {
            let error = refusal(MODEL, &format!("/vision_cfg/{field}"), Some(value));
            assert!(error.contains(message), "{field}: {error}");
        }
    }

    #[test]
    fn it_answers_for_itself() {
        let eva = eva();
        assert_eq!((eva.grid(), eva.head_dim()), ([24, 24], 64));
        assert_eq!(eva.positions().unwrap().shape(), [1, 577, 1024]);
        assert_eq!(eva.timm().unwrap().unwrap().name, "eva02_large_patch14_clip_336");
        let VisionCfg::Eva(other) = eva.at_image_size([224, 280]).unwrap() else { panic!("an EVA") };
        assert_eq!(other.grid(), [16, 20]);
        assert!(other.timm().unwrap_err().contains("for 224 x 280 pixels"));
    }
}
