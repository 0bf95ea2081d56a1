//! The description of an endpoint that is derived from its handler's signature.

use axum::{
    extract::State,
    http::{StatusCode, Uri},
};
use utoipa::openapi::{
    ContentBuilder, Ref, RefOr, Required, Schema,
    example::ExampleBuilder,
    path::{Parameter, ParameterBuilder, ParameterIn},
    request_body::{RequestBody, RequestBodyBuilder},
};

use crate::{
    access::Caller,
    app::App,
    problem::{FieldError, Problem, ProblemKind},
};

/// The parameters, body and answers of an endpoint.
#[derive(Clone, Default)]
pub struct Description {
    /// Parameters in path, query and headers.
    pub parameters: Vec<Parameter>,
    pub body: Option<RequestBody>,
    /// Successful answers, with the schema of their body.
    pub answers: Vec<(StatusCode, Option<RefOr<Schema>>)>,
    /// The type of a successful answer's body; `None`: JSON.
    pub media_type: Option<&'static str>,
    /// Whether the header `Link` has the next page.
    pub is_page: bool,
    /// Possible problems.
    pub problems: Vec<ProblemKind>,
    /// Wrong fields for the example of that problem.
    pub wrong: Vec<FieldError>,
    /// Named schemas.
    pub components: Vec<(String, RefOr<Schema>)>,
}

impl Description {
    /// Adds a parameter. Path parameters are required, and all others are optional.
    pub fn parameter(
        &mut self,
        parameter_in: ParameterIn,
        name: &str,
        description: &str,
        schema: RefOr<Schema>,
    ) {
        let required = match parameter_in {
            ParameterIn::Path => Required::True,
            _ => Required::False,
        };
        let parameter = ParameterBuilder::new()
            .name(name)
            .parameter_in(parameter_in)
            .description(Some(description))
            .required(required)
            .schema(Some(schema));
        self.parameters.push(parameter.build());
    }

    /// Adds a JSON body with a schema of this name, and examples with their titles.
    pub fn body(&mut self, schema: &str, examples: Vec<(&'static str, serde_json::Value)>) {
        let examples = examples.into_iter().map(|(summary, value)| {
            let name = summary.to_lowercase().replace(' ', "_");
            (name, ExampleBuilder::new().summary(summary).value(Some(value)).build())
        });
        let content = ContentBuilder::new()
            .schema(Some(Ref::from_schema_name(schema)))
            .examples_from_iter(examples)
            .build();
        let body = RequestBodyBuilder::new()
            .content("application/json", content)
            .required(Some(Required::True));
        self.body = Some(body.build());
        self.may_answer(&[
            ProblemKind::SlowRequest,
            ProblemKind::BodyTooLarge,
            ProblemKind::UnsupportedMediaType,
        ]);
    }

    /// Adds possible problems.
    pub fn may_answer(&mut self, problems: &[ProblemKind]) {
        for problem in problems {
            if !self.problems.contains(problem) {
                self.problems.push(*problem);
            }
        }
    }

    /// Adds a wrong field for the example.
    pub fn may_be_wrong(&mut self, error: FieldError) {
        self.may_answer(&[ProblemKind::Validation]);
        self.wrong.push(error);
    }
}

/// An argument of a handler.
pub trait Argument {
    /// Adds what the argument reads from a request.
    fn describe(_: &mut Description) {}
}

impl Argument for State<App> {}
impl Argument for Caller {}
impl Argument for Uri {}

/// A successful answer of a handler.
pub trait Answer {
    /// Adds the answer.
    fn describe(description: &mut Description);
}

impl<A: Answer> Answer for Result<A, Problem> {
    fn describe(description: &mut Description) {
        A::describe(description);
    }
}

/// A handler whose arguments and answer describe themselves.
pub trait Signature<Arguments> {
    /// Adds their descriptions.
    fn describe(description: &mut Description);
}

macro_rules! signatures {
    ($(($($argument:ident)*))+) => {$(
        impl<Function, Future, $($argument),*> Signature<($($argument,)*)> for Function
        where
            Function: Fn($($argument),*) -> Future,
            Future: std::future::Future,
            Future::Output: Answer,
            $($argument: Argument,)*
        {
            fn describe(description: &mut Description) {
                $($argument::describe(description);)*
                Future::Output::describe(description);
            }
        }
    )+};
}

signatures! { () (A) (A B) (A B C) (A B C D) (A B C D E) }
