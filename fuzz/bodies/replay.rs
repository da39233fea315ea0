//! Gives a body all files of its corpus, and then the same with damage: the same each time, on any compiler.

use std::{
    env, fs,
    panic::{AssertUnwindSafe, catch_unwind},
    path::PathBuf,
};

/// Bytes that mean something somewhere: bounds, signs, the beginnings of lengths and texts.
const TELLING: [u8; 12] = [0, 1, 2, 4, 8, 0x10, 0x20, b'"', b'{', 0x7f, 0x80, 0xff];
/// The longest input that damage makes, in bytes.
const INPUT_BYTES_MAX: usize = 16 << 10;

/// Runs the corpus of a target and `rounds` damaged inputs. `PELAGO_FUZZ_ROUNDS` says another number.
///
/// # Panics
/// With the input, if the body does.
pub(crate) fn replay(target: &str, rounds: u32, check: fn(&[u8])) {
    let corpus = corpus(target);
    assert!(corpus.len() >= 10, "the corpus of {target} is not there");
    for (name, bytes) in &corpus {
        run(&format!("{target}/{name}"), bytes, check);
    }
    let rounds = env::var("PELAGO_FUZZ_ROUNDS").map_or(rounds, |rounds| rounds.parse().expect("a number of rounds"));
    let mut dice = Dice(0x2545_f491_4f6c_dd1d);
    for round in 0..rounds {
        let bytes = damaged(&corpus, &mut dice);
        run(&format!("{target}, round {round}"), &bytes, check);
    }
}

/// The files of a target's corpus, by name.
pub(crate) fn corpus(target: &str) -> Vec<(String, Vec<u8>)> {
    let crate_directory = PathBuf::from(env::var_os("CARGO_MANIFEST_DIR").expect("cargo says where the crate lies"));
    let directory = crate_directory.join("../../fuzz/corpus").join(target);
    let read = |entry: fs::DirEntry| {
        let name = entry.file_name().into_string().expect("a name is text");
        (name, fs::read(entry.path()).expect("it can be read"))
    };
    let entries = fs::read_dir(directory).expect("the corpus is there");
    let mut files: Vec<_> = entries.map(|entry| read(entry.expect("it can be listed"))).collect();
    files.sort();
    files
}

fn run(name: &str, bytes: &[u8], check: fn(&[u8])) {
    if catch_unwind(AssertUnwindSafe(|| check(bytes))).is_err() {
        let hex: String = bytes.iter().map(|byte| format!("{byte:02x}")).collect();
        panic!("{name} fails, as said above: {hex}");
    }
}

fn damaged(corpus: &[(String, Vec<u8>)], dice: &mut Dice) -> Vec<u8> {
    let mut bytes = corpus[dice.below(corpus.len())].1.clone();
    for _ in 0..=dice.below(6) {
        let at = dice.below(bytes.len() + 1);
        match dice.below(8) {
            0 if at < bytes.len() => bytes[at] ^= 1 << dice.below(8),
            1 if at < bytes.len() => bytes[at] = dice.below(256) as u8,
            2 if at < bytes.len() => bytes[at] = TELLING[dice.below(TELLING.len())],
            3 => bytes.truncate(at),
            4 => bytes.insert(at, TELLING[dice.below(TELLING.len())]),
            5 => drop(bytes.drain(at..(at + dice.below(9)).min(bytes.len()))),
            6 => {
                let again = bytes[at..(at + dice.below(65)).min(bytes.len())].to_vec();
                bytes.splice(at..at, again);
            }
            _ => {
                let other = &corpus[dice.below(corpus.len())].1;
                let from = dice.below(other.len() + 1);
                bytes.truncate(at);
                bytes.extend_from_slice(&other[from..]);
            }
        }
        bytes.truncate(INPUT_BYTES_MAX);
    }
    bytes
}

/// Xorshift: the same numbers each time.
struct Dice(u64);

impl Dice {
    fn below(&mut self, bound: usize) -> usize {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        (self.0 % bound as u64) as usize
    }
}
