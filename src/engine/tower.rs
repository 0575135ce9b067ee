//! A tower: a file, loaded by an engine, with what its inputs and outputs mean.

use std::borrow::Cow;
use std::path::Path;
use std::sync::Arc;

use super::array::{Array, ElementType};
use super::signature::Signature;
use super::{Engine, Error, Session, inputs};
use crate::files::{is_inside, ordinary};
use crate::onnx::read::{Summary, summary};

/// A loaded tower: ours, or any that somebody else made.
pub struct Tower {
    file: Arc<File>,
    signature: Signature,
    /// What the file's other inputs are fed, by position, where it holds both towers.
    others: Vec<(usize, Array)>,
}

/// A loaded file, of one tower or two.
struct File {
    name: String,
    /// What errors call it.
    path: String,
    outputs: Vec<String>,
    session: Box<dyn Session>,
    /// Whether short batches are filled up, as the engine optimises for shapes.
    fills_batches: bool,
}

/// Checks that external data lies in the model's folder, in ordinary files: engines would wait for a pipe.
fn check_external_data(path: &Path, summary: &Summary) -> Result<(), String> {
    for location in summary.external_data.keys() {
        if !is_inside(Path::new(location)) {
            return Err(format!("its weights are in `{location}`, which is not in the model's folder"));
        }
        let file = path.with_file_name(location);
        if let Err(error) = ordinary(&file) {
            return Err(format!("its weights are in `{location}`, which cannot be read: {error}"));
        }
    }
    Ok(())
}

impl Tower {
    /// Reads what the file says of itself, then loads it with an engine, to be run on so many threads; as many as the
    /// engine sees fit where None. Gives the towers in it: one, or an image's and a text's. Errors call the file `shown`.
    ///
    /// # Errors
    /// [`Error::Onnx`] when it is no ONNX file, [`Error::Unfit`] when it is no tower, or what loading it reports.
    pub fn all(path: &Path, shown: &Path, engine: &dyn Engine, threads: Option<usize>) -> Result<Vec<Tower>, Error> {
        let summary = summary(path)?;
        let shown = shown.display().to_string();
        let unfit = |reason: String| Error::Unfit { path: shown.clone(), reason };
        let signatures = Signature::of(&summary).map_err(unfit)?;
        check_external_data(path, &summary).map_err(unfit)?;
        let session = engine.load(path, &shown, threads)?;
        let file = File {
            name: path.file_name().map_or_else(String::new, |name| name.to_string_lossy().into_owned()),
            path: shown,
            outputs: summary.outputs.into_iter().map(|port| port.name).collect(),
            session,
            fills_batches: engine.optimizes_for_shapes(),
        };
        Tower::of_file(file, signatures)
    }

    /// The towers of a loaded file. Of two, each is fed made-up inputs when the other is run.
    fn of_file(file: File, signatures: Vec<Signature>) -> Result<Vec<Tower>, Error> {
        let file = Arc::new(file);
        let tower = |signature| Tower { file: file.clone(), signature, others: vec![] };
        let mut towers: Vec<Tower> = signatures.into_iter().map(tower).collect();
        if let [first, second] = &mut towers[..] {
            let made_up = |tower: &Tower| tower.varied(tower.signature.fixed_batch.unwrap_or(1));
            let (of_first, of_second) = (made_up(first)?, made_up(second)?);
            first.feed_other(second, &of_second)?;
            second.feed_other(first, &of_first)?;
        }
        Ok(towers)
    }

    /// The one tower of a file, or the image tower of one that holds both.
    ///
    /// # Errors
    /// As [`Tower::all`].
    pub fn open(path: &Path, shown: &Path, engine: &dyn Engine, threads: Option<usize>) -> Result<Tower, Error> {
        // There is one at least.
        Ok(Tower::all(path, shown, engine, threads)?.swap_remove(0))
    }

    /// The file's name.
    pub fn name(&self) -> &str {
        &self.file.name
    }

    /// What the tower takes and gives.
    pub fn signature(&self) -> &Signature {
        &self.signature
    }

    /// Names of all outputs of the file.
    pub fn outputs(&self) -> &[String] {
        &self.file.outputs
    }

    /// The position of an output of the file.
    pub fn output_at(&self, name: &str) -> Option<usize> {
        self.file.outputs.iter().position(|output| output == name)
    }

    /// Whether the file has no other tower.
    pub fn is_alone(&self) -> bool {
        self.others.is_empty()
    }

    /// Feeds the other tower of the file `inputs` whenever this one is run, instead of generated ones.
    ///
    /// # Errors
    /// [`Error::Unfit`] when they do not fit that tower.
    pub fn feed_other(&mut self, other: &Tower, inputs: &[Array]) -> Result<(), Error> {
        let inputs = other.as_declared(inputs)?.into_iter().map(|(at, array)| (at, array.into_owned()));
        self.others = inputs.collect();
        Ok(())
    }

    /// Made-up inputs, as [`inputs::varied`] gives them.
    ///
    /// # Errors
    /// [`Error::Unfit`] when they would be too large.
    pub fn varied(&self, rows: usize) -> Result<Vec<Array>, Error> {
        inputs::varied(&self.signature, rows).map_err(|reason| self.unfit(reason))
    }

    /// That something cannot be fed to it.
    pub fn unfit(&self, reason: String) -> Error {
        Error::Unfit { path: self.file.path.clone(), reason }
    }

    /// Its inputs by position, in the types that the file declares.
    fn as_declared<'a>(&self, inputs: &'a [Array]) -> Result<Vec<(usize, Cow<'a, Array>)>, Error> {
        self.signature.check(inputs).map_err(|reason| self.unfit(reason))?;
        let declared = |((at, port), array): (&(usize, _), &'a Array)| {
            let port: &crate::onnx::read::Port = port;
            let wanted = ElementType::of_onnx(&port.element_type);
            let array = match wanted {
                Some(wanted) if wanted != array.element_type() => array.converted(wanted).map(Cow::Owned),
                _ => Some(Cow::Borrowed(array)),
            };
            let misfit =
                || self.unfit(format!("input `{}` is {}, and is fed other numbers", port.name, port.element_type));
            Ok((*at, array.ok_or_else(misfit)?))
        };
        self.signature.inputs.iter().zip(inputs).map(declared).collect()
    }

    /// Runs one batch and gives outputs by their positions in the file, in that order. `inputs` are the tower's, in the
    /// order of [`Signature::inputs`]; ids may be of either integer type.
    ///
    /// # Errors
    /// [`Error::Unfit`] when inputs do not fit, or an output is not of float32; what running reports.
    pub fn run_for(&self, inputs: &[Array], outputs: &[usize]) -> Result<Vec<Array>, Error> {
        let own = self.as_declared(inputs)?;
        let own = own.iter().map(|(at, array)| (*at, &**array));
        let mut all: Vec<(usize, &Array)> = own.chain(self.others.iter().map(|(at, array)| (*at, array))).collect();
        all.sort_by_key(|(at, _)| *at);
        let all: Vec<&Array> = all.into_iter().map(|(_, array)| array).collect();
        let found = self.file.session.run(&all, outputs)?;
        for (array, &at) in found.iter().zip(outputs) {
            if array.floats().is_none() {
                let name = self.file.outputs.get(at).map_or("", String::as_str);
                return Err(self.unfit(format!("output `{name}` is {:?}, expected float32", array.element_type())));
            }
        }
        Ok(found)
    }

    /// Runs one batch and gives the embeddings, `[N, width]`.
    ///
    /// # Errors
    /// As [`Tower::run_for`]; [`Error::Unfit`] when the output has another shape.
    pub fn run(&self, inputs: &[Array]) -> Result<Array, Error> {
        let found = self.run_for(inputs, &[self.signature.embedding])?.pop();
        let rows = inputs.first().map_or(0, Array::batch);
        let shape = match found {
            Some(array) if array.shape().len() == 2 && array.batch() == rows => return Ok(array),
            other => other.map(|array| array.shape().to_vec()).unwrap_or_default(),
        };
        let name = &self.signature.embedding_name;
        Err(self.unfit(format!("output `{name}` has shape {shape:?}, expected [batch, width]")))
    }

    /// Runs `count` batches, which take the rows of `inputs` in order and begin again at the first after the last.
    /// Embeddings `[count · batch, width]`.
    ///
    /// # Errors
    /// As [`Tower::run`]; [`Error::Unfit`] when there are no rows, or embeddings of different widths.
    pub fn run_batches(&self, inputs: &[Array], batch: usize, count: usize) -> Result<Array, Error> {
        let rows = inputs.first().map_or(0, Array::batch);
        if rows == 0 {
            return Err(self.unfit("there are no rows to run it on".to_owned()));
        }
        let run = |run: usize| {
            let positions: Vec<usize> = (run * batch..(run + 1) * batch).map(|row| row % rows).collect();
            let inputs: Vec<Array> = inputs.iter().map(|array| array.rows(&positions)).collect();
            self.run(&inputs)
        };
        let found = (0..count).map(run).collect::<Result<Vec<Array>, Error>>()?;
        Array::concat(&found).ok_or_else(|| self.unfit("its embeddings differ in width".to_owned()))
    }

    /// Runs every row of `inputs` at least once, in batches of `batch`; the last is filled up with the first rows.
    ///
    /// # Errors
    /// As [`Tower::run_batches`].
    pub fn run_all(&self, inputs: &[Array], batch: usize) -> Result<Array, Error> {
        let rows = inputs.first().map_or(0, Array::batch);
        self.run_batches(inputs, batch, rows.div_ceil(batch.max(1)))
    }

    /// Embeddings of at most `batch` items, each of which is the tower's inputs of one row.
    ///
    /// # Errors
    /// As [`Tower::run`].
    pub fn embed(&self, items: &[&Vec<Array>], batch: usize) -> Result<Vec<Vec<f32>>, Error> {
        let (Some(first), Some(last)) = (items.first(), items.last()) else { return Ok(vec![]) };
        let is_filled = self.file.fills_batches || self.signature.fixed_batch.is_some();
        let rows = if is_filled { batch } else { items.len() };
        let joined = |input: usize| {
            let all = (0..rows).filter_map(|at| items.get(at).unwrap_or(last).get(input));
            Array::concat(all).ok_or_else(|| self.unfit("the items of a batch differ in shape".to_owned()))
        };
        let inputs = (0..first.len()).map(joined).collect::<Result<Vec<Array>, Error>>()?;
        let found = self.run(&inputs)?;
        Ok((0..items.len()).map(|row| found.row(row).to_vec()).collect())
    }
}

#[cfg(test)]
mod tests {
    use super::super::array::Data;
    use super::super::signature::tests::file;
    use super::*;

    /// Gives `[N, 2]` for every output: the first number of each row, and how many arrays it was fed. Ids have to be int32.
    struct Fake;

    impl Session for Fake {
        fn run(&self, inputs: &[&Array], outputs: &[usize]) -> Result<Vec<Array>, Error> {
            let first = match inputs[0].data() {
                Data::F32(values) => values.clone(),
                Data::I32(ids) => ids.iter().map(|&id| id as f32).collect(),
                other => panic!("{other:?}"),
            };
            let step = first.len() / inputs[0].batch();
            let rows: Vec<f32> = first.iter().step_by(step).flat_map(|&v| [v, inputs.len() as f32]).collect();
            Ok(vec![Array::new([inputs[0].batch(), 2], rows); outputs.len()])
        }
    }

    fn towers(inputs: &[&str], outputs: &[&str], fills_batches: bool) -> Vec<Tower> {
        let summary = file(inputs, outputs, &[]);
        let signatures = Signature::of(&summary).unwrap();
        let outputs = summary.outputs.into_iter().map(|port| port.name).collect();
        let [name, path] = ["text.onnx", "out/text.onnx"].map(str::to_owned);
        let file = File { name, path, outputs, session: Box::new(Fake), fills_batches };
        Tower::of_file(file, signatures).unwrap()
    }

    fn text(fills_batches: bool) -> Tower {
        towers(&["ids int32 [N, 2]"], &["out float [N, 2]"], fills_batches).remove(0)
    }

    fn ids(rows: &[i64]) -> Array {
        Array::new([rows.len(), 2], rows.iter().flat_map(|&id| [id, 0]).collect::<Vec<i64>>())
    }

    fn firsts(found: &Array) -> Vec<f32> {
        (0..found.batch()).map(|row| found.row(row)[0]).collect()
    }

    #[test]
    fn ids_are_fed_in_the_type_of_the_file() {
        assert_eq!(firsts(&text(false).run(&[ids(&[7, 8])]).unwrap()), [7.0, 8.0]);
        let error = text(false).run(&[ids(&[1 << 40])]).unwrap_err().to_string();
        assert_eq!(
            error,
            "out/text.onnx is no tower this tool can feed: input `ids` is int32, and is fed other numbers"
        );
        let error = text(false).run(&[Array::new([1, 3], vec![0i64; 3])]).unwrap_err().to_string();
        assert!(error.contains("input `ids` is [N, 2], not [1, 3]"), "{error}");
    }

    #[test]
    fn batches_begin_again_at_the_first_row() {
        let (tower, inputs) = (text(false), [ids(&[1, 2, 3])]);
        assert_eq!(firsts(&tower.run_all(&inputs, 2).unwrap()), [1.0, 2.0, 3.0, 1.0]);
        assert_eq!(firsts(&tower.run_batches(&inputs, 2, 1).unwrap()), [1.0, 2.0]);
        assert_eq!(firsts(&tower.run_batches(&inputs, 4, 1).unwrap()), [1.0, 2.0, 3.0, 1.0]);
        assert!(tower.run_all(&[ids(&[])], 2).is_err());
    }

    #[test]
    fn batches_are_filled_and_the_rest_is_left_out() {
        let items: Vec<Vec<Array>> = [5, 6].map(|id| vec![ids(&[id])]).to_vec();
        for fills_batches in [false, true] {
            let found = text(fills_batches).embed(&items.iter().collect::<Vec<_>>(), 4).unwrap();
            assert_eq!(found, [[5.0, 1.0], [6.0, 1.0]]);
        }
        assert!(text(true).embed(&[], 4).unwrap().is_empty());
    }

    #[test]
    fn both_towers_of_a_file_are_fed() {
        let outputs = ["text_embeds float [N, 2]", "image_embeds float [N, 2]"];
        let towers = towers(&["ids int32 [N, 2]", "x float [N, 3, 1, 1]"], &outputs, false);
        let [image, text] = &towers[..] else { panic!("{}", towers.len()) };
        assert!(!image.is_alone() && image.output_at("image_embeds") == Some(1));
        let found = text.run(&[ids(&[9])]).unwrap();
        assert_eq!(found.row(0), [9.0, 2.0]);
    }
}
