//! Frames of the line of sight, over any bytes: a request, or a problem that says what is wrong; never a panic, and never
//! a frame beyond its bound.
//!
//! The first byte says how large the pieces are that arrive.

use bytes::{Bytes, BytesMut};
use pelago_api::line::{
    Refused, Request,
    frame::{FRAME_BYTES_MAX, LENGTH_BYTES, TooLong, cut, frame, missing},
};

pub(crate) fn check(bytes: &[u8]) {
    let Some((&piece, rest)) = bytes.split_first() else { return };
    let (documents, end) = cut_in_pieces(rest, rest.len().max(1));
    assert_eq!(
        (&documents, end),
        (&cut_in_pieces(rest, 1 + usize::from(piece)).0, end),
        "the pieces change what is read"
    );
    for document in &documents {
        read(document);
        let again = frame(document).expect("what was read may be written");
        assert_eq!(cut(&mut BytesMut::from(&again[..])), Ok(Some(document.clone())));
    }
    // Few bytes are frames by chance.
    read(rest);
}

fn cut_in_pieces(whole: &[u8], piece: usize) -> (Vec<Bytes>, Option<TooLong>) {
    let (mut documents, mut received) = (Vec::new(), BytesMut::new());
    for piece in whole.chunks(piece) {
        received.extend_from_slice(piece);
        loop {
            match cut(&mut received) {
                Ok(Some(document)) => documents.push(document),
                Ok(None) => break,
                Err(too_long) => return (documents, Some(too_long)),
            }
        }
        let missing = missing(&received).expect("it was not too long to cut");
        assert!((1..=LENGTH_BYTES + FRAME_BYTES_MAX).contains(&missing), "{missing} bytes are missing");
    }
    (documents, None)
}

fn read(document: &[u8]) {
    match Request::read(document) {
        Ok((_, Request::Signal { signal, wait })) => {
            assert!(wait.as_secs() <= 60, "it waits {wait:?}");
            let content = signal.content.map_or("null", |content| content.get());
            let start = document.as_ptr() as usize;
            let at = content.as_ptr() as usize;
            assert!(signal.content.is_none() || (start..start + document.len()).contains(&at), "it is a copy");
        }
        Ok((_, Request::Hello { name })) => assert!((1..=128).contains(&name.len()), "{name:?}"),
        Ok((_, Request::Ping | Request::Metrics | Request::Discovery)) => {}
        Err(Refused { id: _, problem }) => {
            assert!(!problem.detail.is_empty() && problem.detail.len() <= 2_000, "{problem}");
            assert!(!problem.hint.is_empty() && problem.hint.len() <= 2_000, "{problem}");
        }
    }
}
