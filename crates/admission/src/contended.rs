//! The rows that others hold, and the requests that wait for them.
//!
//! A row is in one of two places:
//! - [`Place::Lane`]: other batches take turns on it (its version moves). Its lane waits in the database, for as
//!   long as a batch needs.
//! - [`Place::Stuck`]: it does not move. Its requests wait here, without a connection, and the look (`look.rs`)
//!   tries the first of them from time to time.
//!
//! Only data: nothing here waits.

use std::{
    collections::{HashMap, HashSet, VecDeque},
    time::{Duration, Instant},
};

use holdfast_domain::ProductId;
use tokio::sync::mpsc;

use super::ticket::{Cause, Missing, Refusal, Row, Ticket};

/// Before the first look at a row, which then doubles up to [`PAUSE_MAX`].
const PAUSE_MIN: Duration = Duration::from_millis(10);
/// The longest time between two looks at a row.
const PAUSE_MAX: Duration = Duration::from_millis(100);

/// A row that is stuck for longer is told to the operator.
const TOLD_AFTER: Duration = Duration::from_secs(1);

/// The bounds of what waits.
#[derive(Clone, Copy, Debug)]
pub(super) struct Bounds {
    /// The most requests that wait for one row.
    pub row: usize,
    /// The most requests that wait for stuck rows together.
    pub stuck: usize,
    /// The most lanes.
    pub lanes: usize,
}

/// Where the requests for a contended row are.
enum Place {
    Lane(mpsc::Sender<Ticket>),
    Stuck(Stuck),
}

struct Stuck {
    queue: VecDeque<Ticket>,
    /// The version that the row had when it was last looked at.
    version: Option<i64>,
    since: Instant,
    look_at: Instant,
    pause: Duration,
    /// How many of its requests the look has. They count as waiting.
    looking: usize,
    /// Whether the last look got the row: then all of its requests are next.
    free: bool,
    doubt: Doubt,
    /// Whether an operator has been told.
    told: bool,
}

impl Stuck {
    fn len(&self) -> usize {
        self.queue.len() + self.looking
    }
}

impl Place {
    /// How many requests wait here without a connection and are not in the hands of the look.
    fn stuck(&self) -> usize {
        match self {
            Self::Lane(_) => 0,
            Self::Stuck(stuck) => stuck.queue.len(),
        }
    }
}

/// Whether a write of the row's requests waited for something that was not found out. Such a row is looked at by
/// itself, so that it does not hold up the others.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum Doubt {
    #[default]
    None,
    /// The write of a whole batch did.
    Batch,
    /// The write of the row's own requests did.
    Own,
}

/// A request that is not taken, and why.
pub(super) type Refused = (Ticket, Refusal);

/// A lane that is to be started.
pub(super) struct NewLane {
    pub product_id: ProductId,
    pub requests: mpsc::Receiver<Ticket>,
}

/// What the next look is about.
#[derive(Default)]
pub(super) struct Due {
    pub rows: Vec<Row>,
    pub tickets: Vec<Ticket>,
    /// Those that have waited for too long.
    pub late: Vec<Ticket>,
    /// Rows that have been stuck for [`TOLD_AFTER`], once each.
    pub long: Vec<Row>,
}

/// See the module's head.
pub(super) struct Contended {
    bounds: Bounds,
    places: HashMap<Row, Place>,
    lanes: usize,
    stuck: usize,
}

impl Contended {
    pub fn new(bounds: Bounds) -> Self {
        Self { bounds, places: HashMap::new(), lanes: 0, stuck: 0 }
    }

    /// How many rows are contended.
    pub fn len(&self) -> usize {
        self.places.len()
    }

    pub fn has(&self, row: &Row) -> bool {
        self.places.contains_key(row)
    }

    pub fn is_stuck(&self, row: &Row) -> bool {
        matches!(self.places.get(row), Some(Place::Stuck(_)))
    }

    /// Whether one of these rows is stuck.
    pub fn has_stuck(&self, mut rows: impl Iterator<Item = Row>) -> bool {
        rows.any(|row| self.is_stuck(&row))
    }

    /// Puts a request to those that wait for a contended row. Gives back one that is not taken, and why.
    pub fn push(&mut self, row: &Row, ticket: Ticket) -> Option<Refused> {
        match self.places.get_mut(row) {
            Some(Place::Lane(lane)) => match lane.try_send(ticket) {
                Ok(()) => None,
                Err(mpsc::error::TrySendError::Full(ticket)) => Some((ticket, Refusal::Full)),
                Err(mpsc::error::TrySendError::Closed(ticket)) => {
                    Some((ticket, Refusal::ShuttingDown))
                }
            },
            Some(Place::Stuck(stuck)) => {
                if self.stuck >= self.bounds.stuck || stuck.len() >= self.bounds.row {
                    return Some((ticket, Refusal::Full));
                }
                self.stuck += 1;
                stuck.queue.push_back(ticket);
                None
            }
            None => Some((ticket, Refusal::LockTimeout)),
        }
    }

    /// Puts a request to those that wait for the row that it misses, which becomes contended by that. If
    /// the row `moves`, it gets a lane, which is to be started.
    pub fn enter(
        &mut self,
        Missing { ticket, row, cause }: Missing,
        version: Option<i64>,
        moves: bool,
    ) -> (Option<NewLane>, Option<Refused>) {
        if self.has(&row) {
            return (None, self.push(&row, ticket));
        }
        if let (Row::Product(product_id), true) = (row, moves && self.lanes < self.bounds.lanes) {
            let lane = self.open_lane(product_id);
            return (Some(lane), self.push(&row, ticket));
        }
        let now = Instant::now();
        let stuck = Stuck {
            queue: VecDeque::new(),
            version,
            since: now,
            look_at: now + PAUSE_MIN,
            pause: PAUSE_MIN,
            looking: 0,
            free: false,
            told: false,
            doubt: if cause == Cause::Write { Doubt::Batch } else { Doubt::None },
        };
        self.places.insert(row, Place::Stuck(stuck));
        let refused = self.push(&row, ticket);
        if refused.is_some() {
            self.places.remove(&row);
        }
        (None, refused)
    }

    fn open_lane(&mut self, product_id: ProductId) -> NewLane {
        let (sender, requests) = mpsc::channel(self.bounds.row.max(1));
        self.places.insert(Row::Product(product_id), Place::Lane(sender));
        self.lanes += 1;
        NewLane { product_id, requests }
    }

    /// The lane ends, unless there is work in it.
    pub fn end_lane(&mut self, product_id: ProductId, requests: &mpsc::Receiver<Ticket>) -> bool {
        let ends = requests.is_empty();
        if ends && self.places.remove(&Row::Product(product_id)).is_some() {
            self.lanes -= 1;
        }
        ends
    }

    /// A lane has found its row stuck: its requests wait here from now on, `missing` first. Gives back those for which
    /// there is no room.
    pub fn lane_stuck(
        &mut self,
        product_id: ProductId,
        missing: Vec<Ticket>,
        requests: &mut mpsc::Receiver<Ticket>,
    ) -> Vec<Refused> {
        if self.places.remove(&Row::Product(product_id)).is_some() {
            self.lanes -= 1;
        }
        let queued = std::iter::from_fn(|| requests.try_recv().ok());
        let mut left_over = Vec::new();
        for ticket in missing.into_iter().chain(queued) {
            let missing = Missing { ticket, row: Row::Product(product_id), cause: Cause::Locked };
            if let (_, Some(refused)) = self.enter(missing, None, false) {
                left_over.push(refused);
            }
        }
        left_over
    }

    /// When the next look is due.
    pub fn next_look(&self) -> Option<Instant> {
        let looks = self.places.values().filter_map(|place| match place {
            Place::Stuck(stuck) if stuck.looking == 0 => Some(stuck.look_at),
            _ => None,
        });
        looks.min()
    }

    /// Takes the requests for a look at all rows that are due by `now`, at most `max` of them. Of a row that was
    /// not free at the last look, the first request only.
    pub fn take_due(&mut self, now: Instant, max: usize, is_late: impl Fn(&Ticket) -> bool) -> Due {
        let mut due = Due::default();
        let mut rows: Vec<_> = self
            .places
            .iter_mut()
            .filter_map(|(row, place)| match place {
                Place::Stuck(stuck) if stuck.looking == 0 && stuck.look_at <= now => {
                    while let Some(ticket) =
                        stuck.queue.pop_front_if(|ticket| ticket.is_abandoned() || is_late(ticket))
                    {
                        self.stuck -= 1;
                        due.late.push(ticket);
                    }
                    let stuck_for = now.saturating_duration_since(stuck.since);
                    if stuck_for > TOLD_AFTER && !std::mem::replace(&mut stuck.told, true) {
                        due.long.push(*row);
                    }
                    Some((stuck.look_at, stuck.free, stuck.doubt != Doubt::None, *row))
                }
                _ => None,
            })
            .collect();
        rows.sort_unstable_by_key(|(look_at, ..)| *look_at);
        // The rows in doubt take turns with the others, each alone.
        match rows.first() {
            Some((.., true, _)) => rows.truncate(1),
            _ => rows.retain(|(_, _, in_doubt, _)| !in_doubt),
        }
        rows.sort_by_key(|(_, free, ..)| *free);
        for (.., row) in rows {
            let Some(Place::Stuck(stuck)) = self.places.get_mut(&row) else { continue };
            if stuck.queue.is_empty() {
                self.places.remove(&row);
                continue;
            }
            let room = max.saturating_sub(due.tickets.len());
            let count = if stuck.free { stuck.queue.len() } else { 1 }.min(room);
            if count == 0 {
                continue;
            }
            due.tickets.extend(stuck.queue.drain(..count));
            stuck.looking = count;
            due.rows.push(row);
        }
        due.tickets.sort_by_key(|ticket| ticket.arrived);
        due
    }

    /// Puts back the requests of a look that still miss their row, in their order, and says what became of
    /// the rows that were looked at. `versions` are those of the rows that are still locked. Gives back the lanes that
    /// are to be started, for how long the rows that became free had been stuck, and the requests that miss another row.
    pub fn looked(
        &mut self,
        rows: &[Row],
        missing: Vec<Missing>,
        versions: impl Fn(&Row) -> Option<i64>,
    ) -> Looked {
        let now = Instant::now();
        let mut looked = Looked::default();
        let mut causes: HashMap<Row, Cause> = HashMap::new();
        let of_the_look: HashSet<_> = rows.iter().collect();
        for missing in missing.into_iter().rev() {
            let of_the_look = of_the_look.contains(&missing.row);
            let place = of_the_look.then(|| self.places.get_mut(&missing.row));
            if let Some(Some(Place::Stuck(stuck))) = place {
                stuck.queue.push_front(missing.ticket);
                causes.insert(missing.row, missing.cause);
            } else {
                looked.elsewhere.push(missing);
            }
        }
        looked.elsewhere.reverse();
        self.stuck = self.places.values().map(Place::stuck).sum();
        let mut doubt_is_over = false;
        for row in rows {
            let Some(Place::Stuck(stuck)) = self.places.get_mut(row) else { continue };
            stuck.looking = 0;
            let Some(cause) = causes.get(row) else {
                doubt_is_over |= stuck.doubt != Doubt::None;
                stuck.doubt = Doubt::None;
                stuck.free = true;
                stuck.look_at = now;
                stuck.pause = PAUSE_MIN;
                looked.free.push(now.saturating_duration_since(stuck.since));
                stuck.since = now;
                if stuck.queue.is_empty() {
                    self.places.remove(row);
                }
                continue;
            };
            let version = versions(row);
            let moved = version.is_some() && stuck.version.is_some() && version != stuck.version;
            stuck.free = false;
            stuck.doubt = match (cause, rows.len()) {
                (Cause::Locked, _) => Doubt::None,
                (Cause::Write, 1) => Doubt::Own,
                (Cause::Write, _) => Doubt::Batch,
            };
            stuck.version = version.or(stuck.version);
            stuck.pause = (stuck.pause * 2).min(PAUSE_MAX);
            stuck.look_at = now + stuck.pause;
            if let (Row::Product(product_id), true) = (row, moved && self.lanes < self.bounds.lanes)
            {
                looked.lanes.extend(self.promote(*product_id));
            }
        }
        if doubt_is_over {
            for place in self.places.values_mut() {
                if let Place::Stuck(stuck) = place
                    && stuck.doubt == Doubt::Batch
                {
                    stuck.doubt = Doubt::None;
                }
            }
        }
        looked
    }

    /// Gives a stuck row that moves a lane.
    fn promote(&mut self, product_id: ProductId) -> Option<NewLane> {
        let row = Row::Product(product_id);
        let Some(Place::Stuck(stuck)) = self.places.remove(&row) else { return None };
        self.stuck -= stuck.queue.len();
        let lane = self.open_lane(product_id);
        for ticket in stuck.queue {
            // A lane has room for as many as may wait for a stuck row.
            let _ = self.push(&row, ticket);
        }
        Some(lane)
    }
}

/// What a look has found.
#[derive(Default)]
pub(super) struct Looked {
    pub lanes: Vec<NewLane>,
    pub free: Vec<Duration>,
    pub elsewhere: Vec<Missing>,
}
