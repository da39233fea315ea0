//! The checkout as the checks see it: its text files, and what Cargo knows of its packages.

use std::fs;
use std::path::Path;

use crate::Error;
use crate::cargo::{Cargo, Metadata};
use crate::rust_text::{RustText, without_tests};

/// Directories that hold nothing of ours.
const NOT_OURS: &[&str] = &[".git", ".pelago", "node_modules", "target"];

#[derive(Default)]
pub(crate) struct Repository {
    /// Sorted by path.
    pub(crate) files: Vec<File>,
    pub(crate) metadata: Metadata,
    /// The root as Cargo writes it in front of every path.
    pub(crate) root: std::path::PathBuf,
}

pub(crate) struct File {
    /// From the root, with `/` between the parts.
    pub(crate) path: String,
    pub(crate) text: String,
    /// The code and comments of a Rust or protobuf file; empty for any other.
    pub(crate) rust: RustText,
    /// The code without what only tests compile; empty for a file of tests, an example or a benchmark.
    pub(crate) production: String,
}

impl Repository {
    pub(crate) fn read(cargo: &Cargo) -> Result<Self, Error> {
        let mut repository = Self { metadata: cargo.metadata()?, root: cargo.root().to_path_buf(), ..Self::default() };
        repository.read_directory(cargo.root())?;
        repository.files.sort_by(|a, b| a.path.cmp(&b.path));
        Ok(repository)
    }

    pub(crate) fn file(&self, path: &str) -> Option<&File> {
        self.files.iter().find(|file| file.path == path)
    }

    pub(crate) fn rust_files_under<'a>(&'a self, directory: &'a str) -> impl Iterator<Item = &'a File> {
        self.files.iter().filter(move |file| file.path.starts_with(directory) && file.path.ends_with(".rs"))
    }

    /// A path of Cargo's as our files write it.
    pub(crate) fn relative(&self, path: &Path) -> String {
        path.strip_prefix(&self.root).unwrap_or(path).to_string_lossy().replace('\\', "/")
    }

    fn read_directory(&mut self, directory: &Path) -> Result<(), Error> {
        for entry in fs::read_dir(directory).map_err(|cause| cannot_read(directory, cause))? {
            let entry = entry.map_err(|cause| cannot_read(directory, cause))?;
            let path = entry.path();
            let kind = entry.file_type().map_err(|cause| cannot_read(&path, cause))?;
            if kind.is_dir() && !self.is_not_ours(&path) {
                self.read_directory(&path)?;
            } else if kind.is_file() {
                self.read_file(&path)?;
            }
        }
        Ok(())
    }

    fn is_not_ours(&self, directory: &Path) -> bool {
        directory == self.metadata.target_directory || NOT_OURS.iter().any(|name| directory.ends_with(name))
    }

    fn read_file(&mut self, path: &Path) -> Result<(), Error> {
        let bytes = fs::read(path).map_err(|cause| cannot_read(path, cause))?;
        // What is not UTF-8 is a picture or a golden file: there is nothing to read in it.
        if let Ok(text) = String::from_utf8(bytes) {
            let path = path.strip_prefix(&self.root).unwrap_or(path);
            self.files.push(File::new(path.to_string_lossy().replace('\\', "/"), text));
        }
        Ok(())
    }
}

impl File {
    fn new(path: String, text: String) -> Self {
        let is_code = path.ends_with(".rs") || path.ends_with(".proto");
        let rust = if is_code { RustText::of(&text) } else { RustText::default() };
        let production = if is_for_tests(&path) { String::new() } else { without_tests(&rust.code) };
        Self { path, text, rust, production }
    }
}

fn is_for_tests(path: &str) -> bool {
    let mut parts = path.split('/');
    parts.any(|part| matches!(part, "tests" | "tests.rs" | "examples" | "benches"))
}

fn cannot_read(path: &Path, cause: std::io::Error) -> Error {
    Error::Read { path: path.display().to_string(), cause }
}

#[cfg(test)]
impl Repository {
    /// A repository of these files, for a check to look at.
    pub(crate) fn of(files: &[(&str, &str)]) -> Self {
        let files = files.iter().map(|(path, text)| File::new((*path).to_owned(), (*text).to_owned())).collect();
        Self { files, ..Self::default() }
    }
}
