//! `POST /holds`

use std::time::Duration;

use axum::{
    extract::State,
    http::{HeaderValue, Method, header},
};
use holdfast_admission::{HoldDecision, HoldStock, Refusal};
use holdfast_domain::{CustomerRef, HoldStatus, Invalid, Money, ProductId, Quantity};
use holdfast_store::IdempotencyKey;
use utoipa::openapi::{RefOr, Schema};

use crate::{
    access::{Caller, Scope},
    app::App,
    endpoint::{ADMISSION, Access, Created, Endpoint, LOCATION, REPLAYED, Tag},
    holds::{HoldBody, HoldState},
    idempotency::{self, ClientKey, add_price, add_texts},
    limits::OrderLimits,
    problem::{Problem, ProblemKind},
    request::{
        Input, KeyedBody, NamedCustomer, Reading, Request, Value, Wrong, integer, whole_number,
    },
};

/// The default duration of a hold.
const HOLD_DEFAULT: Duration = Duration::from_mins(15);

pub(super) const ENDPOINT: Endpoint = Endpoint {
    method: Method::POST,
    path: "/holds",
    path_example: "",
    access: Access::Customers(Scope::OrdersWrite),
    tag: Tag::Holds,
    operation_id: "create_hold",
    summary: "Hold units of a product",
    description: "The answer 201 means that the units are reserved: they are not sold to other customers until \
                  the hold expires. An order that names the hold gets the units at the price that they had when the \
                  hold was created. Units that are not ordered in time are returned to stock.",
    answer: "The hold; if the request is a repetition, the hold in its current state",
    headers: &[LOCATION, REPLAYED],
    problems: &[
        &[
            ProblemKind::NotFound,
            ProblemKind::NotEnoughStock,
            ProblemKind::SaleNotOpen,
            ProblemKind::SaleOver,
            ProblemKind::OverLimit,
            ProblemKind::PriceChanged,
        ],
        ADMISSION,
    ],
};

/// A new hold.
#[derive(Debug, Request)]
#[request(example("Two units for ten minutes", {
    "product_id": 3, "quantity": 2, "seconds": 600, "customer_ref": "customer-42"
}))]
pub struct NewHold {
    /// The id of the product.
    #[field(example = 3)]
    product_id: ProductId,
    /// The number of units.
    #[field(example = 2)]
    quantity: Quantity,
    /// The duration in seconds; 900 if not given, at most 86,400 by default.
    #[field(example = 600)]
    seconds: Option<HoldTime>,
    /// The shop's reference for the customer: 1 to 200 characters.
    #[field(example = "customer-42")]
    customer_ref: Option<NamedCustomer>,
    /// The price of one unit that the customer has seen. If the price is another one, nothing is held: 409
    /// `price-changed`.
    #[field(example = 499.90)]
    expected_price: Option<Money>,
}

/// The duration of a hold, in seconds.
#[derive(Clone, Copy, Debug)]
struct HoldTime(Duration);

impl Value for HoldTime {
    fn read(input: Input<'_>, reading: &Reading<'_>) -> Result<Self, Wrong> {
        let most = i64::try_from(reading.limits.hold.as_secs()).unwrap_or(i64::MAX);
        let seconds = whole_number(input, 1, most)?;
        let seconds =
            u64::try_from(seconds).map_err(|_| Invalid::from("must be greater than 0"))?;
        Ok(Self(Duration::from_secs(seconds)))
    }

    fn schema() -> RefOr<Schema> {
        integer().minimum(Some(1)).into()
    }
}

impl NewHold {
    /// The hold that a caller requests.
    ///
    /// # Errors
    /// The id of the product is less than 1, so the product cannot exist.
    pub fn of(
        self,
        caller: &Caller,
        key: Option<&ClientKey>,
        limits: &OrderLimits,
    ) -> Result<HoldStock, Problem> {
        let Self { product_id, quantity, seconds, customer_ref, expected_price } = self;
        if product_id.0 < 1 {
            return Err(Problem::unknown_product(product_id.0));
        }
        let customer_ref = NamedCustomer::or_own(customer_ref, caller);
        let lasts = seconds.map_or(HOLD_DEFAULT.min(limits.hold), |HoldTime(time)| time);
        let key = key.map(|key| {
            let mut request = format!("hold;{product_id},{},{}", quantity.units(), lasts.as_secs());
            add_price(&mut request, expected_price);
            add_texts(&mut request, [customer_ref.as_ref().map(CustomerRef::as_str)]);
            IdempotencyKey::new(caller.key_space(), key.as_str(), request.as_bytes())
        });
        Ok(HoldStock { product_id, quantity, expected_price, lasts, customer_ref, key })
    }
}

pub(super) async fn create(
    State(app): State<App>,
    caller: Caller,
    KeyedBody { key, body }: KeyedBody<NewHold>,
) -> Result<Created<HoldBody>, Problem> {
    match app.admission.hold(body.of(&caller, key.as_ref(), &app.limits)?).await? {
        HoldDecision::Accepted(hold) => created(&HoldBody {
            id: hold.id.0,
            product_id: hold.product_id.0,
            quantity: hold.quantity.units(),
            unit_price: hold.unit_price.to_major_f64(),
            status: HoldState(HoldStatus::Active),
            customer_ref: hold.customer_ref.map(CustomerRef::into_inner),
            expires_at: hold.created_at.checked_add(hold.lasts).map_err(Problem::internal)?.into(),
            created_at: hold.created_at.into(),
            order_id: None,
        }),
        HoldDecision::Repeated(id) => {
            let hold = app.store.hold(id).await?;
            let hold = hold.ok_or_else(|| Problem::internal(Refusal::Internal))?;
            let answer = created(&HoldBody::from(hold))?;
            Ok(answer.with(idempotency::REPEATED, HeaderValue::from_static("true")))
        }
    }
}

fn created(hold: &HoldBody) -> Result<Created<HoldBody>, Problem> {
    let location = HeaderValue::from_str(&format!("/holds/{}", hold.id));
    Ok(Created::new(hold).with(header::LOCATION, location.map_err(Problem::internal)?))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::request::tests::{LIMITS, read, wrong};

    #[test]
    fn the_duration_of_a_hold_is_limited() {
        let with =
            |seconds: &str| format!(r#"{{"product_id":1,"quantity":1,"seconds":{seconds}}}"#);
        for seconds in
            ["-1", "0", "3601", "315360000", "1.5", "\"60\"", "1e30", "9223372036854775808"]
        {
            assert_eq!(wrong::<NewHold>(&with(seconds)), ["seconds"], "{seconds}");
        }
        let lasts = |body: &str| {
            let hold = read::<NewHold>(body).unwrap().of(&Caller::anybody(), None, &LIMITS);
            hold.unwrap().lasts
        };
        assert_eq!(lasts(&with("3600")), Duration::from_hours(1));
        assert_eq!(lasts(r#"{"product_id":1,"quantity":1}"#), Duration::from_mins(15));
    }
}
