//! Which fault, when, of which source; and how it has to end.

use std::time::Duration;

use cks_tests::faults::Fault;

/// Where the bytes come from.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Form {
    /// The content of an ISO as a directory of Apache, as a virtual router serves it.
    Directory,
    /// An .iso file on the same server.
    Iso,
    /// The directory, with the ISO as a file for a second source.
    Standby,
    /// A directory without manifest.
    Stock,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Moment {
    /// At the manifest; at the first page of the listing where there is none.
    Opening,
    /// At the first byte of an entry.
    Beginning,
    /// In the middle of a large layer.
    Middle,
    /// 1000 bytes before its end, with one connection allowed.
    End,
}

/// What goes wrong.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kind {
    Reset,
    Closed,
    Stall,
    Busy,
    BusyFor,
    TooMany,
    WrongRange,
    NoRange,
    NotSatisfiable,
    Touched,
    Replaced,
    CorruptOnce,
    Corrupt,
    Slow,
    Redirect,
    Page,
    Extra,
    Refused,
}

#[derive(Debug, Clone, Copy)]
pub(crate) struct Case {
    pub(crate) form: Form,
    pub(crate) moment: Moment,
    pub(crate) kind: Kind,
}

/// How it has to end.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Expected {
    /// The node is the same as without the fault.
    Same,
    /// This code, and nothing of what was wrong is visible.
    Code(&'static str),
}

impl Form {
    pub(crate) const ALL: [Self; 4] = [Self::Directory, Self::Iso, Self::Standby, Self::Stock];

    pub(crate) fn roles(self) -> &'static [&'static str] {
        if self == Self::Stock { &["etcd"] } else { &["etcd", "worker"] }
    }
}

impl Moment {
    pub(crate) const ALL: [Self; 4] = [Self::Opening, Self::Beginning, Self::Middle, Self::End];
}

impl Kind {
    pub(crate) const ALL: [Self; 18] = [
        Self::Reset,
        Self::Closed,
        Self::Stall,
        Self::Busy,
        Self::BusyFor,
        Self::TooMany,
        Self::WrongRange,
        Self::NoRange,
        Self::NotSatisfiable,
        Self::Touched,
        Self::Replaced,
        Self::CorruptOnce,
        Self::Corrupt,
        Self::Slow,
        Self::Redirect,
        Self::Page,
        Self::Extra,
        Self::Refused,
    ];

    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Reset => "connection reset",
            Self::Closed => "closed early",
            Self::Stall => "stall",
            Self::Busy => "503",
            Self::BusyFor => "503, Retry-After: 1",
            Self::TooMany => "429, Retry-After: 0",
            Self::WrongRange => "another range",
            Self::NoRange => "200 instead of 206",
            Self::NotSatisfiable => "416",
            Self::Touched => "new ETag, same bytes",
            Self::Replaced => "new ETag, other bytes",
            Self::CorruptOnce => "a byte is wrong, once",
            Self::Corrupt => "a byte is wrong, always",
            Self::Slow => "slow",
            Self::Redirect => "redirect to another host",
            Self::Page => "200 and a page",
            Self::Extra => "bytes beyond the end",
            Self::Refused => "refused for 0.7 s",
        }
    }

    /// None: it is made by another file on the server.
    pub(crate) fn fault(self) -> Option<Fault> {
        let busy = |status, after: Option<&str>| Fault::Status(status, after.map(str::to_owned));
        Some(match self {
            Self::Reset => Fault::Reset,
            Self::Closed => Fault::Close,
            Self::Stall => Fault::Stall,
            Self::Busy => busy(503, None),
            Self::BusyFor => busy(503, Some("1")),
            Self::TooMany => busy(429, Some("0")),
            Self::WrongRange => Fault::WrongRange,
            Self::NoRange => Fault::NoRange,
            Self::NotSatisfiable => busy(416, None),
            Self::Touched | Self::Replaced => return None,
            Self::CorruptOnce | Self::Corrupt => Fault::Corrupt,
            Self::Slow => Fault::Slow(16 << 10),
            Self::Redirect => Fault::Redirect("http://192.0.2.1/cks-iso/".to_owned()),
            Self::Page => Fault::Page,
            Self::Extra => Fault::Extra(1000),
            Self::Refused => Fault::Refuse(Duration::from_millis(700)),
        })
    }

    /// Whether it can strike after any byte; the others are the whole answer, so in the middle of something they
    /// are the answer to who goes on there after a reset.
    pub(crate) fn strikes_anywhere(self) -> bool {
        use Kind::{Closed, Corrupt, CorruptOnce, Refused, Replaced, Reset, Slow, Stall, Touched};
        matches!(self, Reset | Closed | Stall | Slow | Refused | Corrupt | CorruptOnce | Touched | Replaced)
    }
}

impl Case {
    pub(crate) fn all() -> Vec<Self> {
        let mut all = Vec::new();
        for form in Form::ALL {
            for moment in Moment::ALL {
                all.extend(Kind::ALL.map(|kind| Self { form, moment, kind }));
            }
        }
        all.retain(Self::makes_sense);
        all
    }

    fn makes_sense(&self) -> bool {
        let of_ranges = matches!(self.kind, Kind::WrongRange | Kind::NoRange | Kind::Touched | Kind::Replaced);
        let of_digests = matches!(self.kind, Kind::Replaced | Kind::CorruptOnce | Kind::Corrupt);
        // A manifest is asked for as a whole; where there is none, nothing tells wrong bytes.
        let whole =
            self.moment == Moment::Opening && (self.form != Form::Iso || of_digests || self.kind == Kind::Touched);
        let untold = of_digests && self.form == Form::Stock;
        !(of_ranges && whole || untold)
    }

    pub(crate) fn role(&self) -> &'static str {
        match (self.form, self.moment) {
            (Form::Stock, _) | (_, Moment::Opening | Moment::Beginning) => "etcd",
            (_, Moment::Middle | Moment::End) => "worker",
        }
    }

    pub(crate) fn expected(&self) -> Expected {
        match (self.kind, self.form, self.moment) {
            (Kind::Corrupt | Kind::Replaced, Form::Standby, _) => Expected::Same,
            (Kind::Corrupt, _, Moment::Opening) => Expected::Code("MANIFEST_INVALID"),
            (Kind::Corrupt | Kind::Replaced, ..) => Expected::Code("DIGEST_MISMATCH"),
            _ => Expected::Same,
        }
    }
}
