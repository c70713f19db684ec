//! The packet filter's rules as `iptables-save` prints them: which of them a cluster left, and what takes them away.
//!
//! What is made is no new rule set but a difference for `iptables-restore --noflush`. So nobody else's rule is
//! written, not even the same again: what another program changes meanwhile stays changed.

use super::names;

/// A table of `iptables-save`.
struct Table<'a> {
    name: &'a str,
    /// Chains that somebody made: those of the kernel have a policy.
    made: Vec<&'a str>,
    /// Rules without their counters: `-A CHAIN …`.
    rules: Vec<&'a str>,
}

/// What has to go of one rule set.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Removal {
    /// For the standard input of `iptables-restore --noflush`.
    pub text: String,
    /// Chains that go, with all their rules.
    pub chains: usize,
    /// Rules of other chains that lead there.
    pub rules: usize,
}

/// What a cluster left in the rules that `iptables-save` printed as `saved`; none when that is nothing.
/// With `keep_cni` the chains of CNI plugins stay, because another container engine of this machine has networks of them.
#[must_use]
pub fn removal(saved: &str, keep_cni: bool) -> Option<Removal> {
    let mut removal = Removal { text: String::new(), chains: 0, rules: 0 };
    for table in tables(saved) {
        let goes = |chain: &str| names::is_cluster_chain(chain, keep_cni);
        let chains: Vec<&str> = table.made.iter().copied().filter(|chain| goes(chain)).collect();
        let others = table.rules.iter().filter(|rule| chain_of(rule).is_some_and(|chain| !goes(chain)));
        let rules: Vec<&str> = others.filter_map(|rule| cluster_rule(rule, keep_cni)).collect();
        if chains.is_empty() && rules.is_empty() {
            continue;
        }
        removal.chains += chains.len();
        removal.rules += rules.len();
        let text = &mut removal.text;
        *text += &format!("*{}\n", table.name);
        rules.iter().for_each(|rule| *text += &format!("-D {rule}\n"));
        // All are emptied before the first goes: they lead to each other.
        chains.iter().for_each(|chain| *text += &format!("-F {chain}\n"));
        chains.iter().for_each(|chain| *text += &format!("-X {chain}\n"));
        text.push_str("COMMIT\n");
    }
    (!removal.text.is_empty()).then_some(removal)
}

fn tables(saved: &str) -> Vec<Table<'_>> {
    let mut tables: Vec<Table<'_>> = Vec::new();
    for line in saved.lines().map(str::trim) {
        if let Some(name) = line.strip_prefix('*') {
            tables.push(Table { name, made: Vec::new(), rules: Vec::new() });
            continue;
        }
        let Some(table) = tables.last_mut() else { continue };
        if let Some((name, rest)) = line.strip_prefix(':').and_then(|chain| chain.split_once(' ')) {
            if rest.trim_start().starts_with('-') {
                table.made.push(name);
            }
        } else if let Some(rule) = without_counters(line).strip_prefix("-A ") {
            table.rules.push(rule);
        }
    }
    tables
}

/// `[12:3456] -A …` as `iptables-save -c` prints it, without its counters.
fn without_counters(line: &str) -> &str {
    let counted = line.strip_prefix('[').and_then(|rest| rest.split_once("] "));
    counted.map_or(line, |(_, rule)| rule)
}

fn chain_of(rule: &str) -> Option<&str> {
    rule.split_ascii_whitespace().next()
}

/// The rule, where it leads into a chain of a cluster, or a cluster's comment or set tells that it is one's.
fn cluster_rule(rule: &str, keep_cni: bool) -> Option<&str> {
    let words = words(rule);
    let told = words.windows(2).any(|pair| match [pair[0].as_str(), pair[1].as_str()] {
        ["-j" | "-g" | "--jump" | "--goto", chain] => names::is_cluster_chain(chain, keep_cni),
        ["--comment", comment] => names::is_cluster_comment(comment),
        ["--match-set", set] => names::is_cluster_set(set),
        _ => false,
    });
    told.then_some(rule)
}

/// The words of a rule; a comment with spaces is one word, as `iptables-save` quotes it.
fn words(rule: &str) -> Vec<String> {
    let mut words = Vec::new();
    let (mut word, mut begun, mut quoted) = (String::new(), false, false);
    let mut characters = rule.chars();
    while let Some(c) = characters.next() {
        match c {
            '"' => (quoted, begun) = (!quoted, true),
            '\\' if quoted => word.extend(characters.next()),
            c if c.is_ascii_whitespace() && !quoted => {
                if std::mem::take(&mut begun) {
                    words.push(std::mem::take(&mut word));
                }
            }
            c => {
                word.push(c);
                begun = true;
            }
        }
    }
    if begun {
        words.push(word);
    }
    words
}

#[cfg(test)]
mod tests {
    use super::*;

    const NFT: &str = include_str!("../../tests/data/leaving/iptables-nft-save.txt");
    const LEGACY: &str = include_str!("../../tests/data/leaving/iptables-legacy-save.txt");

    /// What `iptables-restore --noflush` makes of it, as far as we use it.
    fn restored(saved: &str, difference: &str) -> Result<String, String> {
        let mut lines: Vec<(String, String)> = Vec::new();
        let mut table = String::new();
        for line in saved.lines().filter(|line| !line.starts_with('#')) {
            if line.starts_with('*') {
                table = line.to_owned();
            }
            lines.push((table.clone(), without_counters(line).to_owned()));
        }
        for line in difference.lines() {
            if line.starts_with('*') {
                table = line.to_owned();
            } else if let Some(rule) = line.strip_prefix("-D ") {
                let wanted = (table.clone(), format!("-A {rule}"));
                let place = lines.iter().position(|line| *line == wanted).ok_or_else(|| format!("no {rule}"))?;
                lines.remove(place);
            } else if let Some(chain) = line.strip_prefix("-F ") {
                lines.retain(|(of, line)| *of != table || !line.starts_with(&format!("-A {chain} ")));
            } else if let Some(chain) = line.strip_prefix("-X ") {
                let used = |line: &str| line.ends_with(&format!(" {chain}")) || line.contains(&format!("-A {chain} "));
                if let Some((_, line)) = lines.iter().find(|(of, line)| *of == table && used(line)) {
                    return Err(format!("{chain} is in use by {line}"));
                }
                lines.retain(|(of, line)| *of != table || !line.starts_with(&format!(":{chain} ")));
            }
        }
        Ok(lines.into_iter().map(|(_, line)| line + "\n").collect())
    }

    fn rules(text: &str) -> Vec<&str> {
        text.lines().filter(|line| line.starts_with("-A")).collect()
    }

    #[test]
    fn what_the_cluster_made_goes_and_the_rest_stays_in_its_order() {
        for saved in [NFT, LEGACY] {
            let removal = removal(saved, false).unwrap();
            assert_eq!((removal.chains, removal.rules), (21, 16), "{}", removal.text);
            let left = restored(saved, &removal.text).unwrap();
            assert_eq!(super::removal(&left, false), None, "a second time: nothing");
            let of = |text| rules(text).into_iter().filter(|rule| !rule.contains("ufw")).map(str::to_owned).collect();
            let left: Vec<String> = of(&left);
            let wanted = [
                "-A FORWARD -j DOCKER-USER",
                "-A FORWARD -i eth0 -o eth1 -j ACCEPT",
                "-A DOCKER-USER -j RETURN",
                "-A PREROUTING -m addrtype --dst-type LOCAL -j DOCKER",
                "-A POSTROUTING -s 172.17.0.0/16 ! -o docker0 -j MASQUERADE",
                "-A POSTROUTING -m comment --comment \"to a KUBE-SERVICES user: -j KUBE-SERVICES\" -j RETURN",
                "-A POSTROUTING -m comment --comment \"it\\'s mine\" -j KUBELIKE",
                "-A KUBELIKE -j RETURN",
            ];
            for rule in wanted {
                let said = rule.replace("\\'", "'");
                assert!(left.iter().any(|left| left == rule || *left == said), "{rule} is gone: {left:#?}");
            }
            assert!(!left.iter().any(|rule| rule.contains("cali:") || rule.contains("-j KUBE-F")), "{left:#?}");
        }
    }

    #[test]
    fn policies_are_never_named() {
        let removal = removal(NFT, false).unwrap();
        assert!(!removal.text.contains("FORWARD DROP") && !removal.text.contains(":INPUT"), "{}", removal.text);
    }

    #[test]
    fn chains_of_cni_plugins_stay_where_others_use_them() {
        let removal = removal(NFT, true).unwrap();
        assert!(!removal.text.contains("CNI-") && removal.text.contains("-X KUBE-SERVICES"), "{}", removal.text);
        assert!(restored(NFT, &removal.text).unwrap().contains("-A FORWARD -m comment --comment \"CNI firewall"));
    }

    #[test]
    fn words_are_as_iptables_save_quotes_them() {
        let rule = r#"X -m comment --comment "a \"b\" \\ -j KUBE-X" -j "" Y"#;
        assert_eq!(words(rule), ["X", "-m", "comment", "--comment", r#"a "b" \ -j KUBE-X"#, "-j", "", "Y"]);
    }

    /// Numbers that look like chance, the same in every run.
    struct Chance(u64);

    impl Chance {
        fn below(&mut self, bound: usize) -> usize {
            self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            usize::try_from((self.0 >> 33) % bound as u64).unwrap()
        }

        fn of<'a>(&mut self, all: &[&'a str]) -> &'a str {
            all[self.below(all.len())]
        }
    }

    #[test]
    fn of_any_rules_the_others_stay_as_they_are_and_none_leads_nowhere() {
        let chains = ["KUBE-A", "KUBE-B", "cali-x", "CNI-1", "CILIUM_Z", "MINE", "DOCKER", "kube-x", "XKUBE-A"];
        let builtin = ["INPUT", "FORWARD", "OUTPUT"];
        let matches =
            ["", " -s 10.0.0.1/32", " -m comment --comment \"-j KUBE-A\"", " -m comment --comment \"cali:abc\""];
        for seed in 0..500 {
            let mut chance = Chance(seed);
            let made: Vec<&str> = chains.iter().copied().filter(|_| chance.below(2) == 0).collect();
            let targets: Vec<&str> = made.iter().copied().chain(["ACCEPT", "RETURN", "DROP"]).collect();
            let places: Vec<&str> = made.iter().copied().chain(builtin).collect();
            let mut saved = "*filter\n:INPUT ACCEPT [1:2]\n:FORWARD DROP [0:0]\n:OUTPUT ACCEPT [0:0]\n".to_owned();
            made.iter().for_each(|chain| saved += &format!(":{chain} - [0:0]\n"));
            let mut kept = Vec::new();
            for _ in 0..chance.below(30) {
                let (place, condition, target) = (chance.of(&places), chance.of(&matches), chance.of(&targets));
                let rule = format!("-A {place}{condition} -j {target}");
                let goes = |chain| names::is_cluster_chain(chain, false);
                if !goes(place) && !goes(target) && !condition.contains("cali:") {
                    kept.push(rule.clone());
                }
                saved += &(rule + "\n");
            }
            saved += "COMMIT\n";
            let left = match removal(&saved, false) {
                Some(removal) => restored(&saved, &removal.text).unwrap_or_else(|why| panic!("{seed}: {why}\n{saved}")),
                None => saved.clone(),
            };
            assert_eq!(rules(&left), kept.iter().map(String::as_str).collect::<Vec<_>>(), "{seed}: {saved}");
            let stays: Vec<&str> =
                made.iter().copied().filter(|chain| !names::is_cluster_chain(chain, false)).collect();
            let declared = left.lines().filter_map(|line| line.strip_prefix(':')?.strip_suffix(" - [0:0]"));
            assert_eq!(declared.collect::<Vec<_>>(), stays, "{seed}");
        }
    }

    #[test]
    fn torn_texts_are_no_reason_to_do_anything() {
        for text in
            ["", "COMMIT", "*", ":KUBE-A - [0:0]", "-A INPUT -j KUBE-A", "*nat\n:KUBE-A", "*nat\n-A \n[0:0", "\u{0}"]
        {
            assert_eq!(removal(text, false), None, "{text:?}");
        }
    }
}
