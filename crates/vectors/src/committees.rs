//! `committees`: who is drawn from which nodes, and how many of the nodes decide.

use crate::Disagreement;
use crate::leaf::{Leaf, Tally};
use session_core::ids::{Digest, NodeId, ServiceId};
use session_core::quorum::quorum;
use session_core::service::beacon::Epoch;
use session_core::service::committee::{Committee, Size};

const SEED: [&str; 3] = ["randomness", "service", "epoch"];

pub(crate) fn check(section: &Leaf<'_>, tally: &mut Tally) -> Result<(), Disagreement> {
    for draw in section.items()? {
        let [randomness, service, epoch] = SEED;
        let candidates = draw.get("nodes")?.items()?;
        let nodes: Vec<NodeId> = candidates
            .iter()
            .map(|node| node.id().map(NodeId::from_bytes))
            .collect::<Result<_, _>>()?;
        let drawn = Committee::draw(
            &Digest::from_bytes(draw.get(randomness)?.id()?),
            &ServiceId::from_bytes(draw.get(service)?.id()?),
            draw.get(epoch)?.integer().map(Epoch::new)?,
            &nodes,
            Size::PUBLISHED,
        );
        let members = drawn.as_ref().map_or(&[][..], Committee::members);
        let listed = draw.get("committee")?;
        let places = listed.items()?;
        for (place, member) in places.iter().zip(members) {
            tally.hex(place, member)?;
        }
        tally.count(&listed, places.len(), members.len())?;
        let error = drawn
            .as_ref()
            .map_or_else(ToString::to_string, |_| String::new());
        tally.text(&draw.get("error")?, &error)?;
        // The published quorum of these vectors is that of all candidates.
        tally.number(&draw.get("quorum")?, quorum(nodes.len()) as u64)?;

        for (candidate, node) in candidates.iter().zip(&nodes) {
            if !members.contains(node) {
                tally.unbound(candidate);
            }
        }
        if drawn.is_err() {
            for name in SEED {
                tally.unbound(&draw.get(name)?);
            }
        }
        let known = [
            randomness,
            service,
            epoch,
            "nodes",
            "committee",
            "error",
            "quorum",
        ];
        tally.unknown.extend(draw.keys_besides(&known)?);
    }
    Ok(())
}
