//! Links over real sockets on loopback.

mod breaks;
mod endings;
mod flow;
mod handshake;
mod requests;
mod world;
