use super::*;

const OWN: &str = "http://10.1.1.1:2380";
const CLUSTER: Id = Id(0xc1);

fn url(at: u64) -> String {
    format!("http://10.1.1.{at}:2380")
}

fn member(at: u64) -> Member {
    Member {
        id: Id(at),
        name: format!("e{at}"),
        peer_urls: vec![url(at)],
        client_urls: vec![format!("http://10.1.1.{at}:2379")],
        learner: false,
    }
}

fn added(id: u64, at: u64) -> Member {
    Member { id: Id(id), name: String::new(), client_urls: Vec::new(), learner: true, ..member(at) }
}

fn cluster(members: Vec<Member>) -> Cluster {
    Cluster { id: CLUSTER, members }
}

fn formed() -> Cluster {
    cluster((1..=3).map(member).collect())
}

fn beginning() -> Cluster {
    let member = |at| Member { client_urls: Vec::new(), ..member(at) };
    cluster((1..=3).map(member).collect())
}

fn answers(two: Option<Cluster>, three: Option<Cluster>) -> Vec<Answer> {
    let answer = |(at, cluster): (u64, Option<Cluster>)| Answer {
        url: url(at),
        said: cluster.map_or_else(|| Said::Nothing("connection refused".to_owned()), Said::Members),
    };
    [(2, two), (3, three)].into_iter().map(answer).collect()
}

fn identity(member: u64) -> Identity {
    Identity { cluster: CLUSTER, member: Id(member) }
}

/// The node e1 of three, with nothing on its disk, nobody answering, and just begun.
fn with(change: impl FnOnce(&mut Facts<'_>)) -> Result<Standing, Failure> {
    let wanted: Vec<_> = (1..=3).map(|at| (format!("e{at}"), url(at))).collect();
    let mut facts = Facts {
        name: "e1",
        peer_url: OWN,
        wanted: &wanted,
        data: None,
        past: Past::Unknown,
        serves: None,
        others: answers(None, None),
        waited: false,
    };
    change(&mut facts);
    standing(&facts)
}

fn joins(replaces: &[u64], add: bool) -> Standing {
    Standing::Joins(Joining { replaces: replaces.iter().copied().map(Id).collect(), add })
}

#[test]
fn without_data_a_cluster_is_joined_before_one_is_begun() {
    let undecided = with(|_| {}).unwrap();
    assert_eq!(undecided, Standing::Undecided("http://10.1.1.2:2380: connection refused".to_owned()));
    // However long nobody says anything: they may be the cluster that it was a member of.
    assert!(matches!(with(|facts| facts.waited = true).unwrap(), Standing::Undecided(_)));
    let alone = with(|facts| {
        facts.wanted = &facts.wanted[..1];
        facts.others.clear();
    });
    assert_eq!(alone.unwrap(), Standing::New);
    // One that knows the cluster outweighs another that is itself about to begin one.
    for waited in [false, true] {
        let standing = with(|facts| {
            facts.others = answers(Some(beginning()), Some(formed()));
            facts.waited = waited;
        });
        assert_eq!(standing.unwrap(), joins(&[1], true));
    }
}

#[test]
fn a_cluster_is_begun_when_enough_have_no_data() {
    let said = |said: [Said; 2], waited| {
        with(|facts| {
            facts.others.iter_mut().zip(said).for_each(|(answer, said)| answer.said = said);
            facts.waited = waited;
        })
    };
    let (silent, begins) = (|| Said::Nothing(String::new()), || Said::Members(beginning()));
    for (others, waited, new) in [
        ([Said::Waits, Said::Waits], false, true),
        ([begins(), Said::Waits], false, true),
        ([begins(), begins()], false, true),
        // One is late: a quorum may begin without it, but not before it had its time.
        ([Said::Waits, silent()], false, false),
        ([Said::Waits, silent()], true, true),
        ([silent(), begins()], true, true),
        ([silent(), silent()], true, false),
    ] {
        let shown = format!("{others:?} {waited}");
        assert_eq!(said(others, waited).unwrap() == Standing::New, new, "{shown}");
    }
}

#[test]
fn it_takes_the_place_of_its_own_past_and_of_nobody_else() {
    let named = |name: &str, at| Member { name: name.to_owned(), ..member(at) };
    for (members, want) in [
        // A further member; one that was wiped; one at another address than before; one at the address of another.
        (vec![member(2), member(3)], joins(&[], true)),
        (vec![member(1), member(2), member(3)], joins(&[1], true)),
        (vec![named("e1", 7), member(2), member(3)], joins(&[7], true)),
        (vec![named("e0", 1), member(2), member(3)], joins(&[1], true)),
        // Killed behind `member add`, and between the two halves of a replacement.
        (vec![added(9, 1), member(2), member(3)], joins(&[], false)),
        (vec![added(9, 1), named("e1", 7), member(2)], joins(&[7], false)),
        // Somebody else is expected, too.
        (vec![added(9, 4), member(2), member(3)], joins(&[], true)),
    ] {
        let standing = with(|facts| facts.others = answers(Some(cluster(members.clone())), None));
        assert_eq!(standing.unwrap(), want, "{members:?}");
    }
}

#[test]
fn the_last_of_those_that_begin_finds_a_cluster_that_awaits_it() {
    let awaited = |at| Member { client_urls: Vec::new(), ..member(at) };
    for (members, past, want) in [
        (vec![awaited(1), member(2), member(3)], Past::Unknown, Standing::New),
        (vec![awaited(1), member(2), awaited(3)], Past::Begun, Standing::New),
        // It has been there before; the cluster has other members by now; somebody else is meant.
        (vec![awaited(1), member(2), member(3)], Past::Member(identity(1)), joins(&[1], true)),
        (vec![awaited(1), member(2), member(4)], Past::Unknown, joins(&[1], true)),
        (vec![member(1), member(2), awaited(3)], Past::Unknown, joins(&[1], true)),
    ] {
        let standing = with(|facts| {
            (facts.past, facts.others) = (past, answers(Some(cluster(members.clone())), None));
        });
        assert_eq!(standing.unwrap(), want, "{members:?}");
    }
}

#[test]
fn data_decides_where_it_is_its_own() {
    let own = |facts: &mut Facts<'_>| facts.data = Some(identity(1));
    assert_eq!(with(own).unwrap(), Standing::Data);
    for past in [Past::Unknown, Past::Begun, Past::Member(identity(1))] {
        let standing = with(|facts| {
            own(facts);
            (facts.past, facts.others) = (past, answers(Some(formed()), None));
        });
        assert_eq!(standing.unwrap(), Standing::Data);
    }
    // Its disk was changed for one of another node while nobody else is up.
    let failure = with(|facts| (facts.data, facts.past) = (Some(identity(2)), Past::Member(identity(1)))).unwrap_err();
    assert_eq!(failure.code, Code::EtcdForeign);
}

#[test]
fn data_of_others_is_refused_and_named() {
    let other = Identity { cluster: Id(0xff), member: Id(1) };
    let moved = |url: &str| cluster(vec![Member { peer_urls: vec![url.to_owned()], ..member(1) }, member(2)]);
    for (data, cluster, named) in [
        (other, formed(), "of cluster ff, and the other members are of c1"),
        (identity(2), formed(), "is of member e2, and this node is e1"),
        (identity(8), formed(), "which the cluster removed"),
        (identity(1), moved("https://10.1.1.1:2380"), "knows e1 at https://10.1.1.1:2380"),
    ] {
        for past in [Past::Unknown, Past::Member(data)] {
            let failure = with(|facts| {
                (facts.data, facts.past, facts.waited) = (Some(data), past, true);
                facts.others = answers(None, Some(cluster.clone()));
            });
            let failure = failure.unwrap_err();
            assert_eq!(failure.code, Code::EtcdForeign);
            assert!(failure.what.contains(named), "{}", failure.what);
        }
    }
}

#[test]
fn what_was_begun_too_soon_is_set_aside_and_nothing_else() {
    let other = Identity { cluster: Id(0xff), member: Id(1) };
    for (data, waited, aside) in [
        // Begun anew under the old id while the others were down: only time tells it from a cluster that just began.
        (identity(1), false, false),
        (identity(1), true, true),
        (other, false, true),
        (identity(8), false, true),
    ] {
        let standing = with(|facts| {
            (facts.data, facts.past, facts.waited) = (Some(data), Past::Begun, waited);
            facts.others = answers(Some(formed()), None);
        });
        assert_eq!(matches!(standing.unwrap(), Standing::SetAside(_)), aside, "{data:?} {waited}");
    }
    // A learner that was added by us and takes long to fetch its data.
    let standing = with(|facts| {
        (facts.data, facts.past, facts.waited) = (Some(identity(9)), Past::Begun, true);
        let learner = Member { name: "e1".to_owned(), ..added(9, 1) };
        facts.others = answers(Some(cluster(vec![learner, member(2)])), None);
    });
    assert_eq!(standing.unwrap(), Standing::Data);
}

#[test]
fn a_member_whose_data_is_lost_begins_nothing() {
    let lost = |facts: &mut Facts<'_>| (facts.past, facts.waited) = (Past::Member(identity(1)), true);
    assert!(matches!(with(lost).unwrap(), Standing::Undecided(why) if why.contains("its data is gone")));
    let alone = with(|facts| {
        lost(facts);
        facts.others.clear();
    });
    assert_eq!(alone.unwrap_err().code, Code::EtcdQuorum);
    let standing = with(|facts| {
        lost(facts);
        facts.others = answers(Some(formed()), None);
    });
    assert_eq!(standing.unwrap(), joins(&[1], true));
}

#[test]
fn clusters_that_do_not_belong_together_are_refused() {
    let standing = with(|facts| {
        let other = Cluster { id: Id(0xff), ..formed() };
        facts.others = answers(Some(formed()), Some(other));
    });
    assert!(standing.unwrap_err().what.contains("two clusters"));
    let standing = with(|facts| facts.others = answers(Some(cluster(vec![beginning().members.remove(1)])), None));
    assert!(standing.unwrap_err().what.contains("a cluster of other members: e2"));
}

#[test]
fn who_serves_has_arrived() {
    let serves = |learner| Some(Serves { identity: identity(1), learner });
    assert_eq!(with(|facts| facts.serves = serves(false)).unwrap(), Standing::Serves);
    assert_eq!(with(|facts| facts.serves = serves(true)).unwrap(), Standing::Learner(Id(1)));
    let standing = with(|facts| {
        facts.serves = Some(Serves { identity: Identity { cluster: Id(0xff), member: Id(1) }, learner: false });
        facts.others = answers(Some(formed()), None);
    });
    assert_eq!(standing.unwrap_err().code, Code::EtcdForeign);
}
