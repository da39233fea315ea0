//! One word for one thing: identifiers of our code use the words of ARCHITECTURE.md and none of their synonyms.

use super::Finding;
use crate::repository::Repository;
use crate::rust_text::identifiers;

/// The synonyms, and the words to use.
const BANNED: &[(&str, &str)] = &[
    ("server", "node"),
    ("peer", "node"),
    ("instance", "node or activation"),
    ("actor", "agent"),
    ("neuron", "agent"),
    ("cluster", "mesh"),
    ("job", "task"),
    ("migration", "move"),
];

/// Where a banned word is right after all.
struct Allowed {
    /// The words of the identifier, or of a part of it.
    phrase: &'static str,
    /// A part of the paths of the files where it may stand.
    place: &'static str,
}

const ALLOWED: &[Allowed] = &[
    // An HTTP server is what everybody calls it.
    Allowed { phrase: "http server", place: "" },
    // The method of sockets that returns the address of the other side.
    Allowed { phrase: "peer addr", place: "" },
    // Keys of configuration files, as written: `[mesh] peers = […]`, `[[mesh.peers]]`, `[server]`.
    Allowed { phrase: "peers", place: "config" },
    Allowed { phrase: "server", place: "config" },
    Allowed { phrase: "peers", place: "crates/pelago/src/serve.rs" },
    Allowed { phrase: "server", place: "crates/pelago/src/serve.rs" },
    // The folder `bench/peers`, and the flag that asks for what is in it.
    Allowed { phrase: "peers", place: "xtask/src/bench.rs" },
    // A module of hyper.
    Allowed { phrase: "server", place: "crates/pelago-api/src/http/listener.rs" },
    // How foca says goodbye.
    Allowed { phrase: "leave cluster", place: "crates/pelago-core/src/membership.rs" },
    // A setting of openraft.
    Allowed { phrase: "cluster name", place: "crates/pelago-node/src/raft/" },
    // What openraft says of the node itself.
    Allowed { phrase: "server metrics", place: "crates/pelago-node/src/raft/" },
    // A field of `/health`, as written.
    Allowed { phrase: "connected peers", place: "crates/pelago-api/" },
];

pub(super) fn check(repository: &Repository) -> Vec<Finding> {
    let ours = |path: &str| ["crates/", "xtask/", "proto/", "examples/"].iter().any(|place| path.starts_with(place));
    let files = repository.files.iter().filter(|file| ours(&file.path));
    files.flat_map(|file| check_code(&file.path, &file.rust.code)).collect()
}

fn check_code(path: &str, code: &str) -> Vec<Finding> {
    let mut findings = Vec::new();
    for (line, identifier) in identifiers(code) {
        if let Some((banned, word)) = synonym_in(path, identifier) {
            findings.push(Finding::new(path, line, format!("`{identifier}`: say {word}, not {banned}")));
        }
    }
    findings
}

fn synonym_in(path: &str, identifier: &str) -> Option<(&'static str, &'static str)> {
    let mut words = words_of(identifier);
    for allowed in ALLOWED.iter().filter(|allowed| path.contains(allowed.place)) {
        words = words.replace(allowed.phrase, "");
    }
    let is_in = |banned: &str| words.split(' ').any(|word| word == banned || word.strip_suffix('s') == Some(banned));
    BANNED.iter().copied().find(|(banned, _)| is_in(banned))
}

/// `HttpServer2` and `http_server_2` are both `http server 2`.
fn words_of(identifier: &str) -> String {
    let characters: Vec<char> = identifier.chars().collect();
    let mut words = String::new();
    for (at, &character) in characters.iter().enumerate() {
        let after_lower = at > 0 && !characters[at - 1].is_uppercase();
        let before_lower = characters.get(at + 1).is_some_and(|next| next.is_lowercase());
        if character.is_uppercase() && (after_lower || before_lower) {
            words.push(' ');
        }
        words.extend(if character == '_' { ' ' } else { character }.to_lowercase());
    }
    words.split_whitespace().collect::<Vec<_>>().join(" ")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn synonym(path: &str, identifier: &str) -> Option<&'static str> {
        synonym_in(path, identifier).map(|(banned, _)| banned)
    }

    #[test]
    fn synonyms_are_found_in_every_spelling() {
        for (identifier, banned) in
            [("peer", "peer"), ("PeerId", "peer"), ("MAX_PEERS", "peer"), ("run_job", "job"), ("TCPServer", "server")]
        {
            assert_eq!(synonym("crates/pelago-node/src/lib.rs", identifier), Some(banned), "{identifier}");
        }
    }

    #[test]
    fn words_that_only_contain_a_synonym_are_fine() {
        for identifier in ["observer", "Instant", "factor", "serve", "HttpServer", "http_server", "peer_addr"] {
            assert_eq!(synonym("crates/pelago-node/src/lib.rs", identifier), None, "{identifier}");
        }
    }

    #[test]
    fn configuration_keys_are_allowed_in_configuration_only() {
        assert_eq!(synonym("crates/pelago/src/config.rs", "peers"), None);
        assert_eq!(synonym("crates/pelago/src/logging.rs", "peers"), Some("peer"));
    }

    #[test]
    fn prose_is_free() {
        let files = [("crates/pelago-core/src/lib.rs", "/// Like a cluster.\nfn a() { b(\"job\"); }\nstruct Job;")];
        let findings = check(&Repository::of(&files));
        assert_eq!(findings.len(), 1, "{findings:?}");
        assert_eq!(findings[0].line, 3);
    }
}
