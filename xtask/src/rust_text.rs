//! Tells the code of a Rust or protobuf file from its comments and its literals.
//!
//! Is not a parser: the checks look for identifiers and a few short patterns, and for those it is enough to know that a
//! place is code. Each part keeps the lines of the whole, so that a line number means the same everywhere.

/// The two readings of one file.
#[derive(Debug, Default)]
pub(crate) struct RustText {
    /// What the compiler reads. A literal is a lone `"` followed by blanks.
    pub(crate) code: String,
    /// What people read: comments and doc comments.
    pub(crate) comments: String,
}

enum Part {
    Code,
    Comment,
    Literal,
}

impl RustText {
    pub(crate) fn of(source: &str) -> Self {
        let mut text = Self::default();
        let mut rest = source;
        while !rest.is_empty() {
            let (part, length) = next_part(rest);
            let (this, after) = rest.split_at(length);
            text.push(&part, this);
            rest = after;
        }
        text
    }

    fn push(&mut self, part: &Part, this: &str) {
        match part {
            Part::Code => {
                self.code.push_str(this);
                self.comments.push_str(&blank(this));
            }
            Part::Comment => {
                self.code.push_str(&blank(this));
                self.comments.push_str(this);
            }
            Part::Literal => {
                self.code.push('"');
                self.code.push_str(&blank(this)[1..]);
                self.comments.push_str(&blank(this));
            }
        }
    }
}

/// Every identifier of a code text with its line, keywords included.
pub(crate) fn identifiers(code: &str) -> impl Iterator<Item = (usize, &str)> {
    code.lines().zip(1..).flat_map(|(line, number)| {
        line.split(|c: char| !is_word(c))
            .filter(|word| word.starts_with(|c: char| c.is_alphabetic() || c == '_'))
            .map(move |word| (number, word))
    })
}

/// The places where `word` stands as a whole identifier: byte offsets.
pub(crate) fn places_of<'a>(code: &'a str, word: &'a str) -> impl Iterator<Item = usize> + 'a {
    code.match_indices(word).map(|(at, _)| at).filter(move |&at| {
        let before = code[..at].chars().next_back();
        let after = code[at + word.len()..].chars().next();
        !before.is_some_and(is_word) && !after.is_some_and(is_word)
    })
}

pub(crate) fn line_of(text: &str, offset: usize) -> usize {
    text[..offset].matches('\n').count() + 1
}

/// The code without its `#[cfg(test)]` items, whose lines become blank.
pub(crate) fn without_tests(code: &str) -> String {
    let mut kept = String::with_capacity(code.len());
    let mut rest = code;
    while let Some(at) = rest.find("#[cfg(test)]") {
        let (before, item) = rest.split_at(at);
        let (item, after) = item.split_at(item_length(item));
        kept.push_str(before);
        kept.push_str(&blank(item));
        rest = after;
    }
    kept.push_str(rest);
    kept
}

/// The length of the item at the start of `code`: to its closing brace, or to its semicolon.
pub(crate) fn item_length(code: &str) -> usize {
    let mut depth = 0usize;
    for (at, character) in code.char_indices() {
        match character {
            '(' | '[' | '{' => depth += 1,
            ')' | ']' => depth = depth.saturating_sub(1),
            '}' if depth <= 1 => return at + 1,
            '}' => depth -= 1,
            ';' if depth == 0 => return at + 1,
            _ => {}
        }
    }
    code.len()
}

fn next_part(rest: &str) -> (Part, usize) {
    if rest.starts_with("//") {
        return (Part::Comment, rest.find('\n').unwrap_or(rest.len()));
    }
    if rest.starts_with("/*") {
        return (Part::Comment, block_comment_length(rest));
    }
    if rest.starts_with('"') {
        return (Part::Literal, quoted_length(rest, '"'));
    }
    if rest.starts_with('\'') {
        return quote_or_lifetime(rest);
    }
    let word = rest.find(|c: char| !is_word(c)).unwrap_or(rest.len());
    if word == 0 {
        return (Part::Code, rest.chars().next().map_or(0, char::len_utf8));
    }
    match raw_string_length(&rest[..word], &rest[word..]) {
        Some(raw) => (Part::Literal, word + raw),
        None => (Part::Code, word),
    }
}

fn block_comment_length(rest: &str) -> usize {
    let mut depth = 0usize;
    let mut at = 0;
    while at < rest.len() {
        let here = &rest[at..];
        if here.starts_with("/*") {
            depth += 1;
            at += 2;
        } else if here.starts_with("*/") {
            depth -= 1;
            at += 2;
            if depth == 0 {
                return at;
            }
        } else {
            at += here.chars().next().map_or(1, char::len_utf8);
        }
    }
    rest.len()
}

/// The length of a literal between `quote`s, with backslash escapes.
fn quoted_length(rest: &str, quote: char) -> usize {
    let mut escaped = false;
    for (at, character) in rest.char_indices().skip(1) {
        if escaped {
            escaped = false;
        } else if character == '\\' {
            escaped = true;
        } else if character == quote {
            return at + 1;
        }
    }
    rest.len()
}

/// `'x'` and `'\n'` are literals, `'a` is a lifetime.
fn quote_or_lifetime(rest: &str) -> (Part, usize) {
    let mut after = rest.chars().skip(1);
    let literal = match (after.next(), after.next()) {
        (Some('\\'), _) | (Some(_), Some('\'')) => true,
        (_, _) => false,
    };
    if literal { (Part::Literal, quoted_length(rest, '\'')) } else { (Part::Code, 1) }
}

/// The length of `#"…"#` after a prefix `r`, `br` or `cr`; None if this is not a raw string.
fn raw_string_length(prefix: &str, rest: &str) -> Option<usize> {
    if !matches!(prefix, "r" | "br" | "cr") {
        return None;
    }
    let hashes = rest.len() - rest.trim_start_matches('#').len();
    let body = rest[hashes..].strip_prefix('"')?;
    let end = format!("\"{}", "#".repeat(hashes));
    Some(body.find(&end).map_or(rest.len(), |at| hashes + 1 + at + end.len()))
}

fn is_word(character: char) -> bool {
    character.is_alphanumeric() || character == '_'
}

/// As many blanks as there are bytes, with the line ends in place, so that offsets stay true as well.
fn blank(text: &str) -> String {
    text.bytes().map(|byte| if byte == b'\n' { '\n' } else { ' ' }).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn words(code: &str) -> Vec<&str> {
        identifiers(code).map(|(_, word)| word).collect()
    }

    #[test]
    fn strings_and_comments_hold_no_identifiers() {
        let source = r####"
            let a = "b \" c"; // d
            /* e /* f */ g */ let h = r#"i " j"#;
            let k = b"l"; let m = '"'; let n = '\''; fn o<'p>() {}
        "####;
        let text = RustText::of(source);
        assert_eq!(
            words(&text.code),
            ["let", "a", "let", "h", "let", "k", "b", "let", "m", "let", "n", "fn", "o", "p"]
        );
        assert_eq!(words(&text.comments), ["d", "e", "f", "g"]);
    }

    #[test]
    fn lines_and_offsets_stay_in_place() {
        let source = "/* é\n */ \"ü\n\" x\ny";
        let text = RustText::of(source);
        assert_eq!(text.code.len(), source.len());
        assert_eq!(identifiers(&text.code).collect::<Vec<_>>(), [(3, "x"), (4, "y")]);
    }

    #[test]
    fn items_for_tests_are_left_out_and_the_rest_stays() {
        let code = "fn a() {}\n#[cfg(test)]\nmod tests { fn b() { [0; 3]; } }\n#[cfg(test)]\nuse c;\nfn d() {}";
        let production = without_tests(code);
        assert_eq!(words(&production), ["fn", "a", "fn", "d"]);
        assert_eq!(line_of(&production, production.find('d').expect("d stays")), 6);
    }
}
