//! Requests as a reverse proxy hands them on: the whole path, the name that the client knows the
//! node by, and where it came from.

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;

use super::Reply;

/// Where a Lux node puts a chain's paths.
pub(super) const PREFIX: &str = "/v1/bc/speaks-zap";

/// One request on a connection of its own.
pub(super) async fn request(
    address: &str,
    method: &str,
    url: &str,
    headers: &[(&str, &str)],
    body: &[u8],
) -> std::io::Result<Reply> {
    let mut stream = TcpStream::connect(address).await?;
    let mut head = format!("{method} {PREFIX}{url} HTTP/1.1\r\nHost: node.example:9650\r\n");
    for (name, value) in headers {
        head.push_str(&format!("{name}: {value}\r\n"));
    }
    head.push_str(&format!(
        "X-Forwarded-For: 192.0.2.7\r\nContent-Length: {}\r\nConnection: close\r\n\r\n",
        body.len()
    ));
    stream.write_all(head.as_bytes()).await?;
    stream.write_all(body).await?;
    let mut answer = Vec::new();
    stream.read_to_end(&mut answer).await?;
    parse(&answer).ok_or_else(|| std::io::Error::other("no HTTP answer"))
}

fn parse(answer: &[u8]) -> Option<Reply> {
    let end = answer.windows(4).position(|w| w == b"\r\n\r\n")?;
    let head = String::from_utf8_lossy(&answer[..end]).into_owned();
    let mut lines = head.split("\r\n");
    let code = lines.next()?.split(' ').nth(1)?.parse().ok()?;
    let headers = lines.filter_map(|line| {
        let (name, value) = line.split_once(':')?;
        Some((name.to_owned(), vec![value.trim().to_owned()]))
    });
    Some(Reply {
        code,
        headers: headers.collect(),
        body: answer[end + 4..].to_vec().into(),
    })
}
