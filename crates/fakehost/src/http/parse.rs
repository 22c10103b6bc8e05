//! HTTP/1.1 as a client writes it.

use session_rpcchainvm::http::Element;
use tokio::io::AsyncReadExt;
use tokio::net::tcp::OwnedReadHalf;

/// Bytes of a request's head at most, as on a node.
const HEAD_MAX: usize = 1 << 20;

/// A request without its body.
#[derive(Debug, Clone)]
pub(super) struct Head {
    pub(super) method: String,
    pub(super) target: String,
    pub(super) host: String,
    /// Names as Go writes them, values merged, no `Host`.
    pub(super) headers: Vec<Element>,
}

impl Head {
    pub(super) fn header(&self, name: &str) -> Option<&str> {
        let found = self.headers.iter().find(|element| element.key == name)?;
        found.values.first().map(String::as_str)
    }

    pub(super) fn content_length(&self) -> usize {
        let length = self.header("Content-Length");
        length.and_then(|n| n.parse().ok()).unwrap_or_default()
    }

    pub(super) fn path(&self) -> &str {
        self.target.split('?').next().unwrap_or_default()
    }

    pub(super) fn query(&self) -> &str {
        self.target.split_once('?').map_or("", |(_, query)| query)
    }
}

/// What comes from the client: what was read already, then the socket.
pub(super) struct Incoming {
    pub(super) socket: OwnedReadHalf,
    pub(super) buffered: Vec<u8>,
}

impl Incoming {
    /// The next head; none at the end or for what is no HTTP.
    pub(super) async fn head(&mut self) -> Option<Head> {
        loop {
            if let Some(end) = self.buffered.windows(4).position(|w| w == b"\r\n\r\n") {
                let rest = self.buffered.split_off(end + 4);
                let text = std::mem::replace(&mut self.buffered, rest);
                return parse(&String::from_utf8_lossy(&text));
            }
            if self.buffered.len() > HEAD_MAX || self.more().await == 0 {
                return None;
            }
        }
    }

    /// Reads what there is into the buffer; 0 at the end.
    async fn more(&mut self) -> usize {
        self.buffered.reserve(65_536);
        self.socket
            .read_buf(&mut self.buffered)
            .await
            .unwrap_or_default()
    }

    /// Exactly these many bytes, or none at an early end.
    pub(super) async fn exactly(&mut self, n: usize) -> Option<Vec<u8>> {
        while self.buffered.len() < n {
            if self.more().await == 0 {
                return None;
            }
        }
        let rest = self.buffered.split_off(n);
        Some(std::mem::replace(&mut self.buffered, rest))
    }

    /// At least one byte and at most `n`; none at the end.
    pub(super) async fn some(&mut self, n: usize) -> Vec<u8> {
        if self.buffered.is_empty() {
            self.more().await;
        }
        let rest = self.buffered.split_off(n.min(self.buffered.len()));
        std::mem::replace(&mut self.buffered, rest)
    }
}

fn parse(text: &str) -> Option<Head> {
    let mut lines = text.split("\r\n");
    let mut words = lines.next()?.split(' ');
    let (method, target) = (words.next()?.to_owned(), words.next()?.to_owned());
    let mut head = Head {
        method,
        target,
        host: String::new(),
        headers: Vec::new(),
    };
    for line in lines.take_while(|line| !line.is_empty()) {
        let (name, value) = line.split_once(':')?;
        let (key, value) = (canonical(name), value.trim().to_owned());
        if key == "Host" {
            head.host = value;
            continue;
        }
        match head.headers.iter_mut().find(|e| e.key == key) {
            Some(element) => element.values.push(value),
            None => head.headers.push(Element {
                key,
                values: vec![value],
            }),
        }
    }
    Some(head)
}

/// `x-foo` is `X-Foo` to Go.
fn canonical(name: &str) -> String {
    let mut upper = true;
    let letters = name.chars().map(|c| {
        let c = if upper {
            c.to_ascii_uppercase()
        } else {
            c.to_ascii_lowercase()
        };
        upper = c == '-';
        c
    });
    letters.collect()
}
