//! People with a device each, and what they say in groups.

use std::path::Path;
use std::time::{Duration, Instant};

use session_client::e2ee::{Content, Event, EventKind, GroupStatus, Policy};
use session_client::{Account, Groups, InvitationCode, KeyPackageCode, NewGroup, RpcClient};
use session_core::ids::GroupId;
use session_core::time::{DAY_MS, Time};

use super::{account, same};

pub(crate) fn in_a_week() -> Time {
    let now = std::time::SystemTime::now()
        .duration_since(std::time::UNIX_EPOCH)
        .unwrap();
    Time::from_ms(now.as_millis() as u64).after_ms(7 * DAY_MS)
}

pub(crate) fn now_ms() -> u64 {
    in_a_week().ms() - 7 * DAY_MS
}

pub(crate) async fn person(rpc: RpcClient, path: &Path) -> Groups {
    Groups::open(account(rpc, path).await, "phone").unwrap()
}

/// As after a restart: nothing but the directory and the identity is left.
pub(crate) async fn restarted(groups: Groups, rpc: RpcClient, path: &Path) -> Groups {
    let identity = same(groups.account().identity());
    drop(groups);
    let account = Account::open(rpc, identity, path).await.unwrap();
    Groups::open(account, "phone").unwrap()
}

/// A key package that went over as a line.
pub(crate) fn line(of: &mut Groups) -> KeyPackageCode {
    let package = of.key_package(in_a_week()).unwrap();
    package.to_string().parse().unwrap()
}

/// The texts of others among events, in order.
pub(crate) fn texts(events: &[Event]) -> Vec<String> {
    let said = events.iter().filter_map(|event| {
        if let EventKind::Message(message) = &event.kind
            && let Content::Text(text) = &message.body.content
        {
            return Some(text.clone());
        }
        None
    });
    said.collect()
}

/// Everything that was stored for showing, and is shown now.
pub(crate) fn shown(groups: &mut Groups) -> Vec<Event> {
    let events = groups.events(1_000).unwrap();
    if let Some(last) = events.last() {
        groups.acknowledge(last.number).unwrap();
    }
    events
}

pub(crate) async fn read(groups: &mut Groups, group: GroupId) -> Vec<String> {
    groups.receive(group).await.unwrap();
    texts(&shown(groups))
}

/// Hands the invitations to a group to those who are invited.
pub(crate) async fn hand_over(from: &mut Groups, group: GroupId, to: &mut [&mut Groups]) {
    for invited in from.invitations(group).await.unwrap() {
        let code: InvitationCode = invited.code.to_string().parse().unwrap();
        for other in to.iter_mut() {
            let device = other.device().member().unwrap();
            if invited.to.contains(&device) {
                other.join(&code).await.unwrap();
            }
        }
        from.handed_over(invited.number).unwrap();
    }
}

/// A group of the first and all the others, joined.
pub(crate) async fn together(
    first: &mut Groups,
    others: &mut [&mut Groups],
    new: NewGroup,
) -> GroupId {
    let lines: Vec<KeyPackageCode> = others.iter_mut().map(|other| line(other)).collect();
    let group = first.create(new, &lines, None).await.unwrap();
    hand_over(first, group, others).await;
    group
}

pub(crate) fn owned_by(owner: &Groups) -> Policy {
    Policy::new(owner.account().chain(), owner.account().id())
}

/// Sends what waits until nothing does: the chain takes advances of one group with pauses.
pub(crate) async fn flush_all(groups: &mut Groups, group: GroupId) {
    let deadline = Instant::now() + Duration::from_secs(60);
    loop {
        let flushed = groups.flush(group).await.unwrap();
        let active = groups.device().status(group).unwrap() == GroupStatus::Active;
        if flushed.waiting == 0 || !active {
            return;
        }
        assert!(Instant::now() < deadline, "{flushed:?}");
        tokio::task::yield_now().await;
    }
}
