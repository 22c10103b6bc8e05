//! Counters, and their Prometheus text.

use std::fmt::Write as _;
use std::sync::atomic::{AtomicU64, Ordering};

/// What a node counts.
#[derive(Debug, Default)]
pub struct Metrics {
    /// Height of the last accepted block.
    pub height: AtomicU64,
    /// Sessions in the state.
    pub sessions: AtomicU64,
    /// Channels in the state.
    pub channels: AtomicU64,
    /// Groups in the state.
    pub groups: AtomicU64,
    /// Transactions accepted.
    pub accepted: AtomicU64,
    /// Transactions refused by the rules.
    pub refused: AtomicU64,
    /// Transactions waiting for a block.
    pub pending: AtomicU64,
    /// Bytes that they take.
    pub pending_bytes: AtomicU64,
    /// RPC calls answered.
    pub calls: AtomicU64,
    /// RPC calls answered with an error.
    pub call_errors: AtomicU64,
    /// Proofs not made because too many were asked for at once.
    pub proofs_refused: AtomicU64,
    /// HTTP connections open.
    pub connections: AtomicU64,
    /// HTTP connections refused because too many were open.
    pub connections_refused: AtomicU64,
    /// WebSocket subscriptions open.
    pub subscriptions: AtomicU64,
    /// Past states that are still provable, the last one among them.
    pub versions: AtomicU64,
    /// Bytes that they take.
    pub versions_bytes: AtomicU64,
}

impl Metrics {
    /// Every metric as it is now.
    pub fn values(&self) -> Vec<Value> {
        let line = |name, kind, help, value: &AtomicU64| Value {
            name,
            kind,
            help,
            value: value.load(Ordering::Relaxed),
        };
        vec![
            line(
                "sessionvm_height",
                Kind::Gauge,
                "Height of the last accepted block.",
                &self.height,
            ),
            line(
                "sessionvm_sessions",
                Kind::Gauge,
                "Sessions in the state, ended ones until they are swept.",
                &self.sessions,
            ),
            line(
                "sessionvm_channels",
                Kind::Gauge,
                "Channels in the state.",
                &self.channels,
            ),
            line(
                "sessionvm_groups",
                Kind::Gauge,
                "Groups in the state, closed ones until they are swept.",
                &self.groups,
            ),
            line(
                "sessionvm_transactions_accepted_total",
                Kind::Counter,
                "Transactions accepted.",
                &self.accepted,
            ),
            line(
                "sessionvm_transactions_refused_total",
                Kind::Counter,
                "Transactions refused.",
                &self.refused,
            ),
            line(
                "sessionvm_transactions_pending",
                Kind::Gauge,
                "Transactions waiting.",
                &self.pending,
            ),
            line(
                "sessionvm_transactions_pending_bytes",
                Kind::Gauge,
                "Bytes that waiting transactions take.",
                &self.pending_bytes,
            ),
            line(
                "sessionvm_rpc_calls_total",
                Kind::Counter,
                "RPC calls answered.",
                &self.calls,
            ),
            line(
                "sessionvm_rpc_errors_total",
                Kind::Counter,
                "RPC calls answered with an error.",
                &self.call_errors,
            ),
            line(
                "sessionvm_proofs_refused_total",
                Kind::Counter,
                "Proofs not made because too many were asked for at once.",
                &self.proofs_refused,
            ),
            line(
                "sessionvm_connections",
                Kind::Gauge,
                "HTTP connections open.",
                &self.connections,
            ),
            line(
                "sessionvm_connections_refused_total",
                Kind::Counter,
                "HTTP connections refused because too many were open.",
                &self.connections_refused,
            ),
            line(
                "sessionvm_subscriptions",
                Kind::Gauge,
                "WebSocket subscriptions open.",
                &self.subscriptions,
            ),
            line(
                "sessionvm_versions",
                Kind::Gauge,
                "Past states that are still provable.",
                &self.versions,
            ),
            line(
                "sessionvm_versions_bytes",
                Kind::Gauge,
                "Bytes that past states take, tree nodes estimated.",
                &self.versions_bytes,
            ),
        ]
    }

    /// Prometheus text exposition format 0.0.4.
    pub fn render(&self) -> String {
        let mut out = String::new();
        for Value {
            name,
            kind,
            help,
            value,
        } in self.values()
        {
            let kind = match kind {
                Kind::Counter => "counter",
                Kind::Gauge => "gauge",
            };
            // Writing to a string cannot fail.
            let _ok = write!(
                out,
                "# HELP {name} {help}\n# TYPE {name} {kind}\n{name} {value}\n"
            );
        }
        out
    }
}

/// Whether a metric only grows.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// It does.
    Counter,
    /// It goes up and down.
    Gauge,
}

/// One metric at one moment.
#[derive(Debug, Clone, Copy)]
pub struct Value {
    /// Name, `sessionvm_…`.
    pub name: &'static str,
    /// Kind.
    pub kind: Kind,
    /// What it tells.
    pub help: &'static str,
    /// Value.
    pub value: u64,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_metric_is_in_the_operators_manual() {
        let manual = include_str!("../../../docs/operators.md");
        let rendered = Metrics::default().render();
        let names = rendered.lines().filter_map(|line| {
            let line = line.strip_prefix("# TYPE ")?;
            line.split(' ').next()
        });
        let missing: Vec<_> = names
            .filter(|name| !manual.contains(&format!("`{name}`")))
            .collect();
        assert_eq!(missing, Vec::<&str>::new());
    }
}
