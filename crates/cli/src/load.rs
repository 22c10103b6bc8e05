//! `session load`: pre-signed messages from many senders, at a rate or as fast as possible.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use clap::Args;
use indicatif::ProgressBar;
use serde_json::{Value, json};
use session_chain::tx::identity::RegisterIdentity;
use session_chain::tx::message::SendMessage;
use session_chain::tx::session::{CreateSession, NewParticipant};
use session_chain::tx::{KemKey, Kind, SigningKey, Tx};
use session_client::{RpcClient, RpcError};
use session_core::codec::Encode;
use session_core::ids::{ChainId, SessionId};
use session_core::limits::VALID_AHEAD_MAX_MS;
use session_core::log::Conversation;
use session_core::submission::Submitted;
use session_core::time::Time;
use session_crypto::Identity;

use crate::home::Home;
use crate::out::{CliError, Out};

#[derive(Args, Clone)]
pub(crate) struct LoadArgs {
    /// Messages to send
    #[arg(long, default_value_t = 10_000)]
    messages: usize,
    /// Senders
    #[arg(long, default_value_t = 100)]
    senders: usize,
    /// Sessions, up to 200 of each sender [default: one of each]
    #[arg(long)]
    sessions: Option<usize>,
    /// Connections at once
    #[arg(long, default_value_t = 16)]
    connections: usize,
    /// Binary transactions in one call; 0 sends single JSON calls
    #[arg(long, default_value_t = 0)]
    batch: usize,
    /// Bytes of ciphertext
    #[arg(long, default_value_t = 1_200)]
    size: usize,
    /// Messages a second in all; as fast as possible without it
    #[arg(long)]
    rate: Option<u64>,
    /// Another node of the same chain to spread the connections over; may be given several times
    #[arg(long, value_name = "NODE")]
    also: Vec<String>,
    /// Says "prepared" on standard error and waits for a line on standard input before it sends
    #[arg(long)]
    hold: bool,
}

/// Requests to one account in a day are limited, and each sender is another one's peer.
const SESSIONS_OF_A_SENDER: usize = 200;

/// Transactions in one call while preparing.
const PAGE: usize = 150;

/// How long a busy node is asked again while preparing, one page of transactions each time.
const PREPARING: Duration = Duration::from_secs(60);

/// A call that is sent so late is worth mentioning.
const LATE: Duration = Duration::from_millis(100);

/// How often.
const POLL: Duration = Duration::from_millis(20);

/// A prime, so that every session has its turn.
const STRIDE: usize = 1_000_003;

/// One call, ready to send.
enum Call {
    /// A message as `sessionvm.SendMessage` has it.
    Single(Value),
    /// Encoded transactions.
    Batch(Vec<Vec<u8>>),
}

impl Call {
    const fn messages(&self) -> usize {
        match self {
            Self::Single(_) => 1,
            Self::Batch(txs) => txs.len(),
        }
    }

    /// How many of its messages were accepted, and why another was not.
    async fn send(&self, rpc: &RpcClient) -> Result<(usize, Option<String>), RpcError> {
        let txs = match self {
            Self::Single(params) => {
                let _reply: Value = rpc.call("sessionvm.SendMessage", params.clone()).await?;
                return Ok((1, None));
            }
            Self::Batch(txs) => txs,
        };
        let (mut good, mut error) = (0, None);
        for answer in rpc.submit(txs).await? {
            match answer {
                Submitted::Accepted { .. } => good += 1,
                Submitted::Pending { .. } => error = Some("pending".to_owned()),
                Submitted::Refused { reason, .. } => error = Some(reason),
            }
        }
        Ok((good, error))
    }
}

pub(crate) async fn run(args: &LoadArgs, home: &Home, out: &Out) -> Result<(), CliError> {
    if args.messages == 0 || args.senders == 0 || args.connections == 0 {
        return Err(CliError::Usage(
            "messages, senders and connections are at least 1".to_owned(),
        ));
    }
    let rpc = home.rpc()?;
    let (chain, _) = head(&rpc).await?;
    let chain = chain.ok_or_else(|| CliError::Usage("the node names no chain".to_owned()))?;
    if !out.is_json() {
        out.line(&format!(
            "signing {} messages of {} senders …",
            args.messages, args.senders
        ));
    }
    let prepared = prepare(args, &rpc, chain, out).await?;
    let calls = Arc::new(sign(args, chain, &prepared, out)?);
    for other in &args.also {
        level(&rpc, &home.rpc_to(other)?).await?;
    }
    if !out.is_json() {
        out.line("sending …");
    }
    if args.hold {
        eprintln!("prepared");
        let _line = std::io::stdin().lines().next();
    }
    let progress = out.counter(args.messages, "sending");
    let began = Instant::now();
    let next = Arc::new(AtomicUsize::new(0));
    let mut tasks = Vec::new();
    for connection in 0..args.connections {
        let rpc = match args.also.get(connection % (args.also.len() + 1)) {
            Some(other) => home.rpc_to(other)?,
            None => home.rpc()?,
        };
        let (calls, next) = (calls.clone(), next.clone());
        let progress = progress.clone();
        let (rate, batch) = (args.rate, args.batch.max(1));
        tasks.push(tokio::spawn(async move {
            work(&rpc, &calls, &next, rate, batch, began, &progress).await
        }));
    }
    let mut measured = Measured::default();
    for task in tasks {
        if let Ok(more) = task.await {
            measured.add(more);
        }
    }
    let took = began.elapsed();
    progress.finish_and_clear();
    tell(out, took, measured)
}

/// What became of the calls.
#[derive(Default)]
struct Measured {
    /// Of calls with something accepted, from sending to answer.
    latencies: Vec<Duration>,
    accepted: usize,
    refused: usize,
    first_error: Option<String>,
    /// How far behind its rate a call was sent: every connection was waiting.
    late: Duration,
}

impl Measured {
    fn add(&mut self, more: Self) {
        self.latencies.extend(more.latencies);
        self.accepted += more.accepted;
        self.refused += more.refused;
        self.first_error = self.first_error.take().or(more.first_error);
        self.late = self.late.max(more.late);
    }
}

async fn head(rpc: &RpcClient) -> Result<(Option<ChainId>, u64), CliError> {
    let head: Value = rpc.call("sessionvm.GetHead", json!({})).await?;
    let chain = head.get("chain").and_then(Value::as_str);
    let height = head.get("height").and_then(Value::as_u64);
    Ok((
        chain.and_then(|text| text.parse().ok()),
        height.unwrap_or_default(),
    ))
}

/// Waits until another node of the chain knows what was prepared through the first.
async fn level(first: &RpcClient, other: &RpcClient) -> Result<(), CliError> {
    let (chain, height) = head(first).await?;
    let began = Instant::now();
    loop {
        let (of, at) = head(other).await?;
        if of != chain {
            let problem = "the nodes belong to different chains";
            return Err(CliError::Usage(problem.to_owned()));
        }
        if at >= height {
            return Ok(());
        }
        if began.elapsed() > PREPARING {
            let problem = format!("a node stays at height {at}, another is at {height}");
            return Err(CliError::Usage(problem));
        }
        tokio::time::sleep(POLL).await;
    }
}

/// Sends calls until none is left.
async fn work(
    rpc: &RpcClient,
    calls: &[Call],
    next: &AtomicUsize,
    rate: Option<u64>,
    batch: usize,
    began: Instant,
    progress: &ProgressBar,
) -> Measured {
    let mut measured = Measured::default();
    loop {
        let at = next.fetch_add(1, Ordering::Relaxed);
        let Some(call) = calls.get(at) else { break };
        if let Some(rate) = rate.filter(|rate| *rate > 0) {
            let due = Duration::from_secs_f64((at * batch) as f64 / rate as f64);
            tokio::time::sleep(due.saturating_sub(began.elapsed())).await;
            // Told beside the latencies: a node that stalls its callers cannot hide it.
            measured.late = measured.late.max(began.elapsed().saturating_sub(due));
        }
        let sent = Instant::now();
        match call.send(rpc).await {
            Ok((good, problem)) => {
                if good > 0 {
                    measured.latencies.push(sent.elapsed());
                }
                measured.accepted += good;
                measured.refused += call.messages().saturating_sub(good);
                measured.first_error = measured.first_error.or(problem);
            }
            Err(problem) => {
                measured.refused += call.messages();
                measured
                    .first_error
                    .get_or_insert_with(|| problem.to_string());
            }
        }
        progress.inc(call.messages() as u64);
    }
    measured
}

fn tell(out: &Out, took: Duration, measured: Measured) -> Result<(), CliError> {
    let Measured {
        mut latencies,
        accepted,
        refused,
        first_error,
        late,
    } = measured;
    latencies.sort_unstable();
    let percentile = |p: usize| {
        let at = (latencies.len().saturating_sub(1)) * p / 100;
        latencies.get(at).map_or(0, Duration::as_micros)
    };
    let rate = accepted as f64 / took.as_secs_f64();
    let text = format!(
        "{accepted} accepted, {refused} refused in {:.2} s: {rate:.0} messages/s\n\
         latency of a call: p50 {} µs, p95 {} µs, p99 {} µs, max {} µs{}{}",
        took.as_secs_f64(),
        percentile(50),
        percentile(95),
        percentile(99),
        percentile(100),
        if late > LATE {
            format!(
                "\nsent up to {} ms late: more connections, or less rate",
                late.as_millis()
            )
        } else {
            String::new()
        },
        first_error
            .as_ref()
            .map(|e| format!("\nfirst error: {e}"))
            .unwrap_or_default(),
    );
    let micros = |p| u64::try_from(percentile(p)).unwrap_or(u64::MAX);
    out.result(
        &text,
        &json!({
            "ok": refused == 0, "accepted": accepted, "refused": refused,
            "seconds": took.as_secs_f64(), "perSecond": rate,
            "latencyUs": { "p50": micros(50), "p95": micros(95), "p99": micros(99), "max": micros(100) },
            "lateUs": u64::try_from(late.as_micros()).unwrap_or(u64::MAX),
            "firstError": first_error,
        }),
    )?;
    match (accepted, first_error) {
        (0, Some(error)) => Err(CliError::Told(Box::new(CliError::Usage(error)))),
        _ => Ok(()),
    }
}

/// Who sends, and where to: each session with the place of its sender.
struct Prepared {
    senders: Vec<Identity>,
    sessions: Vec<(usize, SessionId)>,
}

/// Registers the senders and opens their sessions: the first with the next sender, the second
/// with the one after it, and so on.
async fn prepare(
    args: &LoadArgs,
    rpc: &RpcClient,
    chain: ChainId,
    out: &Out,
) -> Result<Prepared, CliError> {
    let wanted = args.sessions.unwrap_or(args.senders);
    let each = wanted.div_ceil(args.senders);
    if each > SESSIONS_OF_A_SENDER.min(args.senders) {
        return Err(CliError::Usage(format!(
            "{wanted} sessions of {} senders: at most {SESSIONS_OF_A_SENDER} of each, with \
             different others",
            args.senders
        )));
    }
    let mut senders = Vec::with_capacity(args.senders + 1);
    for _ in 0..=args.senders {
        senders.push(Identity::generate_without_phrase()?);
    }
    for page in senders.chunks(PAGE) {
        let register = |identity: &Identity| {
            let public = identity.public();
            let kind = Kind::RegisterIdentity(RegisterIdentity {
                kem: KemKey(Box::new(*public.kem().as_bytes())),
                signing: SigningKey(Box::new(*public.signing().as_bytes())),
                recovery: None,
            });
            signed(chain, identity, kind)
        };
        let page: Result<Vec<Tx>, CliError> = page.iter().map(register).collect();
        submit_all(rpc, &page?).await?;
    }
    let mut sessions = Vec::with_capacity(wanted);
    let progress = out.counter(wanted, "opening sessions");
    while sessions.len() < wanted {
        let mut creates = Vec::with_capacity(PAGE);
        for at in (sessions.len()..wanted).take(PAGE) {
            let (sender, round) = (at % args.senders, at / args.senders);
            let pair = [sender, (sender + 1 + round) % senders.len()];
            let [Some(identity), Some(peer)] = pair.map(|place| senders.get(place)) else {
                continue;
            };
            let tx = signed(chain, identity, create_session(identity, peer))?;
            let session = CreateSession::session_id(&tx.ids(&chain).action);
            sessions.push((sender, session));
            creates.push(tx);
        }
        submit_all(rpc, &creates).await?;
        progress.inc(creates.len() as u64);
    }
    progress.finish_and_clear();
    Ok(Prepared { senders, sessions })
}

fn create_session(identity: &Identity, peer: &Identity) -> Kind {
    let mut accounts = [identity.account_id(), peer.account_id()];
    accounts.sort_unstable();
    let participants = accounts.map(|account| NewParticipant {
        account,
        kem: None,
        signing: None,
    });
    Kind::CreateSession(CreateSession {
        participants: participants.into(),
    })
}

/// Valid for half an hour from now, but for a single message, which has neither time nor salt.
fn signed(chain: ChainId, identity: &Identity, kind: Kind) -> Result<Tx, CliError> {
    let now = std::time::SystemTime::now()
        .duration_since(std::time::UNIX_EPOCH)
        .unwrap_or_default()
        .as_millis();
    let now = Time::from_ms(u64::try_from(now).unwrap_or(u64::MAX));
    let (valid_until, salt) = if kind.is_single_message() {
        (Time::default(), 0)
    } else {
        (now.after_ms(VALID_AHEAD_MAX_MS / 2), 1)
    };
    let mut tx = Tx {
        signer: identity.account_id(),
        valid_until,
        salt,
        kind,
        signature: Vec::new(),
    };
    tx.signature = identity
        .sign(&tx.signed_digest(&chain))?
        .as_bytes()
        .to_vec();
    Ok(tx)
}

async fn submit_all(rpc: &RpcClient, txs: &[Tx]) -> Result<(), CliError> {
    let mut txs: Vec<Vec<u8>> = txs.iter().map(Encode::to_bytes).collect();
    let began = Instant::now();
    loop {
        let answers = rpc.submit(&txs).await?;
        let mut wait = POLL;
        let mut left = Vec::new();
        for (tx, answer) in txs.into_iter().zip(answers) {
            match answer {
                Submitted::Accepted { .. } => continue,
                Submitted::Pending { .. } => {}
                Submitted::Refused {
                    retry_ms: Some(ms), ..
                } if began.elapsed() < PREPARING => wait = wait.max(Duration::from_millis(ms)),
                Submitted::Refused { .. } => {
                    return Err(CliError::Usage(format!("preparing failed: {answer:?}")));
                }
            }
            left.push(tx);
        }
        if left.is_empty() {
            return Ok(());
        }
        txs = left;
        tokio::time::sleep(wait).await;
    }
}

fn sign(
    args: &LoadArgs,
    chain: ChainId,
    prepared: &Prepared,
    out: &Out,
) -> Result<Vec<Call>, CliError> {
    let progress = out.counter(args.messages, "signing");
    let mut txs = Vec::with_capacity(args.messages);
    for at in 0..args.messages {
        // All over the state, as the messages of many people come.
        let place = at.wrapping_mul(STRIDE) % prepared.sessions.len().max(1);
        let Some((sender, session)) = prepared.sessions.get(place) else {
            continue;
        };
        let Some(identity) = prepared.senders.get(*sender) else {
            continue;
        };
        let mut ciphertext = vec![0; args.size];
        getrandom::fill(&mut ciphertext)
            .map_err(|_| CliError::Io(std::io::ErrorKind::Other.into()))?;
        let conversation = Conversation::Session(*session);
        let kind = Kind::SendMessage(SendMessage {
            conversation,
            ciphertext,
        });
        txs.push((*session, signed(chain, identity, kind)?));
        progress.inc(1);
    }
    progress.finish_and_clear();
    if args.batch > 0 {
        let calls = txs.chunks(args.batch);
        let encoded = |page: &[(SessionId, Tx)]| page.iter().map(|(_, tx)| tx.to_bytes()).collect();
        return Ok(calls.map(|page| Call::Batch(encoded(page))).collect());
    }
    let mut calls = Vec::with_capacity(txs.len());
    for (session, tx) in txs {
        let Kind::SendMessage(message) = tx.kind else {
            continue;
        };
        calls.push(Call::Single(json!({
            "sessionId": session,
            "sender": tx.signer,
            "ciphertext": const_hex::encode(message.ciphertext),
            "signature": const_hex::encode(tx.signature),
        })));
    }
    Ok(calls)
}
