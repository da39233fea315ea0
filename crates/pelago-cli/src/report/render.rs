//! The report as Markdown, and a short view of it for the terminal.
//!
//! What comes from files is never markup: paths, outlines and terms stand in code spans, sentences are escaped, and no
//! control character of a name reaches the terminal.

use std::fmt::{self, Write};

use super::files::Skipped;
use super::page::{Entry, Page, Report};
use super::scores::Scored;
use super::sentences::tidy;

/// Most letters of a line of the short view.
pub(crate) const SHORT_VIEW_LETTERS_MAX: usize = 100;
const TERMS_IN_SHORT_VIEW: usize = 10;
const FILES_IN_SHORT_VIEW: usize = 8;
const SKIPPED_IN_SHORT_VIEW: usize = 3;

/// Renders the whole report as Markdown.
pub(crate) fn render(report: &Report) -> String {
    let mut text = String::new();
    // A `String` takes whatever is written to it.
    let written = write_report(&mut text, report);
    assert!(written.is_ok(), "writing to memory cannot fail");
    text
}

/// Renders what fits a terminal.
pub(crate) fn short_view(report: &Report) -> String {
    let mut lines = vec![format!("Report on {}", report.title), String::new(), totals(report)];
    if !report.summary.top_terms.is_empty() {
        lines.extend([String::new(), "Top terms".to_owned()]);
        let terms = report.summary.top_terms.iter().take(TERMS_IN_SHORT_VIEW);
        lines.extend(terms.map(|term| format!("  {:>7}  {}", term.score.to_string(), term.term)));
    }
    lines.extend(largest_files(report));
    lines.extend(skipped_in_short(report));
    lines.iter().fold(String::new(), |text, line| text + &shortened(line) + "\n")
}

fn totals(report: &Report) -> String {
    let totals = &report.summary.totals;
    format!(
        "{} in {}, {} skipped; {}, {}, {}",
        counted(totals.files, "file"),
        counted(report.summary.sections, "section"),
        grouped(report.skipped.len() as u64),
        counted(totals.size.lines, "line"),
        counted(totals.size.words, "word"),
        counted(totals.size.bytes, "byte"),
    )
}

fn largest_files(report: &Report) -> Vec<String> {
    let mut entries: Vec<&Entry> = report.pages.iter().flat_map(|page| &page.entries).collect();
    entries.sort_by(|a, b| b.size.words.cmp(&a.size.words).then_with(|| a.path.cmp(&b.path)));
    let more = entries.len().saturating_sub(FILES_IN_SHORT_VIEW);
    entries.truncate(FILES_IN_SHORT_VIEW);
    let title = format!("Largest files{}", if more > 0 { format!(", of {more} more") } else { String::new() });
    let lines = entries.into_iter().map(|entry| {
        let terms: Vec<&str> = entry.top_terms.iter().take(3).map(|term| term.term.as_str()).collect();
        format!("  {:>9} words  {}: {}", grouped(entry.size.words), printable(&entry.path), terms.join(", "))
    });
    [String::new(), title].into_iter().chain(lines).collect()
}

fn skipped_in_short(report: &Report) -> Vec<String> {
    let mut lines: Vec<String> = report
        .skipped
        .iter()
        .take(SKIPPED_IN_SHORT_VIEW)
        .map(|Skipped { path, reason }| format!("  {}: {reason}", printable(path)))
        .collect();
    if !lines.is_empty() {
        let all = if report.skipped.len() > SKIPPED_IN_SHORT_VIEW { "; the report names them all" } else { "" };
        let title = format!("Skipped, {}{all}", counted(report.skipped.len() as u64, "file"));
        lines.splice(0..0, [String::new(), title]);
    }
    lines
}

/// Cuts a line to the width of the view; spaces at its beginning stay.
fn shortened(line: &str) -> String {
    let indent = line.len() - line.trim_start().len();
    if line.chars().count() <= SHORT_VIEW_LETTERS_MAX && !line.contains(char::is_control) {
        return line.to_owned();
    }
    " ".repeat(indent) + &tidy(line, SHORT_VIEW_LETTERS_MAX - indent)
}

fn write_report(text: &mut impl Write, report: &Report) -> fmt::Result {
    writeln!(text, "# Report on {}\n", code(&report.title))?;
    writeln!(text, "{}; {} kept.\n", totals(report), counted(report.summary.terms, "different term"))?;
    write_top_terms(text, &report.summary.top_terms)?;
    write_skipped(text, report)?;
    report.pages.iter().try_for_each(|page| write_page(text, page))
}

fn write_top_terms(text: &mut impl Write, terms: &[Scored]) -> fmt::Result {
    writeln!(text, "## Top terms\n\n| | term | score | count |\n|--:|:--|--:|--:|")?;
    for (place, term) in (1..).zip(terms) {
        writeln!(text, "| {place} | {} | {} | {} |", code(&term.term), term.score, grouped(term.count))?;
    }
    writeln!(
        text,
        "\nScores are TF-IDF: how frequent a term is times log₂((files + 1) / files with it). Frequent is its share of \
         one file's terms; here, the sum over the files of the square root of its count.\n"
    )
}

fn write_skipped(text: &mut impl Write, report: &Report) -> fmt::Result {
    writeln!(text, "## Skipped\n")?;
    for Skipped { path, reason } in &report.skipped {
        writeln!(text, "- {}: {}", code(path), escaped(&reason.to_string()))?;
    }
    for folder in &report.folders_passed_over {
        writeln!(text, "- {}: folder passed over, hidden or built", code(folder))?;
    }
    if report.skipped.is_empty() && report.folders_passed_over.is_empty() {
        writeln!(text, "Nothing.")?;
    }
    writeln!(text)
}

fn write_page(text: &mut impl Write, page: &Page) -> fmt::Result {
    writeln!(text, "## Section {}\n", page.section)?;
    for path in &page.missing {
        writeln!(text, "- {}: **no result**", code(path))?;
    }
    for path in &page.repeated {
        writeln!(text, "- {}: **more than one result**", code(path))?;
    }
    if !page.missing.is_empty() || !page.repeated.is_empty() {
        writeln!(text)?;
    }
    page.entries.iter().try_for_each(|entry| write_entry(text, entry))
}

fn write_entry(text: &mut impl Write, entry: &Entry) -> fmt::Result {
    writeln!(text, "### {}\n", code(&entry.path))?;
    let size = entry.size;
    let sizes =
        [(size.bytes, "byte"), (size.lines, "line"), (size.words, "word"), (entry.terms_distinct, "different term")];
    writeln!(text, "{}\n", sizes.map(|(count, what)| counted(count, what)).join(" · "))?;
    write_terms(text, &entry.top_terms)?;
    if !entry.outline.lines.is_empty() {
        writeln!(text, "Outline\n")?;
        entry.outline.lines.iter().try_for_each(|line| writeln!(text, "- {}", code(line)))?;
        if entry.outline.more > 0 {
            writeln!(text, "- … and {} more", grouped(entry.outline.more))?;
        }
        writeln!(text)?;
    }
    entry.key_sentences.iter().try_for_each(|sentence| writeln!(text, "> {}\n", escaped(sentence)))
}

fn write_terms(text: &mut impl Write, terms: &[Scored]) -> fmt::Result {
    if terms.is_empty() {
        return Ok(());
    }
    let terms: Vec<String> = terms.iter().map(|term| format!("{} {}", code(&term.term), term.score)).collect();
    writeln!(text, "Terms: {}\n", terms.join(" · "))
}

/// Puts text into a code span: between more backticks in a row than it holds itself.
fn code(text: &str) -> String {
    let text = printable(text);
    let longest = text.split(|letter| letter != '`').map(str::len).max().unwrap_or(0);
    let fence = "`".repeat(longest + 1);
    let space = if longest > 0 || text.is_empty() { " " } else { "" };
    format!("{fence}{space}{text}{space}{fence}")
}

/// Escapes what Markdown or HTML would take for markup: some signs anywhere, others where a line begins.
fn escaped(text: &str) -> String {
    let number = text.len() - text.trim_start_matches(|digit: char| digit.is_ascii_digit()).len();
    let mut escaped = String::with_capacity(text.len());
    for (at, letter) in text.char_indices() {
        let begins_block = at == number && (if number > 0 { ".)" } else { "#>+-=" }).contains(letter);
        if begins_block || "\\`*_[]<&~|$".contains(letter) {
            escaped.push('\\');
        }
        escaped.push(letter);
    }
    escaped
}

/// Writes control characters of a name as escapes.
fn printable(text: &str) -> String {
    let mut printable = String::with_capacity(text.len());
    for letter in text.chars() {
        if letter.is_control() {
            printable.extend(letter.escape_default());
        } else {
            printable.push(letter);
        }
    }
    printable
}

fn counted(count: u64, what: &str) -> String {
    format!("{} {what}{}", grouped(count), if count == 1 { "" } else { "s" })
}

/// Writes a number with a comma before each three digits.
fn grouped(number: u64) -> String {
    let digits = number.to_string();
    let mut grouped = String::new();
    for (at, digit) in digits.char_indices() {
        if at > 0 && (digits.len() - at).is_multiple_of(3) {
            grouped.push(',');
        }
        grouped.push(digit);
    }
    grouped
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::path::Path;

    use super::super::single::tests::report_of;
    use super::*;

    /// Most lines of the short view.
    const SHORT_VIEW_LINES_MAX: usize = 30;

    fn report(files: &[(&str, &str)]) -> Report {
        let folder = tempfile::tempdir().expect("a temporary folder");
        for (name, text) in files {
            fs::create_dir_all(folder.path().join("docs")).expect("a folder");
            fs::write(folder.path().join("docs").join(name), text).expect("a file");
        }
        report_of(Some(Path::new("docs")), folder.path()).expect("a folder can be listed")
    }

    #[test]
    fn a_report_reads_like_this() {
        let report =
            report(&[("a.md", "# Wolves\nThe wolf runs over the <hill>.\n"), ("b.md", "A raven.\n"), ("c", "\0")]);
        let expected = "\
# Report on `docs`

2 files in 1 section, 1 skipped; 3 lines, 10 words, 49 bytes; 5 different terms kept.

## Top terms

| | term | score | count |
|--:|:--|--:|--:|
| 1 | `hill` | 1.585 | 1 |
| 2 | `raven` | 1.585 | 1 |
| 3 | `runs` | 1.585 | 1 |
| 4 | `wolf` | 1.585 | 1 |
| 5 | `wolves` | 1.585 | 1 |

Scores are TF-IDF: how frequent a term is times log₂((files + 1) / files with it). Frequent is its share of one \
         file's terms; here, the sum over the files of the square root of its count.

## Skipped

- `c`: binary: a NUL byte in the first 8192 bytes

## Section 1

### `a.md`

40 bytes · 2 lines · 8 words · 4 different terms

Terms: `hill` 0.396 · `runs` 0.396 · `wolf` 0.396 · `wolves` 0.396

Outline

- `# Wolves`

> The wolf runs over the \\<hill>.

> \\# Wolves

### `b.md`

9 bytes · 1 line · 2 words · 1 different term

Terms: `raven` 1.585

> A raven.

";
        assert_eq!(render(&report), expected);
    }

    #[test]
    fn the_short_view_fits_a_terminal_whatever_the_names() {
        let names: Vec<String> = (0..40).map(|number| format!("{number}{}\n\u{1b}[2J", "long".repeat(40))).collect();
        let texts: Vec<String> =
            (0..40_u8).map(|number| char::from(b'a' + number % 26).to_string().repeat(20)).collect();
        let mut files: Vec<(&str, &str)> =
            names.iter().map(String::as_str).zip(texts.iter().map(String::as_str)).collect();
        files.extend([("x", "\0"), ("y", "\0"), ("z", "\0"), ("zz", "\0")]);
        let view = short_view(&report(&files));
        assert!(view.lines().count() <= SHORT_VIEW_LINES_MAX, "{view}");
        assert!(view.lines().all(|line| line.chars().count() <= SHORT_VIEW_LETTERS_MAX), "{view}");
        assert!(!view.contains('\u{1b}'), "{view}");
        for part in [
            "Report on docs",
            "40 files in 3 sections, 4 skipped",
            "Top terms",
            ", of 32 more",
            "Skipped, 4 files; the report names them all",
        ] {
            assert!(view.contains(part), "{part} is not in {view}");
        }
    }

    #[test]
    fn what_files_say_is_never_markup() {
        assert_eq!(code("a"), "`a`");
        assert_eq!(code("a`b``c"), "``` a`b``c ```");
        assert_eq!(code("a\nb"), "`a\\nb`");
        assert_eq!(escaped("<b> *x* [y](z) | a-b #1."), "\\<b> \\*x\\* \\[y\\](z) \\| a-b #1.");
        assert_eq!(
            ["# a", "- a", "1. a", "2024 a. b", "&lt;"].map(escaped),
            ["\\# a", "\\- a", "1\\. a", "2024 a. b", "\\&lt;"]
        );
    }

    #[test]
    fn numbers_are_grouped() {
        assert_eq!([0, 999, 1_000, 12_345_678].map(grouped), ["0", "999", "1,000", "12,345,678"]);
        assert_eq!((counted(1, "file"), counted(2, "file")), ("1 file".to_owned(), "2 files".to_owned()));
    }
}
