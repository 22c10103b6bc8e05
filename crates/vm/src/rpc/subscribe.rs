//! WebSocket subscriptions with a resume cursor.
//!
//! After connecting, a client sends one JSON text:
//! `{"sessionId":…,"from":n}`, `{"channelId":…,"from":n}`, `{"groupId":…,"from":n}` or
//! `{"account":…,"from":{…}}`, where the last follows every session and channel of an account, and
//! beside them the groups that `from` names as `group:…`. It gets `{"messages":[…],"next":n}` for
//! what is there and for what comes. Nothing is dropped: a slow reader is simply further behind,
//! and what has been pruned meanwhile comes marked as such. Where even the leaves are gone, as in
//! an old channel, one frame says so: `{"pruned":true,"from":n,"messages":[],"next":m}`.

use std::collections::BTreeMap;
use std::sync::atomic::Ordering;
use std::time::Duration;

use axum::extract::ws::{Message, WebSocket};
use serde::Deserialize;
use serde_json::{Value, json};
use session_chain::view::{Table, View, ViewError, entry_key, first_entry};
use session_core::codec::Decode;
use session_core::ids::AccountId;
use session_core::log::{Conversation, Entry, LogId};

use super::error::{PRUNED, RpcError};
use super::method::{Context, name_of, parse_account, parse_conversation};
use super::read::{message_count, read_messages};
use super::room::Room;
use crate::head::Head;

/// Messages in one frame.
const PAGE: u64 = 100;

/// Conversations that one account subscription follows.
const FOLLOWED_MAX: usize = 1_000;

/// A reader that takes nothing for so long is gone.
const SEND_TIMEOUT: Duration = Duration::from_secs(30);

/// How long a client may take to say what it wants.
const REQUEST_TIMEOUT: Duration = Duration::from_secs(10);

#[derive(Deserialize, Default)]
#[serde(rename_all = "camelCase", default, deny_unknown_fields)]
struct Wish {
    session_id: String,
    channel_id: String,
    group_id: String,
    account: Option<String>,
    from: Value,
}

/// What a subscription follows.
#[derive(Clone)]
enum Subscription {
    One(Conversation, u64),
    All {
        account: AccountId,
        cursors: BTreeMap<Conversation, u64>,
        seen: [u64; 2],
    },
}

/// Serves one connection until either side ends it.
pub(super) async fn serve(context: Context, room: Room, mut socket: WebSocket) {
    let metrics = context.node.metrics().clone();
    metrics.subscriptions.fetch_add(1, Ordering::Relaxed);
    if let Err(problem) = run(&context, &room, &mut socket).await {
        let text = json!({ "error": { "code": problem.code, "message": problem.full_message() } });
        let _gone = socket.send(Message::Text(text.to_string().into())).await;
    }
    let _gone = socket.send(Message::Close(None)).await;
    metrics.subscriptions.fetch_sub(1, Ordering::Relaxed);
}

async fn run(context: &Context, room: &Room, socket: &mut WebSocket) -> Result<(), RpcError> {
    let Ok(Some(Ok(first))) = tokio::time::timeout(REQUEST_TIMEOUT, socket.recv()).await else {
        return Ok(());
    };
    let wish: Wish = match &first {
        Message::Text(text) => serde_json::from_str(text.as_str())
            .map_err(|e| RpcError::new(super::error::INVALID_PARAMS, e.to_string()))?,
        Message::Binary(_) | Message::Ping(_) | Message::Pong(_) | Message::Close(_) => {
            return Ok(());
        }
    };
    let mut heads = context.node.heads();
    let mut subscription = begin(&heads.borrow_and_update().clone(), &wish)?;
    loop {
        let head = heads.borrow_and_update().clone();
        loop {
            let before = subscription.clone();
            let Some(frame) = next_frame(&head, &mut subscription)? else {
                break;
            };
            let text = frame.to_string();
            drop(frame);
            let Some(held) = room.try_take(text.len()) else {
                // Nothing large is kept while others make room; it is read again then.
                let wanted = text.len();
                drop(text);
                subscription = before;
                drop(room.take(wanted).await);
                continue;
            };
            let send = socket.send(Message::Text(text.into()));
            let sent = tokio::time::timeout(SEND_TIMEOUT, send).await;
            drop(held);
            if !matches!(sent, Ok(Ok(()))) {
                return Ok(());
            }
        }
        tokio::select! {
            changed = heads.changed() => if changed.is_err() { return Ok(()) },
            received = socket.recv() => match received {
                // Pings are answered by the library; anything else a client says is ignored.
                Some(Ok(Message::Ping(_) | Message::Pong(_) | Message::Text(_) | Message::Binary(_))) => {}
                Some(Ok(Message::Close(_)) | Err(_)) | None => return Ok(()),
            },
        }
    }
}

fn begin(head: &Head, wish: &Wish) -> Result<Subscription, RpcError> {
    let Some(account) = &wish.account else {
        let conversation = parse_conversation(&wish.session_id, &wish.channel_id, &wish.group_id)?;
        message_count(head, &conversation)?;
        return Ok(Subscription::One(
            conversation,
            wish.from.as_u64().unwrap_or(0),
        ));
    };
    let account = parse_account("account", account)?;
    let mut cursors = BTreeMap::new();
    for (text, from) in wish
        .from
        .as_object()
        .into_iter()
        .flatten()
        .take(FOLLOWED_MAX)
    {
        let conversation = match text.split_once(':') {
            Some(("channel", id)) => parse_conversation("", id, "")?,
            Some(("group", id)) => parse_conversation("", "", id)?,
            Some((_, id)) => parse_conversation(id, "", "")?,
            None => parse_conversation(text, "", "")?,
        };
        cursors.insert(conversation, from.as_u64().unwrap_or(0));
    }
    Ok(Subscription::All {
        account,
        cursors,
        seen: [0, 0],
    })
}

fn next_frame(head: &Head, subscription: &mut Subscription) -> Result<Option<Value>, RpcError> {
    match subscription {
        Subscription::One(conversation, from) => page(head, conversation, from),
        Subscription::All {
            account,
            cursors,
            seen,
        } => {
            follow_new(head, account, cursors, seen)?;
            for (conversation, from) in cursors.iter_mut() {
                if let Some(frame) = page(head, conversation, from)? {
                    return Ok(Some(frame));
                }
            }
            Ok(None)
        }
    }
}

/// Adds conversations that the account came to since the last look.
fn follow_new(
    head: &Head,
    account: &AccountId,
    cursors: &mut BTreeMap<Conversation, u64>,
    seen: &mut [u64; 2],
) -> Result<(), RpcError> {
    let logs = [LogId::Memberships(*account), LogId::Requests(*account)];
    for (log, seen) in logs.into_iter().zip(seen) {
        let to = entry_key(&log, u64::MAX);
        let cells = head
            .view()
            .range(Table::Entry, &entry_key(&log, *seen), &to, FOLLOWED_MAX)?;
        for (_, entry) in cells {
            let entry = Entry::from_bytes(&entry).map_err(ViewError::Damaged)?;
            *seen = entry.sequence() + 1;
            if let Entry::Membership(entry) = entry
                && cursors.len() < FOLLOWED_MAX
            {
                cursors.entry(entry.conversation).or_insert(0);
            }
        }
    }
    Ok(())
}

fn page(
    head: &Head,
    conversation: &Conversation,
    from: &mut u64,
) -> Result<Option<Value>, RpcError> {
    // A conversation that was swept meanwhile has nothing more to say.
    let Ok(count) = message_count(head, conversation) else {
        return Ok(None);
    };
    if count <= *from {
        return Ok(None);
    }
    let (kind, id) = name_of(conversation);
    let (messages, batches, next) = match read_messages(head, conversation, *from, PAGE) {
        Err(problem) if problem.code == PRUNED => {
            let first = first_entry(&head.view(), &conversation.log())?;
            let next = first.map_or(count, |(first, _)| first);
            let frame =
                json!({ kind: id, "pruned": true, "from": from, "messages": [], "next": next });
            *from = next;
            return Ok(Some(frame));
        }
        read => read?,
    };
    if messages.is_empty() {
        return Ok(None);
    }
    *from = next;
    Ok(Some(
        json!({ kind: id, "messages": messages, "batches": batches, "next": next }),
    ))
}
