//! What a layout decides of an export, and what does not go together.

use super::Error;
use super::export::{Export, Extra, Form};
use crate::config::{ModelConfig, VisionCfg};
use crate::layout::Layout;
use crate::layout::open_clip;
use crate::ports::{PixelFormat, Ports};
use crate::towers;

impl Export {
    /// With the names and types that the layout has for a model of this family.
    pub(super) fn laid_out(&self, config: &ModelConfig) -> Result<Export, Error> {
        let refused = |what: String, way_out: &str| {
            let path = self.checkpoint.display().to_string();
            Err(Error::Unsupported { path, what, way_out: way_out.to_owned() })
        };
        let (layout, model) = (self.layout.name(), &config.model);
        let mut request = self.clone();
        let build = &mut request.build;
        build.ports = self.layout.ports(config.family);
        build.batch = build.rows();
        // What the user can leave out to have axes free.
        let fixed = match self.build.batch {
            Some(_) => "--static".to_owned(),
            None => format!("--target {}", build.target.profile.name),
        };
        // Others' runtimes feed their own type, whatever the target.
        let of_target = matches!(self.layout, Layout::Plain | Layout::OpenClip) && build.target.profile.int32_tokens;
        build.ports.int32 = self.int32_tokens.unwrap_or(build.ports.int32 || of_target);
        build.normalize = self.layout.normalizes().unwrap_or(build.normalize);
        if self.layout == Layout::OpenClip
            && let Err(what) = open_clip::hub_config(config)
        {
            return refused(what, "take another --layout");
        }
        if self.form != Form::Towers {
            let takes = match self.form {
                Form::Combined => matches!(self.layout, Layout::Plain | Layout::Hf | Layout::OpenClip),
                Form::Classifier(_) | Form::Towers => self.layout == Layout::Plain,
            };
            if !takes {
                let what = format!("{layout} has no place for a {} model", self.form.name());
                return refused(what, &format!("take another --layout, or leave out {}", self.form.flag()));
            }
            if matches!(self.form, Form::Classifier(_)) && (self.int32_tokens.is_some() || self.build.dynamic_text) {
                return refused(
                    "a classifier takes no tokens, its labels are inside".to_owned(),
                    "leave out --tokens and --dynamic-text",
                );
            }
            if self.form == Form::Combined && self.measures() {
                return refused(
                    "what both towers are in cannot be measured as one".to_owned(),
                    "leave out --combined, or --calibrate and --max-drop",
                );
            }
            build.normalize = true;
            let Ports { image_embeds, text_embeds, .. } = Ports::PLAIN;
            build.ports = Ports { image_embeds, text_embeds, hidden: false, ..build.ports };
        }
        if self.demo && self.form != Form::Towers {
            let what = format!("the page takes two towers, and a {} model is one file", self.form.name());
            return refused(what, &format!("leave out --demo, or {}", self.form.flag()));
        }
        if self.extra != Extra::default() {
            if self.form != Form::Towers || !matches!(self.layout, Layout::Plain | Layout::Hf | Layout::OpenClip) {
                let what = match self.form {
                    Form::Towers => format!("the layout {layout} says which outputs there are"),
                    _ => format!("a {} model has outputs of its own", self.form.name()),
                };
                return refused(what, "leave out --outputs");
            }
            build.ports.hidden |= self.extra.hidden;
            build.ports.patches = self.extra.patches;
        }
        // Its runtimes pad CLIP's texts to the longest of a batch.
        build.dynamic_text |= self.layout == Layout::Hf && build.batch.is_none();
        if let Some(pixels) = self.pixels.filter(|pixels| *pixels != build.ports.pixels) {
            if self.layout != Layout::Plain {
                let takes = build.ports.pixels.name();
                return refused(
                    format!("{layout} feeds {takes} images, of one size"),
                    "leave out --image and --resize, or take another --layout",
                );
            }
            build.ports.pixels = pixels;
        }
        if let (PixelFormat::Bytes { alpha, resize, .. }, Some(_)) = (&mut build.ports.pixels, build.batch) {
            // Every axis is fixed then.
            *alpha = false;
            if *resize {
                return refused(
                    format!("{fixed} fixes every axis, and --resize leaves height and width free"),
                    "leave out one of them",
                );
            }
        }
        if let Some(what) = self.layout.lacks(config) {
            return refused(format!("{layout} does not know {what}, which {model} needs"), "take another --layout");
        }
        if build.ports.pixels.resizes()
            && let Some(what) = towers::cannot_resize(config)
        {
            return refused(what, "leave out --resize");
        }
        if build.ports.pixels.resizes() && !build.target.can_resize() {
            return refused(
                format!("opset {} has no resizing that averages", build.target.opset),
                "take --opset 18 or a later one",
            );
        }
        if matches!(config.vision_cfg, VisionCfg::NaflexVit(_)) {
            let frozen = "freeze it with --image-size";
            if self.layout != Layout::Plain {
                let what = format!("{model} takes patches, mask and places, which {layout} does not make");
                return refused(what, &format!("{frozen}, or take another --layout"));
            }
            if build.batch.is_some() {
                let what = format!("{model} takes any number of patches, whatever the batch");
                let other = if self.build.batch.is_some() { "leave out --static" } else { "take another --target" };
                return refused(what, &format!("{frozen}, or {other}"));
            }
            if self.demo {
                return refused(
                    format!("{model} takes patches, which the page does not make"),
                    &format!("{frozen}, or leave out --demo"),
                );
            }
            if build.ports.pixels != PixelFormat::Float {
                let what = format!("{model} takes patches, no pictures");
                return refused(what, &format!("{frozen}, or leave out --image and --resize"));
            }
        }
        Ok(request)
    }
}
