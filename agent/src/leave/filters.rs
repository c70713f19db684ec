//! The packet filter: what is there, and what goes.

use std::collections::BTreeMap;
use std::fs;

use bootstrap::failure::{Code, Failure};
use bootstrap::leaving::Left;
use bootstrap::leaving::action::Filter;
use bootstrap::leaving::nft::Table;

use super::facts;
use crate::host::Host;
use crate::tool::Tool;

/// The programs of a packet filter that are installed. The plain ones lead to either kind: they stand for one only
/// where neither has programs of its own.
fn installed(host: &Host, filter: Filter) -> Option<(Tool, Tool)> {
    let (nft4, legacy4) =
        ((Tool::IptablesNftSave, Tool::IptablesNftRestore), (Tool::IptablesLegacySave, Tool::IptablesLegacyRestore));
    let (nft6, legacy6) = (
        (Tool::Ip6tablesNftSave, Tool::Ip6tablesNftRestore),
        (Tool::Ip6tablesLegacySave, Tool::Ip6tablesLegacyRestore),
    );
    let (plain4, plain6) = ((Tool::IptablesSave, Tool::IptablesRestore), (Tool::Ip6tablesSave, Tool::Ip6tablesRestore));
    let there = |(save, restore): &(Tool, Tool)| save.find(host).is_some() && restore.find(host).is_some();
    match filter {
        Filter::Nft4 => Some(nft4).filter(there).or(Some(plain4).filter(|plain| !there(&legacy4) && there(plain))),
        Filter::Nft6 => Some(nft6).filter(there).or(Some(plain6).filter(|plain| !there(&legacy6) && there(plain))),
        Filter::Legacy4 => Some(legacy4).filter(there),
        Filter::Legacy6 => Some(legacy6).filter(there),
    }
}

/// Whether the kernel has tables of the older kind. Their programs are not run otherwise: they would make some.
fn has_tables(host: &Host, filter: Filter) -> bool {
    let names = |path: &str| fs::read_to_string(host.path(path)).is_ok_and(|names| !names.trim().is_empty());
    match filter {
        Filter::Nft4 | Filter::Nft6 => true,
        Filter::Legacy4 => names("/proc/net/ip_tables_names"),
        Filter::Legacy6 => names("/proc/net/ip6_tables_names"),
    }
}

/// The rules of all packet filters of this machine, as their `save` programs print them. A kernel without the one kind has
/// the other; what else can't be read is told in `unread`.
pub(super) async fn saved(host: &Host, unread: &mut Vec<Left>) -> BTreeMap<Filter, String> {
    let mut saved = BTreeMap::new();
    for filter in Filter::ALL.into_iter().filter(|filter| has_tables(host, *filter)) {
        let Some((save, _)) = installed(host, filter) else { continue };
        if let Some(text) = facts::said(save.call(host), unread).await {
            saved.insert(filter, text);
        }
    }
    saved
}

/// Takes chains and rules away; all of a table's or none.
pub(super) async fn clean(host: &Host, filter: Filter, text: &str) -> Result<(), Failure> {
    let Some((_, restore)) = installed(host, filter) else {
        return Err(Failure::new(Code::ToolMissing, format!("{} is not installed", filter.as_str())));
    };
    // Another program may hold the older tables' lock.
    restore.call(host).args(["--noflush", "--wait", "5"]).input(text).ok(Code::Io).await.map(drop)
}

/// Deletes a table of nftables.
pub(super) async fn delete_table(host: &Host, table: &Table) -> Result<(), Failure> {
    Tool::Nft.call(host).args(["-f", "-"]).input(table.script()).ok(Code::Io).await.map(drop)
}
