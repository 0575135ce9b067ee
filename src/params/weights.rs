//! Which tensors of a checkpoint are the model's weights, under the names that key maps have.
//!
//! Training scripts save models inside of others: `DistributedDataParallel`, `torch.compile`, FSDP and the like put a
//! segment of their own into every name, and modules that hold the model put theirs in front. A tower that is saved alone
//! lacks the start that it has in the whole model. Key maps know none of this: names are brought to one form here, and what
//! was done is said.

use std::collections::{BTreeMap, BTreeSet};

use super::Error;
use super::keymap::{KeyMap, some_of};
use super::lora;
use crate::modality::Modality;
use crate::tensor::Tensor;

/// Segments that wrappers of modules put into names, anywhere.
const WRAPPERS: &[&str] =
    &["module", "_orig_mod", "_fsdp_wrapped_module", "_forward_module", "_checkpoint_wrapped_module"];

/// Parts of a prefix that say that its weights are averages of others beside them.
const AVERAGES: &[&str] = &["ema", "averaged", "swa"];

/// Numbers outside both towers, which may have a prefix of their own.
const NUMBERS: &[&str] = &["logit_scale", "logit_bias"];

/// A name that tells a tower, and the start that it lacks where the tower was saved alone.
#[derive(Clone, Copy)]
struct Mark {
    name: &'static str,
    tower: Modality,
    lacks: &'static str,
    /// Another name that has to be there, where one does not tell.
    beside: Option<&'static str>,
}

const fn bare(lacks: &'static str, name: &'static str, tower: Modality) -> Mark {
    Mark { name, tower, lacks, beside: None }
}

/// Names of towers that were saved alone; those of whole models are the key maps'.
const BARE: &[Mark] = &[
    // transformers, since 5.6.
    bare("vision_model.", "embeddings.patch_embedding.weight", Modality::Image),
    bare("text_model.", "embeddings.token_embedding.weight", Modality::Text),
    // timm's own models.
    bare("visual.trunk.", "patch_embed.proj.weight", Modality::Image),
    bare("visual.trunk.", "patch_embed.backbone.0.conv.weight", Modality::Image),
    bare("visual.trunk.", "stem.0.conv_kxk.0.conv.weight", Modality::Image),
    bare("visual.trunk.", "stem.0.reparam_conv.weight", Modality::Image),
    // `model.visual` of open_clip.
    bare("visual.", "trunk.patch_embed.proj.weight", Modality::Image),
    bare("visual.", "trunk.patch_embed.backbone.0.conv.weight", Modality::Image),
    bare("visual.", "trunk.stem.0.conv_kxk.0.conv.weight", Modality::Image),
    bare("visual.", "trunk.stem.0.reparam_conv.weight", Modality::Image),
    Mark { beside: Some("class_embedding"), ..bare("visual.", "conv1.weight", Modality::Image) },
];

/// Of these, the longest that a name ends with counts.
fn marks() -> Vec<Mark> {
    let whole = super::maps().iter().flat_map(KeyMap::towers).map(|(name, tower)| bare("", name, tower));
    whole.chain(BARE.iter().copied()).collect()
}

/// The model's weights, and what the user should know of how they were found.
#[derive(Debug)]
pub struct Weights {
    pub tensors: Vec<(String, Tensor)>,
    pub notes: Vec<String>,
    /// Names that are not under the model's prefix.
    pub left_out: Vec<String>,
}

/// Where the weights of a model, or of one of its towers, are.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Place {
    prefix: String,
    lacks: &'static str,
}

/// Finds the weights of one model among `tensors`: those whose names begin with `prefix`, or those of the only model there
/// is. None where no name tells a tower.
///
/// # Errors
/// [`Error::Copies`] where there are several models, [`Error::Prefix`] where none has this prefix.
pub fn find(tensors: &[(String, Tensor)], prefix: Option<&str>) -> Result<Option<Weights>, Error> {
    let (renamed, mut notes) = without_wrappers(tensors);
    let towers = towers(&marks(), &renamed.iter().map(|(name, _)| &**name).collect());
    let [images, texts] = Modality::ALL.map(|tower| towers.get(&tower).cloned().unwrap_or_default());
    if let Some(wanted) = prefix {
        let wanted = trimmed(wanted);
        let under = |places: &BTreeSet<Place>| {
            let mut below = places.iter().filter(|place| place.prefix.starts_with(&wanted));
            let exact = places.iter().find(|place| place.prefix == wanted);
            exact.or(below.next().filter(|_| below.next().is_none())).cloned()
        };
        let places: Vec<Place> = [under(&images), under(&texts)].into_iter().flatten().collect();
        if places.is_empty() {
            let found = images.union(&texts).map(|place| shown(&place.prefix)).collect::<BTreeSet<_>>();
            let found = found.into_iter().collect::<Vec<_>>();
            return Err(Error::Prefix { prefix: wanted, found: some_of(&found) });
        }
        return Ok(Some(taken(renamed, &places, notes)));
    }
    if images.is_empty() && texts.is_empty() {
        return Ok(None);
    }
    let both: BTreeSet<&Place> = images.intersection(&texts).collect();
    let several = images.len() > 1 || texts.len() > 1;
    let all: BTreeSet<String> = images.iter().chain(&texts).map(|place| place.prefix.clone()).collect();
    let places: Vec<Place> = if !several {
        images.iter().chain(&texts).cloned().collect::<BTreeSet<_>>().into_iter().collect()
    } else {
        // A model is at one place with all of its towers.
        let whole = if both.is_empty() { images.union(&texts).collect() } else { both };
        let prefix = choose(whole.iter().map(|place| &*place.prefix).collect(), &mut notes)?;
        images.union(&texts).filter(|place| place.prefix == prefix).cloned().collect()
    };
    let prefixes: BTreeSet<&str> = places.iter().map(|place| &*place.prefix).collect();
    if several {
        let others: Vec<String> = all.iter().filter(|other| !prefixes.contains(&***other)).map(|p| shown(p)).collect();
        notes.push(format!("there are weights under {} too, which are left out", others.join(", ")));
    }
    Ok(Some(taken(renamed, &places, notes)))
}

/// The prefix of the model that is taken where there are several: the one without a prefix, or the only one that is not
/// an average.
fn choose(prefixes: BTreeSet<&str>, notes: &mut Vec<String>) -> Result<String, Error> {
    if prefixes.contains("") {
        return Ok(String::new());
    }
    let is_average = |prefix: &&&str| prefix.split(['.', '_']).any(|part| AVERAGES.contains(&part));
    let (averages, own): (Vec<&str>, Vec<&str>) = prefixes.iter().partition(|prefix| is_average(prefix));
    match own[..] {
        [one] if !averages.is_empty() => {
            notes.push(format!("taken are the weights under {}, not their averages", shown(one)));
            Ok(one.to_owned())
        }
        [one] => Ok(one.to_owned()),
        _ => {
            let shown: Vec<String> = prefixes.into_iter().map(shown).collect();
            Err(Error::Copies { count: shown.len(), prefixes: some_of(&shown), first: shown[0].clone() })
        }
    }
}

fn shown(prefix: &str) -> String {
    if prefix.is_empty() { "no prefix".to_owned() } else { format!("`{prefix}`") }
}

/// A prefix as it ends where names are cut, and without what wrappers put into it.
fn trimmed(prefix: &str) -> String {
    let mut segments = prefix.split('.').filter(|segment| !segment.is_empty() && !WRAPPERS.contains(segment));
    let first = segments.next().map_or_else(String::new, |first| format!("{first}."));
    segments.fold(first, |prefix, segment| format!("{prefix}{segment}."))
}

/// Names without the segments of wrappers; as they are where two would become one.
fn without_wrappers(tensors: &[(String, Tensor)]) -> (Vec<(String, Tensor)>, Vec<String>) {
    let mut found = BTreeSet::new();
    let mut renamed = Vec::with_capacity(tensors.len());
    for (name, tensor) in tensors {
        let mut kept = Vec::new();
        for segment in name.split('.') {
            match WRAPPERS.iter().find(|wrapper| **wrapper == segment) {
                Some(wrapper) => _ = found.insert(*wrapper),
                None => kept.push(segment),
            }
        }
        renamed.push((kept.join("."), tensor.clone()));
    }
    let distinct: BTreeSet<&str> = renamed.iter().map(|(name, _)| &**name).collect();
    if found.is_empty() || distinct.len() < tensors.len() {
        return (tensors.to_vec(), vec![]);
    }
    let found: Vec<String> = found.into_iter().map(|wrapper| format!("`{wrapper}.`")).collect();
    (renamed, vec![format!("{} is taken off the names of tensors", found.join(" and "))])
}

/// Where there are towers.
fn towers(marks: &[Mark], names: &BTreeSet<&str>) -> BTreeMap<Modality, BTreeSet<Place>> {
    let mut out: BTreeMap<Modality, BTreeSet<Place>> = BTreeMap::new();
    for name in names {
        let prefix = |mark: &Mark| {
            let prefix = name.strip_suffix(mark.name)?;
            let has = |other: &str| names.contains(&*format!("{prefix}{other}"));
            let holds = (prefix.is_empty() || prefix.ends_with('.')) && mark.beside.is_none_or(has);
            holds.then(|| prefix.to_owned())
        };
        let found = marks.iter().filter_map(|mark| Some((mark, prefix(mark)?)));
        if let Some((mark, prefix)) = found.max_by_key(|(mark, _)| mark.name.len()) {
            out.entry(mark.tower).or_default().insert(Place { prefix, lacks: mark.lacks });
        }
    }
    out
}

/// The tensors at these places, under the names of a whole model.
fn taken(tensors: Vec<(String, Tensor)>, places: &[Place], mut notes: Vec<String>) -> Weights {
    let prefixes: BTreeSet<&str> = places.iter().map(|place| &*place.prefix).filter(|p| !p.is_empty()).collect();
    if !prefixes.is_empty() {
        let prefixes: Vec<String> = prefixes.into_iter().map(|prefix| format!("`{prefix}`")).collect();
        notes.push(format!("the model's names begin with {}, which is taken off", prefixes.join(" and ")));
    }
    // The longest first: one may begin as another does.
    let mut places = places.to_vec();
    places.sort_by_key(|place| std::cmp::Reverse(place.prefix.len()));
    let (mut inside, mut left_out) = (Vec::new(), Vec::new());
    let mut names = BTreeSet::new();
    for (name, tensor) in tensors {
        let place = places.iter().find_map(|place| Some((place, name.strip_prefix(&place.prefix)?)));
        let number = NUMBERS.iter().find(|number| name.ends_with(&format!(".{number}")));
        let new = match (place, number) {
            (Some((Place { lacks: "", .. }, rest)), _) => rest.to_owned(),
            // Numbers and projections are outside of towers.
            (Some((_, rest)), _) if NUMBERS.contains(&rest) || rest.contains("_projection.") => rest.to_owned(),
            (Some((place, rest)), _) => format!("{}{rest}", place.lacks),
            (None, Some(number)) => (*number).to_owned(),
            // An adapter in a file of its own has the names of the model alone.
            (None, None) if name.contains(lora::OUTSIDE) => name.clone(),
            (None, None) => {
                left_out.push(name);
                continue;
            }
        };
        if names.insert(new.clone()) { inside.push((new, tensor)) } else { left_out.push(name) }
    }
    Weights { tensors: inside, notes, left_out }
}

#[cfg(test)]
mod tests {
    use super::*;

    const IMAGE: &str = "visual.conv1.weight";
    const TEXT: &str = "token_embedding.weight";

    fn tensors(names: &[&str]) -> Vec<(String, Tensor)> {
        names.iter().map(|name| ((*name).to_owned(), Tensor::from_f32(name, &[1], &[1.0]))).collect()
    }

    fn found(names: &[&str], prefix: Option<&str>) -> (Vec<String>, Vec<String>) {
        let found = find(&tensors(names), prefix).unwrap().unwrap();
        (found.tensors.into_iter().map(|(name, _)| name).collect(), found.left_out)
    }

    #[test]
    fn what_wrappers_put_into_names_is_taken_off() {
        let plain = [IMAGE, TEXT, "logit_scale"];
        for prefix in ["", "module.", "_orig_mod.", "_orig_mod.module.", "model.", "model.clip_model.", "a.module.b."] {
            let names: Vec<String> = plain.iter().map(|name| format!("{prefix}{name}")).collect();
            let names: Vec<&str> = names.iter().map(String::as_str).collect();
            assert_eq!(found(&names, None), (plain.map(str::to_owned).to_vec(), vec![]), "{prefix}");
        }
        // On part of the names.
        let parts = [
            "_image_encoder.module.visual.conv1.weight",
            "_text_encoder.module.token_embedding.weight",
            "_logit_scale.module.logit_scale",
        ];
        assert_eq!(found(&parts, None).0, plain);
    }

    #[test]
    fn a_tower_alone_gets_the_start_it_has_in_the_model() {
        for (name, whole) in [
            ("embeddings.patch_embedding.weight", "vision_model.embeddings.patch_embedding.weight"),
            ("net.embeddings.token_embedding.weight", "text_model.embeddings.token_embedding.weight"),
            ("stem.0.conv_kxk.0.conv.weight", "visual.trunk.stem.0.conv_kxk.0.conv.weight"),
            ("patch_embed.proj.weight", "visual.trunk.patch_embed.proj.weight"),
            (IMAGE, IMAGE),
            ("text.token_embedding.weight", "text.token_embedding.weight"),
        ] {
            assert_eq!(found(&[name], None).0, [whole]);
        }
        assert!(find(&tensors(&["layer1.0.conv1.weight"]), None).unwrap().is_none());
    }

    #[test]
    fn of_several_models_one_is_taken_and_said_or_all_are_named() {
        let (student, teacher) = (format!("student.{IMAGE}"), format!("teacher.{IMAGE}"));
        let error = find(&tensors(&[&student, &teacher]), None).unwrap_err().to_string();
        assert!(error.contains("`student.`, `teacher.`"), "{error}");
        assert_eq!(found(&[&student, &teacher], Some("teacher")).0, [IMAGE]);
        let error = find(&tensors(&[&student]), Some("net.")).unwrap_err().to_string();
        assert!(error.contains("`net.`") && error.contains("`student.`"), "{error}");

        let (ema, own) = (format!("model_ema.{IMAGE}"), format!("model.{IMAGE}"));
        let weights = find(&tensors(&[&ema, &own]), None).unwrap().unwrap();
        assert_eq!((weights.tensors.len(), &weights.left_out[..]), (1, &[ema][..]));
        assert!(weights.notes.iter().any(|note| note.contains("averages")), "{:?}", weights.notes);
    }
}
