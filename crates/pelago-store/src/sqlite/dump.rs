//! Carrying the rows to another node: as values in key order, so that the copy does not depend on pages.
//!
//! The bytes are [`pelago_wire::dump`]'s; here is which rows they carry and how a copy takes the place of a database.

use std::{
    fs::{self, File},
    io::{self, Read, Write},
    path::{Path, PathBuf},
    sync::atomic::{AtomicU64, Ordering},
};

use pelago_core::id::MeshId;
use pelago_wire::dump::{Decoder, Encoder, Flaw, HEADER_BYTES, Hash, LENGTH_BYTES, Record, Value};
use rusqlite::{
    CachedStatement, Connection, OpenFlags, params_from_iter,
    types::{ToSqlOutput, ValueRef},
};

use super::{
    error::Error,
    machine::Applied,
    reader::{Reader, View},
    schema::{self, TABLES, Table},
};

/// What is appended to a database's name, before a number, for one that is to take its place.
const FRESH: &str = "-new";

/// How many bytes are gathered before they are written.
const WRITE_BYTES: usize = 256 << 10;

/// What a dump holds.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DumpInfo {
    /// How far the database had come.
    pub applied: Applied,
    /// The hash over the whole dump.
    pub hash: Hash,
}

/// Writes every row to `out`, from one read transaction. Two databases that applied the same entries give the same
/// bytes. While it runs, a [`checkpoint`](super::checkpoint) may answer [`Error::Busy`].
///
/// # Errors
/// [`Error::Stream`] when `out` fails, else what the database says.
pub fn dump(reader: &Reader, out: impl Write) -> Result<DumpInfo, Error> {
    reader.view(|view| dump_view(view, out))
}

fn dump_view(view: &View<'_>, mut out: impl Write) -> Result<DumpInfo, Error> {
    let mut buffer = Vec::with_capacity(2 * WRITE_BYTES);
    let mut encoder = Encoder::begin(&mut buffer);
    for table in &TABLES {
        dump_table(view.connection, table, &mut encoder, &mut buffer, &mut out)?;
    }
    let hash = encoder.end(&mut buffer);
    out.write_all(&buffer).and_then(|()| out.flush()).map_err(Error::Stream)?;
    Ok(DumpInfo { applied: view.applied()?, hash })
}

fn dump_table(
    connection: &Connection,
    Table { name, key }: &Table,
    encoder: &mut Encoder,
    buffer: &mut Vec<u8>,
    out: &mut impl Write,
) -> Result<(), Error> {
    let mut statement = connection.prepare(&format!("SELECT * FROM {name} ORDER BY {key}"))?;
    let columns: Vec<_> = statement.column_names().collect();
    let width = columns.len();
    encoder.table(name, &columns, buffer);
    let mut rows = statement.query([])?;
    while let Some(row) = rows.next()? {
        let refs = (0..width).map(|column| row.get_ref(column)).collect::<rusqlite::Result<Vec<_>>>()?;
        let values = refs.into_iter().map(value).collect::<Result<Vec<_>, _>>()?;
        encoder.row(values.into_iter(), buffer);
        if buffer.len() >= WRITE_BYTES {
            out.write_all(buffer).map_err(Error::Stream)?;
            buffer.clear();
        }
    }
    Ok(())
}

fn value(value: ValueRef<'_>) -> Result<Value<'_>, Error> {
    Ok(match value {
        ValueRef::Null => Value::Null,
        ValueRef::Integer(n) => Value::Integer(n),
        ValueRef::Blob(bytes) => Value::Blob(bytes),
        ValueRef::Text(_) => Value::Text(value.as_str().map_err(|why| Error::Corrupt(why.into()))?),
        ValueRef::Real(_) => unreachable!("no column holds a real number"),
    })
}

/// A database made from a dump, whole and durable, beside the one whose place it may take. Dropped, it is removed.
#[derive(Debug)]
pub struct Fresh {
    place: PathBuf,
    file: PathBuf,
    info: DumpInfo,
    is_placed: bool,
}

impl Fresh {
    /// Reads a dump of `mesh` into a new file beside `place`, which is not touched.
    ///
    /// # Errors
    /// [`Error::Dump`], [`Error::DumpTable`], [`Error::OtherMesh`] or [`Error::Stream`] when the dump is not what it
    /// should be; [`Error::File`] when the system fails, else what the database says.
    pub fn read(place: &Path, mesh: MeshId, input: impl Read) -> Result<Self, Error> {
        // More than one may be made at a time: one given up, one waiting for its place, one under way.
        static NUMBER: AtomicU64 = AtomicU64::new(0);
        let number = NUMBER.fetch_add(1, Ordering::Relaxed);
        let file = beside(place, &format!("{FRESH}{number}"));
        remove(&file)?;
        remove(&beside(&file, "-journal"))?;
        let result = fill(&file, mesh, input).and_then(|info| flush(&file).map(|()| info));
        match result {
            Ok(info) => Ok(Self { place: place.to_owned(), file, info, is_placed: false }),
            Err(error) => {
                remove(&file)?;
                Err(error)
            }
        }
    }

    /// What it holds.
    #[must_use]
    pub fn info(&self) -> &DumpInfo {
        &self.info
    }

    /// Takes the place of the database there, all or nothing. No machine and no connection may have the old file open:
    /// see [`Reader::replace`].
    ///
    /// # Errors
    /// [`Error::File`]. The file in place is the old one still, unless the last flush of the directory failed.
    pub fn take_place(mut self) -> Result<DumpInfo, Error> {
        retire(&self.place)?;
        fs::rename(&self.file, &self.place).map_err(|source| Error::File { path: self.place.clone(), source })?;
        self.is_placed = true;
        flush(directory(&self.place))?;
        Ok(self.info.clone())
    }

    /// Removes what earlier processes left of theirs beside `place`.
    ///
    /// # Errors
    /// [`Error::File`].
    pub fn sweep(place: &Path) -> Result<(), Error> {
        let prefix = beside(Path::new(place.file_name().unwrap_or_default()), FRESH);
        let failed = |source| Error::File { path: place.to_owned(), source };
        for entry in fs::read_dir(directory(place)).map_err(failed)? {
            let entry = entry.map_err(failed)?;
            if entry.file_name().as_encoded_bytes().starts_with(prefix.as_os_str().as_encoded_bytes()) {
                remove(&entry.path())?;
            }
        }
        Ok(())
    }
}

impl Drop for Fresh {
    fn drop(&mut self) {
        if !self.is_placed
            && let Err(error) = remove(&self.file)
        {
            // The next start sweeps it away.
            drop(error);
        }
    }
}

/// Reads a dump of `mesh` and puts it in the place of the database at `path`, all or nothing: see [`Fresh`].
///
/// # Errors
/// As [`Fresh::read`] and [`Fresh::take_place`].
pub fn restore(path: &Path, mesh: MeshId, input: impl Read) -> Result<DumpInfo, Error> {
    Fresh::read(path, mesh, input)?.take_place()
}

fn fill(fresh: &Path, mesh: MeshId, input: impl Read) -> Result<DumpInfo, Error> {
    let mut connection = Connection::open(fresh)?;
    // Nobody sees the file before it is whole, so a crash may leave anything in it.
    connection.pragma_update(None, "journal_mode", "memory")?;
    connection.pragma_update(None, "synchronous", "off")?;
    schema::create(&mut connection, mesh)?;
    let transaction = connection.transaction()?;
    let hash = rows(&transaction, input)?;
    let found = schema::mesh(&transaction)?;
    if found != mesh {
        return Err(Error::OtherMesh { found, wanted: mesh });
    }
    let applied = Applied::load(&transaction)?;
    transaction.commit()?;
    connection.close().map_err(|(_, error)| error)?;
    Ok(DumpInfo { applied, hash })
}

/// Inserts all rows of a dump and returns its verified hash.
fn rows(connection: &Connection, mut input: impl Read) -> Result<Hash, Error> {
    let mut header = [0; HEADER_BYTES];
    input.read_exact(&mut header).map_err(Error::Stream)?;
    let mut decoder = Decoder::begin(&header).map_err(Error::Dump)?;
    let mut record = Vec::new();
    let mut insert = None;
    loop {
        let mut length = [0; LENGTH_BYTES];
        input.read_exact(&mut length).map_err(Error::Stream)?;
        record.resize(decoder.length(length).map_err(Error::Dump)?, 0);
        input.read_exact(&mut record).map_err(Error::Stream)?;
        match decoder.record(&record).map_err(Error::Dump)? {
            Record::Table { name, columns } => insert = Some(begin_table(connection, name, &columns)?),
            Record::Row(values) => {
                let insert = insert.as_mut().ok_or(Error::Dump(Flaw::Record))?;
                insert_row(insert, &values)?;
            }
            Record::End(hash) => return Ok(hash),
        }
    }
}

fn begin_table<'c>(connection: &'c Connection, name: &str, columns: &[&str]) -> Result<CachedStatement<'c>, Error> {
    let unknown = || Error::DumpTable { table: name.to_owned() };
    let table = TABLES.iter().find(|table| table.name == name).ok_or_else(unknown)?;
    let known = connection.prepare(&format!("SELECT * FROM {}", table.name))?;
    if !known.column_names().eq(columns.iter().copied()) {
        return Err(unknown());
    }
    // What a new database is born with.
    connection.execute(&format!("DELETE FROM {}", table.name), [])?;
    let values = vec!["?"; columns.len()].join(", ");
    Ok(connection.prepare_cached(&format!("INSERT INTO {} VALUES ({values})", table.name))?)
}

fn insert_row(insert: &mut CachedStatement<'_>, values: &[Value<'_>]) -> Result<(), Error> {
    if values.len() != insert.parameter_count() {
        return Err(Error::Dump(Flaw::Record));
    }
    let values = values.iter().map(|value| {
        ToSqlOutput::Borrowed(match value {
            Value::Null => ValueRef::Null,
            Value::Integer(n) => ValueRef::Integer(*n),
            Value::Text(text) => ValueRef::Text(text.as_bytes()),
            Value::Blob(bytes) => ValueRef::Blob(bytes),
        })
    });
    insert.execute(params_from_iter(values))?;
    Ok(())
}

/// Empties SQLite's log of the old database and removes it: found beside the new one it would be replayed into it.
fn retire(path: &Path) -> Result<(), Error> {
    if path.exists() {
        // Until the rename the old file is still the database, so what only its log holds is moved into it first. An
        // old file that cannot be opened is damaged already, and is about to be replaced for that very reason.
        let _ = empty_log(path);
    }
    remove(&beside(path, "-wal"))?;
    remove(&beside(path, "-shm"))?;
    // Names removed must not come back once the new file has the name.
    flush(directory(path))
}

fn empty_log(path: &Path) -> rusqlite::Result<()> {
    let connection = Connection::open_with_flags(path, OpenFlags::SQLITE_OPEN_READ_WRITE)?;
    connection.query_row("PRAGMA wal_checkpoint(TRUNCATE)", [], |_| Ok(()))
}

fn beside(path: &Path, suffix: &str) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(suffix);
    name.into()
}

fn directory(path: &Path) -> &Path {
    match path.parent() {
        Some(parent) if parent != Path::new("") => parent,
        Some(_) | None => Path::new("."),
    }
}

fn remove(path: &Path) -> Result<(), Error> {
    match fs::remove_file(path) {
        Err(source) if source.kind() != io::ErrorKind::NotFound => Err(Error::File { path: path.to_owned(), source }),
        Ok(()) | Err(_) => Ok(()),
    }
}

fn flush(path: &Path) -> Result<(), Error> {
    let flushed = File::open(path).and_then(|file| file.sync_all());
    flushed.map_err(|source| Error::File { path: path.to_owned(), source })
}
