//! open_clip's registry: every configuration that it has by name, the weights that are published for each, and what of it
//! is not supported. Written by `scripts/make_registry.py` from open_clip 3.3.

/// A configuration of open_clip.
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize)]
pub struct Registered {
    /// open_clip's name.
    pub name: &'static str,
    /// The part that is not supported; None where the model is exported.
    pub lacks: Option<&'static str>,
    /// open_clip's tags of published weights.
    pub weights: Vec<&'static str>,
}

/// All of them, in the order of their names.
pub fn registry() -> impl Iterator<Item = Registered> {
    let read = |line: &'static str| {
        let mut fields = line.split('\t');
        let (name, lacks, weights) = (fields.next()?, fields.next()?, fields.next()?);
        let lacks = Some(lacks).filter(|lacks| !lacks.is_empty());
        Some(Registered { name, lacks, weights: weights.split_whitespace().collect() })
    };
    include_str!("registry.tsv").lines().skip(1).filter_map(read)
}
