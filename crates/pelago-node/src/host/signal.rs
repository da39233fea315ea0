//! What a turn says about the signal that it handles, besides its reply.
//!
//! The reply of a signal's turn takes the way of all replies, through the core of a keyed agent too, whose last run of
//! the turn is the one that counts. So whether the signal goes on is written behind it, in one byte.

use bytes::Bytes;

const GOES_ON: u8 = 0;
const STOPPED: u8 = 1;

/// The reply of a signal's turn, with whether its agent stopped the signal.
pub(crate) fn seal(reply: Bytes, stopped: bool) -> Bytes {
    let mut sealed = Vec::from(reply);
    sealed.push(if stopped { STOPPED } else { GOES_ON });
    Bytes::from(sealed)
}

/// The reply as the agent gave it, and whether it stopped the signal.
pub(crate) fn unseal(mut sealed: Bytes) -> (Bytes, bool) {
    let mark = sealed.split_off(sealed.len().saturating_sub(1));
    (sealed, mark[..] == [STOPPED])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_reply_comes_out_as_it_went_in() {
        for (reply, stopped) in [("", false), ("null", true), ("[0]", false)] {
            let sealed = seal(Bytes::from(reply), stopped);
            assert_eq!(unseal(sealed), (Bytes::from(reply), stopped));
        }
    }
}
