//! Names and types of a file's inputs and outputs.

/// The output of a graph with both towers.
pub const LOGITS_PER_IMAGE: &str = "logits_per_image";
/// The output of a graph with labels inside.
pub const PROBABILITIES: &str = "probabilities";

/// How an image tower is fed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PixelFormat {
    /// float32 `[B, 3, H, W]`, as preprocessing leaves them.
    Float,
    /// Bytes as decoders leave them: scale, mean and deviation are in the graph.
    Bytes {
        /// Channels are the last axis, not the second.
        last: bool,
        /// A fourth channel may come, and is dropped.
        alpha: bool,
        /// Of any height and width: resizing and cropping are in the graph.
        resize: bool,
    },
}

impl PixelFormat {
    /// What flags and manifests call them.
    pub fn name(self) -> &'static str {
        match self {
            PixelFormat::Float => "float",
            PixelFormat::Bytes { last: true, .. } => "uint8",
            PixelFormat::Bytes { last: false, .. } => "uint8-nchw",
        }
    }

    /// Whether pictures of any size are taken.
    pub fn resizes(self) -> bool {
        matches!(self, PixelFormat::Bytes { resize: true, .. })
    }
}

/// What a tower's inputs and outputs are called, and what they hold.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Ports {
    pub image: &'static str,
    pub pixels: PixelFormat,
    pub image_embeds: &'static str,
    pub tokens: &'static str,
    pub text_embeds: &'static str,
    /// Token ids as int32.
    pub int32: bool,
    /// An input of texts that may be left out and that nothing reads, for runtimes that feed one.
    pub mask: Option<&'static str>,
    /// Every position of the last block as `last_hidden_state`, as transformers has it: normed, but for CLIP's
    /// images.
    pub hidden: bool,
    /// Of an image every patch, normed, as `patch_tokens`.
    pub patches: bool,
}

impl Ports {
    pub const PLAIN: Ports = Ports {
        image: "pixel_values",
        pixels: PixelFormat::Float,
        image_embeds: "image_embeds",
        tokens: "input_ids",
        text_embeds: "text_embeds",
        int32: false,
        mask: None,
        hidden: false,
        patches: false,
    };
}
