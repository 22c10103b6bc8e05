//! The node's database: an ordered map that outlives plugins, and the faults a test plants in it.
//!
//! ```text
//! plugin ── rpcdb.Database ──▶ Connection (one run of the node) ──▶ Database (what is on its disk)
//! ```
//!
//! Answers are those of avalanchego's server: a miss and a closed database are fields of an answer
//! that succeeds, every other failure is a gRPC error; an iterator sees the moment of its making.

use std::collections::{BTreeMap, HashMap};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use prost::bytes::Bytes;
use session_rpcchainvm::rpcdb::database_server::{Database as Service, DatabaseServer};
use session_rpcchainvm::rpcdb::{
    CloseRequest, CloseResponse, CompactRequest, CompactResponse, DeleteRequest, DeleteResponse,
    Error, GetRequest, GetResponse, HasRequest, HasResponse, HealthCheckResponse,
    IteratorErrorRequest, IteratorErrorResponse, IteratorNextRequest, IteratorNextResponse,
    IteratorReleaseRequest, IteratorReleaseResponse, NewIteratorWithStartAndPrefixRequest,
    NewIteratorWithStartAndPrefixResponse, PutRequest, PutResponse, WriteBatchRequest,
    WriteBatchResponse,
};
use tonic::{Request, Response, Status};

use crate::plugin::{Pid, kill};
use crate::serve::{Served, router};

/// An iterator's answer is closed by the pair that reaches this, as on a node.
const ITERATOR_BATCH: usize = 128 << 10;

/// What goes wrong at one call.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fault {
    /// A gRPC error, and nothing is done.
    Error,
    /// Done, but answered with a gRPC error.
    ErrorAfter,
    /// "The database is closed", and nothing is done.
    Closed,
    /// Done after this time.
    Delay(Duration),
    /// Never answered, and nothing is done.
    Hang,
    /// The plugin is killed, and nothing is done.
    KillBefore,
    /// Done, and the plugin is killed before it can know.
    KillAfter,
}

/// Calls since the database was made.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Counts {
    /// `Has` and `Get`.
    pub reads: u64,
    /// `Put`, `Delete` and `WriteBatch`.
    pub writes: u64,
    /// Iterators made.
    pub iterators: u64,
    /// Answers of iterators.
    pub iterator_answers: u64,
    /// `Compact`, `Close` and `HealthCheck`.
    pub others: u64,
    /// Bytes of keys and values written.
    pub bytes_written: u64,
}

/// Which calls go wrong.
#[derive(Default)]
struct Plan {
    /// By number of the call among its kind, counted from the database's making.
    writes: BTreeMap<u64, Fault>,
    reads: BTreeMap<u64, Fault>,
    iterator_answers: BTreeMap<u64, Fault>,
    every_write: Option<Fault>,
    every_read: Option<Fault>,
}

#[derive(Default)]
struct Disk {
    cells: BTreeMap<Bytes, Bytes>,
    counts: Counts,
    plan: Plan,
    struck: u64,
    /// Which run of the node has the database: earlier connections are as dead as that run.
    run: u64,
    plugin: Option<Pid>,
}

/// What is on one node's disk. Clones are the same disk.
#[derive(Clone, Default)]
pub struct Database {
    disk: Arc<Mutex<Disk>>,
}

impl Database {
    fn lock(&self) -> MutexGuard<'_, Disk> {
        self.disk.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Serves it to the plugin of a new run of the node; connections of earlier runs fail.
    pub async fn serve(&self) -> Served {
        let run = {
            let mut disk = self.lock();
            disk.run += 1;
            disk.run
        };
        let connection = Connection {
            database: self.clone(),
            run,
            iterators: Mutex::default(),
        };
        let service = DatabaseServer::new(connection)
            .max_decoding_message_size(usize::MAX)
            .max_encoding_message_size(usize::MAX);
        Served::start(router().add_service(service)).await
    }

    /// Ends the run: what a killed plugin still had under way does not reach the disk.
    pub fn cut(&self) {
        let mut disk = self.lock();
        disk.run += 1;
        disk.plugin = None;
    }

    /// Which process the faults kill.
    pub fn attach(&self, plugin: Pid) {
        self.lock().plugin = Some(plugin);
    }

    /// The value of a key.
    pub(crate) fn read(&self, key: &[u8]) -> Option<Bytes> {
        self.lock().cells.get(key).cloned()
    }

    /// All of it, or nothing.
    pub(crate) fn write(&self, puts: Vec<(Vec<u8>, Vec<u8>)>, deletes: Vec<Vec<u8>>) {
        let cells = &mut self.lock().cells;
        cells.extend(
            puts.into_iter()
                .map(|(key, value)| (key.into(), value.into())),
        );
        for key in deletes {
            cells.remove(key.as_slice());
        }
    }

    /// Every pair from `start` on whose key has this prefix.
    pub(crate) fn from(&self, start: &[u8], prefix: &[u8]) -> Vec<(Bytes, Bytes)> {
        let disk = self.lock();
        let cells = disk
            .cells
            .range(Bytes::copy_from_slice(start.max(prefix))..);
        let cells = cells.take_while(|(key, _)| key.starts_with(prefix));
        cells
            .map(|(key, value)| (key.clone(), value.clone()))
            .collect()
    }

    /// Every pair.
    pub fn cells(&self) -> BTreeMap<Bytes, Bytes> {
        self.lock().cells.clone()
    }

    /// Replaces everything, as an operator who restores a copy of the disk.
    pub fn restore(&self, cells: BTreeMap<Bytes, Bytes>) {
        self.lock().cells = cells;
    }

    /// Calls so far.
    pub fn counts(&self) -> Counts {
        self.lock().counts
    }

    /// Lets the `k`-th write from now (0: the next) go wrong.
    pub fn at_write(&self, k: u64, fault: Fault) {
        let mut disk = self.lock();
        let at = disk.counts.writes + k;
        disk.plan.writes.insert(at, fault);
    }

    /// Lets the `k`-th read from now (0: the next) go wrong.
    pub fn at_read(&self, k: u64, fault: Fault) {
        let mut disk = self.lock();
        let at = disk.counts.reads + k;
        disk.plan.reads.insert(at, fault);
    }

    /// Lets the `k`-th answer of an iterator from now (0: the next) go wrong.
    pub fn at_iterator_answer(&self, k: u64, fault: Fault) {
        let mut disk = self.lock();
        let at = disk.counts.iterator_answers + k;
        disk.plan.iterator_answers.insert(at, fault);
    }

    /// Lets every write from now go wrong.
    pub fn every_write(&self, fault: Fault) {
        self.lock().plan.every_write = Some(fault);
    }

    /// Lets every read and every answer of an iterator from now go wrong.
    pub fn every_read(&self, fault: Fault) {
        self.lock().plan.every_read = Some(fault);
    }

    /// Takes every planted fault out again.
    pub fn heal(&self) {
        self.lock().plan = Plan::default();
    }

    /// How many planted faults struck.
    pub fn struck(&self) -> u64 {
        self.lock().struck
    }
}

/// How a call ends when a fault strikes.
enum Ending {
    Well,
    Closed,
}

/// One run's way to the disk.
struct Connection {
    database: Database,
    run: u64,
    iterators: Mutex<Iterators>,
}

#[derive(Default)]
struct Iterators {
    made: u64,
    open: HashMap<u64, Iterator>,
}

struct Iterator {
    pairs: std::vec::IntoIter<(Bytes, Bytes)>,
    failed: Option<Fault>,
}

impl Connection {
    fn disk(&self) -> Result<MutexGuard<'_, Disk>, Status> {
        let disk = self.database.lock();
        if disk.run == self.run {
            Ok(disk)
        } else {
            Err(Status::unavailable("this run of the node is over"))
        }
    }

    fn iterators(&self) -> MutexGuard<'_, Iterators> {
        self.iterators
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
    }

    /// Does one write, or what is planted instead. `work` runs at once and wholly or not at all.
    async fn write(&self, work: impl FnOnce(&mut Disk)) -> Result<Ending, Status> {
        let fault = {
            let mut disk = self.disk()?;
            let number = disk.counts.writes;
            disk.counts.writes += 1;
            let planned = disk.plan.writes.remove(&number);
            planned.or(disk.plan.every_write)
        };
        self.strike(fault, work).await
    }

    async fn read<T>(&self, work: impl FnOnce(&Disk) -> T) -> Result<(Ending, Option<T>), Status> {
        let fault = {
            let mut disk = self.disk()?;
            let number = disk.counts.reads;
            disk.counts.reads += 1;
            let planned = disk.plan.reads.remove(&number);
            planned.or(disk.plan.every_read)
        };
        let mut found = None;
        let ending = self.strike(fault, |disk| found = Some(work(disk))).await?;
        Ok((ending, found))
    }

    async fn strike(
        &self,
        fault: Option<Fault>,
        work: impl FnOnce(&mut Disk),
    ) -> Result<Ending, Status> {
        if fault.is_some() {
            self.disk()?.struck += 1;
        }
        match fault {
            None => work(&mut *self.disk()?),
            Some(Fault::Error) => return Err(Status::unknown("planted: the disk is on fire")),
            Some(Fault::Closed) => return Ok(Ending::Closed),
            Some(Fault::Delay(time)) => {
                tokio::time::sleep(time).await;
                work(&mut *self.disk()?);
            }
            Some(Fault::Hang) => std::future::pending().await,
            Some(Fault::ErrorAfter) => {
                work(&mut *self.disk()?);
                return Err(Status::unknown("planted: written, but who knows"));
            }
            Some(Fault::KillBefore) => {
                self.kill()?;
                std::future::pending().await
            }
            Some(Fault::KillAfter) => {
                work(&mut *self.disk()?);
                self.kill()?;
                std::future::pending().await
            }
        }
        Ok(Ending::Well)
    }

    fn kill(&self) -> Result<(), Status> {
        if let Some(plugin) = self.disk()?.plugin {
            kill(plugin);
        }
        Ok(())
    }
}

fn put(disk: &mut Disk, pair: PutRequest) {
    disk.counts.bytes_written += (pair.key.len() + pair.value.len()) as u64;
    disk.cells.insert(pair.key, pair.value);
}

fn err(ending: &Ending) -> i32 {
    match ending {
        Ending::Well => Error::Unspecified.into(),
        Ending::Closed => Error::Closed.into(),
    }
}

#[tonic::async_trait]
impl Service for Connection {
    async fn has(&self, request: Request<HasRequest>) -> Result<Response<HasResponse>, Status> {
        let key = request.into_inner().key;
        let (ending, has) = self.read(|disk| disk.cells.contains_key(&key)).await?;
        Ok(Response::new(HasResponse {
            has: has.unwrap_or_default(),
            err: err(&ending),
        }))
    }

    async fn get(&self, request: Request<GetRequest>) -> Result<Response<GetResponse>, Status> {
        let key = request.into_inner().key;
        let (ending, found) = self.read(|disk| disk.cells.get(&key).cloned()).await?;
        let err = match (&ending, &found) {
            (Ending::Well, Some(None)) => Error::NotFound.into(),
            (Ending::Well | Ending::Closed, _) => err(&ending),
        };
        let value = found.flatten().unwrap_or_default();
        Ok(Response::new(GetResponse { value, err }))
    }

    async fn put(&self, request: Request<PutRequest>) -> Result<Response<PutResponse>, Status> {
        let pair = request.into_inner();
        let ending = self.write(|disk| put(disk, pair)).await?;
        Ok(Response::new(PutResponse { err: err(&ending) }))
    }

    async fn delete(
        &self,
        request: Request<DeleteRequest>,
    ) -> Result<Response<DeleteResponse>, Status> {
        let key = request.into_inner().key;
        let ending = self.write(|disk| drop(disk.cells.remove(&key))).await?;
        Ok(Response::new(DeleteResponse { err: err(&ending) }))
    }

    async fn compact(
        &self,
        _: Request<CompactRequest>,
    ) -> Result<Response<CompactResponse>, Status> {
        self.disk()?.counts.others += 1;
        Ok(Response::new(CompactResponse::default()))
    }

    async fn close(&self, _: Request<CloseRequest>) -> Result<Response<CloseResponse>, Status> {
        self.disk()?.counts.others += 1;
        Ok(Response::new(CloseResponse::default()))
    }

    async fn health_check(&self, _: Request<()>) -> Result<Response<HealthCheckResponse>, Status> {
        self.disk()?.counts.others += 1;
        Ok(Response::new(HealthCheckResponse::default()))
    }

    async fn write_batch(
        &self,
        request: Request<WriteBatchRequest>,
    ) -> Result<Response<WriteBatchResponse>, Status> {
        let batch = request.into_inner();
        let ending = self
            .write(|disk| {
                for pair in batch.puts {
                    put(disk, pair);
                }
                for gone in batch.deletes {
                    disk.cells.remove(&gone.key);
                }
            })
            .await?;
        Ok(Response::new(WriteBatchResponse { err: err(&ending) }))
    }

    async fn new_iterator_with_start_and_prefix(
        &self,
        request: Request<NewIteratorWithStartAndPrefixRequest>,
    ) -> Result<Response<NewIteratorWithStartAndPrefixResponse>, Status> {
        let NewIteratorWithStartAndPrefixRequest { start, prefix } = request.into_inner();
        let pairs: Vec<_> = {
            let mut disk = self.disk()?;
            disk.counts.iterators += 1;
            let from = start.max(prefix.clone());
            disk.cells
                .range(from..)
                .take_while(|(key, _)| key.starts_with(&prefix))
                .map(|(key, value)| (key.clone(), value.clone()))
                .collect()
        };
        let mut iterators = self.iterators();
        let id = iterators.made;
        iterators.made += 1;
        let iterator = Iterator {
            pairs: pairs.into_iter(),
            failed: None,
        };
        iterators.open.insert(id, iterator);
        Ok(Response::new(NewIteratorWithStartAndPrefixResponse { id }))
    }

    async fn iterator_next(
        &self,
        request: Request<IteratorNextRequest>,
    ) -> Result<Response<IteratorNextResponse>, Status> {
        let fault = {
            let mut disk = self.disk()?;
            let number = disk.counts.iterator_answers;
            disk.counts.iterator_answers += 1;
            let planned = disk.plan.iterator_answers.remove(&number);
            planned.or(disk.plan.every_read)
        };
        // An iterator that fails is one at its end: only `IteratorError` tells them apart.
        let failed = fault.filter(|fault| matches!(fault, Fault::Error | Fault::Closed));
        let fault = fault.filter(|_| failed.is_none());
        self.strike(fault, |disk| disk.struck += u64::from(failed.is_some()))
            .await?;
        let mut iterators = self.iterators();
        let iterator = iterators.open.get_mut(&request.into_inner().id);
        let iterator = iterator.ok_or_else(|| Status::unknown("unknown iterator"))?;
        iterator.failed = iterator.failed.or(failed);
        let (mut data, mut size) = (Vec::new(), 0);
        while iterator.failed.is_none()
            && size < ITERATOR_BATCH
            && let Some((key, value)) = iterator.pairs.next()
        {
            size += key.len() + value.len();
            data.push(PutRequest { key, value });
        }
        Ok(Response::new(IteratorNextResponse { data }))
    }

    async fn iterator_error(
        &self,
        request: Request<IteratorErrorRequest>,
    ) -> Result<Response<IteratorErrorResponse>, Status> {
        drop(self.disk()?);
        let iterators = self.iterators();
        let iterator = iterators.open.get(&request.into_inner().id);
        let iterator = iterator.ok_or_else(|| Status::unknown("unknown iterator"))?;
        let err = iterator_err(iterator.failed)?;
        Ok(Response::new(IteratorErrorResponse { err }))
    }

    async fn iterator_release(
        &self,
        request: Request<IteratorReleaseRequest>,
    ) -> Result<Response<IteratorReleaseResponse>, Status> {
        drop(self.disk()?);
        let gone = self.iterators().open.remove(&request.into_inner().id);
        let err = iterator_err(gone.and_then(|iterator| iterator.failed))?;
        Ok(Response::new(IteratorReleaseResponse { err }))
    }
}

fn iterator_err(failed: Option<Fault>) -> Result<i32, Status> {
    match failed {
        None => Ok(Error::Unspecified.into()),
        Some(Fault::Closed) => Ok(Error::Closed.into()),
        Some(_) => Err(Status::unknown("planted: the disk is on fire")),
    }
}
