//! A large answer that is charged to the budget until it is sent.

use std::{
    pin::Pin,
    task::{Context, Poll, ready},
};

use axum::body::Body;
use bytes::Bytes;
use hyper::body::{Frame, SizeHint};

use crate::byte_budget::Charge;

/// A body whose bytes are charged until they are sent.
pub(super) struct Charged {
    body: Body,
    /// Taken by the first frame, because most bodies have only one.
    charge: Option<Charge>,
}

impl Charged {
    pub(super) fn new(body: Body, charge: Charge) -> Self {
        Self { body, charge: Some(charge) }
    }
}

impl hyper::body::Body for Charged {
    type Data = Bytes;
    type Error = axum::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, axum::Error>>> {
        let frame = ready!(Pin::new(&mut self.body).poll_frame(context));
        Poll::Ready(frame.map(|frame| {
            frame.map(|frame| {
                frame.map_data(|data| match self.charge.take() {
                    Some(charge) => charge.held_by(data),
                    None => data,
                })
            })
        }))
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}
