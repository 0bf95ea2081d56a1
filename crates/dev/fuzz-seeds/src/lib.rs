//! A replacement for libFuzzer that makes the fuzz targets functions, so that tests can call them with seeds.
//!
//! It contains the macro `fuzz_target!`. The targets and their seeds are in `crates/dev/fuzz`.

pub use arbitrary;

/// Defines the function `run` of a target, which takes one input.
#[macro_export]
macro_rules! fuzz_target {
    (|$input:ident: &[u8]| $body:expr) => {
        pub fn run($input: &[u8]) {
            $body
        }
    };
    (|$input:ident: &str| $body:expr) => {
        pub fn run(input: &[u8]) {
            let Ok($input) = std::str::from_utf8(input) else { return };
            $body
        }
    };
    (|$input:ident: $type:ty| $body:expr) => {
        pub fn run(input: &[u8]) {
            let input = $crate::arbitrary::Unstructured::new(input);
            let input = <$type as $crate::arbitrary::Arbitrary<'_>>::arbitrary_take_rest(input);
            let Ok($input) = input else { return };
            $body
        }
    };
}
