//! MobileCLIP-S0's text tower: a convolution along the text before and after the attention layers. Vasu et al. 2024, §4.1
//! (Text-RepMixer).

use super::Text;
use crate::config::{MctText, TextCfg};
use crate::onnx::{Ops, Value};
use crate::params::Error;
use crate::towers::layers::Transformer;
use crate::towers::rep_mixer::{RepMixer, rep_mixer_block};
use crate::towers::scope::Scope;
use crate::towers::{Encoded, Want, layers};

/// Ids → `[B, D]`.
pub fn encode(s: &Scope, text: &Text, c: &TextCfg, mct: &MctText, want: Want) -> Result<Encoded, Error> {
    let x = text.embed(s, c)?; // [B, L, D]
    let (transformer, position) = text.transformer(s, c);
    let (width, norm_eps) = (mct.blocks.width, mct.blocks.norm_eps);
    let norm = |x| layers::layer_norm(&s.at("norm"), x, width, norm_eps);
    let x = blocks(s, x, mct, &transformer)?; // [B, L, D]
    if want == Want::Pooled {
        return Ok(Encoded::pooled(norm(position.take(&s.at("pool"), x, width))?));
    }
    let tokens = norm(x)?;
    let pooled = position.take(&s.at("pool"), tokens, width);
    Ok(Encoded::with_tokens(pooled, tokens, transformer.positions, width))
}

/// All blocks, numbered as one list: `[B, L, D]`.
fn blocks(s: &Scope, x: Value, c: &MctText, transformer: &Transformer) -> Result<Value, Error> {
    let kernel = [1, c.mixer.kernel];
    let rep_mixer = RepMixer {
        dim: c.blocks.width,
        mixer_kernel: kernel,
        mlp_kernel: kernel,
        mlp_dim: c.mixer.mlp_dim,
        scale_branch: false,
        act: c.blocks.act,
        bn_eps: c.mixer.bn_eps,
        reparameterized: c.mixer.reparameterized,
    };
    let along_text = |s: &Scope, x: Value| -> Result<Value, Error> {
        let x = s.unsqueeze(s.transpose(x, &[0, 2, 1]), &[2]); // [B, D, 1, L]
        let x = rep_mixer_block(s, x, &rep_mixer)?;
        Ok(s.transpose(s.squeeze(x, &[2]), &[0, 2, 1])) // [B, L, D]
    };
    let blocks = s.at("blocks");
    let x = along_text(&blocks.at(0), x)?;
    let x = (1..=c.blocks.layers).try_fold(x, |x, i| layers::block(&blocks.at(i), x, transformer))?;
    along_text(&blocks.at(c.blocks.layers + 1), x)
}
