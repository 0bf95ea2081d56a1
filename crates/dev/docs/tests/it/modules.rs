//! Tables of modules, in module docs and in documents.

use std::path::Path;

use holdfast_docs::{documents, root};

use crate::assert_none;

/// The folder with the modules of a file: its own folder if it is the root of a crate, otherwise the folder with its
/// name.
fn folder(path: &Path) -> std::path::PathBuf {
    let stem = path.file_stem().unwrap().to_str().unwrap();
    let parent = path.parent().unwrap();
    if ["lib", "main", "mod"].contains(&stem) { parent.to_owned() } else { parent.join(stem) }
}

#[test]
fn a_table_of_modules_names_all_of_them_and_no_other() {
    let mut wrong = Vec::new();
    let mut seen = 0;
    for document in documents().unwrap() {
        let rust = document.path.extension().unwrap() == "rs";
        if !rust || document.listed.is_empty() {
            continue;
        }
        seen += 1;
        let at = document.path.display();
        let folder = root().join(folder(&document.path));
        let source = std::fs::read_to_string(root().join(&document.path)).unwrap();
        let (mut tests, mut modules) = (false, Vec::new());
        for line in source.lines() {
            let line = line.trim_start_matches("pub ").trim_start_matches("pub(crate) ");
            if let Some(module) = line.strip_prefix("mod ").and_then(|it| it.strip_suffix(';')) {
                modules.extend((!tests).then_some(module));
            }
            tests = line.starts_with("#[cfg(test)]");
        }
        for listed in &document.listed {
            let name = listed.trim_end_matches('/').trim_end_matches(".rs");
            let there = folder.join(format!("{name}.rs")).exists() || folder.join(name).is_dir();
            if !there {
                wrong.push(format!("{at}: there is no module `{listed}`"));
            }
        }
        for module in modules {
            let in_table = |it: &String| {
                let name = it.trim_end_matches('/').trim_end_matches(".rs");
                name == module || name.starts_with(&format!("{module}/"))
            };
            if !document.listed.iter().any(in_table) {
                wrong.push(format!("{at}: the module `{module}` is not in its table"));
            }
        }
    }
    assert_none(&wrong);
    assert!(seen >= 5, "only {seen}");
}
