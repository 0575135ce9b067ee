//! A bound for text that is built to be repaired without end.
//!
//! A repair may make another one possible, as each `amp;` of `&amp;amp;amp;` does.
//! Without a bound, a text of nothing else would take time that grows with the square of its length.

/// How much work the repair of a text may take.
pub struct Effort(usize);

impl Effort {
    /// How often all of a text may be read. Text that people write is read less than twenty times.
    const READS: usize = 64;

    /// The work that a text may take.
    pub fn of(text: &str) -> Self {
        Self(text.len().saturating_mul(Self::READS))
    }

    /// Whether a text may be read once more.
    pub fn spend(&mut self, text: &str) -> bool {
        let left = self.0.checked_sub(text.len());
        self.0 = left.unwrap_or_default();
        left.is_some()
    }
}
