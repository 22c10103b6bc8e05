//! Free ports on the loopback address.

use std::net::{Ipv4Addr, TcpListener};

use crate::error::DevnetError;

/// Where the search begins: what people know a host's API by.
pub const BASE: u16 = 9650;

/// Ports that are looked at.
const SEARCHED: u16 = 2_000;

/// `count` pairs of ports that nobody listens on now, for HTTP and for other nodes, the lowest
/// from `base` on. Those of `taken` are left out: nodes that do not run now have them.
///
/// # Errors
/// [`DevnetError::NoPorts`].
pub(crate) fn free_pairs(
    base: u16,
    count: usize,
    taken: &[u16],
) -> Result<Vec<(u16, u16)>, DevnetError> {
    let last = base.saturating_add(SEARCHED);
    let mut pairs = Vec::new();
    let mut port = base;
    while pairs.len() < count && port < last {
        let Some(next) = port.checked_add(1) else {
            break;
        };
        if is_free(port, taken) && is_free(next, taken) {
            pairs.push((port, next));
        }
        let Some(after) = port.checked_add(2) else {
            break;
        };
        port = after;
    }
    if pairs.len() < count {
        let needed = count.saturating_mul(2);
        return Err(DevnetError::NoPorts { needed, base });
    }
    Ok(pairs)
}

/// Whether nobody listens there.
pub(crate) fn is_free(port: u16, taken: &[u16]) -> bool {
    !taken.contains(&port) && TcpListener::bind((Ipv4Addr::LOCALHOST, port)).is_ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ports_that_are_in_use_are_passed_over() {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
        let used = listener.local_addr().unwrap().port();
        let base = used.saturating_sub(4);
        let pairs = free_pairs(base, 3, &[base]).unwrap();
        assert_eq!(pairs.len(), 3);
        assert!(
            pairs
                .iter()
                .all(|(a, b)| ![used, base].contains(a) && ![used, base].contains(b))
        );
        assert!(matches!(
            free_pairs(u16::MAX, 1, &[]),
            Err(DevnetError::NoPorts { .. })
        ));
    }
}
