//! The ordering log: what the chain knows of a group, and its rules.

use session_core::codec::{Decode, Encode};
use session_core::ids::{AccountId, ChunkId, Digest, GroupId};
use session_core::record::Chunk;
use session_crypto::{Identity, Secret, SigningPublicKey};
use session_e2ee::{
    AcceptedCommit, AccountState, ChainKeys, CutTree, Directory, EarlierKey, GroupFacts,
    Invitation, InvitationHead, LogEntry, LogPlace, Outgoing, OutgoingKind, commit_hash, group_id,
};
use std::collections::BTreeMap;

use super::CHAIN;
use super::client::Client;

#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Verdict {
    Accepted,
    /// It was accepted before.
    Known,
    /// It never will be.
    Refused,
    /// Another commit came first.
    LostRace,
}

pub(crate) struct Entry {
    pub(crate) place: LogPlace,
    pub(crate) kind: EntryKind,
}

pub(crate) enum EntryKind {
    Frame {
        epoch: u64,
        frame: Vec<u8>,
    },
    Commit {
        epoch: u64,
        commit: Vec<u8>,
        keys: ChainKeys,
        removes: bool,
    },
    Superseded {
        successor: GroupId,
    },
    PrunedFrame {
        hash: Digest,
    },
    PrunedCommit {
        epoch: u64,
    },
}

impl Entry {
    pub(crate) fn entry(&self) -> LogEntry<'_> {
        match &self.kind {
            EntryKind::Frame { epoch, frame } => LogEntry::Frame {
                epoch: *epoch,
                frame,
            },
            EntryKind::Commit {
                epoch,
                commit,
                keys,
                removes,
            } => LogEntry::Commit(AcceptedCommit {
                epoch: *epoch,
                commit,
                keys,
                removes: *removes,
            }),
            EntryKind::Superseded { successor } => LogEntry::Superseded {
                successor: *successor,
            },
            EntryKind::PrunedFrame { hash } => LogEntry::PrunedFrame { hash: *hash },
            EntryKind::PrunedCommit { epoch } => LogEntry::PrunedCommit { epoch: *epoch },
        }
    }
}

pub(crate) struct Log {
    pub(crate) epoch: u64,
    pub(crate) floor: u64,
    pub(crate) keys: BTreeMap<u64, ChainKeys>,
    pub(crate) entries: Vec<Entry>,
    pub(crate) facts: BTreeMap<u64, GroupFacts>,
    pub(crate) superseded: bool,
    frames: std::collections::BTreeSet<Vec<u8>>,
}

#[derive(Default)]
pub(crate) struct Chain {
    pub(crate) now_ms: u64,
    pub(crate) logs: BTreeMap<GroupId, Log>,
    /// States of an account, by the time from which they hold.
    accounts: BTreeMap<AccountId, Vec<(u64, AccountState)>>,
    /// Check every signature, not one in eight.
    pub(crate) strict: bool,
    checks: u64,
    /// Pieces of trees, by their ids.
    chunks: BTreeMap<ChunkId, Vec<u8>>,
    /// What the tree of a group was cut with since a removal.
    tree_secrets: BTreeMap<(GroupId, u64), Secret<32>>,
    /// Pieces that were there when an invitation needed them.
    pub(crate) shared: usize,
}

/// The chain's word at one time.
pub(crate) struct At<'a> {
    chain: &'a Chain,
    time_ms: u64,
}

impl Directory for At<'_> {
    fn account(&self, account: AccountId) -> Option<AccountState> {
        let states = self.chain.accounts.get(&account)?;
        let state = states.iter().rev().find(|(from, _)| *from <= self.time_ms);
        state.map(|(_, state)| state.clone())
    }
}

impl Chain {
    pub(crate) fn new() -> Self {
        Self {
            now_ms: 1_800_000_000_000,
            ..Self::default()
        }
    }

    pub(crate) fn tick(&mut self, ms: u64) -> u64 {
        self.now_ms += ms;
        self.now_ms
    }

    pub(crate) fn register(&mut self, identity: &Identity) {
        let state = AccountState {
            current: identity.public().signing().clone(),
            earlier: Vec::new(),
            revoked_ms: None,
        };
        let states = self.accounts.entry(identity.account_id()).or_default();
        states.push((self.now_ms, state));
    }

    pub(crate) fn rotate_key(&mut self, account: AccountId, key: SigningPublicKey) {
        let states = self.accounts.get_mut(&account).unwrap();
        let mut state = states.last().unwrap().1.clone();
        state.earlier.push(EarlierKey {
            key: std::mem::replace(&mut state.current, key),
            replaced_ms: self.now_ms,
        });
        states.push((self.now_ms, state));
    }

    pub(crate) fn revoke(&mut self, account: AccountId) {
        let states = self.accounts.get_mut(&account).unwrap();
        let mut state = states.last().unwrap().1.clone();
        state.revoked_ms = Some(self.now_ms);
        states.push((self.now_ms, state));
    }

    pub(crate) fn directory(&self) -> At<'_> {
        self.directory_at(self.now_ms)
    }

    pub(crate) fn directory_at(&self, time_ms: u64) -> At<'_> {
        At {
            chain: self,
            time_ms,
        }
    }

    pub(crate) fn log(&self, group: GroupId) -> &Log {
        &self.logs[&group]
    }

    /// Everything in the log so far is there no more, but for what proves that it was.
    pub(crate) fn prune(&mut self, group: GroupId) {
        let log = self.logs.get_mut(&group).unwrap();
        for entry in &mut log.entries {
            entry.kind = match &entry.kind {
                EntryKind::Frame { frame, .. } => EntryKind::PrunedFrame {
                    hash: session_core::ids::Digest::from_bytes(session_core::hash::sha256(frame)),
                },
                EntryKind::Commit { epoch, .. } => EntryKind::PrunedCommit { epoch: *epoch },
                _ => continue,
            };
        }
    }

    /// What a client submits. It signs with the keys of its device.
    pub(crate) fn submit(&mut self, client: &Client, outgoing: &Outgoing) -> Verdict {
        self.now_ms += 1;
        let group = outgoing.group;
        self.checks += 1;
        let check = self.strict || self.checks.is_multiple_of(8);
        match &outgoing.kind {
            OutgoingKind::Create(creation) => {
                assert_eq!(group, group_id(CHAIN, &creation.admin, &creation.salt));
                if self.logs.contains_key(&group) {
                    return Verdict::Known;
                }
                if check {
                    let signed = client.device().sign_as_admin(group, b"create").unwrap();
                    creation.admin.verify(b"create", &signed).unwrap();
                    let device = client.device();
                    let signed = device
                        .sign_as_controller(group, creation.epoch, b"c")
                        .unwrap();
                    creation.keys.control.verify(b"c", &signed).unwrap();
                }
                let facts = self.facts(
                    group,
                    creation.epoch,
                    creation.commit_hash,
                    &creation.keys,
                    0,
                );
                let log = Log {
                    epoch: creation.epoch,
                    floor: 0,
                    keys: BTreeMap::from([(creation.epoch, creation.keys.clone())]),
                    entries: Vec::new(),
                    facts: BTreeMap::from([(creation.epoch, facts)]),
                    superseded: false,
                    frames: std::collections::BTreeSet::new(),
                };
                self.logs.insert(group, log);
                Verdict::Accepted
            }
            OutgoingKind::Commit(advance) => {
                let Some(log) = self.logs.get(&group) else {
                    return Verdict::Refused;
                };
                if log.superseded {
                    return Verdict::Refused;
                }
                if advance.from_epoch != log.epoch {
                    return Verdict::LostRace;
                }
                if check {
                    let device = client.device();
                    let signed = device
                        .sign_as_controller(group, advance.from_epoch, b"advance")
                        .unwrap();
                    log.keys[&log.epoch]
                        .control
                        .verify(b"advance", &signed)
                        .unwrap();
                }
                self.advance(group, &advance.commit, &advance.keys, advance.removes);
                Verdict::Accepted
            }
            OutgoingKind::Frame { epoch, frame } => {
                let Some(log) = self.logs.get(&group) else {
                    return Verdict::Refused;
                };
                if log.frames.contains(frame) {
                    return Verdict::Known;
                }
                if log.superseded
                    || *epoch < log.floor
                    || *epoch + 2 < log.epoch
                    || *epoch > log.epoch
                {
                    return Verdict::Refused;
                }
                if check {
                    let signed = client
                        .device()
                        .sign_as_poster(group, *epoch, b"post")
                        .unwrap();
                    log.keys[epoch].posting.verify(b"post", &signed).unwrap();
                }
                self.post(group, *epoch, frame.clone());
                Verdict::Accepted
            }
            OutgoingKind::Invitation(_) => Verdict::Accepted,
        }
    }

    /// An invitation on its way: in head and pieces, and together again.
    pub(crate) fn carry(&mut self, group: GroupId, invitation: &Invitation) -> Invitation {
        let removal = |entry: &Entry| match &entry.kind {
            EntryKind::Commit { epoch, removes, .. } if *removes => Some(*epoch),
            _ => None,
        };
        let entries = self.logs[&group].entries.iter();
        let removals = entries.filter_map(removal);
        let last = removals.filter(|epoch| *epoch <= invitation.epoch).max();
        let secret = &invitation.tree_secret;
        let known = self.tree_secrets.entry((group, last.unwrap_or(0)));
        let known = known.or_insert_with(|| secret.clone());
        assert!(known == secret, "whoever invites cuts alike");
        let mut others = self.tree_secrets.iter();
        assert!(
            others.all(|(of, other)| *of == (group, last.unwrap_or(0)) || other != secret),
            "and anew after each removal"
        );
        let (head, _) = invitation.split().unwrap();
        let head = InvitationHead::from_bytes(&head.to_bytes()).unwrap();
        // In earnest small trees are not cut.
        let (cut, chunks) = CutTree::cut(&invitation.tree, secret).unwrap();
        for chunk in chunks {
            let there = self.chunks.insert(Chunk::id(&chunk), chunk);
            self.shared += usize::from(there.is_some());
        }
        let mut gathering = cut.gather(head.tree_secret());
        let missing: Vec<_> = gathering.missing().collect();
        for (index, id) in missing {
            gathering.put(index, &self.chunks[&id]).unwrap();
        }
        let tree = gathering.finish().unwrap();
        let carried = head.with_tree(tree);
        assert!(carried == *invitation, "the same as before");
        carried
    }

    /// Swaps the epoch, whoever asks: a member has the control key.
    pub(crate) fn advance(
        &mut self,
        group: GroupId,
        commit: &[u8],
        keys: &ChainKeys,
        removes: bool,
    ) {
        let hash = commit_hash(commit);
        let log = &self.logs[&group];
        let (epoch, position) = (log.epoch + 1, log.entries.len() as u64);
        let facts = self.facts(group, epoch, hash, keys, position + 1);
        let time_ms = self.now_ms;
        let log = self.logs.get_mut(&group).unwrap();
        log.epoch = epoch;
        if removes {
            log.floor = epoch;
        }
        log.keys.insert(epoch, keys.clone());
        log.facts.insert(epoch, facts);
        log.entries.push(Entry {
            place: LogPlace { position, time_ms },
            kind: EntryKind::Commit {
                epoch,
                commit: commit.to_vec(),
                keys: keys.clone(),
                removes,
            },
        });
    }

    /// Posts a frame, whoever asks: a member has the posting key.
    pub(crate) fn post(&mut self, group: GroupId, epoch: u64, frame: Vec<u8>) {
        let time_ms = self.now_ms;
        let log = self.logs.get_mut(&group).unwrap();
        log.frames.insert(frame.clone());
        let position = log.entries.len() as u64;
        log.entries.push(Entry {
            place: LogPlace { position, time_ms },
            kind: EntryKind::Frame { epoch, frame },
        });
    }

    pub(crate) fn supersede(&mut self, group: GroupId, successor: GroupId) {
        let time_ms = self.now_ms;
        let log = self.logs.get_mut(&group).unwrap();
        log.superseded = true;
        let position = log.entries.len() as u64;
        log.entries.push(Entry {
            place: LogPlace { position, time_ms },
            kind: EntryKind::Superseded { successor },
        });
    }

    fn facts(
        &self,
        group: GroupId,
        epoch: u64,
        commit_hash: Digest,
        keys: &ChainKeys,
        next_position: u64,
    ) -> GroupFacts {
        GroupFacts {
            chain: CHAIN,
            group,
            epoch,
            commit_hash,
            keys: keys.clone(),
            next_position,
            time_ms: self.now_ms,
        }
    }
}
