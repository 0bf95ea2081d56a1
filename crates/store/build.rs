//! Compiles the crate again when a migration is added: it contains them.

fn main() {
    println!("cargo:rerun-if-changed=../../migrations");
}
