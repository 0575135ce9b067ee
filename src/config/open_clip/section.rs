//! Fields of a section, with their path for error messages.

use serde_json::Value;

use crate::config::Act;
use crate::config::check::Problem;

/// A section, with its path for error messages.
#[derive(Clone, Copy)]
pub struct Section<'a> {
    pub at: &'static str,
    pub fields: &'a Value,
}

pub fn problem(field: String, found: impl ToString, expected: impl Into<String>) -> Problem {
    Problem { field, found: found.to_string(), expected: expected.into() }
}

impl Section<'_> {
    pub fn get(&self, name: &str) -> Option<&Value> {
        self.fields.get(name).filter(|value| !value.is_null())
    }

    pub fn wrong(&self, name: &str, expected: &str) -> Problem {
        problem(format!("{}{name}", self.at), self.fields.get(name).unwrap_or(&Value::Null), expected)
    }

    pub fn size(&self, name: &str, default: usize) -> Result<usize, Problem> {
        self.get(name).map_or(Ok(default), |value| {
            let size = value.as_u64().and_then(|n| usize::try_from(n).ok());
            size.ok_or_else(|| self.wrong(name, "an integer"))
        })
    }

    pub fn id(&self, name: &str, default: i64) -> Result<i64, Problem> {
        self.get(name).map_or(Ok(default), |value| value.as_i64().ok_or_else(|| self.wrong(name, "an id")))
    }

    pub fn flag(&self, name: &str, default: bool) -> Result<bool, Problem> {
        self.get(name).map_or(Ok(default), |value| value.as_bool().ok_or_else(|| self.wrong(name, "true or false")))
    }

    pub fn text(&self, name: &str, default: &'static str) -> Result<&str, Problem> {
        self.get(name).map_or(Ok(default), |value| value.as_str().ok_or_else(|| self.wrong(name, "a text")))
    }

    /// Width of an MLP.
    pub fn mlp_dim(&self, width: usize) -> Result<usize, Problem> {
        let ratio = self.get("mlp_ratio").map_or(Some(4.0), Value::as_f64);
        let ratio = ratio.filter(|ratio| (0.01..=64.0).contains(ratio));
        ratio.map(|ratio| (width as f64 * ratio) as usize).ok_or_else(|| self.wrong("mlp_ratio", "0.01 to 64"))
    }

    /// Refuses fields that are not at their default, as no tower implements them.
    pub fn refuse(&self, names: &[&str]) -> Result<(), Problem> {
        let idle = |value: &Value| value.as_bool() == Some(false);
        match names.iter().find(|name| self.get(name).is_some_and(|value| !idle(value))) {
            Some(name) => Err(self.wrong(name, "absent: it is not followed")),
            None => Ok(()),
        }
    }

    /// Refuses every field that is not among these.
    pub fn only(&self, known: &[&[&str]]) -> Result<(), Problem> {
        let fields = self.fields.as_object().into_iter().flatten();
        let mut unknown =
            fields.filter(|(name, value)| !value.is_null() && !known.iter().any(|k| k.contains(&name.as_str())));
        unknown.next().map_or(Ok(()), |(name, _)| Err(self.wrong(name, "no such field: it is not followed")))
    }

    /// `act_kwargs` and `quick_gelu`.
    pub fn act(&self, quick: bool) -> Result<Act, Problem> {
        if quick {
            return Ok(Act::QuickGelu);
        }
        match self.get("act_kwargs") {
            None => Ok(Act::Gelu),
            Some(Value::Object(fields)) => match fields.iter().collect::<Vec<_>>()[..] {
                [] => Ok(Act::Gelu),
                [(name, value)] if name == "approximate" => match value.as_str() {
                    Some("tanh") => Ok(Act::GeluTanh),
                    Some("none") => Ok(Act::Gelu),
                    _ => Err(self.wrong("act_kwargs", "{\"approximate\": \"tanh\"}")),
                },
                _ => Err(self.wrong("act_kwargs", "{\"approximate\": \"tanh\"}")),
            },
            Some(_) => Err(self.wrong("act_kwargs", "{\"approximate\": \"tanh\"}")),
        }
    }

    /// `norm_kwargs`.
    pub fn eps(&self) -> Result<f32, Problem> {
        let wrong = || self.wrong("norm_kwargs", "{\"eps\": a number}");
        match self.get("norm_kwargs") {
            None => Ok(1e-5),
            Some(Value::Object(fields)) => match fields.iter().collect::<Vec<_>>()[..] {
                [] => Ok(1e-5),
                [(name, value)] if name == "eps" => value.as_f64().map(|eps| eps as f32).ok_or_else(wrong),
                _ => Err(wrong()),
            },
            Some(_) => Err(wrong()),
        }
    }
}
