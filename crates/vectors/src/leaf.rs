//! A place in the file: its value, and the path by which a disagreement names it.

use crate::{Disagreement, Problem, SHOWN_CHARS_MAX};
use serde_json::{Map, Value};
use session_core::time::UnixNanos;

/// What a section's check found.
#[derive(Debug, Default)]
pub(crate) struct Tally {
    pub(crate) compared: usize,
    pub(crate) unbound: Vec<String>,
    pub(crate) unknown: Vec<String>,
}

impl Tally {
    /// Notes a value that nothing in the file depends on.
    pub(crate) fn unbound(&mut self, leaf: &Leaf<'_>) {
        self.unbound.push(leaf.path.clone());
    }

    /// Notes a value that this release does not know.
    pub(crate) fn unknown(&mut self, leaf: &Leaf<'_>) {
        self.unknown.push(leaf.path.clone());
    }

    /// Compares a hex text with bytes.
    pub(crate) fn hex(
        &mut self,
        leaf: &Leaf<'_>,
        computed: impl AsRef<[u8]>,
    ) -> Result<(), Disagreement> {
        self.text(leaf, &const_hex::encode(computed))
    }

    /// Compares a text.
    pub(crate) fn text(&mut self, leaf: &Leaf<'_>, computed: &str) -> Result<(), Disagreement> {
        let expected = leaf.text()?;
        self.same(leaf, expected == computed, computed)
    }

    /// Compares a JSON number.
    pub(crate) fn number(&mut self, leaf: &Leaf<'_>, computed: u64) -> Result<(), Disagreement> {
        let agrees = leaf.value.as_u64() == Some(computed);
        self.same(leaf, agrees, &computed.to_string())
    }

    /// Compares a moment in Go's form of RFC 3339.
    pub(crate) fn time(
        &mut self,
        leaf: &Leaf<'_>,
        computed: UnixNanos,
    ) -> Result<(), Disagreement> {
        self.text(leaf, &computed.to_string())
    }

    /// Compares bytes that Go printed as an array of numbers.
    pub(crate) fn numbers(
        &mut self,
        leaf: &Leaf<'_>,
        computed: impl AsRef<[u8]>,
    ) -> Result<(), Disagreement> {
        let (items, computed) = (leaf.items()?, computed.as_ref());
        self.count(leaf, items.len(), computed.len())?;
        for (item, byte) in items.iter().zip(computed) {
            self.number(item, u64::from(*byte))?;
        }
        Ok(())
    }

    /// Compares the length of a list; counts as no value of its own.
    pub(crate) fn count(
        &mut self,
        leaf: &Leaf<'_>,
        expected: usize,
        computed: usize,
    ) -> Result<(), Disagreement> {
        if expected == computed {
            return Ok(());
        }
        Err(leaf.differs(&format!("{expected} values"), &format!("{computed} values")))
    }

    fn same(&mut self, leaf: &Leaf<'_>, agrees: bool, computed: &str) -> Result<(), Disagreement> {
        if !agrees {
            return Err(leaf.differs(&leaf.shown(), computed));
        }
        self.compared += 1;
        Ok(())
    }
}

/// A value and its path.
#[derive(Debug, Clone)]
pub(crate) struct Leaf<'a> {
    value: &'a Value,
    path: String,
}

impl<'a> Leaf<'a> {
    pub(crate) const fn root(value: &'a Value) -> Self {
        Self {
            value,
            path: String::new(),
        }
    }

    pub(crate) const fn value(&self) -> &'a Value {
        self.value
    }

    /// The value under a key.
    pub(crate) fn get(&self, key: &str) -> Result<Self, Disagreement> {
        self.optional(key)?.ok_or_else(|| Disagreement {
            path: self.path_of(key),
            problem: Problem::Missing,
        })
    }

    /// The value under a key, if there is one.
    pub(crate) fn optional(&self, key: &str) -> Result<Option<Self>, Disagreement> {
        Ok(self.object()?.get(key).map(|value| Self {
            value,
            path: self.path_of(key),
        }))
    }

    /// Every key, with the value under it.
    pub(crate) fn entries(&self) -> Result<Vec<(&'a str, Self)>, Disagreement> {
        let entries = self.object()?.iter();
        Ok(entries
            .map(|(key, value)| {
                let path = self.path_of(key);
                (key.as_str(), Self { value, path })
            })
            .collect())
    }

    /// Paths of keys other than these.
    pub(crate) fn keys_besides(&self, known: &[&str]) -> Result<Vec<String>, Disagreement> {
        let keys = self.object()?.keys();
        Ok(keys
            .filter(|key| !known.contains(&key.as_str()))
            .map(|key| self.path_of(key))
            .collect())
    }

    /// The values of a list. Go prints an empty one as `null`.
    pub(crate) fn items(&self) -> Result<Vec<Self>, Disagreement> {
        if self.value.is_null() {
            return Ok(Vec::new());
        }
        let list = self.value.as_array();
        let list = list.ok_or_else(|| self.malformed("a list"))?.iter();
        Ok(list
            .enumerate()
            .map(|(index, value)| Self {
                value,
                path: format!("{}[{index}]", self.path),
            })
            .collect())
    }

    pub(crate) fn text(&self) -> Result<&'a str, Disagreement> {
        let text = self.value.as_str();
        text.ok_or_else(|| self.malformed("a text"))
    }

    /// Bytes in lower-case hex.
    pub(crate) fn hex(&self) -> Result<Vec<u8>, Disagreement> {
        let needed = "bytes in lower-case hex";
        let text = self.text()?;
        // The library also takes upper case and 0x; a value has one spelling.
        let lower = text.bytes().all(|c| matches!(c, b'0'..=b'9' | b'a'..=b'f'));
        match const_hex::decode(text) {
            Ok(bytes) if lower => Ok(bytes),
            Ok(_) | Err(_) => Err(self.malformed(needed)),
        }
    }

    /// 32 bytes in lower-case hex.
    pub(crate) fn id(&self) -> Result<[u8; 32], Disagreement> {
        let bytes = self.hex()?;
        let id = bytes.try_into();
        id.map_err(|_| self.malformed("32 bytes in lower-case hex"))
    }

    /// 32 bytes as an array of numbers.
    pub(crate) fn id_of_numbers(&self) -> Result<[u8; 32], Disagreement> {
        let mut bytes = Vec::with_capacity(32);
        for item in self.items()? {
            let byte = u8::try_from(item.u64()?);
            bytes.push(byte.map_err(|_| item.malformed("a byte"))?);
        }
        let id = bytes.try_into();
        id.map_err(|_| self.malformed("32 numbers"))
    }

    /// An integer: a JSON number, or its decimal text in the one form that it prints in.
    pub(crate) fn integer<T>(&self) -> Result<T, Disagreement>
    where
        T: core::str::FromStr + ToString,
    {
        let printed = match self.value.as_str() {
            Some(text) => text.to_owned(),
            None => self.value.to_string(),
        };
        match printed.parse::<T>() {
            Ok(number) if number.to_string() == printed => Ok(number),
            Ok(_) | Err(_) => Err(self.malformed("an integer of its range")),
        }
    }

    fn u64(&self) -> Result<u64, Disagreement> {
        let number = self.value.as_u64();
        number.ok_or_else(|| self.malformed("a number"))
    }

    pub(crate) fn differs(&self, expected: &str, computed: &str) -> Disagreement {
        Disagreement {
            path: self.path.clone(),
            problem: Problem::Differs {
                expected: cut(expected),
                computed: cut(computed),
            },
        }
    }

    pub(crate) fn refused(&self, refused: &'static str) -> Disagreement {
        Disagreement {
            path: self.path.clone(),
            problem: Problem::Refused {
                expected: self.shown(),
                refused,
            },
        }
    }

    pub(crate) fn malformed(&self, needed: &'static str) -> Disagreement {
        Disagreement {
            path: self.path.clone(),
            problem: Problem::Malformed {
                found: self.shown(),
                needed,
            },
        }
    }

    fn shown(&self) -> String {
        match self.value {
            Value::String(text) => cut(text),
            Value::Array(_) => "a list".to_owned(),
            Value::Object(_) => "an object".to_owned(),
            short @ (Value::Null | Value::Bool(_) | Value::Number(_)) => cut(&short.to_string()),
        }
    }

    fn object(&self) -> Result<&'a Map<String, Value>, Disagreement> {
        let object = self.value.as_object();
        object.ok_or_else(|| self.malformed("an object"))
    }

    fn path_of(&self, key: &str) -> String {
        if self.path.is_empty() {
            key.to_owned()
        } else {
            format!("{}.{key}", self.path)
        }
    }
}

fn cut(text: &str) -> String {
    let mut chars = text.chars();
    let mut shown: String = chars.by_ref().take(SHOWN_CHARS_MAX).collect();
    if chars.next().is_some() {
        shown.push('…');
    }
    shown
}
