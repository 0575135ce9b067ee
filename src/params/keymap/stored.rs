//! The layouts in which sources store tensors.

use super::Error;
use crate::tensor::Tensor;

/// How a source stores what the canonical form has in PyTorch's layout.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Stored {
    /// As it is.
    Plain,
    /// Flax `Dense` kernel (in, out).
    Dense,
    /// Flax patch embedding: `Conv` kernel (h, w, in, out), or the same flattened to (h·w·in, out).
    Patch,
    /// Flax attention kernel going in, (in, heads, head_dim).
    HeadsIn,
    /// Its bias, (heads, head_dim).
    HeadsBias,
    /// Flax attention kernel coming out, (heads, head_dim, out).
    HeadsOut,
    /// One number, as `[]` or `[1]`.
    Scalar,
    /// A leading axis of length one more than the canonical form.
    Unsqueezed,
    /// Two of them.
    UnsqueezedTwice,
    /// A leading axis of length one less.
    Squeezed,
    /// Two of them.
    SqueezedTwice,
    /// A patch embedding as a matrix (out, h·w·in).
    FlatPatch,
    /// Positions (g·g, width) of a square grid (g, g, width).
    SquareGrid,
    /// The first of three equal parts along the first axis.
    FirstOfThree,
    /// The second and the third.
    LastTwoOfThree,
}

use Stored::{
    Dense, FirstOfThree, FlatPatch, HeadsBias, HeadsIn, HeadsOut, LastTwoOfThree, Patch, Plain, Scalar, SquareGrid,
    Squeezed, SqueezedTwice, Unsqueezed, UnsqueezedTwice,
};

impl Stored {
    /// The canonical form of a tensor stored in this layout, and the head count if it shows.
    pub fn read(self, tensor: &Tensor) -> Result<(Tensor, Option<usize>), Error> {
        let shape = tensor.shape();
        let wrong = |expected| {
            let source_name = tensor.source_names().join("`, `");
            Err(Error::StoredShape { source_name, found: shape.clone(), expected })
        };
        Ok(match (self, &shape[..]) {
            (Plain, _) => (tensor.clone(), None),
            (Dense, [_, _]) => (tensor.permute(&[1, 0]), None),
            (Dense, _) => return wrong("(in, out)"),
            (Patch, [_, _, _, _]) => (tensor.permute(&[3, 2, 0, 1]), None),
            (Patch, &[rows, out]) => {
                let side = (rows / 3).isqrt();
                if side * side * 3 != rows {
                    return wrong("(patch·patch·3, out)");
                }
                (tensor.reshape(&[side, side, 3, out])?.permute(&[3, 2, 0, 1]), None)
            }
            (Patch, _) => return wrong("(patch, patch, 3, out) or (patch·patch·3, out)"),
            (HeadsIn, &[d, heads, dim]) => (tensor.reshape(&[d, heads * dim])?.permute(&[1, 0]), Some(heads)),
            (HeadsIn, _) => return wrong("(in, heads, head_dim)"),
            (HeadsBias, &[heads, dim]) => (tensor.reshape(&[heads * dim])?, Some(heads)),
            (HeadsBias, _) => return wrong("(heads, head_dim)"),
            (HeadsOut, &[heads, dim, d]) => (tensor.reshape(&[heads * dim, d])?.permute(&[1, 0]), Some(heads)),
            (HeadsOut, _) => return wrong("(heads, head_dim, out)"),
            (Scalar, [] | [1]) => (tensor.reshape(&[])?, None),
            (Scalar, _) => return wrong("one number"),
            (Unsqueezed, [1, rest @ ..]) => (tensor.reshape(rest)?, None),
            (Unsqueezed, _) => return wrong("a first axis of length 1"),
            (UnsqueezedTwice, [1, 1, rest @ ..]) => (tensor.reshape(rest)?, None),
            (UnsqueezedTwice, _) => return wrong("two first axes of length 1"),
            (Squeezed, rest) => (tensor.reshape(&[&[1], rest].concat())?, None),
            (SqueezedTwice, rest) => (tensor.reshape(&[&[1, 1], rest].concat())?, None),
            (FlatPatch, &[out, columns]) => {
                let side = (columns / 3).isqrt();
                if side * side * 3 != columns {
                    return wrong("(out, patch·patch·3)");
                }
                (tensor.reshape(&[out, side, side, 3])?.permute(&[0, 3, 1, 2]), None)
            }
            (FlatPatch, _) => return wrong("(out, patch·patch·3)"),
            (SquareGrid, &[positions, width]) => {
                let side = positions.isqrt();
                if side * side != positions {
                    return wrong("(a square number of positions, width)");
                }
                (tensor.reshape(&[side, side, width])?, None)
            }
            (SquareGrid, _) => return wrong("(a square number of positions, width)"),
            (FirstOfThree | LastTwoOfThree, &[rows, ref rest @ ..]) if rows % 3 == 0 && rows > 0 => {
                let thirds = tensor.reshape(&[&[3, rows / 3], rest].concat())?;
                let part = match self {
                    FirstOfThree => thirds.index(0),
                    _ => Tensor::concat(&[thirds.index(1), thirds.index(2)])?,
                };
                (part, None)
            }
            (FirstOfThree | LastTwoOfThree, _) => return wrong("a first axis of three equal parts"),
        })
    }

    /// The stored form of a canonical tensor: [`Stored::read`] backwards, for the layouts whose
    /// stored shape follows from the canonical one.
    pub fn write(self, tensor: &Tensor) -> Result<Option<Tensor>, Error> {
        let shape = tensor.shape();
        Ok(match (self, &shape[..]) {
            (Plain | Scalar, _) => Some(tensor.clone()),
            (Dense, [_, _]) => Some(tensor.permute(&[1, 0])),
            (Squeezed, [1, rest @ ..]) | (SqueezedTwice, [1, 1, rest @ ..]) => Some(tensor.reshape(rest)?),
            _ => None,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn counted(shape: &[usize]) -> Tensor {
        let values: Vec<f32> = (0..shape.iter().product()).map(|i| i as f32).collect();
        Tensor::from_f32("k", shape, &values)
    }

    #[test]
    fn patch_kernels_agree_in_both_forms() {
        let hwio = counted(&[2, 2, 3, 5]);
        let flat = hwio.reshape(&[12, 5]).unwrap();
        let (a, b) = (Patch.read(&hwio).unwrap().0, Patch.read(&flat).unwrap().0);
        assert_eq!(a.shape(), [5, 3, 2, 2]);
        assert_eq!(a.to_f32().unwrap(), b.to_f32().unwrap());
        assert!(Patch.read(&counted(&[11, 1])).is_err());
    }

    #[test]
    fn what_is_written_reads_as_it_was() {
        for (stored, canonical, shape) in [
            (Plain, &[2, 3][..], &[2, 3][..]),
            (Scalar, &[], &[]),
            (Dense, &[2, 3], &[3, 2]),
            (Squeezed, &[1, 4, 3], &[4, 3]),
            (SqueezedTwice, &[1, 1, 3], &[3]),
        ] {
            let canonical = counted(canonical);
            let written = stored.write(&canonical).unwrap().unwrap();
            assert_eq!(written.shape(), shape, "{stored:?}");
            let (back, _) = stored.read(&written).unwrap();
            assert_eq!(back.shape(), canonical.shape(), "{stored:?}");
            assert_eq!(back.to_f32().unwrap(), canonical.to_f32().unwrap(), "{stored:?}");
        }
        // Head counts do not show in the canonical form.
        assert!(HeadsIn.write(&counted(&[6, 4])).unwrap().is_none());
    }

    #[test]
    fn thirds_are_the_query_and_the_rest() {
        let joined = counted(&[6, 2]);
        let (query, rest) = (FirstOfThree.read(&joined).unwrap().0, LastTwoOfThree.read(&joined).unwrap().0);
        assert_eq!(query.to_f32().unwrap(), [0.0, 1.0, 2.0, 3.0]);
        assert_eq!(rest.to_f32().unwrap(), (4..12).map(|i| i as f32).collect::<Vec<_>>());
        assert_eq!((query.shape(), rest.shape()), (vec![2, 2], vec![4, 2]));
    }

    #[test]
    fn a_wrong_shape_is_named_with_the_expected_one() {
        for (stored, shape, expected) in [
            (Dense, &[3][..], "(in, out)"),
            (HeadsIn, &[3, 4], "(in, heads, head_dim)"),
            (HeadsOut, &[3, 4], "(heads, head_dim, out)"),
            (Scalar, &[2], "one number"),
            (Unsqueezed, &[2, 3], "a first axis of length 1"),
            (FlatPatch, &[2, 11], "(out, patch·patch·3)"),
            (SquareGrid, &[3, 2], "(a square number of positions, width)"),
            (FirstOfThree, &[4, 2], "a first axis of three equal parts"),
        ] {
            let error = stored.read(&counted(shape)).unwrap_err().to_string();
            assert_eq!(error, format!("tensor `k` has shape {shape:?}, expected {expected}"));
        }
    }
}
