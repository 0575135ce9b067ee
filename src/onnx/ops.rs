//! One method per ONNX operator in use, named as ONNX names it.
//!
//! Constant operands, such as a shape, are attributes while a graph is built: passes read them there, and the last of
//! them writes them as the operator set has them. <https://onnx.ai/onnx/operators/>

use super::builder::Graph;
use super::graph::{Attribute, Value};

/// What a convolution is besides its weights; pairs are height and width.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ConvAttributes {
    /// Size of the kernel.
    pub kernel: [usize; 2],
    /// Distance between outputs, in inputs.
    pub stride: [usize; 2],
    /// Zeros added on both sides of each axis.
    pub padding: [usize; 2],
    /// `group`: each group of inputs is connected to its group of outputs alone.
    pub groups: usize,
}

/// How an image is resized; pixels are areas, and their coordinates are in the middle.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Resample {
    /// Cubic with a = -1/2; linear otherwise.
    pub cubic: bool,
    /// Whether what gets smaller is averaged, over pixels that are there.
    pub antialias: bool,
}

/// Operators on anything that has a graph and a path in it.
///
/// Emitting an operator cannot fail; reading a parameter can. So at call sites `?` marks
/// outside data.
pub trait Ops {
    /// Where nodes go.
    fn graph(&self) -> &Graph;

    /// The prefix of node names, with `/` between levels.
    fn path(&self) -> &str;

    /// Adds a node of any operator with one output; returns the output.
    fn op(&self, op_type: &'static str, inputs: &[Value], attributes: Vec<(&'static str, Attribute)>) -> Value {
        self.graph().node(self.path(), op_type, inputs, attributes)
    }

    /// Names a value after this path, to be read in a viewer.
    fn named(&self, name: &str, value: Value) -> Value {
        self.graph().rename(value, &format!("{}/{name}", self.path()));
        value
    }

    /// A float32 constant without axes.
    fn scalar(&self, value: f32) -> Value {
        self.graph().scalar(value)
    }

    /// A number with `rank` axes of length 1, for operands that may have one element only: rten 0.27 drops the axes of
    /// those if the other operand is a scalar.
    fn number(&self, value: f32, rank: usize) -> Value {
        self.graph().number(value, rank)
    }

    /// An int64 constant with one axis.
    fn ints(&self, values: &[i64]) -> Value {
        self.graph().int64(&[values.len()], values)
    }

    /// a + b, broadcast.
    fn add(&self, a: Value, b: Value) -> Value {
        self.op("Add", &[a, b], vec![])
    }

    /// a − b, broadcast.
    fn sub(&self, a: Value, b: Value) -> Value {
        self.op("Sub", &[a, b], vec![])
    }

    /// a · b element by element, broadcast.
    fn mul(&self, a: Value, b: Value) -> Value {
        self.op("Mul", &[a, b], vec![])
    }

    /// a / b element by element, broadcast.
    fn div(&self, a: Value, b: Value) -> Value {
        self.op("Div", &[a, b], vec![])
    }

    /// a to the power of b, element by element, broadcast.
    fn pow(&self, a: Value, b: Value) -> Value {
        self.op("Pow", &[a, b], vec![])
    }

    /// The larger of both, element by element.
    fn max(&self, a: Value, b: Value) -> Value {
        self.op("Max", &[a, b], vec![])
    }

    /// √x, element by element.
    fn sqrt(&self, x: Value) -> Value {
        self.op("Sqrt", &[x], vec![])
    }

    /// To integers, halves to even ones.
    fn round(&self, x: Value) -> Value {
        self.op("Round", &[x], vec![])
    }

    /// The largest integer that is not above x, element by element.
    fn floor(&self, x: Value) -> Value {
        self.op("Floor", &[x], vec![])
    }

    /// The same under another name.
    fn identity(&self, x: Value) -> Value {
        self.op("Identity", &[x], vec![])
    }

    /// The absolute value, element by element.
    fn abs(&self, x: Value) -> Value {
        self.op("Abs", &[x], vec![])
    }

    /// tanh(x), element by element.
    fn tanh(&self, x: Value) -> Value {
        self.op("Tanh", &[x], vec![])
    }

    /// The error function, element by element.
    fn erf(&self, x: Value) -> Value {
        self.op("Erf", &[x], vec![])
    }

    /// 1 / (1 + exp(−x)), element by element.
    fn sigmoid(&self, x: Value) -> Value {
        self.op("Sigmoid", &[x], vec![])
    }

    /// Matrix product over the last two axes; the axes before them are broadcast.
    fn matmul(&self, a: Value, b: Value) -> Value {
        self.op("MatMul", &[a, b], vec![])
    }

    /// exp(x) over its sum along `axis`.
    fn softmax(&self, x: Value, axis: i64) -> Value {
        self.op("Softmax", &[x], vec![("axis", Attribute::Int(axis))])
    }

    /// To float32.
    fn cast_float(&self, x: Value) -> Value {
        const FLOAT: i64 = 1;
        self.op("Cast", &[x], vec![("to", Attribute::Int(FLOAT))])
    }

    /// To bytes.
    fn cast_uint8(&self, x: Value) -> Value {
        const UINT8: i64 = 2;
        self.op("Cast", &[x], vec![("to", Attribute::Int(UINT8))])
    }

    /// To int64.
    fn cast_int64(&self, x: Value) -> Value {
        const INT64: i64 = 7;
        self.op("Cast", &[x], vec![("to", Attribute::Int(INT64))])
    }

    /// To int32.
    fn cast_int32(&self, x: Value) -> Value {
        const INT32: i64 = 6;
        self.op("Cast", &[x], vec![("to", Attribute::Int(INT32))])
    }

    /// A constant target: at most one -1; 0 keeps the axis.
    fn reshape(&self, x: Value, shape: &[i64]) -> Value {
        self.op("Reshape", &[x], vec![("shape", Attribute::Ints(shape.to_vec()))])
    }

    /// Axes of length 1, inserted at these indices of the result.
    fn unsqueeze(&self, x: Value, axes: &[i64]) -> Value {
        self.op("Unsqueeze", &[x], vec![("axes", Attribute::Ints(axes.to_vec()))])
    }

    /// Axis i of the result is axis `perm[i]` of x.
    fn transpose(&self, x: Value, perm: &[i64]) -> Value {
        self.op("Transpose", &[x], vec![("perm", Attribute::Ints(perm.to_vec()))])
    }

    /// `parts` one after another along `axis`; their other axes have equal lengths.
    fn concat(&self, parts: &[Value], axis: i64) -> Value {
        self.op("Concat", parts, vec![("axis", Attribute::Int(axis))])
    }

    /// Zeros before the first entry of `axis` of a tensor of `rank` axes.
    fn pad_front(&self, x: Value, rank: usize, axis: usize) -> Value {
        let mut pads = vec![0; 2 * rank];
        pads[axis] = 1;
        self.op("Pad", &[x], vec![("pads", Attribute::Ints(pads))])
    }

    /// Equal parts of `part` along the last axis.
    fn split<const N: usize>(&self, x: Value, part: usize) -> [Value; N] {
        let sizes = ("split", Attribute::Ints(vec![part as i64; N]));
        self.graph().node_with(self.path(), "Split", &[x], vec![("axis", Attribute::Int(-1)), sizes])
    }

    /// Rows of a table.
    fn gather(&self, table: Value, indices: Value, axis: i64) -> Value {
        self.op("Gather", &[table, indices], vec![("axis", Attribute::Int(axis))])
    }

    /// One entry of an axis, which disappears.
    fn index(&self, x: Value, index: i64, axis: i64) -> Value {
        self.op("Gather", &[x], vec![("axis", Attribute::Int(axis)), ("index", Attribute::Int(index))])
    }

    /// Entries of one axis, addressed for each number of the output by `indices`, which has its shape.
    fn gather_elements(&self, x: Value, indices: Value, axis: i64) -> Value {
        self.op("GatherElements", &[x, indices], vec![("axis", Attribute::Int(axis))])
    }

    /// Repeated along axes of length 1, to a constant shape; 1 keeps an axis.
    fn expand(&self, x: Value, shape: &[i64]) -> Value {
        self.op("Expand", &[x], vec![("shape", Attribute::Ints(shape.to_vec()))])
    }

    /// Entries `start..end` of one axis; the bounds are vectors of one index.
    fn slice(&self, x: Value, start: Value, end: Value, axis: i64) -> Value {
        let axis = self.ints(&[axis]);
        self.op("Slice", &[x, start, end, axis], vec![])
    }

    /// The length of one axis, as a vector of one number.
    fn length(&self, x: Value, axis: i64) -> Value {
        self.lengths(x, axis, axis + 1)
    }

    /// The lengths of axes `start..end`.
    fn lengths(&self, x: Value, start: i64, end: i64) -> Value {
        self.op("Shape", &[x], vec![("end", Attribute::Int(end)), ("start", Attribute::Int(start))])
    }

    /// Axes at other lengths; `sizes` is a vector of them. From opset 18 on.
    fn resize(&self, x: Value, sizes: Value, axes: &[i64], resample: Resample) -> Value {
        let mut attributes = vec![
            ("antialias", Attribute::Int(resample.antialias.into())),
            ("axes", Attribute::Ints(axes.to_vec())),
            ("coordinate_transformation_mode", Attribute::Text("half_pixel")),
        ];
        if resample.cubic {
            attributes.push(("cubic_coeff_a", Attribute::Float(-0.5)));
        }
        attributes.push(("exclude_outside", Attribute::Int(resample.antialias.into())));
        attributes.push(("mode", Attribute::Text(if resample.cubic { "cubic" } else { "linear" })));
        let absent = self.graph().absent();
        self.op("Resize", &[x, absent, absent, sizes], attributes)
    }

    /// int64 index of the first maximum along `axis`.
    fn arg_max(&self, x: Value, axis: i64, keepdims: bool) -> Value {
        let keepdims = Attribute::Int(keepdims.into());
        self.op("ArgMax", &[x], vec![("axis", Attribute::Int(axis)), ("keepdims", keepdims)])
    }

    /// Whether elements are equal, as bool, broadcast.
    fn equal(&self, a: Value, b: Value) -> Value {
        self.op("Equal", &[a, b], vec![])
    }

    /// Maximum over `axes`.
    fn reduce_max(&self, x: Value, axes: &[i64], keepdims: bool) -> Value {
        reduce(self, "ReduceMax", x, axes, keepdims)
    }

    /// Minimum over `axes`.
    fn reduce_min(&self, x: Value, axes: &[i64], keepdims: bool) -> Value {
        reduce(self, "ReduceMin", x, axes, keepdims)
    }

    /// Mean over `axes`.
    fn reduce_mean(&self, x: Value, axes: &[i64], keepdims: bool) -> Value {
        reduce(self, "ReduceMean", x, axes, keepdims)
    }

    /// Sum over `axes`.
    fn reduce_sum(&self, x: Value, axes: &[i64], keepdims: bool) -> Value {
        reduce(self, "ReduceSum", x, axes, keepdims)
    }

    /// √Σx².
    fn reduce_l2(&self, x: Value, axes: &[i64], keepdims: bool) -> Value {
        reduce(self, "ReduceL2", x, axes, keepdims)
    }

    /// Over the last axis, with gain and bias.
    fn layer_normalization(&self, x: Value, weight: Value, bias: Value, epsilon: f32) -> Value {
        let attributes = vec![("axis", Attribute::Int(-1)), ("epsilon", Attribute::Float(epsilon))];
        self.op("LayerNormalization", &[x, weight, bias], attributes)
    }

    /// With optional bias.
    fn conv(&self, x: Value, weight: Value, bias: Option<Value>, c: &ConvAttributes) -> Value {
        let inputs: Vec<Value> = [x, weight].into_iter().chain(bias).collect();
        let two = |[height, width]: [usize; 2]| vec![height as i64, width as i64];
        let attributes = vec![
            ("group", Attribute::Int(c.groups as i64)),
            ("kernel_shape", Attribute::Ints(two(c.kernel))),
            ("pads", Attribute::Ints([two(c.padding), two(c.padding)].concat())),
            ("strides", Attribute::Ints(two(c.stride))),
        ];
        self.op("Conv", &inputs, attributes)
    }

    /// At inference; `weights` are gain, bias, mean and variance, one number a channel each.
    fn batch_normalization(&self, x: Value, weights: [Value; 4], epsilon: f32) -> Value {
        let [weight, bias, mean, var] = weights;
        let epsilon = vec![("epsilon", Attribute::Float(epsilon))];
        self.op("BatchNormalization", &[x, weight, bias, mean, var], epsilon)
    }

    /// max(x, 0), element by element.
    fn relu(&self, x: Value) -> Value {
        self.op("Relu", &[x], vec![])
    }

    /// Mean over all but the first two axes, which stay as axes of length 1.
    fn global_average_pool(&self, x: Value) -> Value {
        self.op("GlobalAveragePool", &[x], vec![])
    }

    /// The largest over all but the first two axes, which stay as axes of length 1.
    fn global_max_pool(&self, x: Value) -> Value {
        self.op("GlobalMaxPool", &[x], vec![])
    }

    /// Without these axes, which have length 1.
    fn squeeze(&self, x: Value, axes: &[i64]) -> Value {
        self.op("Squeeze", &[x], vec![("axes", Attribute::Ints(axes.to_vec()))])
    }

    /// x Φ(x).
    fn gelu(&self, x: Value) -> Value {
        self.op("Gelu", &[x], vec![])
    }

    /// ½ x (1 + tanh(√(2/π) (x + 0.044715 x³))).
    fn gelu_tanh(&self, x: Value) -> Value {
        self.op("Gelu", &[x], vec![("approximate", Attribute::Text("tanh"))])
    }

    /// x σ(1.702 x).
    fn quick_gelu(&self, x: Value) -> Value {
        let gate = self.sigmoid(self.mul(x, self.scalar(1.702)));
        self.mul(x, gate)
    }
}

fn reduce(s: &(impl Ops + ?Sized), op_type: &'static str, x: Value, axes: &[i64], keepdims: bool) -> Value {
    let axes = ("axes", Attribute::Ints(axes.to_vec()));
    s.op(op_type, &[x], vec![axes, ("keepdims", Attribute::Int(keepdims.into()))])
}
