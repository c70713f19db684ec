//! Which member may stop or go without the cluster losing its quorum.

use super::members::{Id, Member};
use crate::failure::{Code, Failure};

/// The votes that a decision takes among `voters`.
#[must_use]
pub fn quorum(voters: usize) -> usize {
    voters / 2 + 1
}

/// How many members may fail at once when all of `voters` are healthy.
#[must_use]
pub fn tolerated(voters: usize) -> usize {
    voters.saturating_sub(quorum(voters))
}

/// A member, and whether it serves.
#[derive(Debug, Clone, Copy)]
pub struct Health<'a> {
    /// The member.
    pub member: &'a Member,
    /// Whether it answers clients.
    pub healthy: bool,
}

/// May the member `id` stop for a while: an upgrade, a reboot, a defragmentation?
///
/// # Errors
/// `ETCD_QUORUM` says how many serve and how many have to.
pub fn may_stop(members: &[Health<'_>], id: Id) -> Result<(), Failure> {
    let voters = voters(members);
    let others = healthy_besides(&voters, id);
    let needed = quorum(voters.len());
    if voters.iter().all(|voter| voter.member.id != id) || others >= needed {
        return Ok(());
    }
    Err(refusal(&format!("member {} can't stop", shown(members, id)), &voters, others, needed))
}

/// May the member `id`, which serves, leave for good? It votes on that itself.
///
/// # Errors
/// `ETCD_QUORUM`: those that stay would have none, or nobody stays.
pub fn may_leave(members: &[Health<'_>], id: Id) -> Result<(), Failure> {
    let voters = voters(members);
    if voters.iter().all(|voter| voter.member.id != id) {
        return Ok(());
    }
    let (others, staying) = (healthy_besides(&voters, id), voters.len() - 1);
    let votes = voters.iter().filter(|voter| voter.healthy).count();
    if staying > 0 && others >= quorum(staying) && votes >= quorum(voters.len()) {
        return Ok(());
    }
    Err(refusal(&format!("member {} can't leave", shown(members, id)), &voters, others, quorum(staying)))
}

/// May the member `id`, which does not serve, be removed for good?
///
/// # Errors
/// `ETCD_QUORUM`: the others are too few to decide it, or it is the last one.
pub fn may_remove(members: &[Health<'_>], id: Id) -> Result<(), Failure> {
    let voters = voters(members);
    if voters.iter().all(|voter| voter.member.id != id) {
        return Ok(());
    }
    // The vote on it counts the member that goes, so this is more than the rest needs among itself.
    let (others, needed) = (healthy_besides(&voters, id), quorum(voters.len()));
    if voters.len() > 1 && others >= needed {
        return Ok(());
    }
    Err(refusal(&format!("member {} can't be removed", shown(members, id)), &voters, others, needed)
        .with_remedy("bring the other members back, or restore a snapshot: cks-agent etcd restore"))
}

fn voters<'a>(members: &[Health<'a>]) -> Vec<Health<'a>> {
    members.iter().copied().filter(|health| !health.member.learner).collect()
}

fn healthy_besides(voters: &[Health<'_>], id: Id) -> usize {
    voters.iter().filter(|voter| voter.healthy && voter.member.id != id).count()
}

fn shown(members: &[Health<'_>], id: Id) -> String {
    let member = members.iter().find(|health| health.member.id == id);
    member.map_or_else(|| id.to_string(), |health| health.member.shown().to_owned())
}

fn refusal(what: &str, voters: &[Health<'_>], others: usize, needed: usize) -> Failure {
    let ill: Vec<&str> = voters.iter().filter(|voter| !voter.healthy).map(|voter| voter.member.shown()).collect();
    let ill = if ill.is_empty() { String::new() } else { format!("; not healthy: {}", ill.join(", ")) };
    let what = format!("{what}: {others} of {} members are healthy without it, {needed} are needed{ill}", voters.len());
    Failure::new(Code::EtcdQuorum, what)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn members(count: u64, learners: u64) -> Vec<Member> {
        let member = |at| Member {
            id: Id(at),
            name: format!("e{at}"),
            peer_urls: vec![format!("http://10.1.1.{at}:2380")],
            client_urls: Vec::new(),
            learner: at > count,
        };
        (1..=count + learners).map(member).collect()
    }

    #[test]
    fn a_member_goes_only_while_the_others_have_a_quorum() {
        // Voters, learners, healthy ones, the member; whether it may stop, be removed, leave.
        for (count, learners, healthy, id, want) in [
            (3, 0, vec![1, 2, 3], 1, (true, true, true)),
            (3, 0, vec![2, 3], 1, (true, true, true)),
            (3, 0, vec![1, 2], 1, (false, false, false)),
            (3, 0, vec![1, 2], 3, (true, true, true)),
            (2, 0, vec![1, 2], 1, (false, false, true)),
            (2, 0, vec![2], 1, (false, false, false)),
            (1, 0, vec![1], 1, (false, false, false)),
            (5, 0, vec![1, 2, 3], 1, (false, false, false)),
            (5, 0, vec![1, 2, 3, 4], 1, (true, true, true)),
            (4, 0, vec![1, 2, 3], 1, (false, false, true)),
            // A learner has no vote: it may always go, and it doesn't help.
            (3, 1, vec![1, 2, 3, 4], 4, (true, true, true)),
            (3, 1, vec![1, 2, 4], 1, (false, false, false)),
        ] {
            let members = members(count, learners);
            let health: Vec<Health<'_>> =
                members.iter().map(|member| Health { member, healthy: healthy.contains(&member.id.0) }).collect();
            let id = Id(id);
            let may = (may_stop(&health, id).is_ok(), may_remove(&health, id).is_ok(), may_leave(&health, id).is_ok());
            assert_eq!(may, want, "{count} voters, healthy {healthy:?}, member {id}");
        }
    }

    #[test]
    fn a_refusal_names_who_is_missing() {
        let members = members(3, 0);
        let health: Vec<Health<'_>> =
            members.iter().map(|member| Health { member, healthy: member.id.0 != 3 }).collect();
        let failure = may_stop(&health, Id(1)).unwrap_err();
        let want = "member e1 can't stop: 1 of 3 members are healthy without it, 2 are needed; not healthy: e3";
        assert_eq!((failure.code, failure.what.as_str()), (Code::EtcdQuorum, want));
    }

    #[test]
    fn an_even_count_tolerates_no_more_than_one_less() {
        let tolerated: Vec<usize> = (1..=7).map(tolerated).collect();
        assert_eq!(tolerated, [0, 0, 1, 1, 2, 2, 3]);
    }
}
