//! Reading: strided source bytes into row-major float32, a block at a time.

use std::ops::Range;

use bytes::Bytes;
use half::f16;
use half::slice::HalfFloatSliceExt;

use super::{DType, Error, Storage, Tensor, View};

/// Elements per block handed out by [`Tensor::for_each_block`]: 1 MiB of float32,
/// small enough to stay in cache between being laid out and being written.
const BLOCK: usize = 1 << 18;

/// One loop of a strided copy, outermost first.
#[derive(Clone, Copy)]
struct Loop {
    len: usize,
    from: usize,
    to: usize,
}

impl Tensor {
    /// All values, row-major.
    ///
    /// # Errors
    /// As [`Tensor::for_each_block`].
    pub fn to_f32(&self) -> Result<Vec<f32>, Error> {
        let mut out = Vec::with_capacity(self.len());
        self.for_each_block(&mut Vec::new(), |block| {
            out.extend_from_slice(block);
            Ok(())
        })?;
        Ok(out)
    }

    /// Calls `each` with consecutive runs of the row-major values, laid out in `buffer`.
    ///
    /// # Errors
    /// [`Error::NotFloat`], [`Error::NotFinite`], [`Error::Storage`], or what `each` returns.
    pub fn for_each_block<E: From<Error>>(
        &self,
        buffer: &mut Vec<f32>,
        mut each: impl FnMut(&[f32]) -> Result<(), E>,
    ) -> Result<(), E> {
        let shape = self.shape();
        if shape.contains(&0) {
            return Ok(());
        }
        let parts = self.parts.iter().map(Reader::open).collect::<Result<Vec<_>, _>>()?;
        // Rows are entries of the first axis that is longer than one.
        let row_axis = shape.iter().position(|&n| n > 1).unwrap_or(0);
        let rows = shape.get(row_axis).copied().unwrap_or(1);
        let row_len: usize = shape.iter().skip(row_axis + 1).product();
        let step = (BLOCK / row_len.max(1)).clamp(1, rows);
        let mut start = 0;
        while start < rows {
            let end = (start + step).min(rows);
            buffer.resize((end - start) * row_len, 0.0);
            let mut offset = 0;
            for reader in &parts {
                let len = reader.view.shape().get(self.axis).copied().unwrap_or(1);
                if self.parts.len() > 1 && self.axis <= row_axis {
                    // Joined along the rows: this part has rows offset..offset + len.
                    let (from, to) = (start.max(offset), end.min(offset + len));
                    if from < to {
                        let out = &mut buffer[(from - start) * row_len..(to - start) * row_len];
                        reader.copy_rows(&shape, row_axis, from - offset..to - offset, out);
                    }
                    offset += len;
                } else {
                    reader.copy_rows(&shape, row_axis, start..end, &mut buffer[offset..]);
                    offset += len * shape.iter().skip(self.axis + 1).product::<usize>();
                }
            }
            self.check_finite(buffer, start * row_len)?;
            each(buffer)?;
            start = end;
        }
        Ok(())
    }

    fn check_finite(&self, block: &[f32], start: usize) -> Result<(), Error> {
        // An exponent of all ones carries into the sign when one is added to it.
        let carried = block.iter().fold(0u32, |m, v| m | ((v.to_bits() & 0x7fff_ffff) + 0x0080_0000));
        if carried >> 31 == 0 {
            return Ok(());
        }
        let at = block.iter().position(|v| !v.is_finite()).unwrap_or(0);
        Err(Error::NotFinite { source_name: self.source_names().join("`, `"), value: block[at], index: start + at })
    }
}

/// A view with its bytes at hand.
struct Reader<'a> {
    view: &'a View,
    bytes: Bytes,
}

impl Reader<'_> {
    fn open(view: &View) -> Result<Reader<'_>, Error> {
        if !view.dtype.is_weight() {
            return Err(Error::NotFloat { source_name: view.source_name.to_string(), found: view.dtype });
        }
        let bytes = match &view.storage {
            Storage::Ready(bytes) => bytes.clone(),
            Storage::Deferred(deferred) => deferred
                .bytes()
                .map_err(|reason| Error::Storage { source_name: view.source_name.to_string(), reason })?,
        };
        Ok(Reader { view, bytes })
    }

    /// Copies rows `rows` of the view into `out`, which is laid out as rows of a tensor of `shape`.
    fn copy_rows(&self, shape: &[usize], row_axis: usize, rows: Range<usize>, out: &mut [f32]) {
        let factors = self.view.axes.get(row_axis).map_or(&[][..], |f| &f[..]);
        let row_len: usize = shape.iter().skip(row_axis + 1).product();
        if let [] | [_] = factors {
            let start = rows.start * factors.first().map_or(0, |f| f.step);
            self.copy(start, rows.len(), shape, row_axis, out);
            return;
        }
        // A row axis merged from several that are not evenly spaced is read a row at a time.
        for (at, row) in rows.enumerate() {
            let mut position = row;
            let mut start = 0;
            for factor in factors.iter().rev() {
                start += (position % factor.len) * factor.step;
                position /= factor.len;
            }
            self.copy(start, 1, shape, row_axis, &mut out[at * row_len..]);
        }
    }

    fn copy(&self, start: usize, rows: usize, shape: &[usize], row_axis: usize, out: &mut [f32]) {
        let (from, mut loops) = (self.view.offset + start, loops(self.view, shape, row_axis, rows));
        match self.view.dtype {
            DType::F16 => copy_loops::<F16>(&self.bytes, from, &loops, out),
            DType::BF16 => copy_loops::<BF16>(&self.bytes, from, &loops, out),
            DType::F64 => copy_loops::<F64>(&self.bytes, from, &loops, out),
            _ => copy_loops::<F32>(&self.bytes, from, &loops, out),
        }
        if self.view.scale != 1.0 {
            // Only what was written matters now: along it, so that runs are runs.
            loops.sort_by_key(|l| std::cmp::Reverse(l.to));
            scale_loops(&loops, out, self.view.scale);
        }
    }
}

/// The loops that copy `rows` rows of `view` into a tensor of `shape`, outermost first.
fn loops(view: &View, shape: &[usize], row_axis: usize, rows: usize) -> Vec<Loop> {
    let mut out: Vec<Loop> = Vec::new();
    let mut to = 1;
    for axis in (row_axis..shape.len()).rev() {
        let mut factor_to = to;
        to *= shape[axis];
        if axis == row_axis {
            let from = view.axes[axis].first().map_or(0, |f| f.step);
            out.push(Loop { len: rows, from, to: factor_to });
            continue;
        }
        for factor in view.axes[axis].iter().rev() {
            out.push(Loop { len: factor.len, from: factor.step, to: factor_to });
            factor_to *= factor.len;
        }
    }
    out.retain(|l| l.len != 1);
    out.reverse();
    // Neighbouring loops that advance both sides evenly are one loop.
    let mut merged: Vec<Loop> = Vec::new();
    for next in out {
        match merged.last_mut() {
            Some(last) if last.from == next.from * next.len && last.to == next.to * next.len => {
                *last = Loop { len: last.len * next.len, ..next };
            }
            _ => merged.push(next),
        }
    }
    merged
}

/// How one stored element becomes float32.
trait Element {
    const SIZE: usize;
    fn load(bytes: &[u8]) -> f32;
    /// A contiguous run.
    fn load_run(bytes: &[u8], out: &mut [f32]) {
        for (out, bytes) in out.iter_mut().zip(bytes.chunks_exact(Self::SIZE)) {
            *out = Self::load(bytes);
        }
    }
}

struct F64;
struct F32;
struct F16;
struct BF16;

/// Rounded to the nearest float32; what is beyond its range is found with what is not finite.
impl Element for F64 {
    const SIZE: usize = 8;
    fn load(bytes: &[u8]) -> f32 {
        f64::from_le_bytes([bytes[0], bytes[1], bytes[2], bytes[3], bytes[4], bytes[5], bytes[6], bytes[7]]) as f32
    }
}

impl Element for F32 {
    const SIZE: usize = 4;
    fn load(bytes: &[u8]) -> f32 {
        f32::from_le_bytes([bytes[0], bytes[1], bytes[2], bytes[3]])
    }
}

impl Element for F16 {
    const SIZE: usize = 2;
    fn load(bytes: &[u8]) -> f32 {
        f16::from_le_bytes([bytes[0], bytes[1]]).to_f32()
    }
    fn load_run(bytes: &[u8], out: &mut [f32]) {
        // The slice conversion picks the CPU's own instruction once, not per element.
        let mut halves = [f16::ZERO; 256];
        for (out, bytes) in out.chunks_mut(256).zip(bytes.chunks(512)) {
            for (half, bytes) in halves.iter_mut().zip(bytes.chunks_exact(2)) {
                *half = f16::from_le_bytes([bytes[0], bytes[1]]);
            }
            halves[..out.len()].convert_to_f32_slice(out);
        }
    }
}

impl Element for BF16 {
    const SIZE: usize = 2;
    fn load(bytes: &[u8]) -> f32 {
        f32::from_bits(u32::from(u16::from_le_bytes([bytes[0], bytes[1]])) << 16)
    }
}

fn copy_loops<E: Element>(bytes: &[u8], from: usize, loops: &[Loop], out: &mut [f32]) {
    let at = |element: usize| &bytes[element * E::SIZE..];
    match loops {
        [] => out[0] = E::load(at(from)),
        [Loop { len, from: 1, to: 1 }] => E::load_run(&at(from)[..len * E::SIZE], &mut out[..*len]),
        [run] => {
            for i in 0..run.len {
                out[i * run.to] = E::load(at(from + i * run.from));
            }
        }
        [outer, inner] if outer.from == 1 && inner.to == 1 => transpose::<E>(bytes, from, *outer, *inner, out),
        [outer, rest @ ..] => {
            for i in 0..outer.len {
                copy_loops::<E>(bytes, from + i * outer.from, rest, &mut out[i * outer.to..]);
            }
        }
    }
}

/// Side of the square that is turned at once: 16 float32 fill a cache line, so both sides move whole lines.
const TILE: usize = 16;

/// Columns of the source that are gone through before the next rows: a few lines side by side, which
/// the CPU fetches together.
const STRIP: usize = 8 * TILE;

/// Two loops of which one side is contiguous in each: a transpose, done in tiles so that neither side
/// strides through memory a line at a time.
fn transpose<E: Element>(bytes: &[u8], from: usize, outer: Loop, inner: Loop, out: &mut [f32]) {
    let mut tile = [[0f32; TILE]; TILE];
    for strip in (0..outer.len).step_by(STRIP) {
        let end = (strip + STRIP).min(outer.len);
        for j0 in (0..inner.len).step_by(TILE) {
            let columns = TILE.min(inner.len - j0);
            for i0 in (strip..end).step_by(TILE) {
                let rows = TILE.min(end - i0);
                for (j, tile) in tile.iter_mut().enumerate().take(columns) {
                    let start = (from + i0 + (j0 + j) * inner.from) * E::SIZE;
                    E::load_run(&bytes[start..start + rows * E::SIZE], &mut tile[..rows]);
                }
                for i in 0..rows {
                    let start = (i0 + i) * outer.to + j0;
                    let out = &mut out[start..start + columns];
                    match <&mut [f32; TILE]>::try_from(&mut *out) {
                        // A length known beforehand lets the compiler turn whole tiles in registers.
                        Ok(out) => *out = std::array::from_fn(|j| tile[j][i]),
                        Err(_) => out.iter_mut().zip(&tile).for_each(|(out, tile)| *out = tile[i]),
                    }
                }
            }
        }
    }
}

/// Multiplies what [`copy_loops`] has written.
fn scale_loops(loops: &[Loop], out: &mut [f32], scale: f64) {
    let times = |v: f32| (f64::from(v) * scale) as f32;
    match loops {
        [] => out[0] = times(out[0]),
        [run] if run.to == 1 => out[..run.len].iter_mut().for_each(|v| *v = times(*v)),
        [run, rest @ ..] => (0..run.len).for_each(|i| scale_loops(rest, &mut out[i * run.to..], scale)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn counted(shape: &[usize], fortran_order: bool) -> Tensor {
        let n: usize = shape.iter().product();
        let bytes: Vec<u8> = (0..n).flat_map(|i| (i as f32).to_le_bytes()).collect();
        let available = bytes.len();
        let storage = Storage::Ready(Bytes::from(bytes));
        Tensor::contiguous("t", DType::F32, shape, fortran_order, storage, available).unwrap()
    }

    /// The value at `index` by definition, not by the code under test.
    fn at(shape: &[usize], fortran_order: bool, index: &[usize]) -> f32 {
        let axes: Vec<usize> =
            if fortran_order { (0..shape.len()).rev().collect() } else { (0..shape.len()).collect() };
        axes.iter().fold(0, |n, &a| n * shape[a] + index[a]) as f32
    }

    #[test]
    fn heads_merge_and_transpose_in_either_order() {
        let (d, h, hd) = (5, 3, 4);
        for fortran_order in [false, true] {
            let kernel = counted(&[d, h, hd], fortran_order);
            let got = kernel.reshape(&[d, h * hd]).unwrap().permute(&[1, 0]);
            assert_eq!(got.shape(), [h * hd, d]);
            let mut want = Vec::new();
            for row in 0..h * hd {
                for column in 0..d {
                    want.push(at(&[d, h, hd], fortran_order, &[column, row / hd, row % hd]));
                }
            }
            assert_eq!(got.to_f32().unwrap(), want, "fortran_order {fortran_order}");
        }
    }

    #[test]
    fn hwio_kernel_becomes_oihw() {
        let (h, w, i, o) = (2, 3, 4, 5);
        for fortran_order in [false, true] {
            let got = counted(&[h, w, i, o], fortran_order).permute(&[3, 2, 0, 1]).to_f32().unwrap();
            let mut want = Vec::new();
            for oo in 0..o {
                for ii in 0..i {
                    for hh in 0..h {
                        for ww in 0..w {
                            want.push(at(&[h, w, i, o], fortran_order, &[hh, ww, ii, oo]));
                        }
                    }
                }
            }
            assert_eq!(got, want);
        }
    }

    #[test]
    fn joined_tensors_read_along_and_across_the_join() {
        let parts: Vec<Tensor> = [2, 3].iter().map(|&n| counted(&[n, 4], false)).collect();
        let joined = Tensor::concat(&parts).unwrap();
        let flat: Vec<f32> = (0..8).chain(0..12).map(|i| i as f32).collect();
        assert_eq!(joined.to_f32().unwrap(), flat);
        let mut want = Vec::new();
        for column in 0..4 {
            for row in 0..5 {
                want.push(flat[row * 4 + column]);
            }
        }
        assert_eq!(joined.permute(&[1, 0]).to_f32().unwrap(), want);
        assert_eq!(joined.index(3).to_f32().unwrap(), flat[12..16]);
    }

    #[test]
    fn rows_are_cut_from_plain_joined_and_merged_axes() {
        let plain = counted(&[6, 4], false);
        assert_eq!(plain.rows(2..4).unwrap().to_f32().unwrap(), (8..16).map(|i| i as f32).collect::<Vec<_>>());
        let joined = Tensor::concat(&[counted(&[2, 4], false), counted(&[3, 4], false)]).unwrap();
        let all = joined.to_f32().unwrap();
        for (start, end) in [(0, 5), (0, 2), (2, 5), (1, 4), (3, 4)] {
            assert_eq!(joined.rows(start..end).unwrap().to_f32().unwrap(), all[start * 4..end * 4], "{start}..{end}");
        }
        // Heads of a kernel in Fortran order: an axis of two factors, cut between heads and inside one.
        let heads = counted(&[5, 3, 4], true).reshape(&[5, 12]).unwrap().permute(&[1, 0]);
        let all = heads.to_f32().unwrap();
        for (start, end) in [(4, 12), (3, 7)] {
            assert_eq!(heads.rows(start..end).unwrap().to_f32().unwrap(), all[start * 5..end * 5], "{start}..{end}");
        }
        // Joined along another axis.
        let across = joined.permute(&[1, 0]);
        assert_eq!(across.rows(1..3).unwrap().to_f32().unwrap(), across.to_f32().unwrap()[5..15]);
    }

    #[test]
    fn a_scaled_part_is_scaled_alone_wherever_it_is_laid() {
        let joined = Tensor::concat(&[counted(&[2, 4], false).scaled(0.3), counted(&[3, 4], false)]).unwrap();
        let want: Vec<f32> = (0..8).map(|i| (f64::from(i) * 0.3) as f32).chain((0..12).map(|i| i as f32)).collect();
        assert_eq!(joined.to_f32().unwrap(), want);
        let columns: Vec<f32> =
            (0..4).flat_map(|c| (0..5).map(move |r| (r, c))).map(|(r, c)| want[r * 4 + c]).collect();
        assert_eq!(joined.permute(&[1, 0]).to_f32().unwrap(), columns);
    }

    #[test]
    fn blocks_cover_a_large_transpose() {
        let (rows, columns) = (1500, 700);
        let got = counted(&[rows, columns], false).permute(&[1, 0]).to_f32().unwrap();
        for (i, &v) in got.iter().enumerate() {
            assert_eq!(v, ((i % rows) * columns + i / rows) as f32);
        }
    }

    #[test]
    fn halves_widen_exactly() {
        let values = [0.0f32, -1.5, 65504.0, 6.1e-5, 5.96e-8];
        let halves: Vec<u8> = values.iter().flat_map(|&v| f16::from_f32(v).to_le_bytes()).collect();
        let n = halves.len();
        let t = Tensor::contiguous("t", DType::F16, &[5], false, Storage::Ready(halves.into()), n).unwrap();
        assert_eq!(t.to_f32().unwrap(), values.map(|v| f16::from_f32(v).to_f32()));
    }

    #[test]
    fn a_nan_is_named_with_its_place() {
        let mut bytes: Vec<u8> = (0..6).flat_map(|i| (i as f32).to_le_bytes()).collect();
        bytes[16..20].copy_from_slice(&f32::NAN.to_le_bytes());
        let t = Tensor::contiguous("w", DType::F32, &[2, 3], false, Storage::Ready(bytes.into()), 24).unwrap();
        let message = t.to_f32().unwrap_err().to_string();
        assert!(message.contains("`w` holds NaN at flat index 4"), "{message}");
    }

    #[test]
    fn a_shape_larger_than_its_bytes_is_refused() {
        for shape in [vec![3, 3], vec![usize::MAX, 2], vec![0, usize::MAX]] {
            let made = Tensor::contiguous("w", DType::F32, &shape, false, Storage::Ready(Bytes::new()), 32);
            assert!(matches!(made, Err(Error::Extent { .. })), "{shape:?}");
        }
    }
}
