//! Rules for the code of the workspace: type names are unique, and modules do not import each other in a cycle.

use std::{
    collections::{BTreeMap, BTreeSet},
    path::{Component, Path},
};

use holdfast_docs::{files, root};
use syn::{
    UseTree,
    visit::{self, Visit},
};

use crate::assert_none;

/// Type names that have the same meaning in several crates.
const SHARED: [(&str, &str); 2] = [
    ("Cli", "the command line of a program; clap's documentation uses this name"),
    ("Command", "the subcommands of a program; clap's documentation uses this name"),
];

/// A module by its path in its crate.
type ModulePath = Vec<String>;

fn rust_files() -> impl Iterator<Item = (String, syn::File)> {
    let files = files().unwrap().into_iter();
    let files = files
        .filter(|path| path.starts_with("crates") && path.extension().is_some_and(|it| it == "rs"));
    files.map(|path| {
        let text = std::fs::read_to_string(root().join(&path)).unwrap();
        (path.to_str().unwrap().to_owned(), syn::parse_file(&text).unwrap())
    })
}

/// The types that a file declares, without associated types.
#[derive(Default)]
struct DeclaredTypes(Vec<String>);

impl<'ast> Visit<'ast> for DeclaredTypes {
    fn visit_item(&mut self, item: &'ast syn::Item) {
        let name = match item {
            syn::Item::Struct(item) => Some(&item.ident),
            syn::Item::Enum(item) => Some(&item.ident),
            syn::Item::Union(item) => Some(&item.ident),
            syn::Item::Trait(item) => Some(&item.ident),
            syn::Item::Type(item) => Some(&item.ident),
            _ => None,
        };
        self.0.extend(name.map(ToString::to_string));
        visit::visit_item(self, item);
    }
}

#[test]
fn type_names_are_unique() {
    let mut places: BTreeMap<String, Vec<String>> = BTreeMap::new();
    for (path, file) in rust_files() {
        let mut types = DeclaredTypes::default();
        types.visit_file(&file);
        for name in types.0 {
            places.entry(name).or_default().push(path.clone());
        }
    }
    assert!(places.len() > 500, "only {}", places.len());
    let mut wrong = Vec::new();
    for (name, reason) in SHARED {
        if places.remove(name).is_none_or(|places| places.len() < 2) {
            wrong.push(format!("{name} ({reason}) is not used several times"));
        }
    }
    places.retain(|_, places| places.len() > 1);
    wrong.extend(places.iter().map(|(name, places)| format!("{name}: {}", places.join(", "))));
    assert_none(&wrong);
}

/// The paths that a file imports or names in full, without those of its tests.
#[derive(Default)]
struct NamedPaths(Vec<ModulePath>);

impl NamedPaths {
    fn add_tree(&mut self, before: &[String], tree: &UseTree) {
        match tree {
            UseTree::Path(path) => {
                let before = [before, &[path.ident.to_string()]].concat();
                self.add_tree(&before, &path.tree);
            }
            UseTree::Name(name) => self.0.push([before, &[name.ident.to_string()]].concat()),
            UseTree::Rename(name) => self.0.push([before, &[name.ident.to_string()]].concat()),
            UseTree::Glob(_) => self.0.push(before.to_vec()),
            UseTree::Group(group) => {
                for tree in &group.items {
                    self.add_tree(before, tree);
                }
            }
        }
    }
}

impl<'ast> Visit<'ast> for NamedPaths {
    fn visit_item_mod(&mut self, module: &'ast syn::ItemMod) {
        if module.ident != "tests" {
            visit::visit_item_mod(self, module);
        }
    }

    fn visit_item_use(&mut self, item: &'ast syn::ItemUse) {
        self.add_tree(&[], &item.tree);
    }

    fn visit_path(&mut self, path: &'ast syn::Path) {
        self.0.push(path.segments.iter().map(|segment| segment.ident.to_string()).collect());
        visit::visit_path(self, path);
    }
}

/// The crate and the module of a source file; `None` for tests and other files.
fn module_of(path: &str) -> Option<(String, ModulePath)> {
    let (krate, file) = path.split_once("/src/")?;
    let stem = file.strip_suffix(".rs")?;
    let parts = Path::new(stem).components().map(|part| match part {
        Component::Normal(part) => part.to_str().unwrap().to_owned(),
        _ => panic!("{path}"),
    });
    let mut parts: ModulePath = parts.collect();
    match &*parts.last()?.clone() {
        "lib" => drop(parts.pop()),
        "main" | "tests" => return None,
        _ => {}
    }
    Some((krate.to_owned(), parts))
}

/// The module to which a path leads from `here`.
fn target(here: &[String], path: &[String], known: &BTreeSet<ModulePath>) -> Option<ModulePath> {
    let (mut base, rest) = match path.first()?.as_str() {
        "crate" => (Vec::new(), &path[1..]),
        "super" => {
            let up = path.iter().take_while(|part| *part == "super").count();
            (here[..here.len().checked_sub(up)?].to_vec(), &path[up..])
        }
        _ => return None,
    };
    for part in rest {
        base.push(part.clone());
        if !known.contains(&base) {
            base.pop();
            break;
        }
    }
    Some(base)
}

/// The modules that can be reached by imports.
fn reached<'m>(
    start: &'m ModulePath,
    arrows: &'m BTreeMap<ModulePath, BTreeSet<ModulePath>>,
) -> BTreeSet<&'m ModulePath> {
    let (mut seen, mut open) = (BTreeSet::new(), vec![start]);
    while let Some(module) = open.pop() {
        let others = arrows.get(module).into_iter().flatten();
        open.extend(others.filter(|other| seen.insert(*other)));
    }
    seen
}

#[test]
fn sibling_modules_have_no_cycles() {
    let mut crates: BTreeMap<String, BTreeMap<ModulePath, Vec<ModulePath>>> = BTreeMap::new();
    for (path, file) in rust_files() {
        let Some((krate, module)) = module_of(&path) else { continue };
        let mut paths = NamedPaths::default();
        paths.visit_file(&file);
        crates.entry(krate).or_default().insert(module, paths.0);
    }
    assert!(crates.len() > 10, "only {}", crates.len());
    let mut wrong = Vec::new();
    for (krate, modules) in &crates {
        let known = modules.keys().cloned().collect();
        // A module and its folder count as one.
        let mut arrows: BTreeMap<ModulePath, BTreeSet<ModulePath>> = BTreeMap::new();
        for (module, paths) in modules {
            for other in paths.iter().filter_map(|path| target(module, path, &known)) {
                let differ = module.iter().zip(&other).position(|(a, b)| a != b);
                if let Some(at) = differ {
                    let from = arrows.entry(module[..=at].to_vec()).or_default();
                    from.insert(other[..=at].to_vec());
                }
            }
        }
        let in_cycle = arrows.keys().filter(|module| reached(module, &arrows).contains(module));
        let in_cycle: Vec<_> = in_cycle.map(|module| module.join("::")).collect();
        if !in_cycle.is_empty() {
            wrong.push(format!("{krate}: {}", in_cycle.join(", ")));
        }
    }
    assert_none(&wrong);
}
