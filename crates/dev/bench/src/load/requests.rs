//! The requests, rendered in advance, and their mix.

use std::ops::Range;

use rand::distr::weighted::WeightedIndex;
use rand::rngs::StdRng;
use rand::{Rng as _, SeedableRng as _, distr::Distribution as _};

/// The number of choices, which are made in advance and repeated. It is a power of two, so that the index is a mask,
/// and large enough for the rarest of 1,000 products under Zipf's law with exponent 1.1.
const PICKS: usize = 1 << 18;

/// The seed, so that every run makes the same choices.
const SEED: u64 = 0x0068_6f6c_6466_6173;

/// The ids of products.
const HOST: &str = "localhost";

/// The choice of products.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Choice {
    /// All products with the same probability.
    Uniform,
    /// The product of rank `r` has a weight of `1 / r^exponent`, so a few products sell most.
    Zipf {
        /// The higher, the more skewed.
        exponent: f64,
    },
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum RequestKind {
    Order,
    Read,
    /// Only its status is counted.
    Other,
}

/// A request that is ready to be sent.
#[derive(Debug)]
pub(super) struct PreparedRequest {
    pub bytes: Box<[u8]>,
    /// The position of the digits of its `Idempotency-Key`, if it has one.
    pub key: Option<Range<usize>>,
    pub kind: RequestKind,
    pub product_id: i64,
    pub quantity: i32,
}

/// Requests and the order in which they are sent.
#[derive(Debug)]
pub struct Requests {
    table: Vec<PreparedRequest>,
    picks: Vec<u32>,
}

impl Requests {
    /// Orders of these products. The quantity of a product is always the same, 1 to 3 by its position, so that the sums
    /// of the audit are not just counts. A single product is ordered one unit at a time.
    pub fn orders(product_ids: &[i64], choice: Choice) -> Self {
        Self::mix(product_ids, choice, 0.0)
    }

    /// Cancellations of these orders.
    pub fn cancels(order_ids: &[i64]) -> Self {
        let path = |id: &i64| format!("/orders/{id}/cancel");
        let table = order_ids.iter().map(|id| PreparedRequest {
            bytes: http_request("POST", &path(id), None, None).into(),
            key: None,
            kind: RequestKind::Other,
            product_id: 0,
            quantity: 0,
        });
        Self::in_turn(table.collect())
    }

    /// Orders of one unit with these keys, which are repeated.
    pub fn repeats(product_id: i64, keys: &[String]) -> Self {
        let body = order_body(product_id, 1);
        let table = keys.iter().map(|key| PreparedRequest {
            bytes: http_request("POST", "/orders", Some(key), Some(&body)).into(),
            key: None,
            kind: RequestKind::Order,
            product_id,
            quantity: 1,
        });
        Self::in_turn(table.collect())
    }

    fn in_turn(table: Vec<PreparedRequest>) -> Self {
        let size = table.len().max(1);
        Self { picks: (0..PICKS).map(|number| (number % size) as u32).collect(), table }
    }

    /// The same orders, each with its own `Idempotency-Key`.
    pub fn with_keys(mut self) -> Self {
        for request in self.table.iter_mut().filter(|request| request.kind == RequestKind::Order) {
            *request = keyed(request.product_id, request.quantity);
        }
        self
    }

    /// The same requests, each with this API key or token.
    pub fn with_bearer(mut self, bearer: &str) -> Self {
        let before = format!("\r\nhost: {HOST}");
        let before = before.as_bytes();
        let header = format!("\r\nauthorization: Bearer {bearer}");
        for request in &mut self.table {
            let place = request.bytes.windows(before.len()).position(|bytes| bytes == before);
            let place = place.map_or(0, |start| start + before.len());
            let mut bytes = request.bytes.to_vec();
            bytes.splice(place..place, header.bytes());
            request.bytes = bytes.into();
            if let Some(key) = &mut request.key {
                *key = key.start + header.len()..key.end + header.len();
            }
        }
        self
    }

    pub fn reads(product_ids: &[i64], choice: Choice) -> Self {
        Self::mix(product_ids, choice, 1.0)
    }

    /// Reads and orders of these products; `reads` is the fraction of reads (0 to 1).
    pub fn mix(product_ids: &[i64], choice: Choice, reads: f64) -> Self {
        let mut table = Vec::with_capacity(product_ids.len() * 2);
        for (place, &product_id) in (0..).zip(product_ids) {
            table.push(order(product_id, 1 + place % 3));
        }
        for &product_id in product_ids {
            table.push(read(product_id));
        }
        let mut random = StdRng::seed_from_u64(SEED);
        let weights = (1..=product_ids.len()).map(|rank| match choice {
            Choice::Uniform => 1.0,
            Choice::Zipf { exponent } => (rank as f64).powf(-exponent),
        });
        // The weights are empty only if there are no products, and then nothing can be chosen.
        let Ok(weights) = WeightedIndex::new(weights) else {
            return Self { table, picks: Vec::new() };
        };
        let picks = (0..PICKS)
            .map(|_| {
                let product = weights.sample(&mut random);
                let is_read = random.random_bool(reads.clamp(0.0, 1.0));
                (product + if is_read { product_ids.len() } else { 0 }) as u32
            })
            .collect();
        Self { table, picks }
    }

    /// The request with this number; the numbers wrap around.
    pub(super) fn pick(&self, number: usize) -> u32 {
        self.picks.get(number % PICKS).copied().unwrap_or(0)
    }

    pub(super) fn get(&self, index: u32) -> Option<&PreparedRequest> {
        self.table.get(index as usize)
    }

    /// The first request of a thread, so that threads do not send the same requests at the same time.
    pub(super) fn offset(thread: usize, threads: usize) -> usize {
        PICKS / threads.max(1) * thread
    }
}

fn order(product_id: i64, quantity: i32) -> PreparedRequest {
    let bytes = http_request("POST", "/orders", None, Some(&order_body(product_id, quantity)));
    PreparedRequest {
        bytes: bytes.into(),
        key: None,
        kind: RequestKind::Order,
        product_id,
        quantity,
    }
}

/// As long as a UUID, which most clients send.
const KEY_DIGITS: usize = 36;

fn keyed(product_id: i64, quantity: i32) -> PreparedRequest {
    let (key, body) = ("0".repeat(KEY_DIGITS), order_body(product_id, quantity));
    let bytes = http_request("POST", "/orders", Some(&key), Some(&body));
    let start = bytes.windows(KEY_DIGITS).position(|window| window == key.as_bytes());
    let key = start.map(|start| start..start + KEY_DIGITS);
    PreparedRequest { bytes: bytes.into(), key, kind: RequestKind::Order, product_id, quantity }
}

fn order_body(product_id: i64, quantity: i32) -> String {
    format!(r#"{{"product_id":{product_id},"quantity":{quantity}}}"#)
}

impl PreparedRequest {
    /// Writes the request with this key into a buffer.
    pub fn write_with_key(&self, key: u64, buffer: &mut Vec<u8>) {
        buffer.clear();
        buffer.extend_from_slice(&self.bytes);
        let digits = self.key.clone().and_then(|place| buffer.get_mut(place));
        let mut rest = key;
        for digit in digits.into_iter().flatten().rev() {
            *digit = b'0' + (rest % 10) as u8;
            rest /= 10;
        }
    }
}

fn read(product_id: i64) -> PreparedRequest {
    let bytes = http_request("GET", &format!("/products/{product_id}"), None, None);
    PreparedRequest {
        bytes: bytes.into(),
        key: None,
        kind: RequestKind::Read,
        product_id,
        quantity: 0,
    }
}

/// The bytes of a request, with an `Idempotency-Key` and a JSON body if given.
pub fn http_request(method: &str, path: &str, key: Option<&str>, body: Option<&str>) -> Vec<u8> {
    let key = key.map(|key| format!("idempotency-key: {key}\r\n")).unwrap_or_default();
    let typed = |body: &str| {
        format!("content-type: application/json\r\ncontent-length: {}\r\n", body.len())
    };
    let (typed, body) = (body.map(typed).unwrap_or_default(), body.unwrap_or_default());
    let text = format!("{method} {path} HTTP/1.1\r\nhost: {HOST}\r\n{key}{typed}\r\n{body}");
    text.into_bytes()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shares(requests: &Requests, size: usize) -> Vec<f64> {
        let mut counts = vec![0_u32; size];
        for number in 0..PICKS {
            counts[requests.pick(number) as usize] += 1;
        }
        counts.into_iter().map(|count| f64::from(count) / PICKS as f64).collect()
    }

    #[test]
    fn the_mix_has_the_requested_shares() {
        let ids: Vec<i64> = (1..=1000).collect();
        let uniform = shares(&Requests::orders(&ids, Choice::Uniform), 2000);
        assert!(uniform[..1000].iter().all(|share| (0.0005..0.0015).contains(share)));
        assert!(uniform[1000..].iter().all(|share| *share == 0.0), "no reads were requested");

        let zipf = shares(&Requests::mix(&ids, Choice::Zipf { exponent: 1.1 }, 0.95), 2000);
        let reads: f64 = zipf[1000..].iter().sum();
        assert!((0.945..0.955).contains(&reads), "{reads}");
        // 1 / H(1000, 1.1) = 0.1785: the share of the first of 1,000.
        let first = zipf[0] + zipf[1000];
        assert!((0.17..0.19).contains(&first), "{first}");
        // Rank 10 has 10^-1.1 = 0.079 of that.
        let tenth = (zipf[9] + zipf[1009]) / first;
        assert!((0.07..0.09).contains(&tenth), "{tenth}");
    }

    #[test]
    fn a_key_is_written_into_its_place() {
        let requests = Requests::orders(&[7], Choice::Uniform).with_keys();
        let mut sent = Vec::new();
        requests.get(0).unwrap().write_with_key(1234, &mut sent);
        let text = String::from_utf8(sent).unwrap();
        let key = format!("idempotency-key: {:036}\r\n", 1234);
        assert!(
            text.contains(&key) && text.ends_with(r#"{"product_id":7,"quantity":1}"#),
            "{text}"
        );
        assert!(requests.get(1).unwrap().key.is_none(), "a read");
    }

    #[test]
    fn a_request_is_well_formed() {
        let requests = Requests::orders(&[7, 8, 9], Choice::Uniform);
        let third = requests.get(2).unwrap();
        assert_eq!((third.product_id, third.quantity, third.kind), (9, 3, RequestKind::Order));
        let text = std::str::from_utf8(&third.bytes).unwrap();
        let (head, body) = text.split_once("\r\n\r\n").unwrap();
        assert!(head.contains(&format!("content-length: {}", body.len())), "{head}");
        let body: serde_json::Value = serde_json::from_str(body).unwrap();
        assert_eq!(body, serde_json::json!({"product_id": 9, "quantity": 3}));
    }
}
