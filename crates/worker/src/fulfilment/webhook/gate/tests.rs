use super::*;

const LIMITS: GateLimits = GateLimits {
    connections: 8,
    orders: 1000,
    timeout: Duration::from_secs(15),
    pause: Backoff { base: Duration::from_secs(1), max: Duration::from_secs(30) },
};
/// The number of orders that must fail for the first time.
const FIRST_FAILURES: usize = LIMITS.connections;
const PROBES: usize = LIMITS.connections / 2;

fn gate() -> Gate {
    Gate::new(LIMITS, IntGauge::new("paused", "test").unwrap())
}

async fn answer(gate: &Gate, kind: LaneKind, condition: ReceiverCondition) -> bool {
    let turn = gate.turn(kind).await.unwrap();
    gate.record(&turn, condition, || "asleep".to_owned())
}

async fn fail(gate: &Gate, kind: LaneKind, count: usize) {
    for _ in 0..count {
        answer(gate, kind, ReceiverCondition::Down(None)).await;
    }
}

async fn succeed(gate: &Gate, count: usize) {
    for _ in 0..count {
        answer(gate, LaneKind::First, ReceiverCondition::Up).await;
        tokio::time::advance(Duration::from_millis(10)).await;
    }
}

/// How long there is no room for an order that has not failed before, and for how many there is room then.
async fn paused_for(gate: &Gate) -> (Duration, usize) {
    let begun = Instant::now();
    let room = gate.room().await;
    (begun.elapsed(), room)
}

#[tokio::test(start_paused = true)]
async fn the_number_of_orders_to_read_is_the_free_capacity() {
    let gate = gate();
    let turns = futures::future::join_all((0..8).map(|_| gate.turn(LaneKind::First))).await;
    assert_eq!(gate.room().await, 8, "as many may wait as are sent");
    drop(turns);
    assert_eq!(gate.room().await, 16);
}

#[tokio::test(start_paused = true)]
async fn first_failures_of_many_orders_pause_the_webhook_and_one_answer_resumes_it() {
    let gate = gate();
    for _ in 0..20 {
        fail(&gate, LaneKind::First, FIRST_FAILURES - 1).await;
        succeed(&gate, 1).await;
    }
    assert_eq!(gate.room().await, 16, "never enough consecutive failures");

    fail(&gate, LaneKind::First, FIRST_FAILURES).await;
    let refusal = gate.turn(LaneKind::First).await.err().unwrap();
    assert!(refusal.to_string().contains("asleep"), "{refusal}");
    let (pause, room) = paused_for(&gate).await;
    assert!((50..=1010).contains(&pause.as_millis()), "{pause:?}");
    assert_eq!(room, PROBES);
    succeed(&gate, 1).await;
    assert_eq!(gate.room().await, 16);
}

#[tokio::test(start_paused = true)]
async fn orders_that_fail_again_never_pause_the_webhook_for_the_others() {
    let gate = gate();
    for _ in 0..1000 {
        if let Ok(turn) = gate.turn(LaneKind::Again).await {
            gate.record(&turn, ReceiverCondition::Down(None), String::new);
        }
        tokio::time::advance(Duration::from_millis(100)).await;
        assert_eq!(gate.room().await, 16);
    }
    assert!(gate.turn(LaneKind::First).await.is_ok());
}

#[tokio::test(start_paused = true)]
async fn orders_that_fail_again_are_sent_less_and_less_often_until_any_succeeds() {
    let gate = gate();
    let mut sent = 0;
    for _ in 0..3600 {
        if let Ok(turn) = gate.turn(LaneKind::Again).await {
            gate.record(&turn, ReceiverCondition::Down(None), String::new);
            sent += 1;
        }
        tokio::time::advance(Duration::from_secs(1)).await;
    }
    assert!((120..1000).contains(&sent), "{sent} in an hour");
    succeed(&gate, 1).await;
    fail(&gate, LaneKind::Again, 4).await;
    assert!(gate.turn(LaneKind::Again).await.is_ok(), "it is open again");
}

#[tokio::test(start_paused = true)]
async fn a_receiver_that_cannot_be_reached_pauses_all_after_few_failures_and_gets_one_probe() {
    for kind in [LaneKind::First, LaneKind::Again] {
        let gate = gate();
        for _ in 0..FAILURES_MAX {
            answer(&gate, kind, ReceiverCondition::Unreachable).await;
        }
        assert!(gate.turn(LaneKind::First).await.is_err());
        assert!(gate.turn(LaneKind::Again).await.is_err());
        assert_eq!(paused_for(&gate).await.1, 1);
    }
}

#[tokio::test(start_paused = true)]
async fn pauses_grow_up_to_their_maximum_while_all_requests_fail() {
    let gate = gate();
    fail(&gate, LaneKind::First, FIRST_FAILURES).await;
    let (mut longest, mut requests) = (Duration::ZERO, 0);
    let begun = Instant::now();
    while begun.elapsed() < Duration::from_hours(1) {
        let (pause, room) = paused_for(&gate).await;
        longest = longest.max(pause);
        let turns = futures::future::join_all((0..room).map(|_| gate.turn(LaneKind::First))).await;
        for turn in turns {
            gate.record(&turn.unwrap(), ReceiverCondition::Down(None), String::new);
            requests += 1;
        }
    }
    assert!(longest <= Duration::from_millis(30_010), "{longest:?}");
    assert!((120 * PROBES..1000 * PROBES).contains(&requests), "{requests} in an hour");
}

#[tokio::test(start_paused = true)]
async fn requests_that_were_sent_before_a_success_show_nothing() {
    let gate = gate();
    let turns = futures::future::join_all((1..8).map(|_| gate.turn(LaneKind::First))).await;
    succeed(&gate, 1).await;
    for turn in turns {
        gate.record(&turn.unwrap(), ReceiverCondition::Down(None), String::new);
    }
    fail(&gate, LaneKind::First, FIRST_FAILURES - 1).await;
    assert_eq!(gate.room().await, 16);
}

#[tokio::test(start_paused = true)]
async fn retry_after_pauses_the_webhook_at_once_for_that_long() {
    let gate = gate();
    let after = Duration::from_secs(20);
    answer(&gate, LaneKind::First, ReceiverCondition::Down(Some(after))).await;
    let pause = paused_for(&gate).await.0;
    assert!(pause >= after && pause < after + Duration::from_secs(1), "{pause:?}");
}

#[tokio::test(start_paused = true)]
async fn an_order_that_has_failed_before_pauses_only_its_kind_with_retry_after() {
    let gate = gate();
    let after = Duration::from_secs(20);
    answer(&gate, LaneKind::Again, ReceiverCondition::Down(Some(after))).await;
    assert!(gate.turn(LaneKind::Again).await.is_err());
    assert!(gate.turn(LaneKind::First).await.is_ok());
}

#[tokio::test(start_paused = true)]
async fn orders_that_have_failed_before_have_a_share_of_the_connections() {
    let gate = gate();
    let mut waiting = futures::stream::FuturesUnordered::new();
    (0..LIMITS.connections).for_each(|_| waiting.push(gate.turn(LaneKind::Again)));
    let mut turns = Vec::new();
    while let Some(Some(turn)) =
        futures::FutureExt::now_or_never(futures::StreamExt::next(&mut waiting))
    {
        turns.push(turn.unwrap());
    }
    assert_eq!(turns.len(), LIMITS.connections / SHARE);
    assert!(gate.turn(LaneKind::Again).await.is_err(), "no more wait than there are connections");
    let others = (turns.len()..LIMITS.connections).map(|_| gate.turn(LaneKind::First));
    assert!(futures::future::join_all(others).await.iter().all(Result::is_ok));
}

#[tokio::test(start_paused = true)]
async fn requests_that_hang_are_cancelled_while_others_wait_except_for_a_share() {
    let gate = gate();
    succeed(&gate, 1).await;
    let mut turns: Vec<_> =
        futures::future::join_all((0..LIMITS.connections).map(|_| gate.turn(LaneKind::First)))
            .await
            .into_iter()
            .map(Result::unwrap)
            .collect();
    let begun = Instant::now();
    let hanging = turns.drain(..).map(|mut turn| {
        Box::pin(async move {
            turn.given_up().await;
            drop(turn);
        })
    });
    let mut hanging: futures::stream::FuturesUnordered<_> = hanging.collect();
    let mut next = async || {
        let limit = Duration::from_mins(1);
        tokio::time::timeout(limit, futures::StreamExt::next(&mut hanging)).await.is_ok()
    };
    assert!(!next().await, "no order waits");
    let waiting = gate.turn(LaneKind::First);
    let ((), turn) = tokio::join!(async { assert!(next().await) }, waiting);
    assert!(turn.is_ok());
    assert!(begun.elapsed() < Duration::from_secs(62));
    // From here on, there are always waiting orders.
    gate.state.lock().waiting += 1;
    for _ in 2..=LIMITS.connections - LIMITS.connections / SHARE {
        assert!(next().await);
    }
    assert!(!next().await, "a share has its full time");
}

#[tokio::test(start_paused = true)]
async fn a_failure_is_the_orders_own_while_the_receiver_fulfils_the_others() {
    let gate = gate();
    let own = async |condition| answer(&gate, LaneKind::Again, condition).await;
    assert!(!own(ReceiverCondition::Down(None)).await, "no other order is known");
    succeed(&gate, 100).await;
    assert!(own(ReceiverCondition::Down(None)).await);
    assert!(!own(ReceiverCondition::Unreachable).await);
    succeed(&gate, 1).await;
    assert!(!own(ReceiverCondition::Down(Some(Duration::ZERO))).await, "it asks for a pause");
}
