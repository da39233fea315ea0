//! Reading beside the writer.

use std::{
    path::{Path, PathBuf},
    sync::{Arc, Condvar, Mutex, MutexGuard},
};

use rusqlite::{Connection, Transaction, TransactionBehavior};

use super::{
    checkpoint::checkpoint,
    error::Error,
    machine::Applied,
    schema,
    totals::{self, Totals},
    writer::{Uncommitted, Writer},
};

/// A few connections that only read. Cheap to clone; every call blocks, and may come from any thread.
///
/// While it lives, another database may take this one's place only through [`Reader::replace`].
#[derive(Debug, Clone)]
pub struct Reader {
    pool: Arc<Pool>,
}

#[derive(Debug)]
struct Pool {
    path: PathBuf,
    /// What is to be committed before anybody reads.
    uncommitted: Mutex<Option<Uncommitted>>,
    connections: usize,
    /// Held only to take a connection or to give it back, and while another database takes the place of this one. A
    /// connection that is not open is opened by whoever takes it.
    idle: Mutex<Vec<Option<Connection>>>,
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
        let idle = (0..connections).map(|_| schema::open_reader(path).map(Some)).collect::<Result<_, _>>()?;
        let (idle, freed, uncommitted) = (Mutex::new(idle), Condvar::new(), Mutex::default());
        let pool = Pool { path: path.to_owned(), uncommitted, connections, idle, freed };
        Ok(Self { pool: Arc::new(pool) })
    }

    /// From here on, whoever reads sees all that the writer of this database has applied by then.
    pub fn follow(&self, writer: &Writer) {
        *self.pool.uncommitted() = Some(writer.uncommitted());
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
        let uncommitted = self.pool.uncommitted().clone();
        uncommitted.as_ref().map_or(Ok(()), Uncommitted::commit)?;
        let mut lease = self.pool.take();
        let transaction = Transaction::new_unchecked(lease.connection()?, TransactionBehavior::Deferred)?;
        read(&View { connection: &transaction })
    }

    /// Makes the database durable, as [`checkpoint()`] does, with all that was applied before the call.
    ///
    /// # Errors
    /// As for [`checkpoint()`].
    pub fn checkpoint(&self) -> Result<u64, Error> {
        let uncommitted = self.pool.uncommitted().clone();
        uncommitted.map_or_else(|| checkpoint(self.path()), |uncommitted| uncommitted.checkpoint(self.path()))
    }

    /// Lets another database take the place of this one: waits until nobody reads, closes all connections and calls
    /// `replace`. Whoever wants to read meanwhile waits, and then sees what is there. Called from within
    /// [`Reader::view`] it would wait for itself.
    pub fn replace<T>(&self, replace: impl FnOnce() -> T) -> T {
        let Pool { connections, freed, .. } = &*self.pool;
        let in_use = |idle: &mut Vec<Option<Connection>>| idle.len() < *connections;
        let mut idle = freed.wait_while(self.pool.idle(), in_use).expect("nobody panics while holding the pool");
        idle.fill_with(|| None);
        replace()
    }
}

impl Pool {
    fn take(&self) -> Lease<'_> {
        let none = |idle: &mut Vec<Option<Connection>>| idle.is_empty();
        let mut idle = self.freed.wait_while(self.idle(), none).expect("nobody panics while holding the pool");
        Lease { pool: self, connection: idle.pop().flatten() }
    }

    fn uncommitted(&self) -> MutexGuard<'_, Option<Uncommitted>> {
        self.uncommitted.lock().expect("nobody panics while holding it")
    }

    fn idle(&self) -> MutexGuard<'_, Vec<Option<Connection>>> {
        self.idle.lock().expect("nobody panics while holding the pool")
    }
}

/// A connection in use; it goes back even if the reading code panics.
struct Lease<'p> {
    pool: &'p Pool,
    connection: Option<Connection>,
}

impl Lease<'_> {
    fn connection(&mut self) -> Result<&Connection, Error> {
        let connection = match self.connection.take() {
            Some(connection) => connection,
            None => schema::open_reader(&self.pool.path)?,
        };
        Ok(self.connection.insert(connection))
    }
}

impl Drop for Lease<'_> {
    fn drop(&mut self) {
        self.pool.idle().push(self.connection.take());
        // Whoever waits for all connections must not be the only one that is woken.
        self.pool.freed.notify_all();
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
