//! Which nodes of a file ONNX Runtime's execution providers take.
//!
//! A prediction, from tables of what each provider takes (a file for each): CoreML, NNAPI and XNNPACK as of
//! ONNX Runtime 1.32 (conditions by sources of March 2026, of CoreML some newer), QNN as measured with onnxruntime-qnn
//! 2.7.0, WebGPU and WebNN of the web build 1.30. Nothing is run. ONNX Runtime folds and fuses nodes before it hands
//! them out, which only rarely changes what is taken; nodes that read constants alone are folded and not counted.
//! Types and shapes are followed as far as conditions ask for them; what is not known is taken to be
//! as it should. Nodes that are not taken run on ONNX Runtime's CPU kernels.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::path::Path;

use serde::Serialize;

use crate::onnx::read::{self, Error};
use crate::onnx::target::Profile;
use rules::Table;
pub use runtimes::runtimes;
use view::{Call, View};

mod coreml;
mod infer;
mod nnapi;
mod qnn;
mod rules;
mod runtimes;
mod view;
mod webgpu;
mod webnn;
mod xnnpack;

/// An execution provider of ONNX Runtime.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Provider {
    Cpu,
    CoreMl,
    Nnapi,
    Qnn,
    Xnnpack,
    WebGpu,
    WebNn,
}

impl Provider {
    pub const ALL: [Provider; 7] = [
        Provider::Cpu,
        Provider::CoreMl,
        Provider::Nnapi,
        Provider::Qnn,
        Provider::Xnnpack,
        Provider::WebGpu,
        Provider::WebNn,
    ];

    /// As people write it; flags take it in lower case.
    pub fn name(self) -> &'static str {
        match self {
            Provider::Cpu => "CPU",
            Provider::CoreMl => "CoreML",
            Provider::Nnapi => "NNAPI",
            Provider::Qnn => "QNN",
            Provider::Xnnpack => "XNNPACK",
            Provider::WebGpu => "WebGPU",
            Provider::WebNn => "WebNN",
        }
    }

    /// What it runs on, in a few words.
    pub fn summary(self) -> &'static str {
        match self {
            Provider::Cpu => "ONNX Runtime's own kernels",
            Provider::CoreMl => "Apple's CoreML, as an ML Program",
            Provider::Nnapi => "Android's NNAPI",
            Provider::Qnn => "Qualcomm's HTP",
            Provider::Xnnpack => "XNNPACK, on CPUs",
            Provider::WebGpu => "browsers' WebGPU",
            Provider::WebNn => "browsers' WebNN",
        }
    }

    /// By name.
    pub fn parse(name: &str) -> Option<Provider> {
        Provider::ALL.into_iter().find(|provider| provider.name().eq_ignore_ascii_case(name))
    }

    /// Those that files of this target are made for: they are to take as many nodes as they can.
    pub fn of_target(profile: &Profile) -> &'static [Provider] {
        match profile.name {
            "mobile" => &[Provider::Nnapi, Provider::Xnnpack],
            "coreml" => &[Provider::CoreMl],
            "qnn" => &[Provider::Qnn],
            "web" => &[Provider::WebGpu, Provider::WebNn],
            _ => &[],
        }
    }

    /// None where every operator that is known is taken.
    fn table(self) -> Option<&'static Table> {
        match self {
            Provider::Cpu => None,
            Provider::CoreMl => Some(&coreml::TABLE),
            Provider::Nnapi => Some(&nnapi::TABLE),
            Provider::Qnn => Some(&qnn::TABLE),
            Provider::Xnnpack => Some(&xnnpack::TABLE),
            Provider::WebGpu => Some(&webgpu::TABLE),
            Provider::WebNn => Some(&webnn::TABLE),
        }
    }

    /// Why a node is not taken.
    fn refuses(self, call: &Call) -> Option<String> {
        if !matches!(call.node.domain(), "" | "ai.onnx" | "com.microsoft") {
            return Some(format!("of the domain {}", call.node.domain()));
        }
        let known = || Provider::ALL.iter().filter_map(|p| p.table()).any(|table| table.row(call.operator()).is_some());
        match self.table() {
            Some(table) if table.row(call.operator()).is_some() => table.takes(call).err(),
            _ if !known() => Some("not in our tables".to_owned()),
            Some(_) => Some("there is no such operator".to_owned()),
            None => None,
        }
    }
}

/// Nodes of one operator that are not taken for the same reason.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Refused {
    pub operator: String,
    pub count: usize,
    pub why: String,
    /// Names of the first few.
    pub first: Vec<String>,
}

/// What a provider takes of a file.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Coverage {
    pub provider: &'static str,
    /// Without those that are worked out when the file is loaded.
    pub nodes: usize,
    pub taken: usize,
    /// Runs of nodes that are taken, in the order of the file.
    pub partitions: usize,
    pub refused: Vec<Refused>,
}

impl Coverage {
    fn of(view: &View, provider: Provider) -> Coverage {
        const NAMED: usize = 3;
        let mut out = Coverage { provider: provider.name(), nodes: 0, taken: 0, partitions: 0, refused: vec![] };
        let (mut refused, mut inside) = (BTreeMap::<(String, String), (usize, Vec<String>)>::new(), false);
        for call in view.calls().filter(|call| !call.is_folded()) {
            out.nodes += 1;
            let why = provider.refuses(&call);
            if why.is_none() {
                out.taken += 1;
                out.partitions += usize::from(!inside);
            }
            inside = why.is_none();
            if let Some(why) = why {
                let (count, first) = refused.entry((call.operator().to_owned(), why)).or_default();
                *count += 1;
                if first.len() < NAMED {
                    first.push(call.node.name().to_owned());
                }
            }
        }
        let rows = refused.into_iter();
        out.refused = rows.map(|((operator, why), (count, first))| Refused { operator, count, why, first }).collect();
        out.refused.sort_by_key(|row| std::cmp::Reverse(row.count));
        out
    }

    /// Of all nodes.
    pub fn share(&self) -> f64 {
        self.taken as f64 / self.nodes.max(1) as f64
    }

    /// Operators of which some are not taken, with how many.
    fn operators(&self) -> String {
        const SHOWN: usize = 6;
        let names: BTreeSet<&str> = self.refused.iter().map(|row| row.operator.as_str()).collect();
        let count = |name: &str| self.refused.iter().filter(|row| row.operator == name).map(|row| row.count).sum();
        let mut rows: Vec<(usize, &str)> = names.into_iter().map(|name| (count(name), name)).collect();
        rows.sort_by_key(|&(count, _)| std::cmp::Reverse(count));
        let more = rows.len().saturating_sub(SHOWN);
        let mut out: Vec<String> = rows.iter().take(SHOWN).map(|(count, name)| format!("{name} ({count})")).collect();
        if more > 0 {
            out.push(format!("{more} more"));
        }
        out.join(", ")
    }
}

/// In one line.
impl fmt::Display for Coverage {
    fn fmt(&self, f: &mut fmt::Formatter) -> fmt::Result {
        let Coverage { provider, nodes, taken, partitions, .. } = self;
        if taken == nodes {
            return write!(f, "{provider} takes all {nodes} nodes");
        }
        let parts = if *partitions == 1 { "partition" } else { "partitions" };
        write!(f, "{provider} takes {taken} of {nodes} nodes, in {partitions} {parts}; not {}", self.operators())
    }
}

/// What each provider takes of the file at `path`.
///
/// # Errors
/// When the file cannot be opened or is no ONNX model.
pub fn check(path: &Path, providers: &[Provider]) -> Result<Vec<Coverage>, Error> {
    let (_, model) = read::model(path)?;
    let no_graph = || Error::Parse { path: path.display().to_string(), reason: "it has no graph".to_owned() };
    let view = View::new(model).ok_or_else(no_graph)?;
    Ok(providers.iter().map(|&provider| Coverage::of(&view, provider)).collect())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::onnx::proto::tensor_proto::DataType::{self, Float, Int32, Int64};
    use crate::onnx::proto::tensor_shape_proto::{Dimension, dimension};
    use crate::onnx::proto::{
        AttributeProto, GraphProto, ModelProto, NodeProto, OperatorSetIdProto, TensorProto, TensorShapeProto,
        TypeProto, ValueInfoProto, type_proto,
    };

    fn input(name: &str, element: DataType, shape: &[Option<i64>]) -> ValueInfoProto {
        let length = |n: &Option<i64>| n.map_or(dimension::Value::DimParam("free".into()), dimension::Value::DimValue);
        let dim = shape.iter().map(|n| Dimension { value: Some(length(n)), ..Default::default() }).collect();
        let shape = Some(TensorShapeProto { dim });
        let tensor = type_proto::Tensor { elem_type: Some(element as i32), shape };
        let tensor = TypeProto { value: Some(type_proto::Value::TensorType(tensor)), ..Default::default() };
        ValueInfoProto { name: Some(name.into()), r#type: Some(tensor), ..Default::default() }
    }

    fn node(op_type: &str, inputs: &[&str], int: Option<(&str, i64)>) -> NodeProto {
        let int = int.map(|(name, i)| AttributeProto { name: Some(name.into()), i: Some(i), ..Default::default() });
        NodeProto {
            op_type: Some(op_type.into()),
            name: Some(format!("the/{op_type}")),
            input: inputs.iter().map(|&name| name.to_owned()).collect(),
            output: vec![format!("{op_type}_out")],
            attribute: int.into_iter().collect(),
            ..Default::default()
        }
    }

    /// What is taken of nodes over `x`, 1 x 2 x 4 floats, `y`, 4 x 3 floats, `free`, of any number of rows,
    /// `place`, an int64, and `axes`, a constant.
    fn taken(provider: Provider, nodes: Vec<NodeProto>) -> Coverage {
        let axes = TensorProto {
            name: Some("axes".into()),
            data_type: Some(Int64 as i32),
            dims: vec![1],
            int64_data: vec![1],
            ..Default::default()
        };
        let graph = GraphProto {
            node: nodes,
            initializer: vec![axes],
            input: vec![
                input("x", Float, &[Some(1), Some(2), Some(4)]),
                input("y", Float, &[Some(4), Some(3)]),
                input("free", Float, &[None, Some(4)]),
                input("place", Int64, &[Some(1)]),
                input("ids", Int32, &[Some(1)]),
            ],
            ..Default::default()
        };
        let opset_import = vec![OperatorSetIdProto { version: Some(18), ..Default::default() }];
        let model = ModelProto { graph: Some(graph), opset_import, ..Default::default() };
        Coverage::of(&View::new(model).unwrap(), provider)
    }

    fn why(provider: Provider, node: NodeProto) -> Option<String> {
        taken(provider, vec![node]).refused.first().map(|row| row.why.clone())
    }

    #[test]
    fn what_is_not_taken_is_told_with_its_reason() {
        use Provider::{CoreMl, Cpu, Nnapi, Qnn, WebGpu, WebNn, Xnnpack};
        for (provider, node, expected) in [
            (Nnapi, node("MatMul", &["x", "y"], None), "3 axes times 2"),
            (Nnapi, node("Add", &["free", "free"], None), "an axis is free (an export with a fixed batch has none)"),
            (Nnapi, node("Gather", &["y", "place"], None), "indices computed, as int64"),
            (Nnapi, node("Erf", &["x"], None), "there is no such operator"),
            (CoreMl, node("ReduceMean", &["x", "place"], None), "input 1 is computed"),
            (CoreMl, node("ArgMax", &["x"], Some(("select_last_index", 1))), "select_last_index 1"),
            (Qnn, node("Erf", &["x"], None), "outside GELU"),
            (Qnn, node("LayerNormalization", &["x"], Some(("axis", 1))), "axis 1"),
            (WebNn, node("Relu", &["free"], None), "an axis is free (an export with a fixed batch has none)"),
            (WebGpu, node("Mystery", &["x"], None), "not in our tables"),
            (Cpu, node("Mystery", &["x"], None), "not in our tables"),
            (Xnnpack, node("Add", &["x", "x"], None), "there is no such operator"),
        ] {
            let operator = node.op_type().to_owned();
            assert_eq!(why(provider, node).as_deref(), Some(expected), "{} {operator}", provider.name());
        }
    }

    /// `Expand` is not followed; but what it makes of free axes has free axes.
    #[test]
    fn what_is_worked_out_of_free_axes_is_free() {
        let expanded = |from: &str| vec![node("Expand", &[from], None), node("Relu", &["Expand_out"], None)];
        assert_eq!(taken(Provider::WebNn, expanded("free")).taken, 0);
        assert_eq!(taken(Provider::WebNn, expanded("x")).taken, 2);
    }

    #[test]
    fn an_operator_of_somebody_elses_domain_is_another() {
        let theirs = NodeProto { domain: Some("org.example".into()), ..node("Relu", &["x"], None) };
        assert_eq!(why(Provider::WebGpu, theirs).as_deref(), Some("of the domain org.example"));
    }

    #[test]
    fn what_is_as_it_should_be_is_taken() {
        use Provider::{CoreMl, Cpu, Nnapi, Qnn, WebGpu, WebNn};
        for (provider, node) in [
            (Nnapi, node("MatMul", &["x", "x"], None)),
            (Nnapi, node("Gather", &["y", "ids"], None)),
            (CoreMl, node("ReduceMean", &["x", "axes"], None)),
            (CoreMl, node("ArgMax", &["x"], Some(("select_last_index", 0)))),
            (Qnn, node("LayerNormalization", &["x"], Some(("axis", 2)))),
            (WebNn, node("Relu", &["x"], None)),
            (WebGpu, node("Relu", &["free"], None)),
            (Cpu, node("Erf", &["free"], None)),
        ] {
            let operator = node.op_type().to_owned();
            assert_eq!(why(provider, node), None, "{} {operator}", provider.name());
        }
    }

    /// Two runs around one node that is not taken; what reads constants alone is gone before.
    #[test]
    fn runs_of_nodes_are_counted_and_said_in_one_line() {
        let nodes = vec![
            node("Relu", &["x"], None),
            node("Erf", &["Relu_out"], None),
            node("Tanh", &["Erf_out"], None),
            node("Neg", &["axes"], None),
        ];
        let taken = taken(Provider::Nnapi, nodes);
        assert_eq!((taken.nodes, taken.taken, taken.partitions), (3, 2, 2));
        assert_eq!(taken.refused[0].first, ["the/Erf"]);
        assert_eq!(taken.to_string(), "NNAPI takes 2 of 3 nodes, in 2 partitions; not Erf (1)");
    }
}
