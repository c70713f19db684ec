//! nftables' rule set as `nft -j list ruleset` prints it (libnftables-json(5)): which tables a cluster left.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::names;

/// Tables of `iptables-nft`, made by the first program that looks at them.
const OF_IPTABLES: [&str; 5] = ["filter", "nat", "mangle", "raw", "security"];
const CHAINS_OF_IPTABLES: [&str; 5] = ["INPUT", "FORWARD", "OUTPUT", "PREROUTING", "POSTROUTING"];

/// A table that goes.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize)]
pub struct Table {
    /// `ip`, `ip6`, `inet`, …
    pub family: String,
    /// Its name.
    pub name: String,
    /// For an empty table of `iptables-nft`: its chains, none of which has a rule.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub chains: Vec<String>,
}

impl Table {
    /// What `nft -f -` takes to remove it. A chain that got a rule meanwhile can't be deleted, and then nothing is.
    #[must_use]
    pub fn script(&self) -> String {
        let Self { family, name, chains } = self;
        let chains = chains.iter().map(|chain| format!("delete chain {family} {name} {chain}\n"));
        chains.chain([format!("delete table {family} {name}\n")]).collect()
    }
}

#[derive(Deserialize)]
struct Ruleset {
    nftables: Vec<BTreeMap<String, Value>>,
}

#[derive(Default)]
struct Content {
    chains: Vec<String>,
    /// Something that is more than a chain that lets everything pass.
    holds: bool,
}

/// The tables that a cluster left, and the empty ones of `iptables-nft`. Names that nft itself would not take
/// unquoted are nobody's we know.
#[must_use]
pub fn tables(ruleset: &str, keep_cni: bool) -> Vec<Table> {
    let Ok(ruleset) = serde_json::from_str::<Ruleset>(ruleset) else { return Vec::new() };
    let mut tables: BTreeMap<(String, String), Content> = BTreeMap::new();
    for (what, object) in ruleset.nftables.iter().flatten() {
        let text = |key: &str| object.get(key).and_then(Value::as_str).unwrap_or_default().to_owned();
        match what.as_str() {
            "metainfo" => {}
            "table" => drop(tables.entry((text("family"), text("name"))).or_default()),
            "chain" => {
                let table = tables.entry((text("family"), text("table"))).or_default();
                let name = text("name");
                table.holds |= !CHAINS_OF_IPTABLES.contains(&name.as_str()) || text("policy") != "accept";
                table.chains.push(name);
            }
            _ => tables.entry((text("family"), text("table"))).or_default().holds = true,
        }
    }
    let goes = |((family, name), content): ((String, String), Content)| {
        let empty = ["ip", "ip6"].contains(&family.as_str()) && OF_IPTABLES.contains(&name.as_str()) && !content.holds;
        let chains = if empty { content.chains } else { Vec::new() };
        (empty || names::is_cluster_table(&family, &name, keep_cni)).then_some(Table { family, name, chains })
    };
    tables.into_iter().filter_map(goes).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn named(tables: &[Table]) -> Vec<String> {
        tables.iter().map(|table| format!("{} {}", table.family, table.name)).collect()
    }

    #[test]
    fn tables_of_the_cluster_go_and_those_with_rules_of_others_stay() {
        let tables = tables(include_str!("../../tests/data/leaving/nft.json"), false);
        assert_eq!(named(&tables), ["ip kube-proxy", "ip6 kube-proxy"]);
        assert_eq!(tables[0].script(), "delete table ip kube-proxy\n");
    }

    #[test]
    fn an_empty_table_of_iptables_goes_only_when_nothing_is_in_it() {
        let chain = |name: &str, policy: &str| {
            format!(r#"{{"chain":{{"family":"ip","table":"nat","name":"{name}","policy":"{policy}","hook":"x"}}}}"#)
        };
        let table = r#"{"table":{"family":"ip","name":"nat"}}"#;
        let set = r#"{"set":{"family":"ip","table":"nat","name":"s"}}"#;
        let rule = r#"{"rule":{"family":"ip","table":"nat","chain":"OUTPUT","expr":[]}}"#;
        for (more, goes) in [
            (chain("OUTPUT", "accept"), true),
            (chain("OUTPUT", "drop"), false),
            (chain("output", "accept"), false),
            (set.to_owned(), false),
            (rule.to_owned(), false),
        ] {
            let text = format!(r#"{{"nftables":[{{"metainfo":{{}}}},{table},{more}]}}"#);
            assert_eq!(tables(&text, false).len() == 1, goes, "{more}");
        }
        let text = format!(r#"{{"nftables":[{table},{}]}}"#, chain("OUTPUT", "accept"));
        assert_eq!(tables(&text, false)[0].script(), "delete chain ip nat OUTPUT\ndelete table ip nat\n");
    }

    #[test]
    fn what_is_no_rule_set_holds_nothing() {
        for text in ["", "{}", "[]", r#"{"nftables":{}}"#, r#"{"nftables":[{"table":7}]}"#] {
            assert_eq!(tables(text, false), [], "{text}");
        }
    }
}
