//! An entry of the queue, which any client of Redis may have written.

#![no_main]

use holdfast_queue::Delivery;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|entry: (String, Vec<(Vec<u8>, Vec<u8>)>)| {
    match Delivery::read(entry.clone()) {
        Ok(delivery) => {
            let _ = delivery.published_at();
        }
        Err(id) => assert_eq!(id, entry.0),
    }
});
