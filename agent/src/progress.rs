//! What a person sees while a run is on: bars at a terminal, plain lines anywhere else.

use std::io::Write as _;
use std::time::Duration;

use bootstrap::bundle::Role;
use bootstrap::plan::Plan;
use bootstrap::state::{NodeState, Phase, Trust};
use indicatif::{HumanBytes, MultiProgress, ProgressBar, ProgressDrawTarget, ProgressStyle};
use tokio::sync::watch;
use tokio::task::JoinHandle;

use crate::terminal::Terminal;
use crate::view;
use crate::view::news::{self, News};

/// Plain lines about bytes come at most this often.
pub(crate) const PLAIN_EVERY: Duration = Duration::from_secs(5);
/// More than a person can follow is not drawn.
const PAUSE: Duration = Duration::from_millis(100);

/// A display that follows the state.
#[derive(Debug)]
pub struct Shown {
    task: Option<JoinHandle<()>>,
    /// Its end tells the display to hurry.
    hurry: watch::Sender<()>,
}

impl Shown {
    /// Waits until the last state is shown; the board must be gone by then.
    pub async fn finish(self) {
        drop(self.hurry);
        if let Some(task) = self.task {
            // A display that broke is no reason to fail.
            let _ = task.await;
        }
    }
}

/// Follows `states` on standard error until the board is gone.
#[must_use]
pub fn show(states: watch::Receiver<NodeState>, quiet: bool, terminal: Terminal) -> Shown {
    let (hurry, pace) = watch::channel(());
    let task = match (quiet, terminal.draws) {
        (true, _) => None,
        (false, true) => Some(tokio::spawn(bars(states, terminal, Pace(pace)))),
        (false, false) => Some(tokio::spawn(lines(states, Pace(pace)))),
    };
    Shown { task, hurry }
}

/// How fast a display goes on.
struct Pace(watch::Receiver<()>);

impl Pace {
    /// Lets some time pass, but not when everybody waits for the last words.
    async fn pause(&mut self) {
        let _ = tokio::time::timeout(PAUSE, self.0.changed()).await;
    }
}

/// Draws one line for the whole and one for each artefact and wait; what is done scrolls away above.
async fn bars(mut states: watch::Receiver<NodeState>, terminal: Terminal, mut pace: Pace) {
    let drawn = MultiProgress::with_draw_target(ProgressDrawTarget::stderr());
    let mut rows: Vec<ProgressBar> = Vec::new();
    let mut news = News::default();
    loop {
        let state = states.borrow_and_update().clone();
        for line in news.of(&state) {
            // A terminal that went away is no failure of ours.
            let _ = drawn.println(line);
        }
        let lines = view::live(&state, &terminal.look(std::io::stderr()));
        while rows.len() > lines.len() {
            if let Some(row) = rows.pop() {
                row.finish_and_clear();
                drawn.remove(&row);
            }
        }
        while rows.len() < lines.len() {
            let row = drawn.add(ProgressBar::new_spinner());
            if let Ok(style) = ProgressStyle::with_template("{msg}") {
                row.set_style(style);
            }
            rows.push(row);
        }
        for (row, line) in rows.iter().zip(lines) {
            row.set_message(line);
        }
        pace.pause().await;
        // Times go on where nothing else does.
        if let Ok(Err(_)) = tokio::time::timeout(Duration::from_millis(500), states.changed()).await {
            break;
        }
    }
    for row in &rows {
        row.finish_and_clear();
    }
    for line in news.of(&states.borrow()) {
        print(&line);
    }
}

async fn lines(mut states: watch::Receiver<NodeState>, mut pace: Pace) {
    let mut news = News::default();
    let mut last_summary = tokio::time::Instant::now();
    loop {
        let state = states.borrow_and_update().clone();
        for line in news.of(&state) {
            print(&line);
        }
        if last_summary.elapsed() >= PLAIN_EVERY
            && let Some(line) = news::summary(&state)
        {
            print(&line);
            last_summary = tokio::time::Instant::now();
        }
        // The last state is seen, too: a change that came meanwhile is still there when the board is gone.
        pace.pause().await;
        if states.changed().await.is_err() {
            break;
        }
    }
    for line in news.of(&states.borrow()) {
        print(&line);
    }
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
    let role = state.role_name();
    match state.phase {
        Phase::Idle => return "nothing is asked of this machine\n".to_owned(),
        Phase::Left => return "nothing to do: the node has left its cluster\n".to_owned(),
        Phase::Ready if directory.is_empty() => {
            return "nothing to do: the node is a member of its cluster\n".to_owned();
        }
        _ => {}
    }
    if state.phase == Phase::Ready {
        return format!("{role}: a member of its cluster, {directory} is in use ({:.1} s)\n", took.as_secs_f64());
    }
    if state.steps.total == 0 {
        return format!("{role}: nothing to do: {directory} is installed ({:.2} s)\n", took.as_secs_f64());
    }
    let without = match bundle.and_then(|bundle| bundle.kubernetes.as_ref()) {
        None if state.role != Some(Role::Etcd) => ", without Kubernetes, which the bundle does not bring",
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
