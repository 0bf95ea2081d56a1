//! Reads the documents of the repository, so that tests can compare them with the code.
//!
//! This crate finds the documents (Markdown files, and the module docs of each Rust file) and splits them into code,
//! links and table rows. It also generates the Postman collection ([`postman`]). The checks are in `tests/it`.
#![allow(clippy::disallowed_methods)] // never shipped, and reads what is in the repository

use std::fs;
use std::path::{Path, PathBuf};

use pulldown_cmark::{CodeBlockKind, Event, Options, Parser, Tag, TagEnd};

pub mod postman;

/// Folders that are not part of the project.
const SKIPPED: [&str; 7] =
    [".git", "target", "artifacts", "corpus", "node_modules", "schemas", "__pycache__"];

/// A Markdown file, or the module docs of a Rust file.
#[derive(Debug, Default)]
pub struct Document {
    /// Relative to the root of the repository.
    pub path: PathBuf,
    pub text: String,
    /// Inline code, such as `make test`.
    pub spans: Vec<String>,
    pub blocks: Vec<Block>,
    /// The destinations of its links.
    pub links: Vec<String>,
    /// The code in the table columns with the heading `file`, `module` or `crate`.
    pub listed: Vec<String>,
}

/// A code block.
#[derive(Debug)]
pub struct Block {
    /// The words after the fence, such as `console runnable`.
    pub info: String,
    pub text: String,
}

impl Document {
    /// Parses Markdown.
    pub fn parse(path: PathBuf, text: String) -> Self {
        let mut document = Self { path, ..Self::default() };
        let (mut block, mut in_head, mut column, mut listing) = (None, false, 0, None);
        for event in Parser::new_ext(&text, Options::ENABLE_TABLES) {
            match event {
                Event::Start(Tag::CodeBlock(kind)) => {
                    let info = match kind {
                        CodeBlockKind::Fenced(info) => info.to_string(),
                        CodeBlockKind::Indented => String::new(),
                    };
                    block = Some(Block { info, text: String::new() });
                }
                Event::End(TagEnd::CodeBlock) => document.blocks.extend(block.take()),
                Event::Text(text) => {
                    if let Some(block) = &mut block {
                        block.text.push_str(&text);
                    }
                    if in_head && ["file", "module", "crate"].contains(&&*text) {
                        listing = Some(column);
                    }
                }
                Event::Start(Tag::Link { dest_url, .. } | Tag::Image { dest_url, .. }) => {
                    document.links.push(dest_url.to_string());
                }
                Event::Start(Tag::TableHead) => (in_head, column, listing) = (true, 0, None),
                Event::End(TagEnd::TableHead) => in_head = false,
                Event::End(TagEnd::Table) => listing = None,
                Event::Start(Tag::TableRow) => column = 0,
                Event::End(TagEnd::TableCell) => column += 1,
                Event::Code(code) => {
                    if listing == Some(column) && !in_head {
                        document.listed.push(code.to_string());
                    }
                    document.spans.push(code.to_string());
                }
                _ => {}
            }
        }
        document.text = text;
        document
    }

    /// All lines of code: inline code, and lines of blocks.
    pub fn code(&self) -> impl Iterator<Item = &str> {
        let spans = self.spans.iter().map(String::as_str);
        spans.chain(self.blocks.iter().flat_map(|block| block.text.lines()))
    }
}

/// The root of the repository.
pub fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).ancestors().nth(3).unwrap_or(Path::new("/")).to_owned()
}

/// All files of the repository, relative to its root.
///
/// # Errors
/// A folder cannot be read.
pub fn files() -> std::io::Result<Vec<PathBuf>> {
    let root = root();
    let (mut folders, mut files) = (vec![root.clone()], Vec::new());
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(folder)? {
            let path = entry?.path();
            let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
            if path.is_dir() && !SKIPPED.contains(&name.as_str()) {
                folders.push(path);
            } else if path.is_file() {
                files.extend(path.strip_prefix(&root).map(Path::to_owned));
            }
        }
    }
    files.sort();
    Ok(files)
}

/// All documents.
///
/// # Errors
/// A file cannot be read.
pub fn documents() -> std::io::Result<Vec<Document>> {
    let mut documents = Vec::new();
    for path in files()? {
        let extension = path.extension().and_then(|it| it.to_str()).unwrap_or_default();
        if !["md", "rs"].contains(&extension) {
            continue;
        }
        let mut text = fs::read_to_string(root().join(&path))?;
        if extension == "rs" {
            let lines = text.lines().filter_map(|line| line.strip_prefix("//!"));
            text = lines
                .map(|line| line.strip_prefix(' ').unwrap_or(line))
                .fold(String::new(), |text, line| text + line + "\n");
        }
        if !text.is_empty() {
            documents.push(Document::parse(path, text));
        }
    }
    Ok(documents)
}
