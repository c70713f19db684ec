//! The end of a run: medians, and ratios beside the goals.

use bootstrap::bundle::Role;
use cks_tests::link::PAYLOAD;

use crate::content::Layers;
use crate::measure::Measured;
use crate::rounds::{Case, Results, Row, Way};

/// Peak memory of the agent, KiB.
const MEMORY_KIB: u64 = 48 << 10;
/// Seconds of a run with nothing to do.
const SECOND_RUN: f64 = 0.5;
/// Of a whole run, after a kill at half of the bytes.
const AFTER_KILL: f64 = 0.6;
/// Of what the link allows.
const LINK_SHARE: f64 = 0.9;
/// Of a role's bytes, fetched a second time after a kill.
const AGAIN: f64 = 0.01;

/// Prints everything.
pub(crate) fn print(results: &Results) {
    println!(
        "\n{:26} {:24} {:>7} {:>6} {:>7} {:>7} {:>8} {:>8} {:>8} {:>6} {:>6}",
        "MEDIANS: role/Mbit/containerd",
        "",
        "WALL s",
        "+SYNC",
        "CPU s",
        "ctrd s",
        "WRIT MB",
        "DISK MB",
        "NET MB",
        "MiB",
        "ctrd"
    );
    for row in &results.rows {
        let number = |of: fn(&Measured) -> f64| median(row, of);
        println!(
            "{:29} {:21} {:>7.2} {:>6.2} {:>7.2} {:>7.2} {:>8.1} {:>8.1} {:>8.1} {:>6.0} {:>6.0}",
            row.case.to_string(),
            row.way.to_string(),
            wall(row),
            number(|run| run.sync),
            number(|run| run.tools_cpu),
            number(|run| run.containerd_cpu),
            number(|run| run.written as f64 / 1e6),
            number(|run| run.disk as f64 / 1e6),
            number(|run| run.fetched as f64 / 1e6),
            number(|run| run.peak_kib as f64 / 1024.0),
            number(|run| run.containerd_peak_kib as f64 / 1024.0),
        );
    }
    println!(
        "CPU: of the tools and, apart, of containerd. WRIT: given to the page cache for the disk by both. DISK: what\n\
         reached the disk until the sync was over, by whomever. NET: sent by the web server. MiB: peak memory of the\n\
         largest tool, and of containerd. The stock way is without its sleeps. After kill: the run that does the rest."
    );
    println!("\n{:72} {:>8} {:>8}", "RATIOS", "", "GOAL");
    for row in &results.rows {
        goals(row, results);
    }
}

fn goals(row: &Row, results: &Results) {
    let name = format!("{} {}", row.case, row.way.to_string().trim());
    let found = |way: Way| results.rows.iter().find(|other| other.case == row.case && other.way == way);
    match row.way {
        Way::Stock => {}
        Way::Ours(layers) => {
            if let Some(stock) = found(Way::Stock) {
                against(&name, row, stock, layers);
            }
            if let Some(megabits) = row.case.link {
                over_link(&name, row, megabits, layers, results);
            }
            memory(&name, row);
        }
        Way::Again(_) => {
            line(&format!("{name}: wall s"), wall(row), Some(SECOND_RUN));
            line(&format!("{name}: MB written"), median(row, |run| run.written as f64 / 1e6), Some(0.0));
        }
        Way::AfterKill(layers) => {
            let Some(whole) = found(Way::Ours(layers)) else { return };
            line(&format!("{name}: wall / whole run"), wall(row) / wall(whole), Some(AFTER_KILL));
            let again = median(row, |run| run.again as f64) / row.bytes.unwrap_or(1) as f64;
            line(&format!("{name}: fetched twice / bytes of the role"), again, Some(AGAIN));
        }
        Way::Large => memory(&name, row),
    }
}

/// Ours by stock; without a slow link these have goals.
fn against(name: &str, ours: &Row, stock: &Row, layers: Layers) {
    let ratio = |of: fn(&Measured) -> f64| median(ours, of) / median(stock, of);
    let fast = ours.case.link.is_none();
    let (goal, bytes) = (wall_goal(&ours.case, layers), written_goal(&ours.case, layers));
    line(&format!("{name}: wall / stock"), wall(ours) / wall(stock), fast.then_some(goal));
    line(&format!("{name}: CPU, containerd's included / stock"), ratio(Measured::cpu), None);
    line(&format!("{name}: bytes written / stock"), ratio(|run| run.written as f64), bytes.filter(|_| fast));
    line(&format!("{name}: bytes fetched / stock"), ratio(|run| run.fetched as f64), None);
    line(&format!("{name}: peak memory / stock"), ratio(|run| run.peak_kib as f64), None);
}

/// The share of what the link allows for the bytes of the role; less will do where the CPU is the bound.
fn over_link(name: &str, row: &Row, megabits: u32, layers: Layers, results: &Results) {
    let Some(bytes) = row.bytes else { return };
    let allowed = bytes as f64 * 8.0 / (f64::from(megabits) * 1e6 * PAYLOAD);
    let share = allowed / wall(row);
    let unbound = Case { link: None, ..row.case.clone() };
    let stock = results.rows.iter().find(|other| other.case == unbound && other.way == Way::Stock);
    let bound = stock.map(|stock| wall_goal(&row.case, layers) * wall(stock));
    let what = format!("{name}: share of the link ({:.0} MB in {allowed:.2} s)", bytes as f64 / 1e6);
    if share < LINK_SHARE
        && let Some(bound) = bound
        && bound > allowed / LINK_SHARE
    {
        line(&what, share, None);
        line(&format!("{name}: wall / CPU bound ({bound:.2} s)"), wall(row) / bound, Some(1.0));
        return;
    }
    let verdict = if share >= LINK_SHARE { "met".to_owned() } else { missed(LINK_SHARE / share) };
    println!("{what:72} {share:>8.3} {:>8}  {verdict}", format!("≥ {LINK_SHARE}"));
}

fn memory(name: &str, row: &Row) {
    let peak = row.runs.iter().map(|run| run.peak_kib).max().unwrap_or_default();
    line(&format!("{name}: peak memory, MiB"), peak as f64 / 1024.0, Some(MEMORY_KIB as f64 / 1024.0));
}

fn wall_goal(case: &Case, layers: Layers) -> f64 {
    match (case.role, layers) {
        (Role::Worker, Layers::Upstream) => 0.20,
        (Role::Worker, Layers::Zstd) => 0.14,
        (Role::ControlPlane, Layers::Upstream) => 0.25,
        (Role::ControlPlane, Layers::Zstd) => 0.17,
        (Role::Etcd, _) => 0.15,
    }
}

fn written_goal(case: &Case, layers: Layers) -> Option<f64> {
    match (case.role, layers) {
        (Role::Worker, Layers::Upstream) => Some(0.55),
        (Role::Etcd, _) => Some(0.06),
        _ => None,
    }
}

/// A value that shall be at most `goal`.
fn line(what: &str, value: f64, goal: Option<f64>) {
    match goal {
        None => println!("{what:72} {value:>8.3}"),
        Some(goal) => {
            let verdict = if value <= goal { "met".to_owned() } else { missed(value / goal) };
            println!("{what:72} {value:>8.3} {:>8}  {verdict}", format!("≤ {goal}"));
        }
    }
}

fn missed(factor: f64) -> String {
    if factor.is_finite() { format!("MISSED by a factor of {factor:.2}") } else { "MISSED".to_owned() }
}

fn median(row: &Row, of: impl Fn(&Measured) -> f64) -> f64 {
    let mut all: Vec<f64> = row.runs.iter().map(of).collect();
    all.sort_by(f64::total_cmp);
    all.get(all.len() / 2).copied().unwrap_or_default()
}

fn wall(row: &Row) -> f64 {
    median(row, |run| run.wall)
}
