//! Training steps as CUDA graphs: recorded once for each batch size and image size, checked against
//! steps without a graph, then launched as a whole.
//!
//! A graph reads the schedule of the epoch at a cursor on the device and advances it, so a step needs
//! nothing from the host but the seed of dropout, which libtorch passes to a graph as it does to a
//! step without one.

use anyhow::{Result, anyhow};
use tch::{Device, Kind, Tensor};
use torch_ext::cuda::{Graph, SideStream};

use crate::device::{catch_torch_panics, is_out_of_memory};

/// Steps without a graph before one is recorded: libraries allocate at their first use.
const WARMUP_STEPS: u32 = 2;
/// Steps that are computed both ways before a graph is trusted.
const CHECKED_STEPS: u32 = 3;
/// Largest difference of a checked step, relative to the change that the step makes. A graph runs
/// the same kernels, so it is 0 unless something is wrong.
const TOLERANCE: f64 = 1e-3;

/// The graphs of a run.
#[derive(Debug)]
pub struct StepGraphs {
    cursor: Tensor,
    entries: Vec<Entry>,
    /// Graphs are captured from this stream, and all else runs on it too. Dropped last.
    _stream: SideStream,
}

/// The steps of one shape.
#[derive(Debug)]
struct Entry {
    images: i64,
    side: usize,
    /// Steps computed without a graph.
    warmups: u32,
    graph: Option<Graph>,
    /// Steps computed with and without the graph.
    checked: u32,
}

/// What the training step must provide.
pub trait GraphStep {
    /// Seeds libtorch's generator for the step.
    fn seed(&self);
    /// Computes the step at `cursor` and advances it.
    ///
    /// # Errors
    /// Those of libtorch.
    fn compute(&mut self, cursor: &Tensor) -> Result<()>;
    /// All tensors that the step changes.
    fn state(&self) -> Vec<Tensor>;
}

impl StepGraphs {
    /// Prepares graphs on the CUDA device `index`.
    ///
    /// # Errors
    /// Those of CUDA.
    pub fn new(index: usize) -> Result<Self> {
        let stream = SideStream::enter(index)?;
        let cursor = Tensor::f_zeros([1], (Kind::Int64, Device::Cuda(index)))?;
        Ok(Self { cursor, entries: Vec::new(), _stream: stream })
    }

    /// Starts an epoch at `step` with images of `side` x `side` pixels. Graphs of other sizes are
    /// freed.
    pub fn begin_epoch(&mut self, step: u64, side: usize) -> Result<()> {
        self.entries.retain(|entry| entry.side == side);
        let _ = self.cursor.f_fill_(i64::try_from(step)?)?;
        Ok(())
    }

    /// Runs a step of `images` images of `side` x `side` pixels, with a graph if there is one.
    ///
    /// # Errors
    /// Those of libtorch in a step without a graph; [`Unusable`](StepOutcome::Unusable) is the
    /// outcome for those of graphs.
    pub fn run(&mut self, images: i64, side: usize, step: &mut impl GraphStep) -> Result<StepOutcome> {
        let cursor = &self.cursor;
        let index = self.entries.iter().position(|entry| (entry.images, entry.side) == (images, side));
        let index = index.unwrap_or_else(|| {
            self.entries.push(Entry { images, side, warmups: 0, graph: None, checked: 0 });
            self.entries.len() - 1
        });
        let Some(entry) = self.entries.get_mut(index) else { return Err(anyhow!("the steps have no entry {index}")) };
        if entry.warmups < WARMUP_STEPS {
            entry.warmups += 1;
            step.seed();
            step.compute(cursor)?;
            return Ok(StepOutcome::Done);
        }
        let graph = match &entry.graph {
            Some(graph) => graph,
            None => match Graph::capture(|| catch_torch_panics(|| step.compute(cursor))) {
                Ok(graph) => entry.graph.insert(graph),
                Err(error) => return Ok(StepOutcome::NotRecorded(reason(&error))),
            },
        };
        if entry.checked >= CHECKED_STEPS {
            step.seed();
            graph.replay()?;
            return Ok(StepOutcome::Done);
        }
        match check(graph, cursor, step)? {
            Check::Same => entry.checked += 1,
            // The run has diverged, which is found out elsewhere.
            Check::NotFinite => {}
            Check::NotDone(problem) => return Ok(StepOutcome::NotRecorded(problem)),
            Check::Different(problem) => return Ok(StepOutcome::Unusable(problem)),
        }
        Ok(StepOutcome::Done)
    }
}

/// The result of computing a step both ways.
enum Check {
    /// They agree; the graph's result stands.
    Same,
    /// The result without the graph is not finite, and stands.
    NotFinite,
    /// Nothing was computed: why.
    NotDone(String),
    /// They differ, or the graph failed: how. The result without the graph stands.
    Different(String),
}

/// What became of a step.
#[derive(Debug, PartialEq, Eq)]
pub enum StepOutcome {
    /// The step is done.
    Done,
    /// It was not computed, since no graph could be recorded: why.
    NotRecorded(String),
    /// It was computed without a graph, since the graph is wrong: why.
    Unusable(String),
}

/// The first line of an error, whose others are libtorch's advice.
fn reason(error: &anyhow::Error) -> String {
    format!("{error:#}").lines().next().unwrap_or_default().to_owned()
}

/// Computes a step without and with `graph` from the same state, and compares what they change.
///
/// # Errors
/// Those of libtorch in the step without the graph.
fn check(graph: &Graph, cursor: &Tensor, step: &mut impl GraphStep) -> Result<Check> {
    let mut state = step.state();
    state.push(cursor.shallow_clone());
    let copies = |tensors: &[Tensor]| -> Result<Vec<Tensor>> {
        Ok(tensors.iter().map(|tensor| tensor.f_detach()?.f_detach_copy()).collect::<Result<Vec<_>, _>>()?)
    };
    let restore = |to: &mut [Tensor], from: &[Tensor]| {
        tch::no_grad(|| to.iter_mut().zip(from).try_for_each(|(to, from)| to.f_copy_(from)))
    };
    let before = match copies(&state) {
        Ok(before) => before,
        Err(error) => return Ok(Check::NotDone(reason(&error))),
    };
    step.seed();
    match catch_torch_panics(|| step.compute(cursor)) {
        // The graph has memory of its own, without which the step may fit.
        Err(error) if is_out_of_memory(&format!("{error:#}")) => {
            restore(&mut state, &before)?;
            return Ok(Check::NotDone(reason(&error)));
        }
        computed => computed?,
    }
    let expected = match copies(&state) {
        Ok(expected) => expected,
        Err(error) => return Ok(Check::Different(reason(&error))),
    };
    restore(&mut state, &before)?;
    step.seed();
    let problem = match graph.replay() {
        Err(error) => Some(reason(&error)),
        Ok(()) => {
            let found = before.iter().zip(&expected).zip(&state).map(|((before, expected), found)| {
                let distance = |a: &Tensor, b: &Tensor| {
                    f64::try_from(a.f_to_kind(Kind::Float)?.f_sub(&b.f_to_kind(Kind::Float)?)?.f_norm()?)
                };
                Ok((distance(found, expected)?, distance(expected, before)?))
            });
            let found = found.collect::<Result<Vec<(f64, f64)>>>()?;
            if found.iter().any(|(_, change)| !change.is_finite()) {
                restore(&mut state, &expected)?;
                return Ok(Check::NotFinite);
            }
            let differs =
                found.into_iter().find(|(difference, change)| difference.is_nan() || *difference > TOLERANCE * change);
            differs.map(|(difference, change)| {
                format!("the results of a graph differ from those of a step without one by {difference:.1e}, where a step changes {change:.1e}")
            })
        }
    };
    let Some(problem) = problem else { return Ok(Check::Same) };
    restore(&mut state, &expected)?;
    Ok(Check::Different(problem))
}
