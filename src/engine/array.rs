//! What goes into a model and comes out of it: a dense array in row-major order.

/// A dense array; its first axis is the batch.
#[derive(Clone, Debug, PartialEq)]
pub struct Array {
    shape: Vec<usize>,
    data: Data,
}

/// The elements of an [`Array`], in row-major order.
#[derive(Clone, Debug, PartialEq)]
pub enum Data {
    /// float32.
    F32(Vec<f32>),
    /// int64.
    I64(Vec<i64>),
    /// int32.
    I32(Vec<i32>),
    /// uint8.
    U8(Vec<u8>),
}

/// The type of an array's elements.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum ElementType {
    /// float32.
    F32,
    /// int64.
    I64,
    /// int32.
    I32,
    /// uint8.
    U8,
}

impl ElementType {
    /// By the name that ONNX gives it, in lower case: `float`, `int64`, `int32`, `uint8`.
    pub fn of_onnx(name: &str) -> Option<ElementType> {
        match name {
            "float" => Some(ElementType::F32),
            "int64" => Some(ElementType::I64),
            "int32" => Some(ElementType::I32),
            "uint8" => Some(ElementType::U8),
            _ => None,
        }
    }

    /// Whether these are token ids, masks or coordinates, not pixels.
    pub fn is_integer(self) -> bool {
        matches!(self, ElementType::I64 | ElementType::I32)
    }
}

impl From<Vec<f32>> for Data {
    fn from(values: Vec<f32>) -> Data {
        Data::F32(values)
    }
}

impl From<Vec<i64>> for Data {
    fn from(values: Vec<i64>) -> Data {
        Data::I64(values)
    }
}

impl From<Vec<i32>> for Data {
    fn from(values: Vec<i32>) -> Data {
        Data::I32(values)
    }
}

impl From<Vec<u8>> for Data {
    fn from(values: Vec<u8>) -> Data {
        Data::U8(values)
    }
}

/// Runs `$body` with `$values` bound to the vector inside, and wraps the vector it gives in the same variant.
macro_rules! map_data {
    ($data:expr, $values:ident => $body:expr) => {
        match $data {
            Data::F32($values) => Data::F32($body),
            Data::I64($values) => Data::I64($body),
            Data::I32($values) => Data::I32($body),
            Data::U8($values) => Data::U8($body),
        }
    };
}

impl Data {
    /// How many elements there are.
    pub fn len(&self) -> usize {
        match self {
            Data::F32(values) => values.len(),
            Data::I64(values) => values.len(),
            Data::I32(values) => values.len(),
            Data::U8(values) => values.len(),
        }
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }
}

impl Array {
    /// An array of `shape`, its elements in row-major order.
    ///
    /// # Panics
    /// When the product of `shape` is not the number of elements.
    pub fn new(shape: impl Into<Vec<usize>>, data: impl Into<Data>) -> Array {
        let (shape, data) = (shape.into(), data.into());
        assert_eq!(shape.iter().product::<usize>(), data.len(), "elements of an array of shape {shape:?}");
        Array { shape, data }
    }

    /// The length of each axis.
    pub fn shape(&self) -> &[usize] {
        &self.shape
    }

    /// The length of the first axis; 1 for a single number.
    pub fn batch(&self) -> usize {
        self.shape.first().copied().unwrap_or(1)
    }

    /// The elements, in row-major order.
    pub fn data(&self) -> &Data {
        &self.data
    }

    /// Type of the elements.
    pub fn element_type(&self) -> ElementType {
        match self.data {
            Data::F32(_) => ElementType::F32,
            Data::I64(_) => ElementType::I64,
            Data::I32(_) => ElementType::I32,
            Data::U8(_) => ElementType::U8,
        }
    }

    /// All elements, where they are float32.
    pub fn floats(&self) -> Option<&[f32]> {
        if let Data::F32(values) = &self.data { Some(values) } else { None }
    }

    /// All elements, where they are int64.
    pub fn ids(&self) -> Option<&[i64]> {
        if let Data::I64(values) = &self.data { Some(values) } else { None }
    }

    /// Axes after the first.
    fn row_shape(&self) -> &[usize] {
        self.shape.get(1..).unwrap_or_default()
    }

    /// Elements of one row.
    fn row_len(&self) -> usize {
        self.row_shape().iter().product()
    }

    /// One row of float32; empty where the array has no such row, or holds something else.
    pub fn row(&self, row: usize) -> &[f32] {
        let (len, values) = (self.row_len(), self.floats().unwrap_or_default());
        values.get(row * len..(row + 1) * len).unwrap_or_default()
    }

    /// The rows at these positions, in this order.
    ///
    /// # Panics
    /// When there is no such row.
    pub fn rows(&self, positions: &[usize]) -> Array {
        let n = self.row_len();
        let shape = [&[positions.len()], self.row_shape()].concat();
        let data = map_data!(&self.data, values => {
            positions.iter().flat_map(|&row| values[row * n..][..n].iter().copied()).collect()
        });
        Array { shape, data }
    }

    /// The rows of all parts, one after another; None where there is no part, or two differ in the type of elements or
    /// in an axis other than the first.
    pub fn concat<'a>(parts: impl IntoIterator<Item = &'a Array>) -> Option<Array> {
        let mut parts = parts.into_iter();
        let mut all = parts.next()?.clone();
        for part in parts {
            if all.shape.len() != part.shape.len() || all.row_shape() != part.row_shape() {
                return None;
            }
            *all.shape.first_mut()? += part.batch();
            match (&mut all.data, &part.data) {
                (Data::F32(values), Data::F32(more)) => values.extend_from_slice(more),
                (Data::I64(values), Data::I64(more)) => values.extend_from_slice(more),
                (Data::I32(values), Data::I32(more)) => values.extend_from_slice(more),
                (Data::U8(values), Data::U8(more)) => values.extend_from_slice(more),
                _ => return None,
            }
        }
        Some(all)
    }

    /// The same numbers as elements of another type; None where one of them does not fit.
    ///
    /// Between integers, and bytes as float32. float32 become no integers, as they would have to be rounded.
    pub fn converted(&self, to: ElementType) -> Option<Array> {
        let data = match (&self.data, to) {
            (Data::I64(ids), ElementType::I32) => {
                Data::I32(ids.iter().map(|&id| i32::try_from(id)).collect::<Result<_, _>>().ok()?)
            }
            (Data::I32(ids), ElementType::I64) => Data::I64(ids.iter().map(|&id| i64::from(id)).collect()),
            (Data::U8(bytes), ElementType::F32) => Data::F32(bytes.iter().map(|&byte| f32::from(byte)).collect()),
            (data, to) if self.element_type() == to => data.clone(),
            _ => return None,
        };
        Some(Array { shape: self.shape.clone(), data })
    }

    /// `[N, C, H, W]` as `[N, H, W, C]`; None for an array of other than four axes.
    pub fn channels_last(&self) -> Option<Array> {
        let [n, channels, height, width] = self.shape[..] else { return None };
        let plane = height * width;
        let source = |at: usize| {
            let (image, pixel, channel) = (at / (plane * channels), at / channels % plane, at % channels);
            (image * channels + channel) * plane + pixel
        };
        let data = map_data!(&self.data, values => (0..values.len()).map(|at| values[source(at)]).collect());
        Some(Array { shape: vec![n, height, width, channels], data })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rows_are_taken_and_joined_in_every_type() {
        fn check<T: Clone + From<u8> + std::fmt::Debug + PartialEq>()
        where
            Data: From<Vec<T>>,
        {
            let array = |shape: [usize; 2], values: &[u8]| {
                Array::new(shape, values.iter().map(|&v| T::from(v)).collect::<Vec<T>>())
            };
            let rows = array([3, 2], &[1, 2, 3, 4, 5, 6]);
            assert_eq!(rows.rows(&[2, 0, 2]), array([3, 2], &[5, 6, 1, 2, 5, 6]));
            let joined = Array::concat([&array([1, 2], &[7, 8]), &rows]);
            assert_eq!(joined, Some(array([4, 2], &[7, 8, 1, 2, 3, 4, 5, 6])));
            assert_eq!(Array::concat([&rows, &array([1, 1], &[7])]), None);
            assert_eq!(rows.rows(&[]), array([0, 2], &[]));
        }
        check::<f32>();
        check::<i64>();
        check::<i32>();
        check::<u8>();
    }

    #[test]
    fn rows_of_two_types_are_not_joined() {
        assert_eq!(Array::concat([&Array::new([1], vec![1u8]), &Array::new([1], vec![1f32])]), None);
        assert_eq!(Array::concat([]), None);
    }

    #[test]
    fn a_row_is_of_floats() {
        let floats = Array::new([2, 2], vec![1f32, 2.0, 3.0, 4.0]);
        assert_eq!(floats.row(1), [3.0, 4.0]);
        assert!(floats.row(2).is_empty(), "there is no third");
        assert!(Array::new([1, 2], vec![1i64, 2]).row(0).is_empty());
    }

    #[test]
    fn numbers_become_another_type_where_they_fit() {
        let ids = Array::new([1, 2], vec![7i64, -1]);
        assert_eq!(ids.converted(ElementType::I32), Some(Array::new([1, 2], vec![7i32, -1])));
        assert_eq!(ids.converted(ElementType::I64), Some(ids.clone()));
        assert_eq!(Array::new([1, 1], vec![1i64 << 31]).converted(ElementType::I32), None);
        assert_eq!(Array::new([1, 1], vec![0.5f32]).converted(ElementType::U8), None);
        assert_eq!(Array::new([1], vec![255u8]).converted(ElementType::F32), Some(Array::new([1], vec![255f32])));
    }

    #[test]
    fn channels_move_to_the_end() {
        // Two images of two channels, one row of three pixels: the number is image, channel, pixel.
        let array = Array::new([2, 2, 1, 3], vec![0u8, 1, 2, 10, 11, 12, 100, 101, 102, 110, 111, 112]);
        let expected = Array::new([2, 1, 3, 2], vec![0u8, 10, 1, 11, 2, 12, 100, 110, 101, 111, 102, 112]);
        assert_eq!(array.channels_last(), Some(expected));
        assert_eq!(Array::new([1, 2], vec![0u8, 1]).channels_last(), None);
    }

    #[test]
    #[should_panic(expected = "elements of an array")]
    fn elements_fill_the_shape() {
        Array::new([2, 2], vec![0f32; 3]);
    }
}
