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
    /// Prometheus text exposition format 0.0.4.
    pub fn render(&self) -> String {
        let lines: [(&str, &str, &str, &AtomicU64); 15] = [
            (
                "height",
                "gauge",
                "Height of the last accepted block.",
                &self.height,
            ),
            (
                "sessions",
                "gauge",
                "Sessions in the state, ended ones until they are swept.",
                &self.sessions,
            ),
            (
                "channels",
                "gauge",
                "Channels in the state.",
                &self.channels,
            ),
            (
                "transactions_accepted_total",
                "counter",
                "Transactions accepted.",
                &self.accepted,
            ),
            (
                "transactions_refused_total",
                "counter",
                "Transactions refused.",
                &self.refused,
            ),
            (
                "transactions_pending",
                "gauge",
                "Transactions waiting.",
                &self.pending,
            ),
            (
                "transactions_pending_bytes",
                "gauge",
                "Bytes that waiting transactions take.",
                &self.pending_bytes,
            ),
            (
                "rpc_calls_total",
                "counter",
                "RPC calls answered.",
                &self.calls,
            ),
            (
                "rpc_errors_total",
                "counter",
                "RPC calls answered with an error.",
                &self.call_errors,
            ),
            (
                "proofs_refused_total",
                "counter",
                "Proofs not made because too many were asked for at once.",
                &self.proofs_refused,
            ),
            (
                "connections",
                "gauge",
                "HTTP connections open.",
                &self.connections,
            ),
            (
                "connections_refused_total",
                "counter",
                "HTTP connections refused because too many were open.",
                &self.connections_refused,
            ),
            (
                "subscriptions",
                "gauge",
                "WebSocket subscriptions open.",
                &self.subscriptions,
            ),
            (
                "versions",
                "gauge",
                "Past states that are still provable.",
                &self.versions,
            ),
            (
                "versions_bytes",
                "gauge",
                "Bytes that past states take, tree nodes estimated.",
                &self.versions_bytes,
            ),
        ];
        let mut out = String::new();
        for (name, kind, help, value) in lines {
            let value = value.load(Ordering::Relaxed);
            // Writing to a string cannot fail.
            let _ok = write!(
                out,
                "# HELP sessionvm_{name} {help}\n# TYPE sessionvm_{name} {kind}\nsessionvm_{name} {value}\n"
            );
        }
        out
    }
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
