//! Reads a job of `scripts/check_engines.py` from its first argument, runs it with rten, and writes what the first
//! output of each run holds as float32.

use std::error::Error;

use rten::{Model, NodeId, Value};
use rten_tensor::prelude::*;
use rten_tensor::{NdTensor, Tensor};
use serde::Deserialize;

#[derive(Deserialize)]
struct Job {
    model: String,
    runs: Vec<Run>,
}

#[derive(Deserialize)]
struct Run {
    inputs: Vec<Input>,
    out: String,
}

#[derive(Deserialize)]
struct Input {
    name: String,
    #[serde(rename = "type")]
    kind: String,
    dims: Vec<usize>,
    data: String,
}

fn main() -> Result<(), Box<dyn Error>> {
    let path = std::env::args().nth(1).ok_or("name a job")?;
    let job: Job = serde_json::from_str(&std::fs::read_to_string(path)?)?;
    let model = Model::load_file(&job.model)?;
    for run in &job.runs {
        let mut inputs: Vec<(NodeId, Value)> = Vec::new();
        for input in &run.inputs {
            let bytes = std::fs::read(&input.data)?;
            let words = bytes.as_chunks::<4>().0;
            let value: Value = match input.kind.as_str() {
                "float32" => {
                    let values: Vec<f32> = words.iter().map(|word| f32::from_le_bytes(*word)).collect();
                    Tensor::<f32>::from_data(&input.dims, values).into()
                }
                // rten has one integer type, of 32 bits.
                "int64" => {
                    let words = bytes.as_chunks::<8>().0;
                    let values: Vec<i32> = words.iter().map(|word| i64::from_le_bytes(*word) as i32).collect();
                    Tensor::<i32>::from_data(&input.dims, values).into()
                }
                _ => {
                    let values: Vec<i32> = words.iter().map(|word| i32::from_le_bytes(*word)).collect();
                    Tensor::<i32>::from_data(&input.dims, values).into()
                }
            };
            inputs.push((model.node_id(&input.name)?, value));
        }
        let inputs = inputs.into_iter().map(|(id, value)| (id, value.into())).collect();
        let outputs = model.run(inputs, &model.output_ids()[..1], None)?;
        let Some(Ok(found)) = outputs.into_iter().next().map(NdTensor::<f32, 2>::try_from) else {
            return Err("the first output is no matrix of float32".into());
        };
        let bytes: Vec<u8> = found.iter().flat_map(|value| value.to_le_bytes()).collect();
        std::fs::write(&run.out, bytes)?;
    }
    Ok(())
}
