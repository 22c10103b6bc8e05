//! Every limit, with its reason. Quantities in bytes unless the name says otherwise.

use crate::time::{DAY_MS, HOUR_MS, MINUTE_MS, SECOND_MS};

/// Ciphertext of one message. Larger content is cut into chunks; with hex in JSON this is half a
/// megabyte a request, and four fit a block.
pub const CIPHERTEXT_MAX: usize = 256 * 1024;

/// One transaction: a full ciphertext with keys and signature around it.
pub const TX_BYTES_MAX: usize = 300_000;

/// One block. Peers of a host exchange messages of at most 2 MiB, and a block travels in one.
pub const BLOCK_BYTES_MAX: usize = 1024 * 1024;

/// Transactions in one block; the smallest is about 150 bytes.
pub const BLOCK_TXS_MAX: usize = 8_192;

/// Weight of one block (bytes plus a kilobyte for each record touched).
pub const BLOCK_WEIGHT_MAX: u64 = 2 * 1024 * 1024;

/// Weight of touching one record: a leaf and its path are rehashed and written.
pub const RECORD_WEIGHT: u64 = 1_024;

/// Participants of a session. More people: a channel or a group.
pub const PARTICIPANTS_MAX: usize = 100;

/// Participants of a session at least.
pub const PARTICIPANTS_MIN: usize = 2;

/// Messages under one signature in a batch: with bodies of 3 kB they fill one transaction.
pub const BATCH_MESSAGES_MAX: usize = 100;

/// Changes in one roster transaction.
pub const MEMBER_CHANGES_MAX: usize = 100;

/// One content-addressed chunk.
pub const CHUNK_BYTES_MAX: usize = 64 * 1024;

/// Admin keys of one group: a majority of them signs in 30 kB.
pub const GROUP_ADMINS_MAX: usize = 16;

/// Ended epochs that a group remembers: at one advance in 10 s more than the two minutes of
/// [`POST_GRACE_MS`].
pub const PAST_EPOCHS_MAX: usize = 16;

/// How far ahead of block time the moment may lie until which a group can be created: what is
/// prepared offline keeps its id so long.
pub const GROUP_UNTIL_MAX_MS: u64 = 30 * DAY_MS;

/// First epoch of a group at most: far enough from the last number that none is ever reached.
pub const GROUP_FIRST_EPOCH_MAX: u64 = 1 << 32;

/// Frames in one post: with a signature of 3,309 bytes among them a frame pays 103.
pub const POST_FRAMES_MAX: usize = 32;

/// One frame. Larger content travels as chunks.
pub const FRAME_BYTES_MAX: usize = 64 * 1024;

/// A commit that travels in its advance. Larger ones travel as chunks.
pub const COMMIT_BYTES_MAX: usize = CHUNK_BYTES_MAX;

/// Chunks of one commit: 2 MiB, where adding 49 to 951 cold leaves takes 1.7 MB.
pub const COMMIT_CHUNKS_MAX: usize = 32;

/// Between two advances that no admin signed: every member can make one, and each costs every
/// other member a commit to process.
pub const ADVANCE_INTERVAL_MS: u64 = 10 * SECOND_MS;

/// Between two actions that one admin signed. Shorter than the other, so that a removal always
/// finds a moment between two advances of the one who is removed.
pub const ADMIN_INTERVAL_MS: u64 = 2 * SECOND_MS;

/// Ended epochs in which posts are taken however long ago they ended.
pub const POST_EPOCHS_BACK: u64 = 2;

/// How long posts of any ended epoch are taken: what was sealed before an advance was known.
pub const POST_GRACE_MS: u64 = 2 * MINUTE_MS;

/// A group without posts for so long closes.
pub const GROUP_IDLE_MS: u64 = 90 * DAY_MS;

/// Devices of an account with published key packages.
pub const DEVICES_MAX: usize = 8;

/// One-time key packages of one device.
pub const ONE_TIME_PACKAGES_MAX: usize = 10;

/// One key package: 11 kB with ML-KEM-768 and ML-DSA-65.
pub const KEY_PACKAGE_BYTES_MAX: usize = 16 * 1024;

/// How far the expiry of a key package may lie ahead of block time.
pub const KEY_PACKAGE_LIFE_MAX_MS: u64 = 90 * DAY_MS;

/// How long one taker waits before it takes key packages of the same account again.
pub const KEY_PACKAGE_WINDOW_MS: u64 = DAY_MS;

/// Takers in a day to whom an account's one-time key packages are given. Whoever comes later gets
/// last-resort ones, so that strangers cannot use up what a device renews once a day.
pub const ONE_TIME_PER_DAY: u64 = 20;

/// How far `valid_until` may lie ahead of block time: accepted actions are remembered this long.
pub const VALID_AHEAD_MAX_MS: u64 = HOUR_MS;

/// How long an accepted action stays under the state root after `valid_until`, so that a header
/// can still prove "accepted" or "never".
pub const ACTION_KEPT_MS: u64 = HOUR_MS;

/// How far a fresh block's time may lie ahead of the clock.
pub const BLOCK_AHEAD_MAX_MS: u64 = 10 * 1_000;

/// How long a published message, which has no `valid_until`, may wait in a pool.
pub const MESSAGE_WAIT_MAX_MS: u64 = 10 * MINUTE_MS;

/// Cells' worth of work by time in one block, so that a mass expiry cannot stall a chain. As much
/// again for each second that the oldest deadline is late, so that nothing can expire faster than
/// it is swept.
pub const SWEEP_MAX: usize = 1_000;

/// The most of it: above the 29,000 entries that a block of tiny batches appends.
pub const SWEEP_LATE_MAX: usize = 32_768;

/// Open requests of one creator to one target.
pub const OPEN_REQUESTS_MAX: u8 = 3;

/// Requests to one target in a day.
pub const REQUESTS_PER_DAY: u64 = 200;

/// The day of that limit.
pub const REQUEST_WINDOW_MS: u64 = DAY_MS;

/// Leaves in one proof: 1,000 entries of 150 bytes verify in a millisecond.
pub const PROOF_LEAVES_MAX: usize = 1_000;

/// Head signatures in one proof: as many nodes as a client would ask.
pub const PROOF_HEADS_MAX: usize = 32;

/// Canonical bytes of one record: a roster-free record with two logs of 64 peaks each.
pub const RECORD_BYTES_MAX: usize = 8 * 1024;

/// Level whose inner log nodes are stored: the root of a full tile of 256 leaves.
pub const TILE_LEVEL: u32 = 8;

/// Leaves of a full tile: leaves of a channel go a tile at a time, since everything above is kept.
pub const TILE_LEAVES: u64 = 1 << TILE_LEVEL;

/// Depth of nested JSON that is looked at.
pub const JSON_DEPTH_MAX: usize = 64;

/// Body of one RPC request: a batch of binary transactions that fills a block, in base64.
pub const RPC_BODY_MAX: usize = 2 * 1024 * 1024;

/// Text of one refusal in a binary reply: a sentence with a few ids in it.
pub const REFUSAL_TEXT_MAX: usize = 1_024;

/// Genesis bytes. The published form is under a kilobyte; allocations take the rest.
pub const GENESIS_BYTES_MAX: usize = 1024 * 1024;

/// Body of one peer frame (`spec/wire.md` §3): a quorum certificate of 21 votes is 50 kB, an oracle
/// record with its data the largest thing that travels.
pub const FRAME_BODY_MAX: usize = 1024 * 1024;

/// Signature of a peer message or an oracle record: ML-DSA-65 has the longest in use.
pub const PEER_SIGNATURE_MAX: usize = 3_309;

/// Members of a committee at most: 21 ML-DSA-65 signatures are 69 kB, well inside one frame.
pub const COMMITTEE_MAX: usize = 21;

/// Members of a committee at least, by the published documents.
pub const COMMITTEE_MIN_PUBLISHED: usize = 3;

/// Members of a committee at least, with us: three of three stops at one silent node.
pub const COMMITTEE_MIN: usize = 4;

/// Error text of a stored session. The published node writes one sentence.
pub const SESSION_ERROR_MAX: usize = 64 * 1024;

#[cfg(test)]
mod tests {
    use super::*;

    /// Another number is another rule: every node must have the same ones.
    #[test]
    fn every_limit_is_the_number_of_the_specification() {
        let limits: &[(usize, usize)] = &[
            (CIPHERTEXT_MAX, 262_144),
            (TX_BYTES_MAX, 300_000),
            (BLOCK_BYTES_MAX, 1_048_576),
            (BLOCK_TXS_MAX, 8_192),
            (PARTICIPANTS_MAX, 100),
            (PARTICIPANTS_MIN, 2),
            (BATCH_MESSAGES_MAX, 100),
            (MEMBER_CHANGES_MAX, 100),
            (CHUNK_BYTES_MAX, 65_536),
            (GROUP_ADMINS_MAX, 16),
            (PAST_EPOCHS_MAX, 16),
            (POST_FRAMES_MAX, 32),
            (FRAME_BYTES_MAX, 65_536),
            (COMMIT_BYTES_MAX, 65_536),
            (COMMIT_CHUNKS_MAX, 32),
            (DEVICES_MAX, 8),
            (ONE_TIME_PACKAGES_MAX, 10),
            (KEY_PACKAGE_BYTES_MAX, 16_384),
            (SWEEP_MAX, 1_000),
            (SWEEP_LATE_MAX, 32_768),
            (PROOF_LEAVES_MAX, 1_000),
            (PROOF_HEADS_MAX, 32),
            (RECORD_BYTES_MAX, 8_192),
            (JSON_DEPTH_MAX, 64),
            (RPC_BODY_MAX, 2_097_152),
            (REFUSAL_TEXT_MAX, 1_024),
            (GENESIS_BYTES_MAX, 1_048_576),
            (FRAME_BODY_MAX, 1_048_576),
            (PEER_SIGNATURE_MAX, 3_309),
            (COMMITTEE_MAX, 21),
            (COMMITTEE_MIN_PUBLISHED, 3),
            (COMMITTEE_MIN, 4),
            (SESSION_ERROR_MAX, 65_536),
        ];
        assert!(
            limits.iter().all(|(limit, number)| limit == number),
            "{limits:?}"
        );
        let limits: &[(u64, u64)] = &[
            (BLOCK_WEIGHT_MAX, 2_097_152),
            (RECORD_WEIGHT, 1_024),
            (GROUP_UNTIL_MAX_MS, 2_592_000_000),
            (GROUP_FIRST_EPOCH_MAX, 4_294_967_296),
            (ADVANCE_INTERVAL_MS, 10_000),
            (ADMIN_INTERVAL_MS, 2_000),
            (POST_EPOCHS_BACK, 2),
            (POST_GRACE_MS, 120_000),
            (GROUP_IDLE_MS, 7_776_000_000),
            (KEY_PACKAGE_LIFE_MAX_MS, 7_776_000_000),
            (KEY_PACKAGE_WINDOW_MS, 86_400_000),
            (ONE_TIME_PER_DAY, 20),
            (VALID_AHEAD_MAX_MS, 3_600_000),
            (ACTION_KEPT_MS, 3_600_000),
            (BLOCK_AHEAD_MAX_MS, 10_000),
            (MESSAGE_WAIT_MAX_MS, 600_000),
            (REQUESTS_PER_DAY, 200),
            (REQUEST_WINDOW_MS, 86_400_000),
            (TILE_LEAVES, 256),
        ];
        assert!(
            limits.iter().all(|(limit, number)| limit == number),
            "{limits:?}"
        );
        assert_eq!(OPEN_REQUESTS_MAX, 3);
        assert_eq!(TILE_LEVEL, 8);
    }
}
