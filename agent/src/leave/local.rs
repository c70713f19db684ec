//! What is done on the machine itself: look, plan, act, and look again until nothing is left to do.

use std::time::{Instant, SystemTime};

use bootstrap::failure::Failure;
use bootstrap::leaving::facts::Facts;
use bootstrap::leaving::{Action, Left, Report, Wishes, begin, plan};

use super::{act, facts, record, unmount};
use crate::board::Board;
use crate::host::Host;

/// What goes lets other things go: pods their mounts, mounts their directories. More rounds than this would mean that
/// something else makes it again.
const MAX_ROUNDS: usize = 5;

/// Writes down what is not to be found out afterwards. It began `at` this time, unless it began earlier already: to the
/// microsecond, for a membership that is as young as a second is older than that.
///
/// # Errors
/// `NO_SPACE` and `IO` name the file.
pub(super) fn note(host: &Host, facts: &Facts, at: SystemTime) -> Result<(), Failure> {
    record::write(host, &begin(facts, &humantime::format_rfc3339_micros(at).to_string()))
}

/// Takes away all that can be taken away, and tells it in `report`. The last look decides: what is still planned is left,
/// whatever its step said.
///
/// # Errors
/// `NO_SPACE` and `IO` name the record of the leave, or the table of mounts.
pub(super) async fn clean(
    host: &Host,
    wishes: Wishes,
    at: SystemTime,
    report: &mut Report,
    board: &Board,
) -> Result<(), Failure> {
    let mut tried: Vec<(Action, Vec<Left>)> = Vec::new();
    let mut deadline = None;
    for round in 0.. {
        let facts = facts::gather(host).await?;
        let actions = plan(&facts, wishes);
        let further = actions.iter().ne(tried.iter().map(|(action, _)| action));
        if actions.is_empty() || !further || round == MAX_ROUNDS {
            report.clean = actions.is_empty() && facts.unread.is_empty();
            report.left = actions.iter().flat_map(|action| why(action, &tried)).chain(facts.unread).collect();
            break;
        }
        note(host, &facts, at)?;
        tried.clear();
        for action in actions {
            // From the first mount on: what goes before it takes its own time.
            let deadline = match action {
                Action::Unmount { .. } => *deadline.get_or_insert_with(|| Instant::now() + unmount::PATIENCE),
                _ => Instant::now(),
            };
            let left = act::act(host, &action, &facts, deadline, board).await;
            if left.is_empty() {
                tracing::info!("{action}");
                told(report, &action);
            }
            tried.push((action, left));
        }
    }
    let left = report.left.iter().map(|left| format!("LEAVE_INCOMPLETE: {}: {}", left.object, left.why));
    left.for_each(|text| board.warn(text));
    Ok(())
}

/// Why an action is still to be done.
fn why(action: &Action, tried: &[(Action, Vec<Left>)]) -> Vec<Left> {
    match tried.iter().find(|(known, left)| known == action && !left.is_empty()) {
        Some((_, left)) => left.clone(),
        None => vec![Left { object: action.to_string(), why: "is there again after it was taken away".to_owned() }],
    }
}

/// What went in several rounds is told once.
fn told(report: &mut Report, action: &Action) {
    let same = |known: &Action| match (known, action) {
        (Action::RemovePods { .. }, Action::RemovePods { .. }) => true,
        (Action::CleanFilter { filter: one, .. }, Action::CleanFilter { filter: other, .. }) => one == other,
        (known, action) => known == action,
    };
    if !report.actions.iter().any(same) {
        report.actions.push(action.clone());
    }
}
