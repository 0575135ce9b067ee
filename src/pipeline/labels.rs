//! Labels of a zero-shot classifier, and the sentences around them.

use super::Error;

/// A sentence around a label, with `{}` in its place.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Template(String);

impl Template {
    /// The template where none is named.
    pub const DEFAULT: &str = "a photo of a {}";

    /// # Errors
    /// [`Error::Template`] when there is no `{}`: every label would have the same embedding.
    pub fn new(text: impl Into<String>) -> Result<Template, Error> {
        let text = text.into();
        if text.contains("{}") { Ok(Template(text)) } else { Err(Error::Template { text }) }
    }

    /// With `{}`.
    pub fn text(&self) -> &str {
        &self.0
    }

    /// The sentence of a label.
    pub fn filled(&self, label: &str) -> String {
        self.0.replace("{}", label)
    }
}

/// Labels of a zero-shot classifier and the sentences around them: one of each at least.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ZeroShot {
    labels: Vec<String>,
    templates: Vec<Template>,
}

impl ZeroShot {
    /// Of several templates the mean of the embeddings is taken (Radford et al. 2021, §3.1.4).
    ///
    /// # Errors
    /// [`Error::NoLabels`], or [`Error::NoTemplates`].
    pub fn new(
        labels: impl IntoIterator<Item = impl Into<String>>,
        templates: impl IntoIterator<Item = Template>,
    ) -> Result<ZeroShot, Error> {
        let labels: Vec<String> = labels.into_iter().map(Into::into).collect();
        let templates: Vec<Template> = templates.into_iter().collect();
        match (labels.is_empty(), templates.is_empty()) {
            (true, _) => Err(Error::NoLabels),
            (_, true) => Err(Error::NoTemplates),
            _ => Ok(ZeroShot { labels, templates }),
        }
    }

    /// In order.
    pub fn labels(&self) -> &[String] {
        &self.labels
    }

    /// Around every label.
    pub fn templates(&self) -> &[Template] {
        &self.templates
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn templates_have_a_place_for_the_label() {
        let template = Template::new("a {} in the rain, {}").unwrap();
        assert_eq!(template.filled("cat"), "a cat in the rain, cat");
        assert!(matches!(Template::new("a photo"), Err(Error::Template { .. })));
    }

    #[test]
    fn there_is_a_label_and_a_template() {
        let template = Template::new(Template::DEFAULT).unwrap();
        assert!(matches!(ZeroShot::new([] as [&str; 0], [template.clone()]), Err(Error::NoLabels)));
        assert!(matches!(ZeroShot::new(["cat"], []), Err(Error::NoTemplates)));
        assert!(ZeroShot::new(["cat"], [template]).is_ok());
    }
}
