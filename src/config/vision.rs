//! Image towers: one family a file, each with its fields, their JSON, and the answers to every question other code
//! asks of it.

use serde::{Deserialize, Serialize};

use super::check::Problem;
use super::parts::{Act, Head, Transformer};
use super::trunks::Timm;

mod eva;
mod fastvit;
mod naflex;
mod stem;
mod vit;

pub use eva::{Eva, Rope};
pub use fastvit::{AttnNorm, FastVit, SqueezeExcite, Stage, TokenMixer};
pub use naflex::NaflexVit;
pub use stem::{ConvStem, PatchEmbed, PatchWeight, Stem, StemConv};
pub use vit::{ClassToken, Encoder, Pool, Vit};

/// The section's name in error messages.
const AT: &str = "vision_cfg.";

/// A line for each family: its variant of [`VisionCfg`], whose name in lower case is `model_type` in JSON, its type,
/// and its fields as JSON has them.
macro_rules! families {
    ($($(#[$doc:meta])* $name:ident($family:ty, $fields:ty),)*) => {
        /// The image tower.
        #[derive(Clone, Debug, PartialEq, Serialize)]
        #[serde(into = "VisionFields")]
        pub enum VisionCfg {
            $($(#[$doc])* $name($family),)*
        }

        /// [`VisionCfg`] as JSON has it: fields that may contradict each other.
        #[derive(Serialize, Deserialize)]
        #[serde(tag = "model_type", rename_all = "lowercase")]
        pub(super) enum VisionFields {
            $($name($fields),)*
        }

        impl TryFrom<VisionFields> for VisionCfg {
            type Error = Problem;

            fn try_from(fields: VisionFields) -> Result<VisionCfg, Problem> {
                match fields {
                    $(VisionFields::$name(fields) => fields.try_into().map(VisionCfg::$name),)*
                }
            }
        }

        impl From<VisionCfg> for VisionFields {
            fn from(vision: VisionCfg) -> VisionFields {
                match vision {
                    $(VisionCfg::$name(family) => VisionFields::$name(family.into()),)*
                }
            }
        }

        impl VisionCfg {
            /// What the tower answers of itself.
            pub fn family(&self) -> &dyn VisionFamily {
                match self {
                    $(VisionCfg::$name(family) => family,)*
                }
            }

            fn family_mut(&mut self) -> &mut dyn VisionFamily {
                match self {
                    $(VisionCfg::$name(family) => family,)*
                }
            }
        }
    };
}

families! {
    /// ViT over images of one size.
    Vit(Vit, vit::VitFields),
    /// ViT over a variable number of patches.
    NaflexVit(NaflexVit, naflex::NaflexFields),
    /// MobileCLIP's hybrid of convolutions and attention.
    FastVit(FastVit, fastvit::FastVitFields),
    /// EVA-CLIP's ViT with rotary positions.
    Eva(Eva, eva::EvaFields),
}

/// What other code asks of an image tower. No method has a default: a new family answers every one.
pub trait VisionFamily {
    /// Whether a graph can be built from these numbers, with embeddings of `embed_dim`.
    ///
    /// # Errors
    /// The first field that is out of range or does not fit another one.
    fn check(&self, embed_dim: usize) -> Result<(), Problem>;

    /// What the tower takes.
    fn input(&self) -> ImageInput;

    /// The table of learned positions; None where there is nothing to resample for another image size.
    fn positions(&self) -> Option<Positions>;

    /// The same tower for images of `size` pixels, height and width. Its numbers are checked afterwards.
    ///
    /// # Errors
    /// A size the tower cannot be made for.
    fn at_image_size(&self, size: [usize; 2]) -> Result<VisionCfg, Problem>;

    /// Activation of the blocks.
    fn act(&self) -> Act;

    /// Sizes that configurations for other libraries, manifests and listings name.
    fn dims(&self) -> Dims;

    /// The matrix after pooling.
    fn head(&self) -> Option<Head>;

    /// [`VisionFamily::head`], to be changed.
    fn head_mut(&mut self) -> &mut Option<Head>;

    /// Whether training-time branches are stored folded into one convolution each; None where there are none.
    fn reparameterized_mut(&mut self) -> Option<&mut bool>;

    /// timm's model of this tower, which open_clip builds it from; None where open_clip has its own class for it.
    ///
    /// # Errors
    /// What neither has a model for.
    fn timm(&self) -> Result<Option<Timm>, String>;

    /// How open_clip names the tower's tensors.
    fn open_clip_form(&self) -> OpenClipForm;
}

impl VisionCfg {
    /// What the tower takes.
    pub fn input(&self) -> ImageInput {
        self.family().input()
    }

    /// Height, width in pixels, where it is fixed.
    pub fn image_size(&self) -> Option<[usize; 2]> {
        match self.input() {
            ImageInput::Pixels(size) => Some(size),
            ImageInput::Patches { .. } => None,
        }
    }

    /// Activation of the blocks.
    pub fn act(&self) -> Act {
        self.family().act()
    }

    pub(super) fn head_mut(&mut self) -> &mut Option<Head> {
        self.family_mut().head_mut()
    }

    pub(super) fn reparameterized_mut(&mut self) -> Option<&mut bool> {
        self.family_mut().reparameterized_mut()
    }
}

/// What an image tower takes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ImageInput {
    /// Pixels of this height and width.
    Pixels([usize; 2]),
    /// Any number of square patches, `size` pixels a side, with their rows and columns.
    Patches {
        /// Side of a patch in pixels.
        size: usize,
    },
}

impl ImageInput {
    /// Whether the input is [`ImageInput::Patches`].
    pub fn is_patches(self) -> bool {
        matches!(self, ImageInput::Patches { .. })
    }
}

/// A table of learned positions.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Positions {
    /// Rows and columns.
    pub grid: [usize; 2],
    /// Channels of each position.
    pub width: usize,
    /// Shape and order that the checkpoint stores the table in.
    pub layout: PositionLayout,
}

/// How a checkpoint stores [`Positions`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PositionLayout {
    /// `[1, prefix + rows · columns, width]`: the class token's position, if it has one, is the prefix.
    Sequence {
        /// Number of positions before those of the grid.
        prefix: usize,
    },
    /// `[rows, columns, width]`, resampled in the graph for each image.
    Grid,
}

impl Positions {
    /// Shape of the stored tensor.
    pub fn shape(&self) -> Vec<usize> {
        let [rows, columns] = self.grid;
        match self.layout {
            PositionLayout::Sequence { prefix } => vec![1, prefix + rows * columns, self.width],
            PositionLayout::Grid => vec![rows, columns, self.width],
        }
    }
}

/// Sizes of an image tower, for people and other libraries.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Dims {
    /// Side of a patch in pixels; None where the tower does not cut images into patches.
    pub patch_size: Option<usize>,
    /// None where the tower is more than transformer blocks of one width.
    pub blocks: Option<Blocks>,
}

/// A ViT's blocks.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Blocks {
    /// Widths and number of the blocks.
    pub transformer: Transformer,
    /// LayerNorm before the blocks.
    pub pre_norm: bool,
}

/// How open_clip names the tensors of an image tower, of which the text tower's names depend too.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum OpenClipForm {
    /// A timm ViT with a MAP head: `ViT-*-SigLIP*`.
    Siglip,
    /// A timm ViT whose classifier is the projection: MobileCLIP's B and L-14.
    TimmVit,
    /// A timm FastViT: MobileCLIP.
    FastVit,
    /// open_clip's own ViT, text at the root.
    Native,
}
