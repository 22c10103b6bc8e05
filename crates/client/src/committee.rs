//! Several nodes of one chain: a head counts when enough of their keys have signed it.
//!
//! Every node signs heads with a key of its own. Whoever knows one node believes that one; whoever
//! has pinned several asks the others for their signature on the same block, and believes when
//! `threshold` of them agree on height and id.
//!
//! ```text
//! node A ── proof, head of block h signed by A ──┐
//! node B ── head of block h signed by B ─────────┼─▶ Trust::check: threshold reached?
//! node C ── head of block h signed by C ─────────┘
//! ```

use std::time::Duration;

use serde::{Deserialize, Serialize};
use serde_json::json;
use session_core::hash::Tag;
use session_core::header::SignedHead;
use session_core::ids::AccountId;
use session_core::proof::{Proof, Proved};
use session_crypto::SigningPublicKey;
use tokio::task::JoinSet;
use tokio::time::Instant;

use crate::account::Account;
use crate::error::ClientError;
use crate::rpc::{RpcClient, RpcError};
use crate::trust::{TrustError, decode_proof, head_is_signed_by};

/// Nodes at most: each costs a request and a signature check where the ones before did not do.
const MEMBERS_MAX: usize = 64;

/// How long a node may take to come to the block and sign it.
pub(crate) const WITNESS_LIMIT: Duration = Duration::from_secs(5);

/// How often one that is behind is asked again.
pub(crate) const LOOK: Duration = Duration::from_millis(100);

/// Code of the node's error for a height that it has not reached.
const NOT_FOUND: i32 = -32_001;

/// One node.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Member {
    /// Where it answers, such as `http://127.0.0.1:9650/ext/bc/CHAIN`.
    pub url: String,
    /// The ML-DSA-65 key that it signs heads with, hex.
    pub head_key: String,
}

/// Nodes whose keys are pinned together.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Committee {
    members: Vec<Member>,
    threshold: usize,
}

impl Committee {
    /// Nodes of which `threshold` must have signed a head. Below a third plus one of them, liars
    /// may be all that are asked.
    ///
    /// # Errors
    /// [`TrustError::Committee`]: none or over 64, a threshold that is 0 or larger than their
    /// number, a key that is none, or one key twice.
    pub fn new(members: Vec<Member>, threshold: usize) -> Result<Self, TrustError> {
        let mut keys = Vec::new();
        for member in &members {
            let key = const_hex::decode(&member.head_key).unwrap_or_default();
            if SigningPublicKey::try_from(key.as_slice()).is_err() {
                return Err(TrustError::Committee("a head key is not one of ML-DSA-65"));
            }
            if keys.contains(&key) {
                return Err(TrustError::Committee("one head key is named twice"));
            }
            keys.push(key);
        }
        if members.is_empty() || members.len() > MEMBERS_MAX {
            return Err(TrustError::Committee("there are 1 to 64 nodes in one"));
        }
        if threshold == 0 || threshold > members.len() {
            return Err(TrustError::Committee(
                "as many must sign as 1 to all of its nodes",
            ));
        }
        Ok(Self { members, threshold })
    }

    /// Its nodes.
    pub fn members(&self) -> &[Member] {
        &self.members
    }

    /// How many of them must have signed a head.
    pub const fn threshold(&self) -> usize {
        self.threshold
    }

    /// Whether a node that shows this head key, hex, is one of them.
    pub fn has_key(&self, head_key: &str) -> bool {
        let mut keys = self.members.iter().map(|member| &member.head_key);
        keys.any(|key| key.eq_ignore_ascii_case(head_key))
    }

    /// How many of them have signed a head of the proof. That the heads are about the proof's own
    /// block is [`Proof::verify`]'s to say.
    pub fn signers(&self, proof: &Proof) -> usize {
        let signed = |member: &&Member| {
            let key = const_hex::decode(&member.head_key).unwrap_or_default();
            let digest = Tag::PublicKey.hash(&[&key]);
            SigningPublicKey::try_from(key.as_slice()).is_ok_and(|key| {
                let mut heads = proof.heads.iter();
                heads.any(|head| head.key.to_bytes() == digest && head_is_signed_by(head, &key))
            })
        };
        self.members.iter().filter(signed).count()
    }
}

impl Account {
    /// Verifies a proof and remembers what it shows. Where several nodes are pinned, the others
    /// are asked for what is missing of their signatures first.
    ///
    /// # Errors
    /// [`ClientError::Trust`].
    pub(crate) async fn believe(&mut self, proof: &mut Proof) -> Result<Proved, ClientError> {
        self.gather(proof).await;
        let proved = self.state.trust.check(proof)?;
        self.proved_time = self.proved_time.max(proved.header.time);
        self.head_time = self.head_time.max(self.proved_time);
        Ok(proved)
    }

    /// Adds the heads that other pinned nodes have signed of the proof's block, until there are
    /// enough or nobody is left to ask. Whether there are is for the check to say.
    pub(crate) async fn gather(&mut self, proof: &mut Proof) {
        let Some(committee) = self.state.trust.committee.clone() else {
            return;
        };
        if committee.signers(proof) >= committee.threshold {
            return;
        }
        let (id, header) = (self.id(), proof.header);
        let mut asked = JoinSet::new();
        let own = self.rpc.address();
        for member in committee
            .members
            .iter()
            .filter(|m| m.url.trim_end_matches('/') != own)
        {
            if let Ok(rpc) = self.rpc.other(&member.url) {
                asked.spawn(heads_at(rpc, id, header.height));
            }
        }
        while let Some(heads) = asked.join_next().await {
            // A node that answers about something else has said nothing.
            let about_it = |head: &SignedHead| {
                head.chain == header.chain
                    && head.height == header.height
                    && head.block == header.id()
            };
            let heads = heads.unwrap_or_default().into_iter().filter(about_it);
            proof.heads.extend(heads);
            if committee.signers(proof) >= committee.threshold {
                return;
            }
        }
    }
}

/// What a node has signed of its block at a height: with a proof of some record in it, whose
/// content does not matter. Nothing where it does not get there in 5 s.
async fn heads_at(rpc: RpcClient, id: AccountId, height: u64) -> Vec<SignedHead> {
    #[derive(Deserialize)]
    struct Reply {
        proof: String,
    }
    let params = json!({ "account": id, "height": height });
    let until = Instant::now() + WITNESS_LIMIT;
    loop {
        let asked = rpc.call::<Reply>("sessionvm.GetProof", params.clone());
        match tokio::time::timeout_at(until, asked).await {
            Ok(Ok(reply)) => {
                return decode_proof(&reply.proof).map_or_else(|_| Vec::new(), |p| p.heads);
            }
            // It is behind.
            Ok(Err(RpcError::Refused {
                code: NOT_FOUND, ..
            })) if Instant::now() < until => tokio::time::sleep(LOOK).await,
            Ok(Err(_)) | Err(_) => return Vec::new(),
        }
    }
}
