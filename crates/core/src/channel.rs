//! The channel record and its members: a public roster with roles and no end.

use crate::codec::{Decode, DecodeError, Encode, Reader, Writer};
use crate::ids::AccountId;
use crate::merkle::Frontier;
use crate::time::Time;

/// What a member may do. Ordered: each role may do what the ones before it may.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Role {
    /// Reads and acknowledges.
    Reader,
    /// Sends.
    Member,
    /// Adds and removes members and readers.
    Admin,
    /// Sets roles and closes. The creator is the first.
    Owner,
}

impl Role {
    /// The word used in RPC.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Reader => "reader",
            Self::Member => "member",
            Self::Admin => "admin",
            Self::Owner => "owner",
        }
    }
}

impl core::str::FromStr for Role {
    type Err = DecodeError;
    fn from_str(text: &str) -> Result<Self, DecodeError> {
        match text {
            "reader" => Ok(Self::Reader),
            "member" => Ok(Self::Member),
            "admin" => Ok(Self::Admin),
            "owner" => Ok(Self::Owner),
            _ => Err(DecodeError::Invalid { what: "role" }),
        }
    }
}

impl Encode for Role {
    fn encode(&self, out: &mut Writer) {
        out.u8(match self {
            Self::Reader => 1,
            Self::Member => 2,
            Self::Admin => 3,
            Self::Owner => 4,
        });
    }
}

impl Decode for Role {
    fn decode(input: &mut Reader<'_>) -> Result<Self, DecodeError> {
        match input.u8("role")? {
            1 => Ok(Self::Reader),
            2 => Ok(Self::Member),
            3 => Ok(Self::Admin),
            4 => Ok(Self::Owner),
            value => Err(DecodeError::UnknownValue {
                what: "role",
                value: value.into(),
            }),
        }
    }
}

/// State of a channel.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Channel {
    /// Who opened it.
    pub creator: AccountId,
    /// Block time of creation.
    pub created: Time,
    /// Block time of the close.
    pub closed: Option<Time>,
    /// Members that were added, accepted or not.
    pub members: u32,
    /// Members with the role of owner that accepted: the last one cannot leave.
    pub owners: u32,
    /// Log of its messages.
    pub log: Frontier,
}

/// State of one member of a channel.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Member {
    /// What it may do.
    pub role: Role,
    /// Whether it accepted; before that it is a request.
    pub accepted: bool,
    /// Block time of the last change.
    pub since: Time,
    /// Who added it.
    pub by: AccountId,
}

impl Encode for Channel {
    fn encode(&self, out: &mut Writer) {
        out.value(&self.creator)
            .value(&self.created)
            .option(self.closed.as_ref())
            .u32(self.members)
            .u32(self.owners)
            .value(&self.log);
    }
}

impl Decode for Channel {
    fn decode(input: &mut Reader<'_>) -> Result<Self, DecodeError> {
        Ok(Self {
            creator: AccountId::decode(input)?,
            created: Time::decode(input)?,
            closed: input.option("closed")?,
            members: input.u32("members")?,
            owners: input.u32("owners")?,
            log: Frontier::decode(input)?,
        })
    }
}

impl Encode for Member {
    fn encode(&self, out: &mut Writer) {
        out.value(&self.role)
            .bool(self.accepted)
            .value(&self.since)
            .value(&self.by);
    }
}

impl Decode for Member {
    fn decode(input: &mut Reader<'_>) -> Result<Self, DecodeError> {
        Ok(Self {
            role: Role::decode(input)?,
            accepted: input.bool("accepted")?,
            since: Time::decode(input)?,
            by: AccountId::decode(input)?,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::codec::assert_one_form;

    #[test]
    fn roles_are_ordered_and_have_a_word_and_a_number() {
        let roles = [
            (Role::Reader, "reader", 1),
            (Role::Member, "member", 2),
            (Role::Admin, "admin", 3),
            (Role::Owner, "owner", 4),
        ];
        assert!(roles.is_sorted_by(|a, b| a.0 < b.0));
        for (role, word, number) in roles {
            assert_eq!(role.as_str(), word);
            assert_eq!(word.parse(), Ok(role));
            assert_eq!(role.to_bytes(), [number]);
            assert_one_form(&role);
        }
        for word in ["", "Owner", "owner "] {
            assert_eq!(
                word.parse::<Role>(),
                Err(DecodeError::Invalid { what: "role" })
            );
        }
        for value in [0, 5] {
            let what = "role";
            let refused = Err(DecodeError::UnknownValue {
                what,
                value: value.into(),
            });
            assert_eq!(Role::from_bytes(&[value]), refused);
        }
    }

    #[test]
    fn records_have_one_form() {
        let mut log = Frontier::new();
        log.push([9; 32], |_, _, _| {}).unwrap();
        let open = Channel {
            creator: AccountId::from_bytes([1; 32]),
            created: Time::from_ms(2),
            closed: None,
            members: 3,
            owners: 4,
            log,
        };
        assert_one_form(&open);
        assert_one_form(&Channel {
            closed: Some(Time::from_ms(5)),
            ..open
        });
        for accepted in [false, true] {
            assert_one_form(&Member {
                role: Role::Admin,
                accepted,
                since: Time::from_ms(6),
                by: AccountId::from_bytes([7; 32]),
            });
        }
    }
}
