//! The embedded store: one redb file, one process.

use std::fs::{self, DirBuilder, File, OpenOptions, Permissions};
use std::io;
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::thread::JoinHandle;

use redb::backends::FileBackend;
use redb::{
    Builder, Database, DatabaseError, ReadableDatabase, ReadableTable, TableDefinition, TableError,
};
use tokio::sync::{mpsc, oneshot};
use tracing::error;

use crate::{Store, StoreError, Table, Write};

/// The file in the folder.
const FILE: &str = "remit.redb";

/// The format of the tables and of the records in them. A newer one is refused.
const FORMAT: u64 = 2;

/// One that lacks parents and pauses, and is read as it is.
const FORMER: u64 = 1;

/// What the store says of itself.
const META: TableDefinition<'_, &str, u64> = TableDefinition::new("meta");

/// Page cache in bytes. redb's own default of 1 GiB would be most of the gateway's memory; everything that
/// calls need is in memory anyway.
const CACHE: usize = 16 * 1024 * 1024;

/// Requests that may wait for the writer; more wait in their callers.
const QUEUE: usize = 1024;

/// Commits that share one durable transaction at most.
const GROUP: usize = 1024;

/// The embedded store: one redb file, one process.
///
/// A thread of its own owns the file. Commits that wait for it together share one durable transaction, so
/// many calls pay for one flush of the disk. The file is released when the last handle is dropped.
#[derive(Debug)]
pub struct Embedded {
    requests: Option<mpsc::Sender<Request>>,
    writer: Option<JoinHandle<()>>,
}

#[derive(Debug)]
enum Request {
    Scan(Table, Reply<Rows>),
    Commit(Vec<Write>, Reply<()>),
}

type Reply<T> = oneshot::Sender<Result<T, StoreError>>;

type Commit = (Vec<Write>, Reply<()>);

type Rows = Vec<(String, Vec<u8>)>;

impl Embedded {
    /// Opens or makes the file `remit.redb` (mode 0600) in this folder (0700).
    ///
    /// Fails if another process holds it, if it was written by a newer Remit, or if the folder is open to
    /// other users and holds other things, so that it can't be closed to them.
    pub fn open(folder: &Path) -> Result<Self, StoreError> {
        claim(folder)?;
        let path = folder.join(FILE);
        let database = open(&path)?;
        let (requests, queue) = mpsc::channel(QUEUE);
        let writer = Writer {
            path,
            database: Some(database),
            queue,
        };
        let writer = std::thread::Builder::new()
            .name("remit-store".to_owned())
            .spawn(move || writer.run())
            .map_err(|error| StoreError(format!("its thread can't be started: {error}")))?;
        Ok(Self {
            requests: Some(requests),
            writer: Some(writer),
        })
    }

    async fn ask<T>(&self, request: impl FnOnce(Reply<T>) -> Request) -> Result<T, StoreError> {
        let stopped = || StoreError("its writer has stopped".to_owned());
        let (reply, answer) = oneshot::channel();
        let requests = self.requests.as_ref().ok_or_else(stopped)?;
        requests.send(request(reply)).await.map_err(|_| stopped())?;
        answer.await.map_err(|_| stopped())?
    }
}

#[async_trait::async_trait]
impl Store for Embedded {
    async fn scan(&self, table: Table) -> Result<Rows, StoreError> {
        self.ask(|reply| Request::Scan(table, reply)).await
    }

    async fn commit(&self, writes: Vec<Write>) -> Result<(), StoreError> {
        self.ask(|reply| Request::Commit(writes, reply)).await
    }
}

/// Waits for the writer to finish what it was asked, so that the file is free when this returns.
impl Drop for Embedded {
    fn drop(&mut self) {
        drop(self.requests.take());
        if let Some(writer) = self.writer.take()
            && writer.join().is_err()
        {
            error!("the store's writer panicked");
        }
    }
}

/// Makes the folder, or closes it to other users. A folder with other things in it is left as it is: closing
/// `/tmp` or `/var/lib` by mistake would break the machine.
fn claim(folder: &Path) -> Result<(), StoreError> {
    let failed = |error: io::Error| StoreError(format!("folder `{}`: {error}", folder.display()));
    DirBuilder::new()
        .recursive(true)
        .mode(0o700)
        .create(folder)
        .map_err(failed)?;
    let open_to_others = fs::metadata(folder).map_err(failed)?.permissions().mode() & 0o077 != 0;
    if !open_to_others {
        return Ok(());
    }
    let empty = fs::read_dir(folder).map_err(failed)?.next().is_none();
    if !empty && !folder.join(FILE).exists() {
        return Err(StoreError(format!(
            "folder `{}` is open to other users and holds other things; give the store one of its own, mode 0700",
            folder.display()
        )));
    }
    fs::set_permissions(folder, Permissions::from_mode(0o700)).map_err(failed)
}

fn open(path: &Path) -> Result<Database, StoreError> {
    let failed = |error: io::Error| StoreError(format!("file `{}`: {error}", path.display()));
    // A link could lead to a file of somebody else's choice. The folder is ours alone by now, so none appears
    // between this look and the opening.
    if fs::symlink_metadata(path).is_ok_and(|metadata| !metadata.is_file()) {
        let path = path.display();
        return Err(StoreError(format!("`{path}` is not a plain file")));
    }
    let file = OpenOptions::new()
        .read(true)
        .write(true)
        .create(true)
        .truncate(false)
        .mode(0o600)
        .open(path)
        .map_err(failed)?;
    // The mode above holds for a new file alone.
    file.set_permissions(Permissions::from_mode(0o600))
        .map_err(failed)?;
    // The file's own entry in the folder has to survive a power cut too.
    if let Some(folder) = path.parent() {
        File::open(folder)
            .and_then(|folder| folder.sync_all())
            .map_err(failed)?;
    }
    let backend = FileBackend::new(file).map_err(|error| unopened(path, &error))?;
    let database = Builder::new()
        .set_cache_size(CACHE)
        .create_with_backend(backend)
        .map_err(|error| unopened(path, &error))?;
    check_format(&database)?;
    Ok(database)
}

fn unopened(path: &Path, error: &DatabaseError) -> StoreError {
    let path = path.display();
    if let DatabaseError::DatabaseAlreadyOpen = error {
        StoreError(format!(
            "another remit uses this folder: `{path}` is locked"
        ))
    } else {
        StoreError(format!("file `{path}`: {error}"))
    }
}

/// Marks a new file with our format, and refuses one of a newer format or of another program.
fn check_format(database: &Database) -> Result<(), StoreError> {
    let transaction = database.begin_write().map_err(failed)?;
    let fresh = transaction.list_tables().map_err(failed)?.next().is_none();
    {
        let mut meta = transaction.open_table(META).map_err(failed)?;
        let format = meta.get("format").map_err(failed)?.map(|v| v.value());
        match format {
            Some(FORMAT) => {}
            Some(FORMER) => {
                meta.insert("format", FORMAT).map_err(failed)?;
            }
            Some(format) => {
                return Err(StoreError(format!(
                    "its format is {format}, this remit knows {FORMAT}"
                )));
            }
            None if fresh => {
                meta.insert("format", FORMAT).map_err(failed)?;
            }
            None => return Err(StoreError("it is not a store of remit".to_owned())),
        }
    }
    for table in [
        Table::Tasks,
        Table::Counters,
        Table::Leases,
        Table::Approvals,
        Table::Tokens,
        Table::Revocations,
        Table::Cutoffs,
        Table::Transactions,
        Table::Consents,
    ] {
        transaction.open_table(definition(table)).map_err(failed)?;
    }
    transaction.commit().map_err(failed)
}

fn definition(table: Table) -> TableDefinition<'static, &'static str, &'static [u8]> {
    TableDefinition::new(match table {
        Table::Tasks => "tasks",
        Table::Counters => "counters",
        Table::Leases => "leases",
        Table::Approvals => "approvals",
        Table::Tokens => "tokens",
        Table::Revocations => "revocations",
        Table::Cutoffs => "cutoffs",
        Table::Transactions => "transactions",
        Table::Consents => "consents",
    })
}

fn failed(error: impl Into<redb::Error>) -> StoreError {
    StoreError(error.into().to_string())
}

/// What the thread of the store owns.
struct Writer {
    path: PathBuf,
    /// None after a failed commit: redb wants the file opened anew before it is written again.
    database: Option<Database>,
    queue: mpsc::Receiver<Request>,
}

impl Writer {
    fn run(mut self) {
        while let Some(request) = self.queue.blocking_recv() {
            let mut group = Vec::new();
            let mut next = Some(request);
            while let Some(request) = next.take() {
                match request {
                    Request::Commit(writes, reply) => {
                        group.push((writes, reply));
                        if group.len() < GROUP {
                            next = self.queue.try_recv().ok();
                        }
                    }
                    Request::Scan(table, reply) => {
                        // What was asked before the scan is seen by it.
                        self.commit(std::mem::take(&mut group));
                        // Nobody waits any more? Then nobody is told.
                        let _gone = reply.send(self.scan(table));
                    }
                }
            }
            self.commit(group);
        }
    }

    fn database(&mut self) -> Result<&Database, StoreError> {
        let database = match self.database.take() {
            Some(database) => database,
            None => open(&self.path)?,
        };
        Ok(self.database.insert(database))
    }

    fn scan(&mut self, table: Table) -> Result<Rows, StoreError> {
        let transaction = self.database()?.begin_read().map_err(failed)?;
        let table = match transaction.open_table(definition(table)) {
            Ok(table) => table,
            Err(TableError::TableDoesNotExist(_)) => return Ok(Vec::new()),
            Err(error) => return Err(failed(error)),
        };
        table
            .iter()
            .map_err(failed)?
            .map(|row| {
                let (key, value) = row.map_err(failed)?;
                Ok((key.value().to_owned(), value.value().to_owned()))
            })
            .collect()
    }

    fn commit(&mut self, group: Vec<Commit>) {
        if group.is_empty() {
            return;
        }
        let result = self.write(group.iter().flat_map(|(writes, _)| writes));
        if let Err(error) = &result {
            error!(%error, commits = group.len(), "store commit failed");
            self.database = None;
        }
        for (_, reply) in group {
            let _gone = reply.send(result.clone());
        }
    }

    fn write<'a>(&mut self, writes: impl Iterator<Item = &'a Write>) -> Result<(), StoreError> {
        let transaction = self.database()?.begin_write().map_err(failed)?;
        {
            let mut tasks = transaction
                .open_table(definition(Table::Tasks))
                .map_err(failed)?;
            let mut counters = transaction
                .open_table(definition(Table::Counters))
                .map_err(failed)?;
            let mut leases = transaction
                .open_table(definition(Table::Leases))
                .map_err(failed)?;
            let mut approvals = transaction
                .open_table(definition(Table::Approvals))
                .map_err(failed)?;
            let mut tokens = transaction
                .open_table(definition(Table::Tokens))
                .map_err(failed)?;
            let mut revocations = transaction
                .open_table(definition(Table::Revocations))
                .map_err(failed)?;
            let mut cutoffs = transaction
                .open_table(definition(Table::Cutoffs))
                .map_err(failed)?;
            let mut transactions = transaction
                .open_table(definition(Table::Transactions))
                .map_err(failed)?;
            let mut consents = transaction
                .open_table(definition(Table::Consents))
                .map_err(failed)?;
            for write in writes {
                let (Write::Put { table, .. } | Write::Delete { table, .. }) = write;
                let table = match table {
                    Table::Tasks => &mut tasks,
                    Table::Counters => &mut counters,
                    Table::Leases => &mut leases,
                    Table::Approvals => &mut approvals,
                    Table::Tokens => &mut tokens,
                    Table::Revocations => &mut revocations,
                    Table::Cutoffs => &mut cutoffs,
                    Table::Transactions => &mut transactions,
                    Table::Consents => &mut consents,
                };
                match write {
                    Write::Put { key, value, .. } => {
                        table
                            .insert(key.as_str(), value.as_slice())
                            .map_err(failed)?;
                    }
                    Write::Delete { key, .. } => {
                        table.remove(key.as_str()).map_err(failed)?;
                    }
                }
            }
        }
        transaction.commit().map_err(failed)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn mode(path: &Path) -> u32 {
        fs::metadata(path).unwrap().permissions().mode() & 0o777
    }

    fn put(key: &str, value: &str) -> Write {
        Write::Put {
            table: Table::Tasks,
            key: key.to_owned(),
            value: value.into(),
        }
    }

    fn delete(key: &str) -> Write {
        Write::Delete {
            table: Table::Tasks,
            key: key.to_owned(),
        }
    }

    #[track_caller]
    fn check(rows: &Rows, expect: &[(&str, &str)]) {
        let rows: Vec<_> = rows
            .iter()
            .map(|(key, value)| (key.as_str(), std::str::from_utf8(value).unwrap()))
            .collect();
        assert_eq!(rows, expect);
    }

    #[track_caller]
    fn check_refused(folder: &Path, expect: &str) {
        let error = Embedded::open(folder).unwrap_err().to_string();
        assert!(error.contains(expect), "{error}");
    }

    #[tokio::test]
    async fn what_is_committed_is_there_after_a_restart() {
        let folder = tempfile::tempdir().unwrap();
        let store = Embedded::open(folder.path()).unwrap();
        store
            .commit(vec![put("b", "2"), put("a", "1"), put("c", "3")])
            .await
            .unwrap();
        store
            .commit(vec![delete("c"), put("b", "4")])
            .await
            .unwrap();
        check(
            &store.scan(Table::Tasks).await.unwrap(),
            &[("a", "1"), ("b", "4")],
        );
        drop(store);
        let store = Embedded::open(folder.path()).unwrap();
        check(
            &store.scan(Table::Tasks).await.unwrap(),
            &[("a", "1"), ("b", "4")],
        );
        check(&store.scan(Table::Leases).await.unwrap(), &[]);
    }

    #[tokio::test]
    async fn many_commits_at_once_are_all_made() {
        let folder = tempfile::tempdir().unwrap();
        let store = Embedded::open(folder.path()).unwrap();
        let commits = (0..3000).map(|n| store.commit(vec![put(&n.to_string(), "")]));
        for result in futures::future::join_all(commits).await {
            result.unwrap();
        }
        assert_eq!(store.scan(Table::Tasks).await.unwrap().len(), 3000);
    }

    #[tokio::test]
    async fn writes_of_one_commit_are_made_in_their_order() {
        let folder = tempfile::tempdir().unwrap();
        let store = Embedded::open(folder.path()).unwrap();
        let writes = vec![
            put("a", "1"),
            delete("a"),
            put("a", "2"),
            put("b", "1"),
            delete("b"),
        ];
        store.commit(writes).await.unwrap();
        check(&store.scan(Table::Tasks).await.unwrap(), &[("a", "2")]);
    }

    #[tokio::test]
    async fn a_commit_nobody_waits_for_is_made() {
        let folder = tempfile::tempdir().unwrap();
        let store = Embedded::open(folder.path()).unwrap();
        let commit =
            tokio::time::timeout(std::time::Duration::ZERO, store.commit(vec![put("a", "1")]));
        let _either = commit.await;
        check(&store.scan(Table::Tasks).await.unwrap(), &[("a", "1")]);
    }

    #[test]
    fn folder_and_file_are_the_owners_alone() {
        let folder = tempfile::tempdir().unwrap();
        let folder = folder.path().join("deep/state");
        drop(Embedded::open(&folder).unwrap());
        assert_eq!(mode(&folder), 0o700);
        assert_eq!(mode(&folder.join(FILE)), 0o600);
    }

    #[test]
    fn loose_modes_are_tightened() {
        let folder = tempfile::tempdir().unwrap();
        drop(Embedded::open(folder.path()).unwrap());
        fs::set_permissions(folder.path(), Permissions::from_mode(0o755)).unwrap();
        fs::set_permissions(folder.path().join(FILE), Permissions::from_mode(0o644)).unwrap();
        drop(Embedded::open(folder.path()).unwrap());
        assert_eq!(mode(folder.path()), 0o700);
        assert_eq!(mode(&folder.path().join(FILE)), 0o600);
    }

    #[test]
    fn a_shared_folder_is_refused_and_left_as_it_is() {
        let folder = tempfile::tempdir().unwrap();
        fs::write(folder.path().join("other"), "").unwrap();
        fs::set_permissions(folder.path(), Permissions::from_mode(0o777)).unwrap();
        check_refused(
            folder.path(),
            "is open to other users and holds other things",
        );
        assert_eq!(mode(folder.path()), 0o777);
    }

    #[test]
    fn a_second_remit_is_told() {
        let folder = tempfile::tempdir().unwrap();
        let first = Embedded::open(folder.path()).unwrap();
        check_refused(folder.path(), "another remit uses this folder");
        drop(first);
        Embedded::open(folder.path()).unwrap();
    }

    #[test]
    fn a_newer_format_is_refused() {
        let folder = tempfile::tempdir().unwrap();
        drop(Embedded::open(folder.path()).unwrap());
        let database = Database::open(folder.path().join(FILE)).unwrap();
        let transaction = database.begin_write().unwrap();
        transaction
            .open_table(META)
            .unwrap()
            .insert("format", 3)
            .unwrap();
        transaction.commit().unwrap();
        drop(database);
        check_refused(folder.path(), "its format is 3, this remit knows 2");
    }

    #[test]
    fn a_file_of_another_program_is_refused() {
        let folder = tempfile::tempdir().unwrap();
        let other: TableDefinition<'_, u64, u64> = TableDefinition::new("other");
        let database = Database::create(folder.path().join(FILE)).unwrap();
        let transaction = database.begin_write().unwrap();
        transaction.open_table(other).unwrap();
        transaction.commit().unwrap();
        drop(database);
        check_refused(folder.path(), "it is not a store of remit");
    }

    #[test]
    fn a_link_is_refused() {
        let folder = tempfile::tempdir().unwrap();
        fs::set_permissions(folder.path(), Permissions::from_mode(0o700)).unwrap();
        let target = folder.path().join("target");
        std::os::unix::fs::symlink(&target, folder.path().join(FILE)).unwrap();
        check_refused(folder.path(), "is not a plain file");
        assert!(!target.exists());
    }

    #[test]
    fn a_file_that_is_no_store_is_refused() {
        let folder = tempfile::tempdir().unwrap();
        fs::write(folder.path().join(FILE), "x".repeat(10_000)).unwrap();
        check_refused(folder.path(), FILE);
    }
}
