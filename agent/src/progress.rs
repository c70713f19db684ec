//! What a person sees while a run is on: bars at a terminal, plain lines anywhere else.

use std::io::{IsTerminal as _, Write as _};
use std::time::Duration;

use bootstrap::bundle::Role;
use bootstrap::plan::Plan;
use bootstrap::state::{NodeState, Trust};
use indicatif::{HumanBytes, ProgressBar, ProgressDrawTarget, ProgressStyle};
use tokio::sync::watch;
use tokio::task::JoinHandle;

/// Plain lines about bytes come at most this often.
const PLAIN_EVERY: Duration = Duration::from_secs(5);

/// A display that follows the state.
#[derive(Debug)]
pub struct Shown {
    task: Option<JoinHandle<()>>,
}

impl Shown {
    /// Waits until the last state is shown; the board must be gone by then.
    pub async fn finish(self) {
        if let Some(task) = self.task {
            // A display that broke is no reason to fail.
            let _ = task.await;
        }
    }
}

/// Follows `states` on standard error until the board is gone.
#[must_use]
pub fn show(states: watch::Receiver<NodeState>, quiet: bool) -> Shown {
    if quiet {
        return Shown { task: None };
    }
    let task = if std::io::stderr().is_terminal() { tokio::spawn(bars(states)) } else { tokio::spawn(lines(states)) };
    Shown { task: Some(task) }
}

async fn bars(mut states: watch::Receiver<NodeState>) {
    let bar = ProgressBar::with_draw_target(Some(0), ProgressDrawTarget::stderr());
    let template = "{prefix:>9} {bar:30} {bytes:>10} of {total_bytes:10} {bytes_per_sec:>12} {wide_msg}";
    if let Ok(style) = ProgressStyle::with_template(template) {
        bar.set_style(style);
    }
    let mut said = Said::default();
    loop {
        let state = states.borrow_and_update().clone();
        for line in said.news(&state) {
            bar.println(line);
        }
        bar.set_prefix(state.phase.as_str());
        bar.set_length(state.bytes.total);
        bar.set_position(state.bytes.done);
        bar.set_message(activity(&state));
        bar.tick();
        tokio::time::sleep(Duration::from_millis(100)).await;
        if states.changed().await.is_err() {
            break;
        }
    }
    bar.finish_and_clear();
}

async fn lines(mut states: watch::Receiver<NodeState>) {
    let mut said = Said::default();
    let mut last_bytes = tokio::time::Instant::now();
    loop {
        let state = states.borrow_and_update().clone();
        for line in said.news(&state) {
            print(&line);
        }
        if last_bytes.elapsed() >= PLAIN_EVERY && state.bytes.total > 0 && !state.phase.is_final() {
            let (done, total) = (HumanBytes(state.bytes.done), HumanBytes(state.bytes.total));
            print(&format!("{}: {done} of {total}, {}", state.phase.as_str(), activity(&state)));
            last_bytes = tokio::time::Instant::now();
        }
        if states.changed().await.is_err() {
            break;
        }
    }
}

/// What was told already, so that it is told once.
#[derive(Debug, Default)]
struct Said {
    phases: usize,
    warnings: usize,
    bundle: bool,
    wait: Option<(String, String)>,
}

impl Said {
    fn news(&mut self, state: &NodeState) -> Vec<String> {
        let mut news = Vec::new();
        for time in state.timeline.iter().skip(self.phases) {
            news.push(format!("phase {}", time.phase.as_str()));
        }
        self.phases = state.timeline.len();
        if let (Some(bundle), false) = (&state.bundle, self.bundle) {
            let source = state.sources.iter().find(|source| source.verdict == "in-use");
            let from = source.map_or("", |source| source.source.as_str());
            news.push(format!("bundle {} from {from}, installed in {}", bundle.name, bundle.directory));
            self.bundle = true;
        }
        for warning in state.warnings.iter().skip(self.warnings) {
            news.push(format!("warning[{}", warning.replacen(": ", "]: ", 1)));
        }
        self.warnings = state.warnings.len();
        let wait = state.wait.as_ref().map(|wait| (wait.waits_for.clone(), wait.last_error.clone()));
        if let (Some(wait), true) = (&state.wait, wait != self.wait) {
            news.push(format!(
                "waiting for {} since {}: {}; next try {}, given up at {}",
                wait.waits_for, wait.since, wait.last_error, wait.next_try, wait.deadline
            ));
        }
        self.wait = wait;
        news
    }
}

fn activity(state: &NodeState) -> String {
    if let Some(wait) = &state.wait {
        return format!("waiting for {}: {}", wait.waits_for, wait.last_error);
    }
    let objects: Vec<&str> = state.active.iter().map(|active| active.object.as_str()).collect();
    objects.join(", ")
}

/// A plan as lines for people.
#[must_use]
pub fn plan_lines(plan: &Plan) -> String {
    if plan.is_empty() {
        return "plan: nothing to do\n".to_owned();
    }
    let mut text = format!("plan: {} steps, {} to fetch\n", plan.steps.len(), HumanBytes(plan.bytes()));
    for (number, step) in plan.steps.iter().enumerate() {
        let bytes = if step.bytes() > 0 { HumanBytes(step.bytes()).to_string() } else { String::new() };
        text += &format!("{:>4}  {bytes:>11}  {step}\n", number + 1);
    }
    text
}

/// The last words of a run that went well.
#[must_use]
pub fn summary(state: &NodeState, took: Duration) -> String {
    let bundle = state.bundle.as_ref();
    let directory = bundle.map_or("", |bundle| bundle.directory.as_str());
    let role = state.role;
    if state.steps.total == 0 {
        return format!("{role}: nothing to do: {directory} is installed ({:.2} s)\n", took.as_secs_f64());
    }
    let without = match bundle.and_then(|bundle| bundle.kubernetes.as_ref()) {
        None if role != Role::Etcd => ", without Kubernetes, which the bundle does not bring",
        _ => "",
    };
    let trust = match bundle.map(|bundle| (bundle.trust, bundle.signed_by.join(" and "))) {
        Some((Trust::Legacy, _)) => "not verified: stock ISO without manifest".to_owned(),
        Some((Trust::Signed, keys)) => format!("every byte verified against the manifest, which {keys} signed"),
        _ => "every byte verified against the manifest".to_owned(),
    };
    let bytes: u64 = state.sources.iter().map(|source| source.bytes).sum();
    format!(
        "{role}: installed {directory}{without}: {} steps, {} fetched in {:.1} s; {trust}\n",
        state.steps.done,
        HumanBytes(bytes),
        took.as_secs_f64()
    )
}

/// A reader that went away is no failure of ours.
fn print(line: &str) {
    let _ = writeln!(std::io::stderr(), "{line}");
}
