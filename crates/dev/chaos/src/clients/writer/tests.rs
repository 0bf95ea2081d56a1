use std::net::SocketAddr;

use rand::SeedableRng as _;

use super::*;

#[test]
fn a_seed_always_gives_the_same_requests_and_hang_ups() {
    let drawn = |seed| {
        let address = SocketAddr::from(([127, 0, 0, 1], 1));
        let target = ReplicaAddress { public: address, admin: address };
        let random = StdRng::seed_from_u64(seed);
        let mut writer = Writer::new("w".into(), target, vec![1, 2, 3], 0.5, random);
        let one = |_| (writer.draw(), writer.hang_up().map(|it| (it.moment, it.wait)));
        (0..200).map(one).collect::<Vec<_>>()
    };
    assert_eq!(drawn(7), drawn(7));
    assert_ne!(drawn(7), drawn(8));
    let hung_up = drawn(7).iter().filter(|(_, hang_up)| hang_up.is_some()).count();
    assert!((70..130).contains(&hung_up), "{hung_up} of 200");
}
