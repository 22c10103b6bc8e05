//! Committees: the nodes with the lowest scores under an epoch's randomness.
//!
//! ```text
//! seed  = H(randomness || service || u64 epoch)
//! score = H(seed || node)                         lowest first, in byte order
//! ```

use super::beacon::Epoch;
use crate::hash::sha256;
use crate::ids::{Digest, NodeId, ServiceId};
use crate::limits::{COMMITTEE_MAX, COMMITTEE_MIN, COMMITTEE_MIN_PUBLISHED};
use crate::quorum::quorum;

/// How few and how many nodes make a committee.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Size {
    min: usize,
    max: usize,
}

impl Size {
    /// Ours: 4 to 21.
    pub const DEFAULT: Self = Self {
        min: COMMITTEE_MIN,
        max: COMMITTEE_MAX,
    };

    /// That of the published documents: 3 to 21.
    pub const PUBLISHED: Self = Self {
        min: COMMITTEE_MIN_PUBLISHED,
        max: COMMITTEE_MAX,
    };

    /// A size of one's own; none unless 3 <= `min` <= `max` <= 21.
    pub const fn new(min: usize, max: usize) -> Option<Self> {
        if COMMITTEE_MIN_PUBLISHED <= min && min <= max && max <= COMMITTEE_MAX {
            Some(Self { min, max })
        } else {
            None
        }
    }

    /// Fewest members.
    pub const fn min(self) -> usize {
        self.min
    }

    /// Most members.
    pub const fn max(self) -> usize {
        self.max
    }
}

impl Default for Size {
    fn default() -> Self {
        Self::DEFAULT
    }
}

/// Why there is no committee.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum CommitteeError {
    /// Fewer distinct nodes than a committee needs. The published text, which people search for.
    #[error("not enough eligible nodes")]
    NotEnoughNodes {
        /// Distinct nodes given.
        nodes: usize,
        /// Nodes needed.
        needed: usize,
    },
}

/// The nodes of a service in an epoch, lowest score first.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Committee(Vec<NodeId>);

impl Committee {
    /// Draws the committee of `service` in `epoch` from the eligible `nodes`; their order does not
    /// matter, and a node that is named twice counts once.
    ///
    /// # Errors
    /// [`CommitteeError::NotEnoughNodes`].
    pub fn draw(
        randomness: &Digest,
        service: &ServiceId,
        epoch: Epoch,
        nodes: &[NodeId],
        size: Size,
    ) -> Result<Self, CommitteeError> {
        let seed = seed(randomness, service, epoch);
        let mut scored: Vec<(Digest, NodeId)> = nodes
            .iter()
            .map(|node| (score(&seed, node), *node))
            .collect();
        // Equal scores are equal nodes, so the order is total and doubles lie side by side.
        scored.sort_unstable();
        scored.dedup();
        if scored.len() < size.min {
            return Err(CommitteeError::NotEnoughNodes {
                nodes: scored.len(),
                needed: size.min,
            });
        }
        scored.truncate(size.max);
        Ok(Self(scored.into_iter().map(|(_, node)| node).collect()))
    }

    /// The members, lowest score first.
    pub fn members(&self) -> &[NodeId] {
        &self.0
    }

    /// Place of a node, if it is a member.
    pub fn position(&self, node: &NodeId) -> Option<usize> {
        self.0.iter().position(|member| member == node)
    }

    /// Votes that decide: `floor(2n/3) + 1`.
    pub const fn quorum(&self) -> usize {
        quorum(self.0.len())
    }
}

/// Seed of a committee: `H(randomness || service || u64 epoch)`.
pub fn seed(randomness: &Digest, service: &ServiceId, epoch: Epoch) -> Digest {
    let mut preimage = [0; 72];
    let parts = [&randomness.as_bytes()[..], service.as_bytes()];
    let (ids, number) = preimage.split_at_mut(64);
    ids.copy_from_slice(&parts.concat());
    number.copy_from_slice(&epoch.number().to_be_bytes());
    Digest::from_bytes(sha256(&preimage))
}

/// Score of a node: `H(seed || node)`.
pub fn score(seed: &Digest, node: &NodeId) -> Digest {
    let preimage = [*seed.as_bytes(), *node.as_bytes()];
    Digest::from_bytes(sha256(preimage.as_flattened()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn draw(nodes: &[NodeId], size: Size) -> Result<Committee, CommitteeError> {
        let id = [9; 32];
        let (randomness, service) = (Digest::from_bytes(id), ServiceId::from_bytes(id));
        Committee::draw(&randomness, &service, Epoch::new(1), nodes, size)
    }

    fn nodes(count: u8) -> Vec<NodeId> {
        (0..count).map(|b| NodeId::from_bytes([b; 32])).collect()
    }

    proptest! {
        #[test]
        fn the_committee_depends_on_the_set_and_not_on_its_order(count in 0u8..60, turn: usize) {
            let mut eligible = nodes(count);
            let straight = draw(&eligible, Size::DEFAULT);
            let by = turn % eligible.len().max(1);
            eligible.rotate_left(by);
            eligible.extend_from_within(..by);
            prop_assert_eq!(&draw(&eligible, Size::DEFAULT), &straight);
            match straight {
                Ok(committee) => {
                    prop_assert_eq!(committee.members().len(), usize::from(count).min(21));
                    // Nobody outside scores lower than somebody inside.
                    let seed = seed(
                        &Digest::from_bytes([9; 32]),
                        &ServiceId::from_bytes([9; 32]),
                        Epoch::new(1),
                    );
                    let last = score(&seed, committee.members().last().unwrap());
                    for node in nodes(count) {
                        let inside = committee.position(&node).is_some();
                        prop_assert_eq!(inside, score(&seed, &node) <= last);
                    }
                }
                Err(CommitteeError::NotEnoughNodes { nodes, needed }) => {
                    prop_assert_eq!((nodes, needed), (usize::from(count), 4));
                    prop_assert!(nodes < needed);
                }
            }
        }
    }

    #[test]
    fn three_nodes_are_enough_for_the_documents_and_not_for_us() {
        let error = draw(&nodes(3), Size::DEFAULT).unwrap_err();
        assert_eq!(error.to_string(), "not enough eligible nodes");
        assert_eq!(draw(&nodes(3), Size::PUBLISHED).unwrap().quorum(), 3);
        // A node counts once, however often it is named.
        let doubled = [nodes(2), nodes(2)].concat();
        assert!(draw(&doubled, Size::PUBLISHED).is_err());
        assert_eq!(Size::new(2, 21), None);
        assert_eq!(Size::new(4, 22), None);
        assert_eq!(Size::new(5, 4), None);
        assert_eq!(Size::new(4, 21), Some(Size::DEFAULT));
        assert_eq!(Size::default(), Size::DEFAULT);
        let sizes = [Size::DEFAULT, Size::PUBLISHED].map(|size| (size.min(), size.max()));
        assert_eq!(sizes, [(4, 21), (3, 21)]);
    }
}
