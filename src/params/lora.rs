//! LoRA adapters by PEFT, merged into the weights while these are read: `W + scale · B·A`, as `merge_and_unload()` gives it.
//!
//! A file has them in two forms. A model that was saved with its adapters has the weights as `X.base_layer.weight` beside
//! `X.lora_A.NAME.weight`; an adapter's own file has `X.lora_A.weight` alone. The second is brought to the form of the first,
//! and both are merged here. Hu et al. 2021; Liu et al. 2024 (DoRA).
//! Source: PEFT `tuners/lora/{layer,config}.py`, `utils/save_and_load.py`.

use std::collections::{BTreeMap, BTreeSet};

use crate::tensor::{self, Tensor};

mod settings;

pub use settings::Settings;

/// What can be wrong with an adapter.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    #[error("is no adapter_config.json: {reason}")]
    Parse { reason: String },
    #[error("{field} is {found}, expected {expected}")]
    Setting { field: String, found: String, expected: &'static str },
    #[error(
        "tensors such as `{first}` are of the LoRA adapter `{adapter}`, and there is no adapter_config.json of it beside them, which says by what they are scaled"
    )]
    NoSettings { first: String, adapter: String },
    #[error("`{part}` is part of an adapter, and the model has no `{target}` to merge it into")]
    NoTarget { part: String, target: String },
    #[error("`{part}` of an adapter is no part that is followed")]
    Unknown { part: String },
    #[error(
        "`{part}` of an adapter has shape {found:?}, which does not fit {expected:?} of the weight it is merged into"
    )]
    Shape { part: String, found: Vec<usize>, expected: Vec<usize> },
    #[error("`{module}` of an adapter has lora_A {a:?} and lora_B {b:?}, which do not fit the weight {expected:?}")]
    Fit { module: String, a: Vec<usize>, b: Vec<usize>, expected: Vec<usize> },
    #[error("the adapter has `{part}`, and not what belongs to it: lora_A and lora_B, with DoRA lora_magnitude_vector")]
    Incomplete { part: String },
    #[error("the adapter {name} has {what}")]
    Nothing { name: String, what: &'static str },
    #[error("`{part}` of an adapter has rank {found}, expected {expected}, which r in its adapter_config.json says")]
    Rank { part: String, found: usize, expected: usize },
}

/// An adapter in a file of its own.
pub struct Adapter {
    /// Names as the file has them.
    pub tensors: Vec<(String, Tensor)>,
    pub settings: Settings,
    /// What messages call it.
    pub name: String,
}

/// How names end that an adapter's file has no adapter's name in.
const PARTS: &[(&str, &str)] = &[
    (".lora_A.weight", "weight"),
    (".lora_B.weight", "weight"),
    (".lora_B.bias", "bias"),
    (".lora_embedding_A", ""),
    (".lora_embedding_B", ""),
    (".lora_magnitude_vector", "weight"),
    (".lora_magnitude_vector.weight", "weight"),
];

/// How ids of adapters in files of their own begin, in names.
pub const OUTSIDE: &str = ".#";

/// How the name of a tensor ends that replaces the one of the model.
const REPLACES: &str = ".@";

impl Adapter {
    /// The tensors under the names that a model saved with its adapters has, for the adapter `id`.
    pub fn renamed(&self, id: &str) -> Vec<(String, Tensor)> {
        let rename = |name: &str| {
            let name = name.strip_prefix("base_model.model.").unwrap_or(name);
            match PARTS.iter().find(|(end, _)| name.ends_with(end)) {
                Some((end, kind)) => {
                    let module = name.strip_suffix(end).unwrap_or(name);
                    let part = end.trim_start_matches('.').split('.').next().unwrap_or_default();
                    let kind = if kind.is_empty() { String::new() } else { format!(".{kind}") };
                    format!("{module}.{part}.{id}{kind}")
                }
                None if name.contains(".lora_") => name.to_owned(),
                None => format!("{name}{REPLACES}{id}"),
            }
        };
        self.tensors.iter().map(|(name, tensor)| (rename(name), tensor.clone())).collect()
    }
}

/// Whether there are parts of adapters.
pub fn present(tensors: &[(String, Tensor)]) -> bool {
    tensors.iter().any(|(name, _)| is_part(name))
}

fn is_part(name: &str) -> bool {
    name.contains(".lora_") || name.contains(".modules_to_save.") || name.contains(REPLACES)
}

/// Names of a model that was saved with its adapters, as without them: only the parts of adapters are named by their own.
pub fn without_layers(tensors: &[(String, Tensor)]) -> Vec<(String, Tensor)> {
    let rename = |name: &str| {
        let mut out: Vec<&str> = Vec::new();
        let mut replaces = None;
        let mut segments = name.split('.').peekable();
        while let Some(segment) = segments.next() {
            match segment {
                "base_layer" | "original_module" => {}
                "modules_to_save" => replaces = segments.next(),
                other => out.push(other),
            }
        }
        let name = out.join(".");
        replaces.map_or(name.clone(), |adapter| format!("{name}{REPLACES}{adapter}"))
    };
    tensors.iter().map(|(name, tensor)| (rename(name), tensor.clone())).collect()
}

/// The parts of one adapter for one module.
#[derive(Default)]
struct Parts {
    a: Option<Tensor>,
    b: Option<Tensor>,
    bias: Option<Tensor>,
    magnitude: Option<Tensor>,
    embedding: bool,
    first: String,
}

/// What was merged of an adapter.
#[derive(Default)]
struct Merged {
    layers: usize,
    replaced: usize,
    ranks: BTreeSet<usize>,
}

/// Names and tensors.
type Tensors = Vec<(String, Tensor)>;

/// Merges all adapters, in the order of `adapters`: pairs of an adapter's id and its settings. Gives a note for each.
///
/// # Errors
/// See [`Error`].
pub fn merge(tensors: Tensors, adapters: &[(String, String, &Settings)]) -> Result<(Tensors, Vec<String>), Error> {
    let (parts, mut weights): (Vec<_>, Vec<_>) = tensors.into_iter().partition(|(name, _)| is_part(name));
    let mut of: BTreeMap<(String, String), Parts> = BTreeMap::new();
    let mut replacements: Vec<(String, String, Tensor)> = Vec::new();
    for (name, tensor) in parts {
        if let Some((target, id)) = name.split_once(REPLACES) {
            replacements.push((id.to_owned(), target.to_owned(), tensor));
            continue;
        }
        let unknown = || Error::Unknown { part: name.clone() };
        let (module, rest) = name.split_once(".lora_").ok_or_else(unknown)?;
        let mut rest = rest.split('.');
        let (Some(kind), Some(id), end) = (rest.next(), rest.next(), rest.next()) else { return Err(unknown()) };
        let parts = of.entry((id.to_owned(), module.to_owned())).or_default();
        parts.first = name.split('.').filter(|segment| !segment.starts_with('#')).collect::<Vec<_>>().join(".");
        let place = match (kind, end) {
            ("A", Some("weight")) => &mut parts.a,
            ("B", Some("weight")) => &mut parts.b,
            ("B", Some("bias")) => &mut parts.bias,
            ("magnitude_vector", Some("weight") | None) => &mut parts.magnitude,
            ("embedding_A", None) => {
                parts.embedding = true;
                &mut parts.a
            }
            ("embedding_B", None) => {
                parts.embedding = true;
                &mut parts.b
            }
            _ => return Err(unknown()),
        };
        *place = Some(tensor);
    }
    let ids = of.iter().map(|((id, _), parts)| (id, &parts.first));
    let replacing = replacements.iter().map(|(id, target, _)| (id, target));
    let known = |id: &String| adapters.iter().any(|(known, ..)| known == id);
    if let Some((id, first)) = ids.chain(replacing).find(|(id, _)| !known(id)) {
        return Err(Error::NoSettings { first: first.clone(), adapter: id.clone() });
    }
    let at = Targets(weights.iter().enumerate().map(|(at, (name, _))| (name.clone(), at)).collect());
    let mut notes = Vec::new();
    for (id, name, settings) in adapters {
        let mut merged = Merged::default();
        for ((_, module), parts) in of.iter().filter(|((of, _), _)| of == id) {
            let target = [format!("{module}.weight"), format!("{module}.in_proj_weight")];
            let target = target.iter().find_map(|target| at.get(target));
            let missing = |target: String| Error::NoTarget { part: parts.first.clone(), target };
            let target = target.ok_or_else(|| missing(format!("{module}.weight")))?;
            let rank = parts.rank();
            // PEFT adds the product of an output projection twice where the whole attention module has an adapter, in its
            // forward as in `merge_and_unload()` (0.21).
            let attention = module.strip_suffix(".out_proj");
            let attention = attention.filter(|attention| of.contains_key(&(id.clone(), (*attention).to_owned())));
            let scale = match attention {
                Some(attention) => 2.0 * settings.scale(attention, rank),
                None => settings.scale(module, rank),
            };
            if let Some(expected) = settings.rank.filter(|expected| *expected != rank) {
                return Err(Error::Rank { part: parts.first.clone(), found: rank, expected });
            }
            if settings.dora && parts.magnitude.is_none() {
                return Err(Error::Incomplete { part: parts.first.clone() });
            }
            let weight = parts.added(module, &weights[target].1, scale)?;
            weights[target].1 = weight;
            merged.ranks.insert(rank);
            merged.layers += 1;
            if let Some(bias) = &parts.bias {
                let target = at.get(&format!("{module}.bias"));
                let target = target.ok_or_else(|| missing(format!("{module}.bias")))?;
                weights[target].1 = sum(&weights[target].1, bias, settings.scale(module, rank), &parts.first)?;
            }
        }
        for (_, target, tensor) in replacements.iter().filter(|(of, ..)| of == id) {
            let place = at.get(target);
            let place = place.ok_or_else(|| Error::NoTarget { part: target.clone(), target: target.clone() })?;
            let (found, expected) = (tensor.shape(), weights[place].1.shape());
            if found != expected {
                return Err(Error::Shape { part: target.clone(), found, expected });
            }
            weights[place].1 = tensor.clone();
            merged.replaced += 1;
        }
        let nothing = |what| Err(Error::Nothing { name: name.clone(), what });
        if merged.layers == 0 && merged.replaced == 0 {
            return nothing("no tensors that belong to the model");
        }
        if settings.saves_modules && merged.replaced == 0 {
            return nothing("none of the modules_to_save that its adapter_config.json names");
        }
        let ranks: Vec<String> = merged.ranks.iter().map(usize::to_string).collect();
        let replaced =
            if merged.replaced > 0 { format!(", {} tensors replaced", merged.replaced) } else { String::new() };
        notes.push(format!(
            "LoRA adapter {name} is merged into {} layers (rank {}){replaced}",
            merged.layers,
            ranks.join(", ")
        ));
    }
    Ok((weights, notes))
}

/// Names of weights, and their places.
struct Targets(BTreeMap<String, usize>);

impl Targets {
    /// The weight that a module of an adapter means: of this name, of the name without what a wrapper put in front, or the
    /// only one that ends so, where the adapter is of a tower alone.
    fn get(&self, name: &str) -> Option<usize> {
        let starts = std::iter::once(0).chain(name.match_indices('.').map(|(at, _)| at + 1));
        // A tower's own segment is not a wrapper's.
        let own = starts.map(|start| &name[start..]).take_while(|rest| rest.matches('.').count() > 1 || *rest == name);
        if let Some(found) = own.into_iter().find_map(|rest| self.0.get(rest)) {
            return Some(*found);
        }
        let end = format!(".{name}");
        let mut ending = self.0.iter().filter(|(known, _)| known.ends_with(&end));
        ending.next().filter(|_| ending.next().is_none()).map(|(_, at)| *at)
    }
}

impl Parts {
    /// Rows of the first matrix.
    fn rank(&self) -> usize {
        self.a.as_ref().and_then(|a| a.shape().first().copied()).unwrap_or(0)
    }

    /// The weight with the adapter's product added to it.
    fn added(&self, module: &str, weight: &Tensor, scale: f64) -> Result<Tensor, Error> {
        let incomplete = || Error::Incomplete { part: self.first.clone() };
        let (Some(a), Some(b)) = (&self.a, &self.b) else { return Err(incomplete()) };
        let (shape, [a_shape, b_shape]) = (weight.shape(), [a, b].map(Tensor::shape));
        let rank = self.rank();
        let flat = |shape: &[usize]| shape.iter().skip(1).product::<usize>();
        let [rows, columns] = [shape.first().copied().unwrap_or(0), flat(&shape)];
        // An embedding's product is that of the transposed table.
        let [of_b, of_a] = if self.embedding { [columns, rows] } else { [rows, columns] };
        let fits = rank > 0
            && flat(&a_shape) == of_a
            && b_shape.first() == Some(&of_b)
            && flat(&b_shape) == rank
            && (a_shape.len() == 2 || a_shape[1..] == shape[1..]);
        if !fits {
            return Err(Error::Fit { module: module.to_owned(), a: a_shape, b: b_shape, expected: shape });
        }
        let magnitude = self.magnitude.clone();
        if let Some(magnitude) = &magnitude
            && (self.embedding || magnitude.shape().iter().product::<usize>() != rows)
        {
            return Err(Error::Unknown { part: format!("{module}.lora_magnitude_vector") });
        }
        let embedding = self.embedding;
        let (name, weight, a, b) = (weight.source_names().join("`, `"), weight.clone(), a.clone(), b.clone());
        let [merged] = Tensor::computed(&name, [&shape], move || {
            let (mut values, a, b) = (weight.to_f32()?, a.to_f32()?, b.to_f32()?);
            for row in 0..rows {
                let mut added = vec![0f64; columns];
                for k in 0..rank {
                    if embedding {
                        let factor = f64::from(a[k * rows + row]);
                        added.iter_mut().enumerate().for_each(|(c, out)| *out += factor * f64::from(b[c * rank + k]));
                    } else {
                        let factor = f64::from(b[row * rank + k]);
                        let a = &a[k * columns..][..columns];
                        added.iter_mut().zip(a).for_each(|(out, a)| *out += factor * f64::from(*a));
                    }
                }
                let values = &mut values[row * columns..][..columns];
                values.iter_mut().zip(added).for_each(|(w, added)| *w = (f64::from(*w) + scale * added) as f32);
            }
            if let Some(magnitude) = &magnitude {
                scale_rows(&mut values, columns, &magnitude.to_f32()?);
            }
            Ok([values])
        });
        Ok(merged)
    }
}

/// DoRA: rows of the lengths that were trained.
fn scale_rows(values: &mut [f32], columns: usize, lengths: &[f32]) {
    for (row, length) in values.chunks_exact_mut(columns).zip(lengths) {
        let norm = row.iter().map(|w| f64::from(*w).powi(2)).sum::<f64>().sqrt();
        row.iter_mut().for_each(|w| *w = (f64::from(*w) * f64::from(*length) / norm) as f32);
    }
}

/// `tensor + scale · added`, of one shape.
fn sum(tensor: &Tensor, added: &Tensor, scale: f64, part: &str) -> Result<Tensor, Error> {
    let (shape, found) = (tensor.shape(), added.shape());
    if shape != found {
        return Err(Error::Shape { part: part.to_owned(), found, expected: shape });
    }
    let (name, tensor, added) = (tensor.source_names().join("`, `"), tensor.clone(), added.clone());
    let compute = move || -> Result<[Vec<f32>; 1], tensor::Error> {
        let added = added.to_f32()?;
        let values = tensor.to_f32()?;
        Ok([values.iter().zip(added).map(|(w, a)| (f64::from(*w) + scale * f64::from(a)) as f32).collect()])
    };
    let [sum] = Tensor::computed(&name, [&shape], compute);
    Ok(sum)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tensor(name: &str, shape: &[usize], values: &[f32]) -> (String, Tensor) {
        (name.to_owned(), Tensor::from_f32(name, shape, values))
    }

    fn settings(json: &str) -> Settings {
        Settings::parse(json).unwrap()
    }

    fn merged(tensors: Vec<(String, Tensor)>, settings: &Settings) -> Result<Vec<Vec<f32>>, String> {
        let adapters = [("default".to_owned(), "default".to_owned(), settings)];
        let (tensors, _) = merge(tensors, &adapters).map_err(|e| e.to_string())?;
        Ok(tensors.iter().map(|(_, tensor)| tensor.to_f32().unwrap()).collect())
    }

    #[test]
    fn the_product_is_scaled_and_added() {
        let tensors = || {
            vec![
                tensor("q.weight", &[2, 3], &[1.0, 0.0, 0.0, 0.0, 1.0, 0.0]),
                tensor("q.lora_A.default.weight", &[1, 3], &[1.0, 2.0, 3.0]),
                tensor("q.lora_B.default.weight", &[2, 1], &[1.0, 10.0]),
            ]
        };
        let plain = settings(r#"{"peft_type": "LORA", "r": 1, "lora_alpha": 2}"#);
        assert_eq!(merged(tensors(), &plain).unwrap(), [[3.0, 4.0, 6.0, 20.0, 41.0, 60.0]]);
        let pattern = settings(r#"{"peft_type": "LORA", "r": 1, "lora_alpha": 2, "alpha_pattern": {"q": 1}}"#);
        assert_eq!(merged(tensors(), &pattern).unwrap(), [[2.0, 2.0, 3.0, 10.0, 21.0, 30.0]]);
        // DoRA sets the length of each row.
        let mut dora = tensors();
        dora.push(tensor("q.lora_magnitude_vector.default.weight", &[2], &[1.0, 2.0]));
        let rows = merged(dora, &plain).unwrap().remove(0);
        let lengths: Vec<f32> = rows.chunks(3).map(|row| row.iter().map(|w| w * w).sum::<f32>().sqrt()).collect();
        assert!((lengths[0] - 1.0).abs() < 1e-6 && (lengths[1] - 2.0).abs() < 1e-6, "{lengths:?}");
    }

    #[test]
    fn a_table_has_its_product_transposed_and_modules_are_replaced() {
        let tensors = vec![
            tensor("t.weight", &[3, 2], &[0.0; 6]),
            tensor("h.weight", &[1], &[5.0]),
            tensor("t.lora_embedding_A.default", &[1, 3], &[1.0, 2.0, 3.0]),
            tensor("t.lora_embedding_B.default", &[2, 1], &[1.0, 10.0]),
            tensor("h.weight.@default", &[1], &[7.0]),
        ];
        let plain = settings(r#"{"peft_type": "LORA", "r": 1, "lora_alpha": 1}"#);
        let found = merged(tensors, &plain).unwrap();
        assert_eq!(found, [vec![1.0, 10.0, 2.0, 20.0, 3.0, 30.0], vec![7.0]]);
    }

    #[test]
    fn what_does_not_fit_is_named() {
        let plain = settings(r#"{"peft_type": "LORA", "r": 1, "lora_alpha": 1}"#);
        let a = || tensor("q.lora_A.default.weight", &[1, 3], &[0.0; 3]);
        let b = |rows: usize| tensor("q.lora_B.default.weight", &[rows, 1], &vec![0.0; rows]);
        let weight = || tensor("q.weight", &[2, 3], &[0.0; 6]);
        for (tensors, said) in [
            (vec![weight(), a()], "not what belongs to it"),
            (vec![a(), b(2)], "the model has no `q.weight`"),
            (vec![weight(), a(), b(3)], "do not fit the weight [2, 3]"),
            (vec![weight(), a(), b(2), tensor("q.lora_E.default.weight", &[1], &[0.0])], "no part that is followed"),
            (vec![weight(), tensor("q.lora_A.other.weight", &[1, 3], &[0.0; 3])], "LoRA adapter `other`"),
        ] {
            let error = merged(tensors, &plain).unwrap_err();
            assert!(error.contains(said), "{error}");
        }
    }

    #[test]
    fn files_of_adapters_get_the_names_of_models_with_adapters() {
        let adapter = Adapter {
            tensors: [
                "base_model.model.q.lora_A.weight",
                "base_model.model.t.lora_embedding_A",
                "base_model.model.q.lora_magnitude_vector",
                "base_model.model.head.weight",
            ]
            .map(|name| tensor(name, &[1], &[0.0]))
            .to_vec(),
            settings: settings(r#"{"peft_type": "LORA", "r": 1, "lora_alpha": 1}"#),
            name: "a".to_owned(),
        };
        let names: Vec<String> = adapter.renamed("1").into_iter().map(|(name, _)| name).collect();
        assert_eq!(
            names,
            ["q.lora_A.1.weight", "t.lora_embedding_A.1", "q.lora_magnitude_vector.1.weight", "head.weight.@1"]
        );
        let whole = ["a.q.base_layer.weight", "a.h.original_module.weight", "a.h.modules_to_save.default.weight"]
            .map(|name| tensor(name, &[1], &[0.0]));
        let names: Vec<String> = without_layers(&whole).into_iter().map(|(name, _)| name).collect();
        assert_eq!(names, ["a.q.weight", "a.h.weight", "a.h.weight.@default"]);
    }
}
