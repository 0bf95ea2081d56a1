//! `PUT /sales/{name}`

use std::collections::BTreeSet;

use axum::{Json, extract::State, http::Method};
use holdfast_domain::{Invalid, MAX_PER_CUSTOMER, MAX_SALE_PRODUCTS, ProductId, Sale, SaleName};
use holdfast_store::PutSaleError;
use jiff::Timestamp;
use utoipa::openapi::{RefOr, Schema};

use crate::{
    access::Scope,
    app::App,
    endpoint::{Access, Endpoint, Tag, WRITES},
    problem::{FieldError, Problem, ProblemKind},
    request::{
        Input, JsonBody, PathArgument, Reading, Request, Value, Wrong, array_between, date_time,
        integer_between, whole_number,
    },
    sales::SaleBody,
};

pub(super) const ENDPOINT: Endpoint = Endpoint {
    method: Method::PUT,
    path: "/sales/{name}",
    path_example: "black-friday",
    access: Access::Shop(Scope::Admin),
    tag: Tag::Sales,
    operation_id: "put_sale",
    summary: "Create or change a flash sale",
    description: "Orders and holds for its products are refused before its start and after its end, by the \
                  database's clock, on every replica. The change applies to every order that is placed after the \
                  answer. With `per_customer`, every order and hold for its products needs a `customer_ref`. \
                  Units in a hold can also be ordered after the end.\n\n\
                  If a product is in several sales, it can be ordered while any of them is open, and the strictest \
                  limit applies.",
    answer: "The sale in its current state",
    headers: &[],
    problems: &[&[ProblemKind::SaleBegun, ProblemKind::TooManySales], WRITES],
};

/// The new settings of a flash sale.
#[derive(Debug, Request)]
#[request(example("One hour, two units for each customer", {
    "products": [7],
    "starts_at": "2036-11-27T10:00:00Z",
    "ends_at": "2036-11-27T11:00:00Z",
    "per_customer": 2
}))]
pub struct NewSale {
    /// The ids of the products.
    #[field(example = [3])]
    products: SaleProducts,
    /// The time from which orders are accepted.
    #[field(example = "2036-11-27T10:00:00Z")]
    starts_at: SaleTime,
    /// The time from which orders are no longer accepted; must be after the start.
    #[field(example = "2036-11-27T11:00:00Z")]
    ends_at: SaleTime,
    /// The most units of one product for one customer; no limit if not given.
    per_customer: Option<CustomerUnits>,
    /// Whether the sale stays closed after its start until this is changed; false if not given.
    held_back: Option<bool>,
}

/// Products of a sale.
#[derive(Debug)]
struct SaleProducts(BTreeSet<ProductId>);

impl Value for SaleProducts {
    fn read(input: Input<'_>, _: &Reading<'_>) -> Result<Self, Wrong> {
        let ids = input.elements(MAX_SALE_PRODUCTS).filter(|ids| !ids.is_empty());
        let ids = ids.and_then(|ids| ids.into_iter().map(|id| id.integer().ok()).collect());
        let ids: Vec<i64> = ids.ok_or_else(|| {
            Invalid::from(format!("must be an array of 1 to {MAX_SALE_PRODUCTS} product ids"))
        })?;
        Ok(Self(ids.into_iter().map(ProductId).collect()))
    }

    fn schema() -> RefOr<Schema> {
        array_between(i64::schema(), 1, MAX_SALE_PRODUCTS)
    }
}

/// A time rounded to microseconds, as the database stores it.
#[derive(Clone, Copy, Debug)]
struct SaleTime(Timestamp);

impl Value for SaleTime {
    fn read(input: Input<'_>, _: &Reading<'_>) -> Result<Self, Wrong> {
        let time = input.text()?.parse::<Timestamp>().ok();
        time.and_then(|time| Timestamp::from_microsecond(time.as_microsecond()).ok())
            .map(Self)
            .ok_or_else(|| "must be a time with its offset, such as 2026-11-27T10:00:00Z".into())
    }

    fn schema() -> RefOr<Schema> {
        date_time()
    }
}

/// The most units for one customer.
#[derive(Clone, Copy, Debug)]
struct CustomerUnits(u32);

impl Value for CustomerUnits {
    fn read(input: Input<'_>, _: &Reading<'_>) -> Result<Self, Wrong> {
        let units = whole_number(input, 1, MAX_PER_CUSTOMER.into())?;
        Ok(Self(u32::try_from(units).map_err(|_| Invalid::from("is out of range"))?))
    }

    fn schema() -> RefOr<Schema> {
        integer_between(1, MAX_PER_CUSTOMER.into())
    }
}

impl NewSale {
    fn of(self, name: SaleName) -> Result<Sale, Problem> {
        let Self { products, starts_at, ends_at, per_customer, held_back } = self;
        if ends_at.0 <= starts_at.0 {
            let error = FieldError::new("ends_at", "must be after starts_at");
            return Err(Problem::validation(vec![error]));
        }
        Ok(Sale {
            name,
            products: products.0,
            starts_at: starts_at.0,
            ends_at: ends_at.0,
            per_customer: per_customer.map(|units| units.0),
            held_back: held_back.unwrap_or(false),
        })
    }
}

pub(super) async fn put(
    State(app): State<App>,
    PathArgument(name): PathArgument<SaleName>,
    JsonBody(sale): JsonBody<NewSale>,
) -> Result<Json<SaleBody>, Problem> {
    let sale = sale.of(name)?;
    app.store.put_sale(&sale).await.map_err(refused)?;
    tracing::info!(name = sale.name.as_str(), starts_at = %sale.starts_at, "a sale was recorded");
    let now = app.store.clock().await.map_err(Problem::after_change)?;
    Ok(Json(SaleBody::at(&sale, now)))
}

fn refused(error: PutSaleError) -> Problem {
    match error {
        PutSaleError::UnknownProducts(ids) => {
            let ids: Vec<_> = ids.iter().map(ToString::to_string).collect();
            let detail = format!("contains products that do not exist: {}", ids.join(", "));
            Problem::validation(vec![FieldError::new("products", detail)])
        }
        PutSaleError::TooManySales(id) => Problem::with_detail(
            ProblemKind::TooManySales,
            format!("Product {id} has reached the limit of sales. Delete one that is over."),
        ),
        PutSaleError::Full => Problem::new(ProblemKind::TooManySales),
        PutSaleError::Begun => Problem::new(ProblemKind::SaleBegun),
        PutSaleError::Archived(ids) => {
            let ids: Vec<_> = ids.iter().map(ToString::to_string).collect();
            let detail = format!(
                "is earlier than some archived orders, so per_customer cannot count all orders of these products: {}",
                ids.join(", ")
            );
            Problem::validation(vec![FieldError::new("starts_at", detail)])
        }
        PutSaleError::Store(error) => error.into(),
    }
}
