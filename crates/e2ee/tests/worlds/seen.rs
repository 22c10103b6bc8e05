//! What has happened in worlds, counted: a test that never sees a thing shows nothing of it.

#[derive(Default, Debug)]
pub(crate) struct Seen {
    pub(crate) crashes: u64,
    pub(crate) races: u64,
    pub(crate) removals: u64,
    pub(crate) joins: u64,
    pub(crate) forged: u64,
    pub(crate) resealed: u64,
    pub(crate) late: u64,
    pub(crate) texts: u64,
    pub(crate) epochs: u64,
    pub(crate) policies: u64,
    /// Pieces of trees that an invitation found on the chain.
    pub(crate) shared: u64,
    pub(crate) rotations: u64,
    pub(crate) crossed: u64,
    pub(crate) not_added: u64,
    /// Leaves that others saw with another signature key.
    pub(crate) renewed: u64,
}

pub(crate) fn add(all: &mut Seen, one: &Seen) {
    all.crashes += one.crashes;
    all.races += one.races;
    all.removals += one.removals;
    all.joins += one.joins;
    all.forged += one.forged;
    all.resealed += one.resealed;
    all.late += one.late;
    all.texts += one.texts;
    all.epochs += one.epochs;
    all.policies += one.policies;
    all.shared += one.shared;
    all.rotations += one.rotations;
    all.crossed += one.crossed;
    all.not_added += one.not_added;
    all.renewed += one.renewed;
}
