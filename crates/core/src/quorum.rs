//! How many of a committee decide: `floor(2n/3) + 1`, in integers (`spec/wire.md` §2).
//!
//! Two quorums of one committee share more than a third of its members, so two conflicting
//! decisions need more than a third of liars. 15 of 21, 3 of 4.

/// Votes that decide in a committee of `members`. None decide in an empty one: the answer is 1.
pub const fn quorum(members: usize) -> usize {
    // Not 2 * members / 3, which overflows for the upper half of the numbers.
    members / 3 * 2 + members % 3 * 2 / 3 + 1
}

/// Whether `votes` decide in a committee of `members`. More votes than members never do: somebody
/// was counted twice.
pub const fn is_quorum(votes: usize, members: usize) -> bool {
    votes <= members && votes >= quorum(members)
}

/// Members that may be silent while the others still decide.
pub const fn silent_max(members: usize) -> usize {
    members.saturating_sub(quorum(members))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// The definition with wide numbers: the least count that is more than two thirds.
    fn obvious(members: usize) -> usize {
        let members = members as u128;
        (members * 2 / 3 + 1) as usize
    }

    #[test]
    fn the_quorum_is_the_least_count_above_two_thirds() {
        for members in 0..=1_000usize {
            let least = (0..).find(|votes| votes * 3 > members * 2).unwrap();
            assert_eq!(quorum(members), least);
        }
        assert_eq!([3, 4, 21].map(quorum), [3, 3, 15]);
        assert_eq!([3, 4, 21].map(silent_max), [0, 1, 6]);
        assert!(!is_quorum(0, 0) && !is_quorum(1, 0) && !is_quorum(22, 21) && is_quorum(15, 21));
    }

    proptest! {
        #[test]
        fn it_agrees_with_the_definition_for_every_count(members: usize) {
            prop_assert_eq!(quorum(members), obvious(members));
        }

        #[test]
        fn two_quorums_share_more_than_a_third(members in 1usize..1_000_000) {
            let shared = 2 * quorum(members) - members;
            prop_assert!(shared * 3 > members);
            prop_assert!(quorum(members) <= members);
        }
    }
}
