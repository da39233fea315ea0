use rusqlite::{Connection, params};
use std::time::Instant;
fn cpu() -> f64 {
    let t = rustix::time::clock_gettime(rustix::time::ClockId::ProcessCPUTime);
    t.tv_sec as f64 + t.tv_nsec as f64 / 1e9
}
fn main() {
    let d = tempfile::TempDir::new().unwrap();
    let c = Connection::open(d.path().join("x.db")).unwrap();
    c.pragma_update(None, "journal_mode", "wal").unwrap();
    c.pragma_update(None, "synchronous", "normal").unwrap();
    c.pragma_update(None, "cache_size", -65536).unwrap();
    c.execute_batch("CREATE TABLE t (id INTEGER PRIMARY KEY, state TEXT, run_at INTEGER, prio INTEGER, payload BLOB, holder INTEGER, token INTEGER); CREATE INDEX q ON t (prio, run_at) WHERE state='queued'; CREATE INDEX h ON t (holder) WHERE state='running'; CREATE TABLE u (id BLOB PRIMARY KEY, v BLOB) WITHOUT ROWID;").unwrap();
    let mut ins = c.prepare("INSERT INTO t VALUES (?1,'queued',?2,?3,?4,NULL,NULL)").unwrap();
    let mut lease = c.prepare("UPDATE t SET state='running', holder=?2, token=?3 WHERE id=?1").unwrap();
    let mut done = c.prepare("UPDATE t SET state='done', holder=NULL WHERE id=?1").unwrap();
    let mut blob = c.prepare("INSERT INTO u VALUES (?1,?2)").unwrap();
    let payload = [7u8; 64];
    let (b, k) = (Instant::now(), cpu());
    let mut id = 0i64;
    while b.elapsed().as_secs() < 3 {
        c.execute_batch("BEGIN").unwrap();
        for _ in 0..500 {
            id += 1;
            ins.execute(params![id, id, 1, &payload[..]]).unwrap();
            lease.execute(params![id, 1, 2]).unwrap();
            done.execute(params![id]).unwrap();
        }
        c.execute_batch("COMMIT").unwrap();
    }
    println!("raw task (3 stmts): {:.0}/s {:.0}/cpu-s", id as f64 / b.elapsed().as_secs_f64(), id as f64 / (cpu() - k));
    let (b, k) = (Instant::now(), cpu());
    let mut n = 0u128;
    while b.elapsed().as_secs() < 3 {
        c.execute_batch("BEGIN").unwrap();
        for _ in 0..500 {
            n += 1;
            blob.execute(params![n.to_be_bytes(), &payload[..]]).unwrap();
        }
        c.execute_batch("COMMIT").unwrap();
    }
    println!("raw blob insert: {:.0}/s {:.0}/cpu-s", n as f64 / b.elapsed().as_secs_f64(), n as f64 / (cpu() - k));
}
