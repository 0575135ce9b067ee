//! Text transformer: embeddings, blocks, one pooled position. Radford et al. 2021; open_clip's `TextTransformer`. SigLIP
//! differs only in the configuration.

use super::Text;
use crate::config::TextCfg;
use crate::params::Error;
use crate::towers::scope::Scope;
use crate::towers::{Encoded, Want, layers, pool};

/// Ids → `[B, D]`.
pub fn encode(s: &Scope, text: &Text, c: &TextCfg, want: Want) -> Result<Encoded, Error> {
    let x = text.embed(s, c)?; // [B, L, D]
    let (transformer, position) = text.transformer(s, c);
    let (width, norm_eps) = (c.blocks().width, c.blocks().norm_eps);
    let norm = |x| layers::layer_norm(&s.at("norm"), x, width, norm_eps);
    if want == Want::Pooled {
        return Ok(Encoded::pooled(norm(pool::blocks(s, x, position, &transformer)?)?));
    }
    let tokens = norm(layers::blocks(s, x, &transformer)?)?; // [B, L, D]
    let pooled = position.take(&s.at("pool"), tokens, width);
    Ok(Encoded::with_tokens(pooled, tokens, transformer.positions, width))
}

#[cfg(test)]
mod tests {
    use super::super::tests::{PORTS, config};
    use super::*;
    use crate::towers::testing::{Case, OPTIONS};

    /// The embedding is the same where all positions are computed as well.
    #[test]
    fn both_wants_give_the_embedding_of_open_clip() {
        let case = Case::read("text_embed_pool");
        let (c, embed_dim) = (config(&case), case.setting("embed_dim"));
        for want in [Want::Pooled, Want::Tokens] {
            case.check(OPTIONS, &|s| {
                let Encoded { tokens, pooled } = encode(s, &Text::input(s, &c, &PORTS), &c, want)?;
                assert_eq!(tokens.is_some(), want == Want::Tokens);
                layers::head(s, pooled, c.blocks().width, embed_dim, c.head)
            });
        }
    }
}
