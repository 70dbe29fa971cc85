//! What need not be found out again: the same statement runs thousands of times in a session.
//!
//! Kept by the identity of an analysis, which is that of a text under one catalogue and one search_path. Must hold:
//! a statement is kept only when nothing of its verdict depends on the session's state or on the clock, so that
//! judging it again would come to the same; the gate is asked each time whether that still stands.
use std::collections::HashMap;
use std::sync::Arc;
use std::time::Instant;

use prost::Message as _;
use sluice_api::record;
use sluice_protocol::postgres::sql::{Analysis, Effects, Statement};

use super::Tape;
use super::budget::Budget;
use super::execution::{Run, Shape, Understood};
use super::machine::Machine;
use super::understand::{Verdict, Wish, cut_parameters, recorded};
use crate::gate::{Permit, Repeatable};
use crate::masking::RowMask;

/// More different statements, or shapes of results, are forgotten together: a session that has so many does not
/// repeat them.
const MOST: usize = 256;
/// Longer texts are recorded in another way.
const MAX_TEXT: usize = 64 << 10;

/// Which statement: the address of an analysis that is held, and the place in it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) struct KnownKey(usize, usize);

impl KnownKey {
    fn of(understood: &Understood) -> Self {
        Self(Arc::as_ptr(&understood.analysis).addr(), understood.index)
    }
}

struct Known {
    /// Holds the address.
    _analysis: Arc<Analysis>,
    permitted: Repeatable,
    sensitive: bool,
    /// Everything of the recorded operation but its number, text and parameters.
    operation: Box<[u8]>,
    shown: Option<Shown>,
}

/// How its result was shown.
struct Shown {
    /// Under this policy.
    generation: u64,
    shape: Arc<Shape>,
    mask: Arc<RowMask>,
    /// The recorded columns.
    columns: Box<[u8]>,
}

/// What one session knows.
#[derive(Default)]
pub(super) struct Memory {
    statements: HashMap<KnownKey, Known>,
    /// By the body of a RowDescription.
    shapes: HashMap<Box<[u8]>, Arc<Shape>>,
}

impl Memory {
    /// The shape that a RowDescription with this body describes, if it was met before.
    pub(super) fn shape(&self, body: &[u8]) -> Option<Arc<Shape>> {
        self.shapes.get(body).cloned()
    }

    /// Remembers it.
    pub(super) fn keep_shape(&mut self, body: &[u8], shape: &Arc<Shape>) {
        if self.shapes.len() >= MOST {
            self.shapes.clear();
        }
        self.shapes.insert(body.into(), Arc::clone(shape));
    }
}

impl<R: Tape> Machine<R> {
    /// A statement that was permitted before, permitted and recorded again. `None`: it has to be judged.
    pub(super) fn run_again(&mut self, wish: &Wish) -> Option<Run> {
        let key = KnownKey::of(&wish.understood);
        let permit = self.gated.again(&self.memory.statements.get(&key)?.permitted)?;
        let number = self.operation();
        let known = self.memory.statements.get(&key)?;
        self.tape.operation_again(number, &wish.text, &cut_parameters(&wish.parameters), &known.operation);
        let sensitive = known.sensitive;
        let obligations = permit.obligations();
        self.strict |= obligations.record_strict;
        Some(Run {
            operation: number,
            outputs: Some(wish.understood.clone()),
            started: Instant::now(),
            rows: 0,
            budget: Budget::of(&permit),
            strict: obligations.record_strict,
            sensitive,
            copy_to: None,
            after: Vec::new(),
            portal: wish.portal.clone(),
            described: false,
            known: Some(key),
        })
    }

    /// Remembers a statement that was permitted, where nothing else than its text decides about it.
    pub(super) fn remember(&mut self, wish: &Wish, statement: &Statement, permit: &Permit, run: &mut Run) {
        let plain = run.after.is_empty()
            && run.copy_to.is_none()
            && !statement.taints
            && !statement.effects.contains(Effects::SESSION)
            && !statement.effects.contains(Effects::TRANSACTION)
            && wish.text.len() <= MAX_TEXT;
        let Some(permitted) = permit.repeatable().filter(|_| plain) else { return };
        let operation = record::Operation {
            id: 0,
            text: String::new(),
            parameters: Vec::new(),
            ..recorded(0, wish, statement, Verdict::Permit(permit.rules(), None))
        };
        let key = KnownKey::of(&wish.understood);
        if self.memory.statements.len() >= MOST {
            self.memory.statements.clear();
        }
        let known = Known {
            _analysis: Arc::clone(&wish.understood.analysis),
            permitted,
            sensitive: run.sensitive,
            operation: operation.encode_to_vec().into(),
            shown: None,
        };
        self.memory.statements.insert(key, known);
        run.known = Some(key);
    }

    /// How the rows of `run` are shown, and on record what they are.
    pub(super) fn show_rows(&mut self, run: &Run, shape: &Arc<Shape>) -> Arc<RowMask> {
        let generation = self.gated.generation();
        let key = run.known.filter(|_| !run.described);
        if let Some(known) = key.and_then(|key| self.memory.statements.get(&key))
            && let Some(shown) = &known.shown
            && shown.generation == generation
            && Arc::ptr_eq(&shown.shape, shape)
        {
            self.tape.result_again(run.operation, &shown.columns);
            return Arc::clone(&shown.mask);
        }
        let (mask, columns) = self.rows_reading(run, shape);
        let mask = Arc::new(mask);
        let result = record::Result { operation: 0, columns };
        let encoded: Box<[u8]> = result.encode_to_vec().into();
        self.tape.result_again(run.operation, &encoded);
        if let Some(known) = key.and_then(|key| self.memory.statements.get_mut(&key)) {
            let (shape, mask) = (Arc::clone(shape), Arc::clone(&mask));
            known.shown = Some(Shown { generation, shape, mask, columns: encoded });
        }
        mask
    }
}
