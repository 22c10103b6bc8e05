//! People of one chain who write through all of its nodes at once, and what they were told.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use serde_json::{Value, json};
use session_chain::tx::Tx;
use session_client::RpcClient;
use session_core::codec::Encode;
use session_core::ids::SessionId;
use session_core::submission::Submitted;
use session_fakehost::people::Person;
use tokio::task::JoinSet;

use crate::network::{Devnet, LOOK, PATIENCE, call, until};

/// A node that has not answered by then hangs: its plugin may be dead.
const ANSWER: Duration = Duration::from_secs(15);

/// Entries in one reply.
const PAGE: usize = 500;

/// Everybody, each with a conversation that they write to.
pub(crate) struct Crowd {
    writers: Vec<(Person, SessionId)>,
    /// So that no text is written twice.
    texts: AtomicUsize,
    /// What was in a block by a node's word.
    told: Mutex<BTreeMap<SessionId, BTreeSet<String>>>,
}

/// What one of them writes: some texts in one transaction.
#[derive(Clone)]
pub(crate) struct Letter {
    session: SessionId,
    texts: Vec<String>,
    tx: Vec<u8>,
}

impl Letter {
    /// The first of its texts.
    pub(crate) fn text(&self) -> &str {
        &self.texts[0]
    }
}

impl Crowd {
    /// So many people, registered at the first node, each in a session with the next; all nodes
    /// know them when this returns.
    pub(crate) async fn gather(net: &Devnet, people: u8) -> Self {
        let chain = net.chain().await;
        let nodes = net.nodes();
        let people: Vec<Person> = (0..people)
            .map(|number| Person::new([number + 1; 32], chain))
            .collect();
        let bytes = |txs: Vec<Tx>| txs.iter().map(Encode::to_bytes).collect();
        deliver(
            &nodes,
            0,
            bytes(people.iter().map(Person::registration).collect()),
        )
        .await;
        let next = people.iter().cycle().skip(1);
        let opened: Vec<_> = people
            .iter()
            .zip(next)
            .map(|(a, b)| a.open_session(b))
            .collect();
        let sessions: Vec<SessionId> = opened.iter().map(|(_, session)| *session).collect();
        deliver(
            &nodes,
            0,
            bytes(opened.into_iter().map(|(tx, _)| tx).collect()),
        )
        .await;
        let next = people.iter().cycle().skip(1);
        let accepted = next
            .zip(&sessions)
            .map(|(peer, session)| peer.accept_session(*session));
        deliver(&nodes, 0, bytes(accepted.collect())).await;
        net.levels().await;
        Self {
            writers: people.into_iter().zip(sessions).collect(),
            texts: AtomicUsize::new(0),
            told: Mutex::default(),
        }
    }

    pub(crate) const fn len(&self) -> usize {
        self.writers.len()
    }

    /// The conversation that somebody writes to.
    pub(crate) fn session(&self, number: usize) -> SessionId {
        self.writers[number].1
    }

    /// Somebody writes so many texts in one transaction.
    pub(crate) fn letter(&self, number: usize, texts: usize) -> Letter {
        let (person, session) = &self.writers[number];
        let first = self.texts.fetch_add(texts, Ordering::SeqCst);
        let texts: Vec<String> = (first..first + texts)
            .map(|text| format!("text {text} of {number}"))
            .collect();
        let mut bytes = texts.iter().map(|text| text.clone().into_bytes());
        let tx = if texts.len() == 1 {
            person.message(*session, bytes.next().unwrap())
        } else {
            person.batch(*session, bytes.collect())
        };
        Letter {
            session: *session,
            texts,
            tx: tx.to_bytes(),
        }
    }

    /// Sends letters until they are in a block: to one node first, to the next ones where it does
    /// not answer.
    pub(crate) async fn send(&self, nodes: &[RpcClient], first: usize, letters: Vec<Letter>) {
        let txs = letters.iter().map(|letter| letter.tx.clone()).collect();
        deliver(nodes, first, txs).await;
        let mut told = self.told.lock().unwrap();
        for letter in letters {
            told.entry(letter.session).or_default().extend(letter.texts);
        }
    }

    /// How many texts are in blocks, as far as anybody was told.
    pub(crate) fn told(&self) -> usize {
        self.told.lock().unwrap().values().map(BTreeSet::len).sum()
    }

    /// Every node has everything exactly once, in one order, over one history.
    pub(crate) async fn is_on_all(&self, net: &Devnet) {
        let height = net.levels().await;
        let told = self.told.lock().unwrap().clone();
        let told = Arc::new(told);
        let nodes = net.nodes();
        let mut asked = JoinSet::new();
        for node in nodes.clone() {
            asked.spawn(everything(node, told.clone()));
        }
        let all = asked.join_all().await;
        assert!(all.iter().all(|found| *found == all[0]), "in another order");
        let (texts, nodes) = (self.told(), nodes.len());
        net.tell(&format!(
            "{texts} texts once on each of {nodes} nodes, the same {height} blocks"
        ));
    }
}

/// The texts of each conversation at a node: what people were told is there, each once.
async fn everything(
    node: RpcClient,
    told: Arc<BTreeMap<SessionId, BTreeSet<String>>>,
) -> Vec<Vec<String>> {
    let mut all = Vec::new();
    for (session, texts) in told.iter() {
        let found = read(&node, *session).await;
        let once: BTreeSet<String> = found.iter().cloned().collect();
        let address = node.address();
        assert_eq!(once.len(), found.len(), "something twice at {address}");
        let lost: Vec<_> = texts.difference(&once).collect();
        assert!(lost.is_empty(), "lost at {address}: {lost:?}");
        assert_eq!(once.len(), texts.len(), "what nobody wrote at {address}");
        all.push(found);
    }
    all
}

/// The texts of a conversation in their order.
async fn read(node: &RpcClient, session: SessionId) -> Vec<String> {
    let mut texts = Vec::new();
    loop {
        let params = json!({ "sessionId": session, "from": texts.len(), "limit": PAGE });
        let page = call(node, "GetMessages", params).await;
        let page = page["messages"].as_array().unwrap();
        for message in page {
            assert_eq!(message["sequence"], json!(texts.len()), "a gap");
            let text = const_hex::decode(message["ciphertext"].as_str().unwrap()).unwrap();
            texts.push(String::from_utf8(text).unwrap());
        }
        if page.is_empty() {
            return texts;
        }
    }
}

/// Submits until all are in blocks.
async fn deliver(nodes: &[RpcClient], first: usize, mut txs: Vec<Vec<u8>>) {
    let began = Instant::now();
    let mut turn = first;
    while !txs.is_empty() {
        let node = &nodes[turn % nodes.len()];
        let late = format!("{} transactions at {}", txs.len(), node.address());
        assert!(
            began.elapsed() < PATIENCE,
            "not within {PATIENCE:?}: {late}"
        );
        let answered = tokio::time::timeout(ANSWER, node.submit(&txs)).await;
        let answers = match answered {
            Ok(Ok(answers)) => answers,
            // Killed, hanging, or on its way back: whoever waits goes elsewhere.
            Ok(Err(_)) | Err(_) => {
                turn += 1;
                tokio::time::sleep(LOOK).await;
                continue;
            }
        };
        let (mut left, mut wait) = (Vec::new(), Duration::ZERO);
        for (tx, answer) in txs.into_iter().zip(answers) {
            match answer {
                Submitted::Accepted { .. } => continue,
                Submitted::Pending { .. } => {}
                Submitted::Refused {
                    retry_ms: Some(ms), ..
                } => {
                    wait = wait.max(Duration::from_millis(ms));
                }
                Submitted::Refused { retry_ms: None, .. } => panic!("{answer:?}"),
            }
            left.push(tx);
        }
        txs = left;
        tokio::time::sleep(wait).await;
    }
}

impl Devnet {
    /// Waits until all nodes are at one block, and compares everything below it; answers its
    /// height.
    pub(crate) async fn levels(&self) -> u64 {
        let nodes = self.nodes();
        let height = until("all nodes are at one block", async || {
            let mut heads = Vec::new();
            for node in &nodes {
                let head = call(node, "GetHead", json!({})).await;
                heads.push((head["height"].as_u64().unwrap(), head["id"].clone()));
            }
            let same = heads.iter().all(|head| *head == heads[0]);
            same.then_some(heads[0].0)
        })
        .await;
        let mut asked = JoinSet::new();
        for node in nodes {
            asked.spawn(async move { blocks(&node, height).await });
        }
        let all = asked.join_all().await;
        for (at, block) in all[0].iter().enumerate() {
            for other in &all {
                assert_eq!(&other[at], block, "two histories at height {at}");
            }
        }
        height
    }
}

/// Ids and state roots up to a height.
async fn blocks(node: &RpcClient, height: u64) -> Vec<(Value, Value)> {
    let mut blocks = Vec::new();
    for height in 0..=height {
        let block = call(node, "GetBlock", json!({ "height": height })).await;
        assert!(block["stateRoot"].is_string());
        blocks.push((block["id"].clone(), block["stateRoot"].clone()));
    }
    blocks
}
