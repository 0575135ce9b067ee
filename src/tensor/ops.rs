//! Layout steps. Each rewrites the description; none touches the values,
//! save a reshape that no strided view can express.

use std::ops::Range;

use super::{Error, Factor, Tensor};

impl Tensor {
    /// Axes in another order: axis `i` of the result is axis `order[i]` of this one.
    pub fn permute(&self, order: &[usize]) -> Tensor {
        let rank = self.parts[0].axes.len();
        let mut seen = order.to_vec();
        seen.sort_unstable();
        assert_eq!(seen, (0..rank).collect::<Vec<_>>(), "permute takes every axis once");
        let mut out = self.clone();
        for part in &mut out.parts {
            part.axes = order.iter().map(|&axis| part.axes[axis].clone()).collect();
        }
        out.axis = order.iter().position(|&axis| axis == self.axis).unwrap_or(0);
        out
    }

    /// The same elements, in row-major order, under another shape.
    ///
    /// # Errors
    /// [`Error::Reshape`] when the element counts differ.
    pub fn reshape(&self, shape: &[usize]) -> Result<Tensor, Error> {
        if shape.iter().product::<usize>() != self.len() {
            return Err(Error::Reshape {
                source_name: self.source_names().join("`, `"),
                found: self.shape(),
                expected: shape.to_vec(),
            });
        }
        if let [view] = &self.parts[..]
            && let Some(axes) = regroup(&view.axes, shape)
        {
            let mut out = self.clone();
            out.parts[0].axes = axes;
            out.axis = 0;
            return Ok(out);
        }
        Ok(Tensor::from_f32(&self.source_names().join("`, `"), shape, &self.to_f32()?))
    }

    /// Entry `index` of the first axis, which disappears.
    pub fn index(&self, index: usize) -> Tensor {
        assert!(index < self.shape()[0], "index {index} of a first axis of {}", self.shape()[0]);
        let mut rest = index;
        let joined_here = self.axis == 0 && self.parts.len() > 1;
        let mut parts = Vec::new();
        for part in &self.parts {
            let here: usize = part.axes[0].iter().map(|f| f.len).product();
            if joined_here && rest >= here {
                rest -= here;
                continue;
            }
            let mut part = part.clone();
            let mut position = rest;
            for factor in part.axes.remove(0).iter().rev() {
                part.offset += (position % factor.len) * factor.step;
                position /= factor.len;
            }
            parts.push(part);
            if joined_here {
                break;
            }
        }
        Tensor { parts, axis: self.axis.saturating_sub(1) }
    }

    /// Entries `rows` of the first axis.
    ///
    /// # Errors
    /// What reading the tensor reports, where no view can express the range.
    pub fn rows(&self, rows: Range<usize>) -> Result<Tensor, Error> {
        let shape = self.shape();
        assert!(rows.start <= rows.end && rows.end <= shape[0], "rows {rows:?} of {shape:?}");
        let joined_here = self.axis == 0 && self.parts.len() > 1;
        let mut parts = Vec::new();
        let mut offset = 0;
        for part in &self.parts {
            let here = part.shape()[0];
            let range = rows.start.max(offset)..rows.end.min(offset + here);
            if joined_here && range.is_empty() {
                offset += here;
                continue;
            }
            let Some(cut) = cut(&part.axes[0], range.start - offset..range.end - offset) else {
                let row_len: usize = shape[1..].iter().product();
                let values = &self.to_f32()?[rows.start * row_len..rows.end * row_len];
                let shape = [&[rows.len()], &shape[1..]].concat();
                return Ok(Tensor::from_f32(&self.source_names().join("`, `"), &shape, values));
            };
            let mut part = part.clone();
            part.offset += cut.0;
            part.axes[0] = cut.1;
            parts.push(part);
            if joined_here {
                offset += here;
            }
        }
        Ok(Tensor { parts, axis: self.axis })
    }

    /// Every value times `factor`, when it is read: in float64, rounded once.
    pub fn scaled(&self, factor: f64) -> Tensor {
        let mut out = self.clone();
        out.parts.iter_mut().for_each(|part| part.scale *= factor);
        out
    }

    /// Tensors joined along the first axis.
    ///
    /// # Errors
    /// [`Error::Join`] when the other axes differ.
    pub fn concat(tensors: &[Tensor]) -> Result<Tensor, Error> {
        let mut parts = Vec::new();
        let first = tensors[0].shape();
        for tensor in tensors {
            let shape = tensor.shape();
            if shape.is_empty() || shape.len() != first.len() || shape[1..] != first[1..] {
                return Err(Error::Join {
                    source_name: tensor.source_names().join("`, `"),
                    found: shape,
                    expected: first,
                });
            }
            if tensor.parts.len() > 1 && tensor.axis != 0 {
                let whole = Tensor::from_f32(&tensor.source_names().join("`, `"), &shape, &tensor.to_f32()?);
                parts.extend(whole.parts);
            } else {
                parts.extend(tensor.parts.iter().cloned());
            }
        }
        Ok(Tensor { parts, axis: 0 })
    }

    /// Element-wise sum in float32, computed now; for the few small tensors a dialect adds up.
    ///
    /// # Errors
    /// [`Error::Join`] when the shapes differ, or what reading either tensor reports.
    pub fn sum(&self, other: &Tensor) -> Result<Tensor, Error> {
        let name = [self.source_names(), other.source_names()].concat().join("`, `");
        if self.shape() != other.shape() {
            return Err(Error::Join { source_name: name, found: other.shape(), expected: self.shape() });
        }
        let values: Vec<f32> = self.to_f32()?.iter().zip(other.to_f32()?).map(|(a, b)| a + b).collect();
        Ok(Tensor::from_f32(&name, &self.shape(), &values))
    }
}

/// Entries `range` of an axis: where they begin, and their factors. None when they are no even part
/// of its outermost factor.
fn cut(axis: &[Factor], range: Range<usize>) -> Option<(usize, Vec<Factor>)> {
    let [outer, inner @ ..] = axis else { return Some((0, vec![])).filter(|_| range.len() == 1) };
    let unit: usize = inner.iter().map(|f| f.len).product();
    if !range.start.is_multiple_of(unit) || !range.end.is_multiple_of(unit) {
        return None;
    }
    let first = Factor { len: range.len() / unit, step: outer.step };
    Some((range.start / unit * outer.step, [&[first], inner].concat()))
}

/// Cuts the row-major sequence of factors into axes of the lengths in `shape`.
/// None when a new axis would need part of a factor that does not divide.
fn regroup(axes: &[Vec<Factor>], shape: &[usize]) -> Option<Vec<Vec<Factor>>> {
    if shape.contains(&0) {
        return None;
    }
    let mut rest: Vec<Factor> = axes.iter().flatten().copied().filter(|f| f.len != 1).rev().collect();
    let mut out = Vec::with_capacity(shape.len());
    for &len in shape {
        let mut need = len;
        let mut axis = Vec::new();
        while need > 1 {
            let factor = rest.pop()?;
            if need % factor.len == 0 {
                need /= factor.len;
                axis.push(factor);
            } else if factor.len % need == 0 {
                let inner = factor.len / need;
                axis.push(Factor { len: need, step: factor.step * inner });
                rest.push(Factor { len: inner, step: factor.step });
                need = 1;
            } else {
                return None;
            }
        }
        out.push(even(axis));
    }
    Some(out)
}

/// Neighbouring factors that are evenly spaced are one factor.
fn even(axis: Vec<Factor>) -> Vec<Factor> {
    let mut out: Vec<Factor> = Vec::with_capacity(axis.len());
    for next in axis {
        match out.last_mut() {
            Some(last) if last.step == next.step * next.len => {
                *last = Factor { len: last.len * next.len, step: next.step };
            }
            _ => out.push(next),
        }
    }
    out
}
