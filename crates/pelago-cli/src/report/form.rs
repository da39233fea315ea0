//! What kind of text a file holds, told from its name alone: where its prose stands and what its outline is made of.

use super::words::KEYWORDS;

/// The form of a text.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Form {
    /// Prose with `#` headings.
    Markdown,
    /// Prose without a structure that could be told.
    Prose,
    /// Source or settings: prose stands in the comments, which begin with one of these marks.
    Source(&'static [&'static str]),
    /// Data, a record a line.
    Rows,
}

const SLASHES: &[&str] = &["//", "/*", "* "];
const HASHES: &[&str] = &["#"];
const DASHES: &[&str] = &["--"];

impl Form {
    /// Returns the words that say nothing in this form, beyond those that never do.
    pub(crate) fn words_left_out(self) -> &'static str {
        match self {
            Self::Source(_) => KEYWORDS,
            Self::Markdown | Self::Prose | Self::Rows => "",
        }
    }

    /// Tells the form from the last part of `path`.
    pub(crate) fn of(path: &str) -> Self {
        let name = path.rsplit('/').next().unwrap_or(path).to_ascii_lowercase();
        match name.as_str() {
            "makefile" | "dockerfile" | "justfile" | "rakefile" | "gemfile" => return Self::Source(HASHES),
            _ => {}
        }
        match name.rsplit_once('.').map(|(_, extension)| extension) {
            Some("md" | "markdown" | "mdx") => Self::Markdown,
            Some("csv" | "tsv" | "json" | "jsonl" | "ndjson" | "lock" | "log" | "xml" | "html" | "svg") => Self::Rows,
            Some(extension) => Self::of_source(extension),
            None => Self::Prose,
        }
    }

    fn of_source(extension: &str) -> Self {
        match extension {
            "rs" | "c" | "h" | "cc" | "cpp" | "hpp" | "java" | "js" | "jsx" | "mjs" | "ts" | "tsx" | "go" | "swift"
            | "kt" | "scala" | "proto" | "cs" | "php" | "dart" | "zig" | "css" | "scss" | "groovy" => {
                Self::Source(SLASHES)
            }
            "py" | "rb" | "sh" | "bash" | "zsh" | "pl" | "r" | "toml" | "yaml" | "yml" | "mk" | "nix" | "cfg"
            | "conf" | "ini" | "ex" | "exs" | "jl" | "tf" | "cmake" => Self::Source(HASHES),
            "sql" | "lua" | "hs" | "elm" | "adb" | "ads" => Self::Source(DASHES),
            _ => Self::Prose,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_name_tells_the_form() {
        let forms =
            ["docs/README.MD", "src/lib.rs", "a/Makefile", "q.sql", "Cargo.lock", "LICENSE", "notes.txt"].map(Form::of);
        let expected = [
            Form::Markdown,
            Form::Source(SLASHES),
            Form::Source(HASHES),
            Form::Source(DASHES),
            Form::Rows,
            Form::Prose,
            Form::Prose,
        ];
        assert_eq!(forms, expected);
    }
}
