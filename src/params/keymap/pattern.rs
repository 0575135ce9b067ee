//! Names of tensors as the tables spell them, with indices and joins.

/// A tensor name in which `{s}` is the index of a stage and `{i}` that of a block.
///
/// What follows an index does not begin with a digit.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Pattern(Vec<Token>);

#[derive(Clone, Debug, PartialEq, Eq)]
enum Token {
    Text(String),
    Stage,
    Block,
}

/// The indices found in a name; None where its pattern has no such index.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct Indices {
    pub stage: Option<usize>,
    pub block: Option<usize>,
}

impl Pattern {
    pub fn parse(pattern: &str) -> Pattern {
        let mut tokens = vec![];
        let mut rest = pattern;
        let next = |rest: &str| {
            let found = [("{s}", Token::Stage), ("{i}", Token::Block)].map(|(word, token)| (rest.find(word), token));
            found.into_iter().filter_map(|(at, token)| Some((at?, token))).min_by_key(|&(at, _)| at)
        };
        while let Some((at, token)) = next(rest) {
            tokens.extend([Token::Text(rest[..at].to_owned()), token]);
            rest = &rest[at + "{i}".len()..];
        }
        tokens.push(Token::Text(rest.to_owned()));
        Pattern(tokens)
    }

    /// The indices in `name`, or None where it is not of this pattern.
    pub fn indices_in(&self, name: &str) -> Option<Indices> {
        let mut found = Indices::default();
        let mut rest = name;
        for token in &self.0 {
            let index = match token {
                Token::Text(text) => {
                    rest = rest.strip_prefix(text.as_str())?;
                    continue;
                }
                Token::Stage => &mut found.stage,
                Token::Block => &mut found.block,
            };
            let (digits, after) = rest.split_at(rest.bytes().take_while(u8::is_ascii_digit).count());
            let value: usize = digits.parse().ok()?;
            // `01` is another name than `1`, and an index that occurs twice has one value.
            if (digits.len() > 1 && digits.starts_with('0')) || index.replace(value).is_some_and(|old| old != value) {
                return None;
            }
            rest = after;
        }
        rest.is_empty().then_some(found)
    }

    /// The name, where there is no index in it.
    pub fn without_indices(&self) -> Option<&str> {
        match &self.0[..] {
            [Token::Text(name)] => Some(name),
            _ => None,
        }
    }

    /// Whether all names of this pattern begin with `prefix`.
    pub fn begins_with(&self, prefix: &str) -> bool {
        matches!(self.0.first(), Some(Token::Text(text)) if text.starts_with(prefix))
    }

    /// The name with these indices. An index that is None is left as it is spelled.
    pub fn fill(&self, indices: Indices) -> String {
        let spelled = |index: Option<usize>, word: &str| index.map_or_else(|| word.to_owned(), |n| n.to_string());
        let word = |token: &Token| match token {
            Token::Text(text) => text.clone(),
            Token::Stage => spelled(indices.stage, "{s}"),
            Token::Block => spelled(indices.block, "{i}"),
        };
        self.0.iter().map(word).collect()
    }
}

/// One part of a join.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Part {
    Tensor(Pattern),
    /// Zeros, which the source does not store.
    Zeros,
}

/// The parts that a source name stands for: `a{b,0,c}d` is `abd`, zeros and `acd`; a name without such braces is one
/// part.
pub fn parts(source: &str) -> Vec<Part> {
    let braces = source.match_indices('{').find_map(|(start, _)| {
        let end = start + source[start..].find('}')?;
        source[start..end].contains(',').then_some((start, end))
    });
    let Some((start, end)) = braces else { return vec![Part::Tensor(Pattern::parse(source))] };
    let (before, after) = (&source[..start], &source[end + 1..]);
    let part = |word: &str| match word {
        "0" => Part::Zeros,
        word => Part::Tensor(Pattern::parse(&format!("{before}{word}{after}"))),
    };
    source[start + 1..end].split(',').map(part).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn indices(stage: Option<usize>, block: Option<usize>) -> Option<Indices> {
        Some(Indices { stage, block })
    }

    #[test]
    fn both_indices_are_read_and_written() {
        let pattern = Pattern::parse("stages.{s}.blocks.{i}.norm");
        assert_eq!(pattern.indices_in("stages.3.blocks.12.norm"), indices(Some(3), Some(12)));
        assert_eq!(pattern.fill(Indices { stage: Some(3), block: Some(12) }), "stages.3.blocks.12.norm");
        assert_eq!(pattern.fill(Indices { stage: None, block: Some(0) }), "stages.{s}.blocks.0.norm");
        assert_eq!(Pattern::parse("{i}/{s}").indices_in("1/2"), indices(Some(2), Some(1)));
        assert_eq!(Pattern::parse("norm").indices_in("norm"), indices(None, None));
    }

    #[test]
    fn what_is_not_an_index_does_not_match() {
        let pattern = Pattern::parse("blocks.{i}.norm");
        for name in [
            "blocks.01.norm",
            "blocks..norm",
            "blocks.x.norm",
            "blocks.-1.norm",
            "blocks.1.norm2",
            "blocks.1",
            "a.blocks.1.norm",
            "blocks.99999999999999999999999.norm",
        ] {
            assert_eq!(pattern.indices_in(name), None, "{name}");
        }
    }

    #[test]
    fn an_index_that_occurs_twice_has_one_value() {
        let pattern = Pattern::parse("{i}.conv{i}");
        assert_eq!(pattern.indices_in("4.conv4"), indices(None, Some(4)));
        assert_eq!(pattern.indices_in("4.conv5"), None);
    }

    #[test]
    fn a_join_has_tensors_and_zeros() {
        let tensor = |name: &str| Part::Tensor(Pattern::parse(name));
        assert_eq!(parts("{i}.{q,0,v}.bias"), [tensor("{i}.q.bias"), Part::Zeros, tensor("{i}.v.bias")]);
        assert_eq!(parts("{q_bias,v_bias}"), [tensor("q_bias"), tensor("v_bias")]);
        assert_eq!(parts("{s}.{i}"), [tensor("{s}.{i}")]);
    }
}
