//! Requests: what strangers want, until a person has answered.

use std::collections::{BTreeMap, BTreeSet};

use session_core::ids::{AccountId, SessionId};

use super::inviting::Entered;
use super::{Chats, Mail};
use crate::error::ClientError;
use crate::invitations::HeldInvitation;

/// What somebody wants who is neither a contact nor was accepted.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Request {
    /// Sessions that the account opened.
    pub sessions: BTreeSet<SessionId>,
    /// What it wrote there, oldest first.
    pub texts: Vec<String>,
    /// Groups that it invites to.
    pub invitations: Vec<HeldInvitation>,
}

impl Chats {
    /// Requests that wait for an answer, by account, and what else was read in the sessions of people
    /// who are known.
    ///
    /// # Errors
    /// [`ClientError`].
    pub async fn requests(
        &mut self,
    ) -> Result<(BTreeMap<AccountId, Request>, Vec<Mail>), ClientError> {
        let mail = self.read_mail(None).await?;
        let account = self.account_mut();
        let mut requests: BTreeMap<AccountId, Request> = BTreeMap::new();
        let members = account.sessions(false).await?;
        let members: BTreeSet<SessionId> = members.iter().map(|entry| entry.session).collect();
        for entry in account.sessions(true).await? {
            let session = entry.session;
            let Some(from) = entry.by.filter(|_| !members.contains(&session)) else {
                continue;
            };
            let state = account.state();
            let closed = state.blocked.contains(&from) || state.ignored.contains(&session);
            if account.is_welcome(&from) || closed || !account.is_open(&session).await? {
                continue;
            }
            requests.entry(from).or_default().sessions.insert(session);
        }
        for held in account.invitations()? {
            let state = account.state();
            let closed =
                state.blocked.contains(&held.from) || state.ignored.contains(&held.session);
            if !closed && !account.is_welcome(&held.from) {
                let request = requests.entry(held.from).or_default();
                request.invitations.push(held);
            }
        }
        for line in account.history().lines()? {
            if let Some(request) = requests.get_mut(&line.sender)
                && request.sessions.contains(&line.session)
            {
                request.texts.push(line.text);
            }
        }
        let known = |mail: &Mail| {
            let mut of = requests.values();
            !of.any(|request| request.sessions.contains(&mail.session))
        };
        let mail = mail.into_iter().filter(known).collect();
        Ok((requests, mail))
    }

    /// Accepts what an account wants: its sessions, and its groups, now and later.
    ///
    /// # Errors
    /// [`ClientError`].
    pub async fn accept_request(
        &mut self,
        from: AccountId,
    ) -> Result<(Request, Vec<Entered>), ClientError> {
        let (mut requests, _) = self.requests().await?;
        let request = requests.remove(&from).unwrap_or_default();
        self.account_mut().unblock(from)?;
        self.account_mut().welcome(from)?;
        for session in &request.sessions {
            self.account_mut().accept(*session).await?;
        }
        let entered = self.enter().await?;
        Ok((request, entered))
    }

    /// Shows what an account wanted no more; it may ask again. Answers how much that was.
    ///
    /// # Errors
    /// [`ClientError`].
    pub async fn ignore_request(&mut self, from: AccountId) -> Result<usize, ClientError> {
        let (mut requests, _) = self.requests().await?;
        let request = requests.remove(&from).unwrap_or_default();
        let held: BTreeSet<SessionId> = request.invitations.iter().map(|h| h.session).collect();
        let sessions: BTreeSet<SessionId> = request.sessions.union(&held).copied().collect();
        let account = self.account_mut();
        account.drop_invitations(|held| held.from == from)?;
        account.ignore(&sessions)?;
        Ok(sessions.len())
    }
}

impl crate::account::Account {
    /// From now on nothing is read of an account, and nothing of it is shown.
    ///
    /// # Errors
    /// [`ClientError::State`].
    pub fn block(&mut self, account: AccountId) -> Result<(), ClientError> {
        self.drop_invitations(|held| held.from == account)?;
        self.state.welcome.remove(&account);
        self.state.blocked.insert(account);
        Ok(self.dir.save(&self.state)?)
    }

    /// Takes that back. Answers whether it was blocked.
    ///
    /// # Errors
    /// [`ClientError::State`].
    pub fn unblock(&mut self, account: AccountId) -> Result<bool, ClientError> {
        let was = self.state.blocked.remove(&account);
        self.dir.save(&self.state)?;
        Ok(was)
    }

    fn ignore(&mut self, sessions: &BTreeSet<SessionId>) -> Result<(), ClientError> {
        self.state.ignored.extend(sessions.iter().copied());
        Ok(self.dir.save(&self.state)?)
    }
}
