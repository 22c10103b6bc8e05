//! The node's database, at an address of its own: the plugin asks, the node answers. Kinds are
//! counted anew there.

use crate::field::{code, list, message};

/// What a plugin asks of the database.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
#[repr(u8)]
pub enum Query {
    /// [`Key`], answered by [`HasResponse`].
    Has = 1,
    /// [`Key`], answered by [`GetResponse`].
    Get = 2,
    /// [`Pair`], answered by [`Done`].
    Put = 3,
    /// [`Key`], answered by [`Done`].
    Delete = 4,
    /// [`Batch`], all or nothing, answered by [`Done`].
    WriteBatch = 5,
    /// [`Span`], answered by [`Done`].
    Compact = 6,
    /// Answered by [`Done`].
    Close = 7,
    /// Answered by a byte string.
    HealthCheck = 8,
    /// [`Span`], answered by [`Iterator`].
    IteratorNew = 9,
    /// [`Iterator`], answered by [`Page`]; an empty one is the last.
    IteratorNext = 10,
    /// [`Iterator`], answered by [`Done`].
    IteratorError = 11,
    /// [`Iterator`], answered by [`Done`].
    IteratorRelease = 12,
}

impl From<Query> for u8 {
    fn from(query: Query) -> Self {
        query as Self
    }
}

code! {
    /// How a call of the database went.
    pub struct Outcome {
        /// Well.
        WELL = 0,
        /// The database is closed, or something else failed.
        CLOSED = 1,
        /// There is no such key.
        NOT_FOUND = 2,
    }
}

message! {
    /// A key.
    pub struct Key {
        /// Its bytes.
        pub key: Vec<u8>,
    }
}

message! {
    /// Whether a key is there.
    pub struct HasResponse {
        /// It is.
        pub has: bool,
        /// How it went.
        pub outcome: Outcome,
    }
}

message! {
    /// A key's value.
    pub struct GetResponse {
        /// The value, empty where there is none.
        pub value: Vec<u8>,
        /// How it went.
        pub outcome: Outcome,
    }
}

message! {
    /// A key and a value.
    pub struct Pair {
        /// Key.
        pub key: Vec<u8>,
        /// Value.
        pub value: Vec<u8>,
    }
}

list!(Pair);
list!(Key);

message! {
    /// Changes that happen together.
    pub struct Batch {
        /// First these are set,
        pub puts: Vec<Pair>,
        /// then these are removed.
        pub deletes: Vec<Key>,
    }
}

message! {
    /// How a change went.
    pub struct Done {
        /// How it went.
        pub outcome: Outcome,
    }
}

message! {
    /// Where an iterator begins and what its keys begin with; for `Compact`, both ends.
    pub struct Span {
        /// First key.
        pub start: Vec<u8>,
        /// Prefix of every key, or the end.
        pub prefix: Vec<u8>,
    }
}

message! {
    /// An iterator of the node's.
    pub struct Iterator {
        /// Its number.
        pub id: u64,
    }
}

message! {
    /// The next pairs, some 128 KiB.
    pub struct Page {
        /// Ascending by key.
        pub pairs: Vec<Pair>,
    }
}
