//! Many images and texts at once: each embedded once, in order, and into a file that an interrupted run goes on with.

use std::collections::HashSet;
use std::hash::Hash;
use std::path::{Path, PathBuf};

use super::store::{self, Entry, Store};
use super::{Embedder, Error};
use crate::modality::Modality;
use crate::output::{Leftover, remove_leftovers};
use crate::precision::Precision;

/// What to embed: images by path, and texts. What is named twice is embedded once.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Items {
    images: Vec<PathBuf>,
    texts: Vec<String>,
}

/// What happens while items are embedded.
#[derive(Debug)]
#[non_exhaustive]
pub enum Event<'a> {
    /// An earlier run was interrupted, and has embedded so many of the items.
    Resumed {
        /// Number of items that are embedded already.
        done: usize,
        /// Number of all items.
        of: usize,
    },
    /// An interrupted run had left something beside the file of embeddings.
    Leftover(&'a Leftover),
    /// So many images, or texts, come next.
    Started {
        /// Whether images or texts come next.
        modality: Modality,
        /// Number of images, or of texts.
        count: usize,
    },
    /// One of them is embedded.
    Embedded,
    /// One of them cannot be embedded, and is left out.
    Skipped(&'a Error),
}

/// What came of it.
#[derive(Clone, Debug, Default)]
pub struct Embedded {
    /// Images, then texts, in order; empty where they went into a file.
    pub entries: Vec<Entry>,
    /// How many items have an embedding, by this run or an earlier one.
    pub count: usize,
    /// How many are left out, as there was something wrong with them.
    pub skipped: usize,
    /// Images that are to be shown turned, as their files say, and were not.
    pub turned: usize,
    /// Texts that were longer than the context, and lost their ends.
    pub cut: usize,
}

impl Items {
    /// Images by path and texts, each once, in the order given.
    pub fn new(images: impl IntoIterator<Item = PathBuf>, texts: impl IntoIterator<Item = String>) -> Items {
        Items { images: distinct(images), texts: distinct(texts) }
    }

    /// How many there are, each counted once.
    pub fn len(&self) -> usize {
        self.images.len() + self.texts.len()
    }

    /// Whether there are neither images nor texts.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// In the order in which they are written.
    fn keys(&self) -> Vec<(Modality, String)> {
        let images = self.images.iter().map(|path| (Modality::Image, path.display().to_string()));
        images.chain(self.texts.iter().map(|text| (Modality::Text, text.clone()))).collect()
    }
}

/// Without what was there before, in the same order.
fn distinct<T: Clone + Eq + Hash>(all: impl IntoIterator<Item = T>) -> Vec<T> {
    let mut seen = HashSet::new();
    all.into_iter().filter(|one| seen.insert(one.clone())).collect()
}

/// Where embeddings go.
enum Sink {
    Memory(Vec<Entry>),
    File(Box<Store>),
}

impl Sink {
    fn has(&self, modality: Modality, name: &str) -> bool {
        match self {
            Sink::Memory(_) => false,
            Sink::File(store) => store.found(modality, name).is_some(),
        }
    }

    fn add(&mut self, entry: Entry) -> Result<(), Error> {
        match self {
            Sink::Memory(entries) => entries.push(entry),
            Sink::File(store) => store.add(entry)?,
        }
        Ok(())
    }
}

/// Length and time of change of a file.
fn stamp(path: &Path) -> String {
    store::stamp(path).map_or_else(|| "-".to_owned(), |(length, modified)| format!("{length}@{modified}"))
}

impl Embedder {
    /// Embeds items. `watch` is called with what happens.
    ///
    /// # Errors
    /// When a tower cannot be loaded or run, or no item could be embedded.
    pub fn embed(&self, items: &Items, watch: &mut dyn FnMut(Event)) -> Result<Embedded, Error> {
        let (sink, embedded) = self.fill(items, Sink::Memory(vec![]), watch)?;
        let entries = if let Sink::Memory(entries) = sink { entries } else { vec![] };
        Ok(Embedded { entries, ..embedded })
    }

    /// Embeds items into a file: `.npy` (of one modality), `.json` or `.safetensors`. What is done is kept in
    /// `target.partial` until the end; a later call with the same folder and options goes on from there.
    ///
    /// # Errors
    /// As [`Embedder::embed`]; [`Error::Store`] when the file is there and not to be overwritten, or cannot be written.
    pub fn embed_into(
        &self,
        target: &Path,
        overwrite: bool,
        items: &Items,
        watch: &mut dyn FnMut(Event),
    ) -> Result<Embedded, Error> {
        let both = !items.images.is_empty() && !items.texts.is_empty();
        let folder = target.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."));
        remove_leftovers(folder).iter().for_each(|leftover| watch(Event::Leftover(leftover)));
        let store = Store::open(target, &self.made_with(), self.options.batch, both, overwrite)?;
        let (sink, embedded) = self.fill(items, Sink::File(Box::new(store)), watch)?;
        if let Sink::File(store) = sink {
            store.finish(&items.keys())?;
        }
        Ok(embedded)
    }

    /// What embeddings depend on, besides the items: folder, files, precision, tokenizer, engine and batch. A partial file
    /// begins with it, and only what was made with the same is gone on with.
    #[must_use]
    pub fn made_with(&self) -> String {
        let tokenizer = self.options.tokenizer.as_deref();
        // A sum in the manifest is of the file that was exported, not of one put in its place.
        let stamps: Vec<String> = self.folder.files.iter().map(PathBuf::as_path).chain(tokenizer).map(stamp).collect();
        format!(
            "{} {} {} {} batch {}{} {}",
            self.folder.sha256,
            self.options.precision.map_or("", Precision::name),
            tokenizer.map_or_else(String::new, |path| path.display().to_string()),
            self.options.engine.name(),
            self.options.batch,
            if self.options.orient { " oriented" } else { "" },
            stamps.join(" ")
        )
    }

    /// Embeds what the sink does not have yet.
    fn fill(&self, items: &Items, mut sink: Sink, watch: &mut dyn FnMut(Event)) -> Result<(Sink, Embedded), Error> {
        let left = Items {
            images: items
                .images
                .iter()
                .filter(|p| !sink.has(Modality::Image, &p.display().to_string()))
                .cloned()
                .collect(),
            texts: items.texts.iter().filter(|text| !sink.has(Modality::Text, text)).cloned().collect(),
        };
        if left.len() < items.len() {
            watch(Event::Resumed { done: items.len() - left.len(), of: items.len() });
        }
        let mut embedded = Embedded::default();
        let mut take = |modality, name: String, found: Result<Vec<f32>, Error>, watch: &mut dyn FnMut(Event)| {
            match found {
                Ok(embedding) => {
                    sink.add(Entry::new(modality, name, embedding))?;
                    watch(Event::Embedded);
                }
                Err(error) => {
                    embedded.skipped += 1;
                    watch(Event::Skipped(&error));
                }
            }
            Ok(())
        };
        let (mut turned, mut cut) = (0, 0);
        if !left.images.is_empty() {
            watch(Event::Started { modality: Modality::Image, count: left.images.len() });
            turned = self
                .images(&left.images, |path, found| take(Modality::Image, path.display().to_string(), found, watch))?;
        }
        if !left.texts.is_empty() {
            watch(Event::Started { modality: Modality::Text, count: left.texts.len() });
            cut = self.texts(&left.texts, |text, found| take(Modality::Text, text.to_owned(), found, watch))?;
        }
        if embedded.skipped == items.len() {
            return Err(Error::NoneEmbedded { count: items.len() });
        }
        let count = items.len() - embedded.skipped;
        Ok((sink, Embedded { count, turned, cut, ..embedded }))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_named_twice_is_embedded_once() {
        let texts = ["b", "a", "b"].map(str::to_owned);
        let items = Items::new([PathBuf::from("a"), PathBuf::from("a")], texts);
        assert_eq!((items.len(), items.is_empty()), (3, false));
        let keys = items.keys();
        let keys: Vec<(Modality, &str)> = keys.iter().map(|(modality, name)| (*modality, name.as_str())).collect();
        assert_eq!(keys, [(Modality::Image, "a"), (Modality::Text, "b"), (Modality::Text, "a")]);
    }
}
