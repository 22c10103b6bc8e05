//! Every limit of this layer, with its reason. Quantities in bytes unless the name says otherwise.

/// Devices of a group. A cold tree of 1,000 leaves is 6.5 MB to join and 4 ms to load; beyond
/// that a conversation is a channel.
pub const LEAVES_MAX: usize = 1_024;

/// Key packages that one commit adds: its welcome is 66 kB then, and larger ones grow faster than
/// the number of joiners.
pub const ADDS_MAX: usize = 50;

/// A key package: 10,993 with one suite and our credential.
pub const KEY_PACKAGE_MAX: usize = 16 * 1024;

/// A commit: adding 49 to a cold tree of 951 is 1.7 MB, and the chain takes 32 chunks of 64 KiB.
pub const COMMIT_MAX: usize =
    session_core::limits::COMMIT_CHUNKS_MAX * session_core::limits::CHUNK_BYTES_MAX;

/// A welcome: 66 kB for fifty joiners.
pub const WELCOME_MAX: usize = 256 * 1024;

/// A ratchet tree, which travels beside its welcome: a leaf is 9.9 kB, of which its certificate is
/// 3.4, and a parent 1.3.
pub const TREE_MAX: usize = 12 * 1024 * LEAVES_MAX;

/// A frame: what the chain takes as one.
pub const FRAME_MAX: usize = session_core::limits::FRAME_BYTES_MAX;

/// Content of one message, before padding: the largest Padmé length whose frame fits is 63,488, with
/// an end mark of 1 byte and 33 of the frame.
pub const CONTENT_MAX: usize = 63_487;

/// Generations that a frame may lie ahead of the last one seen of its sender, and message keys kept
/// for those left out. The log is ordered, so real gaps are small; every further one is a key that
/// somebody inside could make us throw away.
pub const WINDOW: u32 = 64;

/// Frames whose sender's signature is awaited, for each sender and epoch. A sender signs after 32.
pub const UNSIGNED_MAX: usize = 256;

/// Frames of one generation that are kept until a signature decides which is the sender's.
pub const RIVALS_MAX: usize = 4;

/// Messages under one signature of their sender.
pub const SIGNED_BATCH_MAX: usize = 32;

/// How long a message may wait for its sender's signature.
pub const SIGNED_BATCH_AFTER_MS: u64 = 5_000;

/// Past epochs whose frames are still opened. Later ones are refused by the chain.
pub const PAST_EPOCHS: u64 = 2;

/// How long what an account has said of a device is taken in a commit of the log after the account
/// has other keys, or none: chain time, from the change to the commit's entry. Whoever made the commit
/// judged it by the chain as it was then, and the change may have come first: were it refused, an
/// account that rotates while it is added would end the group. Twice the longest that the SDK lets an
/// advance be on its way ([`ADVANCE_VALID_MS`]), so that clocks may differ by as much.
pub const GRACE_MS: u64 = session_core::time::HOUR_MS;

/// How long after its commit was judged an advance may be taken by the chain: half of [`GRACE_MS`].
pub const ADVANCE_VALID_MS: u64 = GRACE_MS / 2;

/// A signature by a leaf's key: 3,309 with ML-DSA-65.
pub const LEAF_SIGNATURE_MAX: usize = 4 * 1024;

/// A device that lost its group asks once in so long, and is let back in once in so long.
pub const REJOIN_EVERY_MS: u64 = session_core::time::DAY_MS;

/// Messages after which a device rotates its leaf in a group of up to 50: what [`crate::rotation`] makes
/// more of in larger ones.
pub const ROTATE_AFTER_MESSAGES: u32 = 50;

/// Messages that wait to be accepted. A client that is offline for longer says so.
pub const OUTBOX_MAX: usize = 10_000;

/// A group's name, a device's name.
pub const NAME_MAX: usize = 128;

/// Devices that may not come back into a group. The oldest entry goes.
pub const REVOKED_MAX: usize = 256;

/// Accounts with a role of their own in a group.
pub const ROLES_MAX: usize = 256;

/// Admin keys said in a device's name that wait for its signature. It says one, and signs it soon.
pub const ADMIN_CLAIMS_MAX: usize = 8;

/// Commits of one device that wait to be signed by an admin: it has one, and others may speak in its
/// name.
pub const COUNTERSIGN_REQUESTS_MAX: usize = 4;

/// Key packages of ours that are out at once: ten one-time, one of last resort, and one reserved
/// in each of many groups.
pub const KEY_PACKAGES_MAX: usize = 1_024;

/// What a linked device is given besides its certificate: identity, contacts, as the client likes.
pub const LINK_PAYLOAD_MAX: usize = 1024 * 1024;
