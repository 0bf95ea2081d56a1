//! One thread of the generator: its connections and its event loop.

use std::io;
use std::os::fd::{AsFd as _, AsRawFd as _};
use std::time::{Duration, Instant};

use anyhow::Context as _;
use mio::unix::SourceFd;
use mio::{Events, Interest, Poll, Token};
use nix::sys::time::TimeSpec;
use nix::sys::timerfd::{ClockId, Expiration, TimerFd, TimerFlags, TimerSetTimeFlags};

use super::LoadPlan;
use super::connection::{LoadConnection, Received, ReceivedAnswer, SentRequest};
use super::group::ThreadGroup;
use super::outcome::{Answered, LoadReport, TICK};
use super::requests::RequestKind;

const EVENTS: usize = 1024;
const BUFFER_BYTES: usize = 64 * 1024;

/// The interval at which an open loop checks for due requests. `epoll` itself only has a resolution of milliseconds.
const OPEN_LOOP_STEP: Duration = Duration::from_micros(200);

/// The number of connections that are opened without a pause, and the pause. A server's accept queue may have only 128
/// places, and the kernel retries a connection that does not fit after a whole second.
const BURST: usize = 64;
const BURST_PAUSE: Duration = Duration::from_millis(5);

const TIMER: Token = Token(usize::MAX);

pub(super) struct LoadThread<'a> {
    plan: &'a LoadPlan,
    poll: Poll,
    connections: Vec<LoadConnection>,
    groups: Vec<ThreadGroup>,
    timer: Option<TimerFd>,
    start: Instant,
    in_flight: usize,
    last_answer_ns: u64,
}

impl<'a> LoadThread<'a> {
    /// Opens this thread's share of the connections: every `threads`-th.
    pub fn connect(plan: &'a LoadPlan, thread: usize, threads: usize) -> anyhow::Result<Self> {
        let poll = Poll::new()?;
        let mut connections = Vec::new();
        let mut groups = Vec::new();
        for (number, group) in plan.groups.iter().enumerate() {
            let first = connections.len();
            for index in (thread..group.connections).step_by(threads) {
                let Some(target) = group.targets.get(index % group.targets.len()) else { continue };
                let mut connection = LoadConnection::new(number, *target, Token(connections.len()));
                connection
                    .connect(poll.registry())
                    .with_context(|| format!("cannot connect to {target}"))?;
                connections.push(connection);
                if connections.len().is_multiple_of(BURST) {
                    std::thread::sleep(BURST_PAUSE);
                }
            }
            groups.push(ThreadGroup::new(
                plan,
                (number, group),
                (thread, threads),
                first..connections.len(),
            ));
        }
        let timer = if groups.iter().any(|group| group.schedule.is_some()) {
            Some(step_timer(&poll)?)
        } else {
            None
        };
        Ok(Self {
            plan,
            poll,
            connections,
            groups,
            timer,
            start: Instant::now(),
            in_flight: 0,
            last_answer_ns: 0,
        })
    }

    pub fn run(
        mut self,
        start: Instant,
        on_measuring: &dyn Fn(bool),
    ) -> anyhow::Result<LoadReport> {
        self.start = start;
        let warm_ns = self.plan.warm_up.as_nanos() as u64;
        let end_ns = self.end_ns();
        let drained_ns = end_ns + self.plan.answer_limit.as_nanos() as u64;
        let mut events = Events::with_capacity(EVENTS);
        let mut buffer = vec![0; BUFFER_BYTES];
        let mut next_tick_ns = TICK.as_nanos() as u64;
        let (mut measuring, mut over) = (false, false);
        for index in 0..self.connections.len() {
            self.next_in_closed_loop(index);
        }
        loop {
            let now_ns = self.now_ns();
            if !measuring && now_ns >= warm_ns {
                measuring = true;
                on_measuring(true);
            }
            if !over && now_ns >= end_ns {
                over = true;
                on_measuring(false);
            }
            if over && (self.in_flight == 0 || now_ns >= drained_ns) {
                break;
            }
            self.send_what_is_due();
            if now_ns >= next_tick_ns {
                next_tick_ns = now_ns + TICK.as_nanos() as u64;
                self.give_up_late_answers(now_ns);
                self.reconnect();
            }
            match self.poll.poll(&mut events, Some(Duration::from_millis(10))) {
                Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
                result => result?,
            }
            for event in &events {
                if event.token() == TIMER {
                    if let Some(timer) = &self.timer {
                        // Rearms the timer. This never blocks, and an early wake-up does no harm.
                        let _ = timer.wait();
                    }
                    self.send_what_is_due();
                    continue;
                }
                let index = event.token().0;
                if event.is_writable() {
                    self.continue_sending(index);
                }
                if event.is_readable() || event.is_read_closed() || event.is_error() {
                    self.receive(index, &mut buffer);
                }
            }
        }
        Ok(self.finish())
    }

    fn finish(mut self) -> LoadReport {
        // What is due and still waits for a connection.
        for number in 0..self.groups.len() {
            while let Some(due_ns) = self.groups.get_mut(number).and_then(ThreadGroup::take_due) {
                self.drop_unsent(number, due_ns);
            }
        }
        for index in 0..self.connections.len() {
            if self.connections.get(index).is_some_and(|it| it.in_flight.is_some()) {
                self.abandon(index);
            }
        }
        let drain_ns = self.last_answer_ns.saturating_sub(self.end_ns());
        LoadReport {
            groups: self.groups.into_iter().map(|group| group.report).collect(),
            drain: Duration::from_nanos(drain_ns),
        }
    }

    fn now_ns(&self) -> u64 {
        self.start.elapsed().as_nanos() as u64
    }

    fn end_ns(&self) -> u64 {
        (self.plan.warm_up + self.plan.measured).as_nanos() as u64
    }

    fn is_measured(&self, at_ns: u64) -> bool {
        (self.plan.warm_up.as_nanos() as u64..self.end_ns()).contains(&at_ns)
    }

    /// Open loop: sends due requests on free connections, and drops those that have waited for too long.
    fn send_what_is_due(&mut self) {
        for number in 0..self.groups.len() {
            let now_ns = self.now_ns();
            while let Some(group) = self.groups.get_mut(number) {
                let Some(schedule) = &mut group.schedule else { break };
                if let Some(due_ns) = schedule.give_up(now_ns) {
                    self.drop_unsent(number, due_ns);
                    continue;
                }
                let Some(due_ns) = schedule.next_due(now_ns) else { break };
                let Some(index) = group.free.pop_front() else { break };
                schedule.take();
                self.send(index, Some(due_ns));
            }
        }
    }

    fn drop_unsent(&mut self, number: usize, due_ns: u64) {
        let measured = self.is_measured(due_ns);
        let Some(group) = self.groups.get_mut(number) else { return };
        group.report.outcomes.due += 1;
        group.report.outcomes.unsent += 1;
        if measured {
            group.report.offered += 1;
            group.report.unsent += 1;
        }
    }

    fn next_in_closed_loop(&mut self, index: usize) {
        let closed = self
            .connections
            .get(index)
            .and_then(|connection| self.groups.get(connection.group))
            .is_some_and(|group| group.schedule.is_none());
        if closed && self.now_ns() < self.end_ns() {
            self.send(index, None);
        }
    }

    /// Sends the group's next request, which is due now if no time is given.
    fn send(&mut self, index: usize, due_ns: Option<u64>) {
        let sent_ns = self.now_ns();
        let measured = self.is_measured(due_ns.unwrap_or(sent_ns));
        let Some(connection) = self.connections.get_mut(index) else { return };
        let Some(group) = self.groups.get_mut(connection.group) else { return };
        let request = group.requests.pick(group.cursor);
        group.cursor += 1;
        let Some(what) = group.requests.get(request) else { return };
        let bytes = what.key.is_none().then_some(&*what.bytes);
        if bytes.is_none() {
            group.keys += 1;
            what.write_with_key(group.keys, &mut connection.own_request);
        }
        let due_ns = due_ns.unwrap_or(sent_ns);
        group.report.outcomes.due += 1;
        if measured {
            group.report.offered += 1;
            group.report.sent_late.record_ns(sent_ns - due_ns);
        }
        self.in_flight += 1;
        if connection.send(SentRequest { request, due_ns, sent_ns }, bytes).is_err() {
            self.lose(index);
        }
    }

    fn continue_sending(&mut self, index: usize) {
        let Some(connection) = self.connections.get_mut(index) else { return };
        let Some(in_flight) = connection.in_flight else { return };
        let Some(group) = self.groups.get(connection.group) else { return };
        let Some(request) = group.requests.get(in_flight.request) else { return };
        let bytes = request.key.is_none().then_some(&*request.bytes);
        if connection.continue_sending(bytes).is_err() {
            self.lose(index);
        }
    }

    fn receive(&mut self, index: usize, buffer: &mut [u8]) {
        let Some(connection) = self.connections.get_mut(index) else { return };
        match connection.receive(buffer) {
            Ok(Received::Nothing) => {}
            Ok(Received::Answer { answer, close }) => {
                let Some(in_flight) = connection.in_flight.take() else { return };
                let group = connection.group;
                if close {
                    connection.close();
                }
                self.answered(group, in_flight, answer);
                self.next(index);
            }
            Err(_) => self.lose(index),
        }
    }

    fn answered(&mut self, group: usize, in_flight: SentRequest, answer: ReceivedAnswer) {
        let now_ns = self.now_ns();
        self.in_flight -= 1;
        self.last_answer_ns = now_ns;
        let answered = Answered {
            answer,
            since_due_ns: now_ns - in_flight.due_ns,
            since_sent_ns: now_ns - in_flight.sent_ns,
            measured: self.is_measured(now_ns),
            tick: (u128::from(now_ns) / TICK.as_nanos()) as usize,
        };
        if let Some(group) = self.groups.get_mut(group)
            && let Some(request) = group.requests.get(in_flight.request)
        {
            group.report.count(request, &answered);
        }
    }

    /// Continues with the next request of a connection that has nothing in flight.
    fn next(&mut self, index: usize) {
        let Some(connection) = self.connections.get(index) else { return };
        if !connection.is_open() {
            return; // until it is connected again
        }
        match self.groups.get_mut(connection.group) {
            Some(group) if group.schedule.is_some() => group.free.push_back(index),
            _ => self.next_in_closed_loop(index),
        }
    }

    /// Handles a broken connection.
    fn lose(&mut self, index: usize) {
        if let Some(connection) = self.connections.get(index)
            && let Some(group) = self.groups.get_mut(connection.group)
        {
            group.report.connections_lost += 1;
            // A closed connection must not be chosen.
            group.free.retain(|free| *free != index);
        }
        self.abandon(index);
    }

    /// Closes a connection. Its request in flight is never answered.
    fn abandon(&mut self, index: usize) {
        let Some(connection) = self.connections.get_mut(index) else { return };
        let Some(in_flight) = connection.close() else { return };
        self.in_flight -= 1;
        let Some(group) = self.groups.get_mut(connection.group) else { return };
        group.report.outcomes.unanswered += 1;
        if group.requests.get(in_flight.request).is_some_and(|it| it.kind == RequestKind::Order) {
            group.report.cut_off += 1;
        }
    }

    fn give_up_late_answers(&mut self, now_ns: u64) {
        let limit_ns = self.plan.answer_limit.as_nanos() as u64;
        for index in 0..self.connections.len() {
            let Some(connection) = self.connections.get(index) else { continue };
            let late = connection
                .in_flight
                .is_some_and(|in_flight| now_ns.saturating_sub(in_flight.sent_ns) > limit_ns);
            if late {
                if let Some(group) = self.groups.get_mut(connection.group) {
                    group.report.timed_out += 1;
                }
                self.abandon(index);
            }
        }
    }

    fn reconnect(&mut self) {
        if self.now_ns() >= self.end_ns() {
            return;
        }
        for index in 0..self.connections.len() {
            let Some(connection) = self.connections.get_mut(index) else { continue };
            if connection.is_open() {
                continue;
            }
            // If one fails, the others would fail as well. They are tried again at the next tick.
            if connection.connect(self.poll.registry()).is_err() {
                return;
            }
            self.next(index);
        }
    }
}

fn step_timer(poll: &Poll) -> anyhow::Result<TimerFd> {
    let flags = TimerFlags::TFD_NONBLOCK | TimerFlags::TFD_CLOEXEC;
    let timer = TimerFd::new(ClockId::CLOCK_MONOTONIC, flags)?;
    timer.set(
        Expiration::Interval(TimeSpec::from_duration(OPEN_LOOP_STEP)),
        TimerSetTimeFlags::empty(),
    )?;
    let fd = timer.as_fd().as_raw_fd();
    poll.registry().register(&mut SourceFd(&fd), TIMER, Interest::READABLE)?;
    Ok(timer)
}
