//! HTTP/2 without TLS through the host, which is the way to the plugin's streaming handler.

use std::time::{Duration, Instant};

use hyper::{Method, Version};
use serde_json::json;

use crate::http::Connection;
use crate::network::Devnet;
use crate::people::Crowd;

/// A poll that waits so long may keep a host from creating chains.
const POLL_MS: u64 = 8_000;

/// Polls wait on one connection beside calls, and end when another node's message is there.
pub(crate) async fn polls_and_calls_share_a_connection(net: &Devnet, crowd: &Crowd) {
    let urls = net.urls();
    let url = urls[0].clone();
    let connection = Connection::open(&url, Version::HTTP_2).await;
    let session = crowd.session(0);
    let before = connection
        .shared()
        .call(&url, "GetMessages", &json!({ "sessionId": session }))
        .await
        .json();
    let from = before["result"]["next"].clone();
    let wish = json!({ "sessionId": session, "from": from, "waitMs": POLL_MS });
    let began = Instant::now();
    let polls: Vec<_> = (0..50)
        .map(|_| {
            let (mut connection, url, wish) = (connection.shared(), url.clone(), wish.clone());
            tokio::spawn(async move { connection.call(&url, "GetMessages", &wish).await })
        })
        .collect();
    for _ in 0..20 {
        let asked = Instant::now();
        let reply = connection.shared().call(&url, "Health", &json!({})).await;
        assert_eq!((reply.status, reply.version), (200, Version::HTTP_2));
        assert!(
            asked.elapsed() < Duration::from_secs(2),
            "{:?}",
            asked.elapsed()
        );
    }
    assert!(
        polls.iter().all(|poll| !poll.is_finished()),
        "nothing to tell"
    );
    let nodes = net.nodes();
    let letter = crowd.letter(0, 1);
    crowd.send(&nodes, nodes.len() - 1, vec![letter]).await;
    for poll in polls {
        let reply = poll.await.unwrap();
        reply.has_one_of_each_header();
        let reply = reply.json();
        let messages = reply["result"]["messages"].as_array().unwrap();
        assert_eq!(messages.len(), 1, "{reply}");
        assert_eq!(messages[0]["sequence"], from);
    }
    let took = began.elapsed();
    assert!(
        took < Duration::from_millis(POLL_MS),
        "they were woken up, {took:?}"
    );
    // An answer of several pieces, and a request that is too large.
    let mut connection = connection;
    let document = connection
        .send(Method::GET, &url, "/openrpc.json", "")
        .await;
    assert_eq!(document.json()["info"]["title"], "SessionVM");
    let large = vec![b' '; 3 << 20];
    let refused = connection.send(Method::POST, &url, "/rpc", large).await;
    assert_eq!(refused.status, 413, "{refused:?}");
    let after = connection.call(&url, "Health", &json!({})).await;
    assert_eq!(after.json()["result"]["healthy"], true);
    net.tell("50 long polls and calls on one HTTP/2 connection");
}
