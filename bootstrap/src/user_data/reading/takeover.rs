//! What becomes of the server's scripts, told before they are there.

use super::Adoption;
use crate::adoption::{Asked, File, refusals};
use crate::node_spec::NodeSpec;
use crate::user_data::cloud_init::Outcome;
use crate::user_data::server::Server;

/// What adoption makes of the scripts of `server` on the node `spec`.
pub(super) fn adoption(server: Option<Server>, spec: Option<&NodeSpec>, cloud_init: Outcome) -> Adoption {
    let Some(server) = server else {
        return Adoption { take_over: Vec::new(), refused: Vec::new(), keep: Vec::new(), cloud_init };
    };
    let texts: Vec<(File, &str)> = server.texts.iter().map(|(file, text)| (*file, text.as_str())).collect();
    let refused = spec.map_or_else(Vec::new, |spec| refusals(&texts, &Asked::of(spec)));
    let (mut take_over, mut keep) = (server.scripts, server.kept);
    take_over.sort();
    if !refused.is_empty() {
        keep.append(&mut take_over);
    }
    Adoption { take_over, refused, keep, cloud_init }
}
