//! A further device of an account: the two meet on the chain as accounts that the code gives, and
//! speak in a session of those (`spec/e2ee.md` §8 has what is sealed in it).
//!
//! ```text
//! new device                                                  device that is there
//!   code, shown ──────────────────────────────────────────▶   typed or scanned
//!   request ──────────────────────────────────────────────▶   shown, confirmed
//!   ◀───────── grant: certificate, current keys without the 24 words, names of contacts
//!   key package ──────────────────────────────────────────▶   added to the account's own group
//!   ◀──────────────────────────────────────────── invitation to it, and through it to the others
//! ```
//!
//! The account's own group has nothing but its devices: what one is to tell the others goes there.

use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use session_core::codec::{Decode, DecodeError, Encode, Reader, Writer};
use session_core::ids::{AccountId, Digest, GroupId, SessionId};
use session_core::time::DAY_MS;
use session_crypto::{Identity, Secret};
use session_e2ee::link::{LinkCode, LinkRequest};
use session_e2ee::{
    Content as Said, Device, DeviceId, E2eeError, GroupStatus, MemberDevice, Policy,
};
use zeroize::Zeroizing;

use super::Chats;
use super::inviting::Entered;
use crate::account::{Account, now};
use crate::content::Content;
use crate::error::ClientError;
use crate::group::{GroupError, InvitationCode, KeyPackageCode, NewGroup, storage};
use crate::identity_file::{IdentityFile, Lock};
use crate::inbox::Item;
use crate::people::key_digests;
use crate::rpc::RpcClient;
use crate::transcript::Words;

/// The name of the account's own group, which its devices alone see.
const OWN: &str = "devices of this account";

/// How often a device looks for the other's next step.
const LOOK: Duration = Duration::from_millis(300);

/// Contacts that a new device is told of.
const CONTACTS_MAX: usize = 1_000;

/// A device that waits to be linked.
pub struct NewDeviceLink {
    dir: PathBuf,
    rpc: RpcClient,
    code: LinkCode,
    device: Device,
    /// Of the device's store, until there is an identity that it can be sealed to.
    key: Secret<32>,
    meeting: Account,
    session: SessionId,
}

/// A device that asks to be linked: to be shown to a person.
pub struct LinkOffer {
    request: LinkRequest,
    code: LinkCode,
    meeting: Account,
    /// Holds the meeting account's directory.
    _dir: MeetingDir,
    session: SessionId,
}

/// What came of linking.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Linked {
    /// Groups that the device is brought into.
    pub groups: Vec<GroupId>,
    /// Groups whose change waits for the chain, which wants a pause between two, or for an admin:
    /// [`Chats::flush`] goes on with it, and tells the device.
    pub waiting: Vec<GroupId>,
    /// Groups that it could not be brought into, and why.
    pub without: Vec<(GroupId, String)>,
}

/// What a device is told with its certificate.
struct Payload {
    identity: Zeroizing<Vec<u8>>,
    contacts: Vec<Name>,
}

/// A name, and the keys that it is bound to.
struct Name {
    name: String,
    account: AccountId,
    kem: Digest,
    signing: Digest,
}

/// A directory of a meeting account; it goes with this value.
struct MeetingDir(PathBuf);

impl Drop for MeetingDir {
    fn drop(&mut self) {
        let _leftover = std::fs::remove_dir_all(&self.0);
    }
}

impl LinkOffer {
    /// What the device calls itself.
    pub fn name(&self) -> &str {
        &self.request.name
    }
}

impl NewDeviceLink {
    /// Makes a device in a directory that has no identity, and lays its request where the code says.
    ///
    /// # Errors
    /// [`GroupError::HasIdentity`], [`ClientError`].
    pub async fn begin(rpc: RpcClient, dir: &Path, name: &str) -> Result<Self, ClientError> {
        if IdentityFile::is_sealed(dir).is_some() {
            return Err(GroupError::HasIdentity(dir.to_owned()).into());
        }
        storage::clear(dir)?;
        let key = Secret::random()?;
        let storage = storage::at(dir, key.clone())?;
        let (device, code, request) =
            Device::request_link(storage, session_e2ee::Suite::PostQuantum, name)?;
        let [new, there] = meeting(&code)?;
        let peer = there.account_id();
        // Both have to be known to the chain before they can meet.
        let path = dir.join("meeting");
        let _known = Account::open(rpc.clone(), there, &path.join("there")).await?;
        let mut meeting = Account::open(rpc.clone(), new, &path.join("new")).await?;
        let session = meeting.create_session(peer).await?;
        let steps = vec![Content::Link(request)];
        meeting.send_contents(&session, steps).await?;
        Ok(Self {
            dir: dir.to_owned(),
            rpc,
            code,
            device,
            key,
            meeting,
            session,
        })
    }

    /// The code that is to be shown.
    pub const fn code(&self) -> &LinkCode {
        &self.code
    }

    /// Waits until the account's device has answered, keeps the identity under this lock, and joins
    /// the account's groups. Answers the conversations, and contacts whose keys are not those that
    /// the other device knows.
    ///
    /// # Errors
    /// [`GroupError::NotAnswered`] after `limit`; [`ClientError`].
    pub async fn finish(
        mut self,
        lock: Lock,
        limit: Duration,
    ) -> Result<(Chats, Vec<String>), ClientError> {
        let grant = next_step(&mut self.meeting, &self.session, limit).await?;
        // The account's state is asked for in vain first, as ever.
        let mut accounts = crate::group::Accounts::new();
        let payload = loop {
            let accepted = self.device.accept_grant(&grant, &accounts);
            let at = crate::group::Position::NOW;
            let fetched = accounts.fetch(&mut self.meeting, at).await?;
            match accepted {
                Ok(payload) => break Zeroizing::new(payload),
                Err(_) if fetched => {}
                Err(error) => return Err(error.into()),
            }
        };
        let payload = Payload::from_bytes(&payload).map_err(crate::trust::TrustError::from)?;
        let identity = Identity::from_exposed_file(&payload.identity);
        let identity = identity.map_err(|error| ClientError::IdentityFile {
            path: self.dir.clone(),
            error,
        })?;
        // The store's key first: an identity without it could not open its device.
        self.device.close()?;
        let file = IdentityFile::new(&self.dir, lock)?;
        storage::keep_key(&self.dir, &identity, &self.key)?;
        file.save(&identity)?;
        let mut account = Account::open_file(self.rpc.clone(), file, &self.dir).await?;
        let unlike = add_contacts(&mut account, &payload.contacts).await?;
        let mut chats = Chats::open(account, "")?;
        chats.supply().await?;
        let expires = now().after_ms(DAY_MS);
        let package = chats.groups.key_package(expires)?;
        let steps = vec![Content::Link(package.to_string().into_bytes())];
        self.meeting.send_contents(&self.session, steps).await?;
        let line = next_step(&mut self.meeting, &self.session, limit).await?;
        let code: InvitationCode = String::from_utf8_lossy(&line)
            .parse()
            .map_err(GroupError::from)?;
        chats.groups.join(&code).await?;
        chats.write_down()?;
        // What is left of the meeting is of no use to anybody.
        let _leftover = std::fs::remove_dir_all(self.dir.join("meeting"));
        Ok((chats, unlike))
    }
}

impl Chats {
    /// Finds the device that shows this code.
    ///
    /// # Errors
    /// [`GroupError::NotAnswered`] where there is none; [`ClientError`].
    pub async fn find_device(&mut self, code: &LinkCode) -> Result<LinkOffer, ClientError> {
        let [new, there] = meeting(code)?;
        let dir = MeetingDir(self.account().dir().path().join("meeting"));
        let rpc = self.account().rpc().clone();
        let mut meeting = Account::open(rpc, there, &dir.0).await?;
        let mut sessions = meeting.sessions(true).await?.into_iter();
        let session = sessions.find(|entry| entry.by == Some(new.account_id()));
        let session = session.ok_or(GroupError::NotAnswered)?.session;
        let request = next_step(&mut meeting, &session, Duration::ZERO).await?;
        Ok(LinkOffer {
            request: LinkRequest::open(code, &request)?,
            code: code.clone(),
            meeting,
            _dir: dir,
            session,
        })
    }

    /// Certifies a device, gives it the account's current keys and the names of its contacts, and
    /// brings it into the account's groups. A person has confirmed it.
    ///
    /// # Errors
    /// [`GroupError::NotAnswered`] where the device does not go on within `limit`; [`ClientError`].
    pub async fn link(
        &mut self,
        mut offer: LinkOffer,
        limit: Duration,
    ) -> Result<Linked, ClientError> {
        let account = self.groups.account();
        let payload = Payload {
            identity: account.identity().without_seed()?.to_exposed_file(),
            contacts: names_of(account),
        };
        let payload = Zeroizing::new(payload.to_bytes());
        let (code, request) = (&offer.code, &offer.request);
        let grant = self.groups.grant_link(code, request, &payload)?;
        let meeting = &mut offer.meeting;
        let steps = vec![Content::Link(grant)];
        meeting.send_contents(&offer.session, steps).await?;
        let line = next_step(meeting, &offer.session, limit).await?;
        let package: KeyPackageCode = String::from_utf8_lossy(&line)
            .parse()
            .map_err(GroupError::from)?;
        let invitation = self.invite_to_own_group(&package).await?;
        let steps = vec![Content::Link(invitation.to_string().into_bytes())];
        meeting.send_contents(&offer.session, steps).await?;
        self.bring_devices().await
    }

    /// Adds this account's other devices to every group of this one that they are not in. The
    /// invitations go through the account's own group.
    ///
    /// # Errors
    /// [`ClientError`]; what keeps them from one group is answered.
    pub async fn bring_devices(&mut self) -> Result<Linked, ClientError> {
        let mut linked = Linked::default();
        let own = self.own_group()?;
        for group in self.groups.device().groups() {
            let active = self.groups.device().status(group)? == GroupStatus::Active;
            if !active || Some(group) == own {
                continue;
            }
            match self.bring_into(group).await {
                Ok(Some(0)) => linked.groups.push(group),
                Ok(Some(_)) => linked.waiting.push(group),
                Ok(None) => {}
                Err(ClientError::Rpc(error)) if error.is_temporary() => return Err(error.into()),
                Err(error) => linked.without.push((group, error.to_string())),
            }
        }
        Ok(linked)
    }

    /// How much waits of bringing them into a group; none where they are all there.
    async fn bring_into(&mut self, group: GroupId) -> Result<Option<usize>, ClientError> {
        let members = self.members(group)?.into_iter();
        let there: Vec<_> = members.map(|member| member.member.device).collect();
        let packages = self.groups.take_own_packages(&there).await?;
        if packages.is_empty() {
            return Ok(None);
        }
        let flushed = self.groups.add(group, &packages).await?;
        self.write_down()?;
        self.deliver(group).await?;
        Ok(Some(flushed.waiting))
    }

    /// The group that has nothing but this account's devices.
    ///
    /// # Errors
    /// [`ClientError::E2ee`].
    pub fn own_group(&self) -> Result<Option<GroupId>, ClientError> {
        let device = self.groups.device();
        let me = self.me()?.account;
        for group in device.groups() {
            let policy = device.policy(group)?;
            let owned = policy.name == OWN && policy.roles.keys().eq([&me]);
            if owned && device.status(group)? == GroupStatus::Active {
                return Ok(Some(group));
            }
        }
        Ok(None)
    }

    /// Puts a device into the account's own group, which is made where there is none.
    async fn invite_to_own_group(
        &mut self,
        package: &KeyPackageCode,
    ) -> Result<InvitationCode, ClientError> {
        let packages = core::slice::from_ref(package);
        let group = match self.own_group()? {
            Some(group) => {
                self.groups.add(group, packages).await?;
                group
            }
            None => {
                let me = self.me()?.account;
                let mut policy = Policy::new(self.account().chain(), me);
                OWN.clone_into(&mut policy.name);
                self.groups
                    .create(NewGroup::open(policy), packages, None)
                    .await?
            }
        };
        self.write_down()?;
        let mut invited = self.groups.invitations(group).await?;
        let last = invited.pop().ok_or(GroupError::NotAnswered)?;
        for earlier in invited {
            self.groups.handed_over(earlier.number)?;
        }
        self.groups.handed_over(last.number)?;
        Ok(last.code)
    }

    /// Tells this account's other devices of an invitation.
    pub(super) async fn tell_devices(&mut self, code: &InvitationCode) -> Result<(), ClientError> {
        let Some(own) = self.own_group()? else {
            return Ok(());
        };
        self.keep(own, &[Said::Text(code.to_string())])?;
        self.groups.flush(own).await?;
        self.write_down()?;
        Ok(())
    }

    /// Follows what this account's other devices say: joins the groups that they invite to.
    ///
    /// # Errors
    /// Where the node does not answer.
    pub async fn follow_devices(&mut self) -> Result<Vec<Entered>, ClientError> {
        let Some(own) = self.own_group()? else {
            return Ok(Vec::new());
        };
        self.receive(own, 0).await?;
        let me = self.me()?.account;
        let transcript = self.transcript(own)?;
        let new = transcript.new_from_others();
        let lines = new.filter_map(|said| match &said.words {
            Words::Text(line) => Some((line.parse::<InvitationCode>().ok()?, said.time_ms)),
            Words::File(..) | Words::Unknown(_) => None,
        });
        let mut out = Vec::new();
        for (code, sent_ms) in lines.collect::<Vec<_>>() {
            out.extend(self.join_by(&code, me, sent_ms).await?);
        }
        let waits = |entered: &Entered| matches!(entered, Entered::NotYet { .. });
        if !out.iter().any(waits) {
            self.looked(own)?;
        }
        Ok(out)
    }

    /// Removes a device of this account from every group, for good, and takes its key packages from
    /// the chain: it was stolen or lost. Answers the groups in which it is still a member, because the
    /// chain wants a pause between two changes: call it again until there are none.
    ///
    /// # Errors
    /// [`ClientError`].
    pub async fn revoke_device(&mut self, device: DeviceId) -> Result<Vec<GroupId>, ClientError> {
        self.groups.withdraw_key_packages(device).await?;
        let account = self.me()?.account;
        let lost = MemberDevice { account, device };
        let mut waiting = Vec::new();
        for group in self.groups.device().groups() {
            if !self.has(group, lost)? {
                continue;
            }
            match self.groups.remove(group, &[lost], true).await {
                Err(ClientError::E2ee(E2eeError::CommitPending(_))) => {
                    self.groups.flush(group).await?;
                }
                // Somebody else was faster.
                Err(ClientError::E2ee(E2eeError::NoSuchMember)) => {}
                removed => drop(removed?),
            }
            if self.has(group, lost)? {
                waiting.push(group);
            }
        }
        self.write_down()?;
        Ok(waiting)
    }

    /// Gives this device another signature key: somebody may have the one before. It is durable
    /// once this returns, and [`Chats::spread_key`] brings it into the groups.
    ///
    /// # Errors
    /// [`ClientError::E2ee`].
    pub fn renew_key(&mut self) -> Result<(), ClientError> {
        self.groups.renew_key()
    }

    /// Brings a renewed signature key into the groups that do not know it yet, and replaces published
    /// key packages. Answers the groups in which the key before still counts, because the chain wants a
    /// pause between two changes, or an admin has to sign: call it again until there are none, or
    /// leave it to [`Chats::tick`] and [`Chats::flush`].
    ///
    /// # Errors
    /// [`ClientError`].
    pub async fn spread_key(&mut self) -> Result<Vec<GroupId>, ClientError> {
        self.tick().await?;
        let mut waiting = Vec::new();
        for group in self.groups.device().groups() {
            if !self.groups.device().awaits_key(group)? {
                continue;
            }
            match self.flush(group).await {
                // It was given up, and is made anew with the next tick.
                Ok(_) | Err(ClientError::Refused(_)) => {}
                Err(error) => return Err(error),
            }
            if self.groups.device().awaits_key(group)? {
                waiting.push(group);
            }
        }
        Ok(waiting)
    }

    /// Whether an active group has this device.
    fn has(&self, group: GroupId, device: MemberDevice) -> Result<bool, ClientError> {
        let active = self.groups.device().status(group)? == GroupStatus::Active;
        Ok(active
            && self
                .members(group)?
                .iter()
                .any(|found| found.member == device))
    }
}

/// The identities of both sides of a meeting.
fn meeting(code: &LinkCode) -> Result<[Identity; 2], ClientError> {
    let [new, there] = code.meeting();
    Ok([Identity::from_seed(new)?, Identity::from_seed(there)?])
}

/// The other side's next step, waited for.
async fn next_step(
    meeting: &mut Account,
    session: &SessionId,
    limit: Duration,
) -> Result<Vec<u8>, ClientError> {
    let began = Instant::now();
    loop {
        let inbox = meeting.receive(session).await?;
        for message in inbox.messages {
            if let Item::Link(step) = message.item {
                return Ok(step);
            }
        }
        if began.elapsed() >= limit {
            return Err(GroupError::NotAnswered.into());
        }
        tokio::time::sleep(LOOK).await;
    }
}

fn names_of(account: &Account) -> Vec<Name> {
    let contacts = account.state().contacts.iter();
    let names = contacts.filter_map(|(name, contact)| {
        let (kem, signing) = key_digests(&contact.keys()?);
        Some(Name {
            name: name.clone(),
            account: contact.account,
            kem,
            signing,
        })
    });
    names.take(CONTACTS_MAX).collect()
}

/// Binds names to the keys that the chain has now, where they are those that the other device knows.
/// Answers the other names.
async fn add_contacts(account: &mut Account, names: &[Name]) -> Result<Vec<String>, ClientError> {
    let mut unlike = Vec::new();
    for known in names {
        let same = match account.shown_keys(known.account).await {
            Ok(shown) => key_digests(&shown.keys) == (known.kem, known.signing),
            Err(ClientError::Rpc(error)) => return Err(error.into()),
            Err(_) => false,
        };
        if same && !account.state().contacts.contains_key(&known.name) {
            account.add_contact(&known.name, known.account).await?;
        } else if !same {
            unlike.push(known.name.clone());
        }
    }
    Ok(unlike)
}

impl Encode for Name {
    fn encode(&self, out: &mut Writer) {
        out.bytes(self.name.as_bytes())
            .value(&self.account)
            .value(&self.kem)
            .value(&self.signing);
    }
}

impl Decode for Name {
    fn decode(input: &mut Reader<'_>) -> Result<Self, DecodeError> {
        let what = "contact's name";
        let name = input.bytes(what, 1_024)?.to_vec();
        Ok(Self {
            name: String::from_utf8(name).map_err(|_| DecodeError::Invalid { what })?,
            account: Decode::decode(input)?,
            kem: Decode::decode(input)?,
            signing: Decode::decode(input)?,
        })
    }
}

impl Encode for Payload {
    fn encode(&self, out: &mut Writer) {
        out.u8(1).bytes(&self.identity).list(&self.contacts);
    }
}

impl Decode for Payload {
    fn decode(input: &mut Reader<'_>) -> Result<Self, DecodeError> {
        let what = "version of a grant";
        match input.u8(what)? {
            1 => {}
            other => {
                let value = other.into();
                return Err(DecodeError::UnknownValue { what, value });
            }
        }
        Ok(Self {
            identity: Zeroizing::new(input.bytes("identity", 16 * 1024)?.to_vec()),
            contacts: input.list("contacts", CONTACTS_MAX, 100)?,
        })
    }
}
