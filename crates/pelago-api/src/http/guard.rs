//! Keeps web pages from elsewhere out of an API that trusts everything on this machine.
//!
//! A page can make its own host name resolve to 127.0.0.1 (DNS rebinding); its requests then carry that name as `Host`.
//! Or it sends requests to localhost straight away; a browser then adds the page's `Origin`. So both must name this
//! machine. Programs are not hindered: they send the host they were told, and no origin.

use std::net::{Ipv4Addr, Ipv6Addr};

use axum::http::{
    HeaderValue, Request,
    header::{HOST, ORIGIN},
};

use super::{Failure, failure::excerpt};
use crate::problem::Code;

/// Refuses a request that names another host, or comes from a foreign web page.
pub(super) fn check<B>(request: &Request<B>) -> Result<(), Failure> {
    // A request line with a host wins over the header, so it is held to the same.
    if let Some(authority) = request.uri().authority() {
        check_host(authority.as_str())?;
    }
    let mut hosts = request.headers().get_all(HOST).iter();
    let host = hosts.next().ok_or_else(|| foreign_host("the request names no host"))?;
    check_host(text(host))?;
    if hosts.next().is_some() {
        return Err(foreign_host("the request names its host twice"));
    }
    request.headers().get_all(ORIGIN).iter().map(text).try_for_each(check_origin)
}

fn check_host(authority: &str) -> Result<(), Failure> {
    if is_loopback(authority) {
        return Ok(());
    }
    Err(foreign_host(&format!("the request is for {:?}", excerpt(authority))))
}

fn check_origin(origin: &str) -> Result<(), Failure> {
    let authority = origin.strip_prefix("http://").or_else(|| origin.strip_prefix("https://"));
    if authority.is_some_and(is_loopback) {
        return Ok(());
    }
    let detail = format!("the request comes from the web page {:?}", excerpt(origin));
    Err(Failure::new(Code::ForeignOrigin, detail, "only pages of this machine may use the API from a browser"))
}

/// Whether `authority`, a host with or without a port, is this machine by a name that nobody else can claim.
fn is_loopback(authority: &str) -> bool {
    let (host, port) = match authority.strip_prefix('[') {
        Some(rest) => {
            let Some((host, port)) = rest.split_once(']') else {
                return false;
            };
            (host.parse().is_ok_and(|ip: Ipv6Addr| ip.is_loopback()), port)
        }
        None => {
            let (host, port) = authority.split_at(authority.find(':').unwrap_or(authority.len()));
            (is_loopback_name(host), port)
        }
    };
    host && is_port(port)
}

fn is_loopback_name(host: &str) -> bool {
    host.eq_ignore_ascii_case("localhost") || host.parse().is_ok_and(|ip: Ipv4Addr| ip.is_loopback())
}

fn is_port(text: &str) -> bool {
    text.is_empty() || text.strip_prefix(':').is_some_and(|port| port.parse::<u16>().is_ok())
}

/// Bytes that are no text make no host.
fn text(value: &HeaderValue) -> &str {
    value.to_str().unwrap_or("unreadable")
}

fn foreign_host(detail: &str) -> Failure {
    Failure::new(
        Code::ForeignHost,
        detail,
        "reach the node as localhost, 127.0.0.1 or [::1]; from elsewhere by `ssh -L`",
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn loopback_has_a_few_names_and_any_port() {
        for host in ["localhost", "LocalHost:80", "127.0.0.1:8080", "127.8.9.1", "[::1]", "[::1]:65535"] {
            assert!(is_loopback(host), "{host}");
        }
    }

    #[test]
    fn a_name_that_somebody_else_can_claim_is_not_loopback() {
        for host in [
            "",
            "evil.example",
            "localhost.evil.example",
            "evil.localhost",
            "127.0.0.1.nip.io",
            "127.0.0.1@evil.example",
            "evil.example:8080@127.0.0.1",
            "0.0.0.0",
            "10.0.0.1",
            "[::]",
            "[::ffff:127.0.0.1]",
            "[::1",
            "::1",
            "[::1]x",
            "localhost:",
            "localhost:80:80",
            "localhost:99999",
            "2130706433",
            "0177.0.0.1",
            "localhost ",
        ] {
            assert!(!is_loopback(host), "{host:?} passed");
        }
    }
}
