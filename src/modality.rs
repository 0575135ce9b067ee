//! Images or texts: the two sides of a CLIP model.

use std::fmt;

use serde::{Deserialize, Serialize};

/// What a tower embeds.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Modality {
    Image,
    Text,
}

impl Modality {
    /// Both, images first.
    pub const ALL: [Modality; 2] = [Modality::Image, Modality::Text];

    /// The other side.
    #[must_use]
    pub fn other(self) -> Modality {
        match self {
            Modality::Image => Modality::Text,
            Modality::Text => Modality::Image,
        }
    }

    /// What reports and manifests call it.
    pub fn name(self) -> &'static str {
        match self {
            Modality::Image => "image",
            Modality::Text => "text",
        }
    }
}

impl fmt::Display for Modality {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// One value for each modality.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct PerModality<T> {
    pub image: T,
    pub text: T,
}

impl<T> PerModality<T> {
    /// The value of one modality.
    pub fn get(&self, modality: Modality) -> &T {
        match modality {
            Modality::Image => &self.image,
            Modality::Text => &self.text,
        }
    }

    /// The value of one modality, to change it.
    pub fn get_mut(&mut self, modality: Modality) -> &mut T {
        match modality {
            Modality::Image => &mut self.image,
            Modality::Text => &mut self.text,
        }
    }
}
