//! What the loom models share: they are run, and their mutants must fail.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering::SeqCst};

/// Runs a model through every execution with at most so many preemptions, or `LOOM_MAX_PREEMPTIONS`; how many
/// there are. `None` is every execution.
pub fn check(preemptions: Option<usize>, model: impl Fn() + Sync + Send + 'static) -> usize {
    let executions = Arc::new(AtomicUsize::new(0));
    let count = Arc::clone(&executions);
    let mut builder = loom::model::Builder::new();
    builder.preemption_bound = builder.preemption_bound.or(preemptions);
    builder.check(move || {
        count.fetch_add(1, SeqCst);
        model();
    });
    executions.load(SeqCst)
}

/// The model must fail, and say one of these: what it is about.
pub fn fails(preemptions: Option<usize>, model: impl Fn() + Sync + Send + 'static, about: &[&str]) {
    let panic = catch_unwind(AssertUnwindSafe(|| check(preemptions, model))).expect_err("the mutant was not found");
    let said = panic.downcast_ref::<String>().cloned().or(panic.downcast_ref::<&str>().map(|s| (*s).to_owned()));
    let said = said.expect("a message");
    assert!(about.iter().any(|words| said.contains(words)), "not about {about:?}: {said}");
}
