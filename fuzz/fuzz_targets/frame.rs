#![no_main]

#[path = "../bodies/frame.rs"]
mod body;
#[path = "../bodies/mend.rs"]
mod mend;

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| body::check(bytes));
