//! Which files the report is about. The only file of this module that touches the disk.
//!
//! A listing is the same for the same folder: sorted by the bytes of the path. Symbolic links are not followed,
//! nothing outside the root is read, and whatever is passed over is named with its reason. Passed over whole are
//! hidden folders (`.git` and `.pelago` among them) and folders that hold what was built or fetched: `target`,
//! `node_modules`. The root itself may be any of these.

use std::fs::{self, File, Metadata};
use std::io::{self, Read as _};
use std::path::{Component, Path, PathBuf};

use serde::{Deserialize, Serialize};

use super::reading::Reading;

/// Most bytes of a text file; a larger one is skipped.
pub(crate) const FILE_BYTES_MAX: u64 = 8 * 1024 * 1024;
/// How much of a file's beginning must be free of NUL for it to be text.
pub(crate) const HEAD_BYTES: usize = 8 * 1024;
/// Most bytes of a path below the root. Paths stand twice in a section's state, so they count.
pub(crate) const PATH_BYTES_MAX: usize = 512;
/// Most text files of one report. The vocabulary of that many fits in memory many times over.
pub(crate) const FILES_MAX: usize = 8_192;
/// Most entries of folders that are looked at, so that `/` ends in an answer.
pub(crate) const ENTRIES_MAX: usize = 100_000;

const FOLDERS_PASSED_OVER: &[&str] = &["target", "node_modules"];

/// Why no listing could be made.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Error {
    /// No path was given and there is no clone to fall back on.
    #[error(
        "no PATH given and {} is not inside a clone of Pelago; name a folder or a file, as in `pelago demo docs`",
        here.display()
    )]
    PathNeeded { here: PathBuf },
    /// The path does not exist or may not be read.
    #[error("{} cannot be read", path.display())]
    Unreadable {
        path: PathBuf,
        #[source]
        cause: io::Error,
    },
    /// The path is a device, a socket or a pipe.
    #[error("{} is neither a folder nor a file", path.display())]
    NeitherFolderNorFile { path: PathBuf },
    /// The folder is larger than one report.
    #[error("{} holds more than {max} {what}; name a smaller folder", root.display())]
    TooLarge { root: PathBuf, max: usize, what: &'static str },
}

/// Why a file has no reading.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, thiserror::Error)]
pub(crate) enum Reason {
    #[error("binary: a NUL byte in the first {HEAD_BYTES} bytes")]
    Binary,
    #[error("larger than {FILE_BYTES_MAX} bytes")]
    TooLarge,
    #[error("symbolic link, not followed")]
    SymbolicLink,
    #[error("no regular file")]
    NotRegular,
    #[error("its name is not UTF-8")]
    NameNotUtf8,
    #[error("its path is longer than {PATH_BYTES_MAX} bytes")]
    PathTooLong,
    #[error("outside the folder of the report")]
    Outside,
    #[error("unreadable: {cause}")]
    Unreadable { cause: String },
}

/// A file that has no reading.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub(crate) struct Skipped {
    pub(crate) path: String,
    pub(crate) reason: Reason,
}

/// What a reader task makes of one file.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub(crate) enum Outcome {
    Read(Reading),
    Skipped(Skipped),
}

/// The files of a report.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Listing {
    /// What the report is of, for its title: the path as given, or the name of the clone's folder.
    pub(crate) title: String,
    /// The folder that paths are below, absolute.
    pub(crate) root: PathBuf,
    /// Text files, by the bytes of their paths.
    pub(crate) files: Vec<String>,
    /// Other files, by the bytes of their paths.
    pub(crate) skipped: Vec<Skipped>,
    /// Folders that were not entered, with a `/` at the end.
    pub(crate) folders_passed_over: Vec<String>,
}

/// Lists the files under `path`, which may be one file; without it, those of the clone that `here` is in.
pub(crate) fn list(path: Option<&Path>, here: &Path) -> Result<Listing, Error> {
    let Some(path) = path else {
        let clone = clone_around(here).ok_or_else(|| Error::PathNeeded { here: here.to_owned() })?;
        let name = clone.file_name().unwrap_or(clone.as_os_str());
        return Walk::new(name.to_string_lossy().into_owned(), absolute(clone)?).folder();
    };
    let title = path.to_string_lossy().into_owned();
    let found = absolute(&here.join(path))?;
    let metadata = fs::metadata(&found).map_err(|cause| Error::Unreadable { path: path.to_owned(), cause })?;
    if metadata.is_dir() {
        return Walk::new(title, found).folder();
    }
    match (found.parent(), found.file_name()) {
        (Some(root), Some(name)) if metadata.is_file() => {
            let mut walk = Walk::new(title, root.to_owned());
            walk.file(&name.to_string_lossy(), name.to_str().is_some(), &metadata)?;
            Ok(walk.listing)
        }
        _ => Err(Error::NeitherFolderNorFile { path: path.to_owned() }),
    }
}

/// Reads the file at `path` below `root` and says what it holds. Any failure is an outcome: the report names it.
pub(crate) fn study(root: &Path, path: &str) -> Outcome {
    match read(root, path) {
        Ok(bytes) => Outcome::Read(Reading::of(path, &bytes)),
        Err(reason) => Outcome::Skipped(Skipped { path: path.to_owned(), reason }),
    }
}

impl Outcome {
    pub(crate) fn path(&self) -> &str {
        match self {
            Self::Read(reading) => &reading.path,
            Self::Skipped(skipped) => &skipped.path,
        }
    }
}

/// Finds the clone of Pelago that `here` is in: the nearest folder above with its workspace and this crate.
fn clone_around(here: &Path) -> Option<&Path> {
    here.ancestors().find(|folder| {
        folder.join("crates/pelago-cli").is_dir()
            && fs::read_to_string(folder.join("Cargo.toml"))
                .is_ok_and(|manifest| manifest.lines().any(|line| line.trim() == "[workspace]"))
    })
}

fn absolute(path: &Path) -> Result<PathBuf, Error> {
    path.canonicalize().map_err(|cause| Error::Unreadable { path: path.to_owned(), cause })
}

/// One walk over a root.
struct Walk {
    listing: Listing,
    /// Folders still to enter, relative, with a `/` at the end.
    folders: Vec<String>,
    entries: usize,
}

impl Walk {
    fn new(title: String, root: PathBuf) -> Self {
        let listing = Listing { title, root, files: Vec::new(), skipped: Vec::new(), folders_passed_over: Vec::new() };
        Self { listing, folders: Vec::new(), entries: 0 }
    }

    fn folder(mut self) -> Result<Listing, Error> {
        let root = fs::read_dir(&self.listing.root);
        let root = root.map_err(|cause| Error::Unreadable { path: self.listing.root.clone(), cause })?;
        self.enter("", root)?;
        while let Some(folder) = self.folders.pop() {
            match fs::read_dir(self.listing.root.join(&folder)) {
                Ok(entries) => self.enter(&folder, entries)?,
                Err(cause) => self.skip(&folder, unreadable(&cause)),
            }
        }
        let mut listing = self.listing;
        listing.files.sort_unstable();
        listing.skipped.sort_unstable();
        listing.folders_passed_over.sort_unstable();
        Ok(listing)
    }

    fn enter(&mut self, folder: &str, entries: fs::ReadDir) -> Result<(), Error> {
        for entry in entries {
            self.entries += 1;
            self.check(self.entries, ENTRIES_MAX, "entries of folders")?;
            match entry.and_then(|entry| Ok((entry.file_name(), entry.metadata()?))) {
                Ok((name, metadata)) => {
                    let path = format!("{folder}{}", name.to_string_lossy());
                    self.entry(path, &name.to_string_lossy(), name.to_str().is_some(), &metadata)?;
                }
                Err(cause) => self.skip(folder, unreadable(&cause)),
            }
        }
        Ok(())
    }

    /// Takes one entry of a folder. `metadata` is of the entry itself, so a symbolic link is neither file nor folder.
    fn entry(&mut self, path: String, name: &str, name_is_utf8: bool, metadata: &Metadata) -> Result<(), Error> {
        if !metadata.is_dir() {
            return self.file(&path, name_is_utf8, metadata);
        }
        let folder = format!("{path}/");
        if name.starts_with('.') || FOLDERS_PASSED_OVER.contains(&name) {
            self.listing.folders_passed_over.push(folder);
        } else if name_is_utf8 {
            self.folders.push(folder);
        } else {
            self.skip(&folder, Reason::NameNotUtf8);
        }
        Ok(())
    }

    fn file(&mut self, path: &str, name_is_utf8: bool, metadata: &Metadata) -> Result<(), Error> {
        let checked = if name_is_utf8 { self.text(path, metadata) } else { Err(Reason::NameNotUtf8) };
        match checked {
            Ok(()) => self.listing.files.push(path.to_owned()),
            Err(reason) => self.skip(path, reason),
        }
        self.check(self.listing.files.len(), FILES_MAX, "text files")
    }

    /// Tells whether a file is text by its kind, its size and its first bytes.
    fn text(&self, path: &str, metadata: &Metadata) -> Result<(), Reason> {
        if path.len() > PATH_BYTES_MAX {
            return Err(Reason::PathTooLong);
        }
        check_kind(metadata)?;
        let file = File::open(self.listing.root.join(path)).map_err(|cause| unreadable(&cause))?;
        check_head(&read_at_most(file, HEAD_BYTES as u64)?)
    }

    fn skip(&mut self, path: &str, reason: Reason) {
        self.listing.skipped.push(Skipped { path: path.to_owned(), reason });
    }

    fn check(&self, count: usize, max: usize, what: &'static str) -> Result<(), Error> {
        if count > max {
            return Err(Error::TooLarge { root: self.listing.root.clone(), max, what });
        }
        Ok(())
    }
}

/// Reads a text file whole. `path` comes with a task, so it is not trusted to stay below `root`.
fn read(root: &Path, path: &str) -> Result<Vec<u8>, Reason> {
    if !Path::new(path).components().all(|part| matches!(part, Component::Normal(_))) {
        return Err(Reason::Outside);
    }
    let full = root.join(path);
    check_kind(&fs::symlink_metadata(&full).map_err(|cause| unreadable(&cause))?)?;
    let real = full.canonicalize().map_err(|cause| unreadable(&cause))?;
    if !real.starts_with(root.canonicalize().map_err(|cause| unreadable(&cause))?) {
        return Err(Reason::Outside);
    }
    let file = File::open(real).map_err(|cause| unreadable(&cause))?;
    // One byte more than allowed tells a file that grew since its size was seen.
    let bytes = read_at_most(file, FILE_BYTES_MAX + 1)?;
    if bytes.len() as u64 > FILE_BYTES_MAX {
        return Err(Reason::TooLarge);
    }
    check_head(&bytes)?;
    Ok(bytes)
}

/// Refuses what must not be opened: a pipe would wait for ever.
fn check_kind(metadata: &Metadata) -> Result<(), Reason> {
    if metadata.is_symlink() {
        Err(Reason::SymbolicLink)
    } else if !metadata.is_file() {
        Err(Reason::NotRegular)
    } else if metadata.len() > FILE_BYTES_MAX {
        Err(Reason::TooLarge)
    } else {
        Ok(())
    }
}

fn check_head(bytes: &[u8]) -> Result<(), Reason> {
    if bytes.iter().take(HEAD_BYTES).any(|byte| *byte == 0) {
        return Err(Reason::Binary);
    }
    Ok(())
}

fn read_at_most(file: File, bytes_max: u64) -> Result<Vec<u8>, Reason> {
    let mut bytes = Vec::new();
    file.take(bytes_max).read_to_end(&mut bytes).map_err(|cause| unreadable(&cause))?;
    Ok(bytes)
}

/// The kind of the failure only: the whole text differs between systems, and reports are compared.
fn unreadable(cause: &io::Error) -> Reason {
    Reason::Unreadable { cause: cause.kind().to_string() }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn folder(files: &[(&str, &[u8])]) -> tempfile::TempDir {
        let folder = tempfile::tempdir().expect("a temporary folder");
        for (path, bytes) in files {
            let path = folder.path().join(path);
            fs::create_dir_all(path.parent().expect("a file is in a folder")).expect("a folder");
            fs::write(path, bytes).expect("a file");
        }
        folder
    }

    fn list_all(folder: &tempfile::TempDir) -> Listing {
        list(Some(folder.path()), Path::new("/")).expect("a folder can be listed")
    }

    #[test]
    fn files_are_listed_by_the_bytes_of_their_paths() {
        let folder = folder(&[("b/x", b""), ("b-c", b""), ("a", b""), ("Z", b""), ("ü", b""), (".hidden", b"")]);
        assert_eq!(list_all(&folder).files, [".hidden", "Z", "a", "b-c", "b/x", "ü"]);
    }

    #[test]
    fn a_nul_in_the_head_is_binary_and_a_later_one_is_not() {
        let mut late = vec![b'a'; HEAD_BYTES];
        late.push(0);
        let mut early = vec![b'a'; HEAD_BYTES - 1];
        early.push(0);
        let folder = folder(&[("early", &early), ("late", &late), ("latin", b"caf\xe9")]);
        let listing = list_all(&folder);
        assert_eq!(listing.files, ["late", "latin"]);
        assert_eq!(listing.skipped, [Skipped { path: "early".to_owned(), reason: Reason::Binary }]);
        assert!(matches!(study(&listing.root, "late"), Outcome::Read(_)));
        assert!(matches!(study(&listing.root, "early"), Outcome::Skipped(Skipped { reason: Reason::Binary, .. })));
    }

    #[test]
    fn hidden_and_built_folders_are_passed_over_and_named() {
        let folder = folder(&[
            (".git/a", b""),
            ("x/target/a", b""),
            ("x/node_modules/a", b""),
            ("x/.pelago/a", b""),
            ("x/a", b""),
        ]);
        let listing = list_all(&folder);
        assert_eq!(listing.files, ["x/a"]);
        assert_eq!(listing.folders_passed_over, [".git/", "x/.pelago/", "x/node_modules/", "x/target/"]);
    }

    #[test]
    fn a_file_above_the_bound_is_skipped_and_one_at_the_bound_is_not() {
        let folder = folder(&[("at", b""), ("above", b"")]);
        for (name, bytes) in [("at", FILE_BYTES_MAX), ("above", FILE_BYTES_MAX + 1)] {
            fs::write(folder.path().join(name), vec![b'\n'; bytes as usize]).expect("a file");
        }
        let listing = list_all(&folder);
        assert_eq!(listing.files, ["at"]);
        assert_eq!(listing.skipped, [Skipped { path: "above".to_owned(), reason: Reason::TooLarge }]);
    }

    #[cfg(unix)]
    #[test]
    fn symbolic_links_are_not_followed_and_nothing_outside_is_read() {
        let outside = folder(&[("secret", b"wolf")]);
        let inside = folder(&[("a", b"")]);
        std::os::unix::fs::symlink(outside.path(), inside.path().join("folder")).expect("a link");
        std::os::unix::fs::symlink(outside.path().join("secret"), inside.path().join("file")).expect("a link");
        let listing = list_all(&inside);
        assert_eq!(listing.files, ["a"]);
        let reasons: Vec<_> = listing.skipped.iter().map(|skipped| (skipped.path.as_str(), &skipped.reason)).collect();
        assert_eq!(reasons, [("file", &Reason::SymbolicLink), ("folder", &Reason::SymbolicLink)]);
        for (path, reason) in [
            ("file", Reason::SymbolicLink),
            ("folder/secret", Reason::Outside),
            ("../secret", Reason::Outside),
            ("/etc/hostname", Reason::Outside),
        ] {
            let expected = Outcome::Skipped(Skipped { path: path.to_owned(), reason });
            assert_eq!(study(&listing.root, path), expected);
        }
    }

    #[cfg(unix)]
    #[test]
    fn what_is_no_file_and_what_has_no_utf8_name_is_skipped() {
        use std::os::unix::ffi::OsStrExt as _;
        let folder = folder(&[("a", b"")]);
        fs::write(folder.path().join(std::ffi::OsStr::from_bytes(b"b\xff")), "").expect("a file");
        let _socket = std::os::unix::net::UnixListener::bind(folder.path().join("socket")).expect("a socket");
        let listing = list_all(&folder);
        let reasons: Vec<_> = listing.skipped.iter().map(|skipped| (skipped.path.as_str(), &skipped.reason)).collect();
        assert_eq!(reasons, [("b\u{fffd}", &Reason::NameNotUtf8), ("socket", &Reason::NotRegular)]);
    }

    #[test]
    fn the_path_may_be_one_file() {
        let folder = folder(&[("x/a.md", b"# A\n"), ("x/b.md", b"")]);
        let listing = list(Some(Path::new("x/a.md")), folder.path()).expect("a file can be listed");
        assert_eq!((listing.title.as_str(), listing.files.as_slice()), ("x/a.md", ["a.md".to_owned()].as_slice()));
        assert!(matches!(study(&listing.root, "a.md"), Outcome::Read(_)));
    }

    #[test]
    fn without_a_path_the_clone_around_is_listed_and_outside_of_one_the_error_says_so() {
        let clone =
            folder(&[("Cargo.toml", b"[workspace]\n"), ("crates/pelago-cli/src/main.rs", b""), ("docs/a.md", b"")]);
        let listing = list(None, &clone.path().join("docs")).expect("the clone is found");
        assert_eq!(listing.files, ["Cargo.toml", "crates/pelago-cli/src/main.rs", "docs/a.md"]);

        let elsewhere = folder(&[("Cargo.toml", b"[workspace]\n")]);
        let error = list(None, elsewhere.path()).expect_err("there is no clone");
        assert!(error.to_string().starts_with("no PATH given and "), "{error}");
        let error = list(Some(Path::new("missing")), elsewhere.path()).expect_err("there is no such file");
        assert!(error.to_string().ends_with("missing cannot be read"), "{error}");
    }

    #[test]
    fn more_files_than_one_report_holds_are_refused() {
        let folder = folder(&[("a", b"")]);
        for number in 0..FILES_MAX {
            File::create(folder.path().join(number.to_string())).expect("a file");
        }
        let error = list(Some(folder.path()), Path::new("/")).expect_err("one too many");
        assert!(error.to_string().ends_with("holds more than 8192 text files; name a smaller folder"), "{error}");
    }
}
