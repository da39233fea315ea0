//! Reading beside the writer.

use std::{
    path::{Path, PathBuf},
    sync::{Arc, Condvar, Mutex, MutexGuard},
};

use rusqlite::{Connection, Transaction, TransactionBehavior};

use super::{
    error::Error,
    machine::Applied,
    schema,
    totals::{self, Totals},
};

/// A few connections that only read. Cheap to clone; every call blocks, and may come from any thread.
///
/// After a [`restore`](super::restore) of the same file a new reader is needed.
#[derive(Debug, Clone)]
pub struct Reader {
    pool: Arc<Pool>,
}

#[derive(Debug)]
struct Pool {
    path: PathBuf,
    /// Held only to take a connection or to give it back.
    idle: Mutex<Vec<Connection>>,
    freed: Condvar,
}

impl Reader {
    /// Opens `connections` connections to the database at `path`, which a [`Machine`](super::Machine) has made. So many
    /// calls run at a time, others wait.
    ///
    /// # Errors
    /// What the database says.
    ///
    /// # Panics
    /// When `connections` is 0.
    pub fn open(path: &Path, connections: usize) -> Result<Self, Error> {
        assert!(connections > 0, "a reader needs a connection");
        let idle = (0..connections).map(|_| schema::open_reader(path)).collect::<Result<_, _>>()?;
        Ok(Self { pool: Arc::new(Pool { path: path.to_owned(), idle: Mutex::new(idle), freed: Condvar::new() }) })
    }

    /// Where the database is.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.pool.path
    }

    /// Reads within one transaction: all that `read` sees is of one moment.
    ///
    /// # Errors
    /// What `read` returns, or what the database says.
    pub fn view<T>(&self, read: impl FnOnce(&View<'_>) -> Result<T, Error>) -> Result<T, Error> {
        let lease = self.pool.take();
        let transaction = Transaction::new_unchecked(lease.connection(), TransactionBehavior::Deferred)?;
        read(&View { connection: &transaction })
    }
}

impl Pool {
    fn take(&self) -> Lease<'_> {
        let none = |idle: &mut Vec<Connection>| idle.is_empty();
        let mut idle = self.freed.wait_while(self.idle(), none).expect("nobody panics while holding the pool");
        Lease { pool: self, connection: idle.pop() }
    }

    fn idle(&self) -> MutexGuard<'_, Vec<Connection>> {
        self.idle.lock().expect("nobody panics while holding the pool")
    }
}

/// A connection in use; it goes back even if the reading code panics.
struct Lease<'p> {
    pool: &'p Pool,
    connection: Option<Connection>,
}

impl Lease<'_> {
    fn connection(&self) -> &Connection {
        self.connection.as_ref().expect("it is given back only in drop")
    }
}

impl Drop for Lease<'_> {
    fn drop(&mut self) {
        self.pool.idle().extend(self.connection.take());
        self.pool.freed.notify_one();
    }
}

/// The rows at one moment.
#[derive(Debug)]
pub struct View<'c> {
    pub(super) connection: &'c Connection,
}

impl View<'_> {
    /// How far the database had come at this moment.
    ///
    /// # Errors
    /// What the database says; so for all methods.
    pub fn applied(&self) -> Result<Applied, Error> {
        Applied::load(self.connection)
    }

    /// How many rows of each kind there are.
    ///
    /// # Errors
    /// What the database says.
    pub fn totals(&self) -> Result<Totals, Error> {
        totals::load(self.connection)
    }
}
