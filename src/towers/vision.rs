//! Image towers: pixels or patches → one embedding. One file per family.

mod eva;
mod fastvit;
mod image;
mod naflex;
mod vit;

use super::scope::Scope;
use super::{Encoded, Want};
use crate::config::{ModelConfig, VisionCfg};
use crate::params::Error;
use crate::ports::Ports;

pub use image::cannot_resize;

/// Builds the image tower, from its inputs to the embedding `[B, embed_dim]`.
pub fn tower(s: &Scope, model: &ModelConfig, vision: &VisionCfg, ports: &Ports, want: Want) -> Result<Encoded, Error> {
    match vision {
        VisionCfg::Vit(vit) => vit::tower(s, model, vit, ports, want),
        VisionCfg::NaflexVit(vit) => naflex::tower(s, model, vit, want),
        VisionCfg::FastVit(fastvit) => fastvit::tower(s, model, fastvit, ports, want),
        VisionCfg::Eva(eva) => eva::tower(s, model, eva, ports, want),
    }
}
