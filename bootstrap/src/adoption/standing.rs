//! Whether user data is to be carried out: at every boot the same text may be there again, and cloud-init's semaphores do
//! not tell whether it is new.

/// What is known of user data that was carried out before, or begun.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Recorded {
    /// It was the same, for the same instance.
    pub same: bool,
    /// It was carried out to its end.
    pub ended: bool,
}

/// What the machine tells of its past.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Past {
    /// What was written down.
    pub recorded: Option<Recorded>,
    /// The machine is a member of a cluster.
    pub member: bool,
    /// The management server's own scripts left their marker of success.
    pub marker: bool,
    /// cloud-init carried user data out in this boot.
    pub rerun: bool,
    /// The machine has left its cluster since that user data was carried out.
    pub left: Option<Departure>,
}

/// A machine's leave, or what somebody else's `kubeadm reset` left of one.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Departure {
    /// cloud-init was made to run again after it: so the management server asks for the node anew, often by the same text.
    pub asked_again: bool,
}

/// What user data is to this machine now.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Standing {
    /// It is to be carried out, or to its end.
    Due,
    /// It was carried out, or the machine became a member without us.
    Done,
    /// It was carried out, and the machine has left its cluster since: nobody asks for it again.
    Left,
    /// It is other user data than what made the machine a member of a cluster, which it has to leave first.
    OtherMember,
}

impl Past {
    /// What user data is to a machine with this past.
    #[must_use]
    pub fn standing(self) -> Standing {
        match (self.member, self.recorded) {
            (true, None | Some(Recorded { same: true, ended: true })) => Standing::Done,
            (true, Some(Recorded { same: false, .. })) => Standing::OtherMember,
            (false, None | Some(Recorded { same: true, .. })) if self.left.is_some() => match self.left {
                Some(Departure { asked_again: true }) => Standing::Due,
                _ => Standing::Left,
            },
            // The marker is all that a node has of an earlier life under the server's scripts. Only where cloud-init was made
            // to run again has the server asked for something new.
            (false, None) if self.marker && !self.rerun => Standing::Left,
            (false, Some(Recorded { same: true, ended: true })) => Standing::Left,
            (_, Some(Recorded { same: true, ended: false })) | (false, None | Some(Recorded { same: false, .. })) => {
                Standing::Due
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_past_tells_what_is_due() {
        let recorded = |same, ended| Some(Recorded { same, ended });
        for (member, recorded, marker, rerun, standing) in [
            (false, None, false, false, Standing::Due),
            (false, None, true, false, Standing::Left),
            (false, None, true, true, Standing::Due),
            (false, recorded(true, false), false, false, Standing::Due),
            (false, recorded(true, false), true, false, Standing::Due),
            (false, recorded(true, true), false, false, Standing::Left),
            (false, recorded(true, true), true, true, Standing::Left),
            (false, recorded(false, true), true, false, Standing::Due),
            (false, recorded(false, false), false, false, Standing::Due),
            (true, None, true, false, Standing::Done),
            (true, None, false, true, Standing::Done),
            (true, recorded(true, true), true, true, Standing::Done),
            (true, recorded(true, false), false, false, Standing::Due),
            (true, recorded(false, true), true, true, Standing::OtherMember),
        ] {
            let past = Past { recorded, member, marker, rerun, left: None };
            assert_eq!(past.standing(), standing, "{past:?}");
        }
    }

    #[test]
    fn a_machine_that_left_comes_back_when_it_is_asked_again() {
        let recorded = |same, ended| Some(Recorded { same, ended });
        for (recorded, asked_again, standing) in [
            (None, false, Standing::Left),
            (None, true, Standing::Due),
            (recorded(true, true), false, Standing::Left),
            (recorded(true, true), true, Standing::Due),
            (recorded(true, false), false, Standing::Left),
            (recorded(false, true), false, Standing::Due),
            (recorded(false, true), true, Standing::Due),
        ] {
            let past = Past { recorded, rerun: true, left: Some(Departure { asked_again }), ..Past::default() };
            assert_eq!(past.standing(), standing, "{past:?}");
        }
        let joined = Past { member: true, left: Some(Departure { asked_again: false }), ..Past::default() };
        assert_eq!(joined.standing(), Standing::Done);
    }
}
