//! The parameters of a query string, read so that one answer names every wrong one.

use std::borrow::Cow;

use holdfast_domain::Invalid;

use crate::{
    cursor::{CURSOR, Position, Scope},
    problem::{FieldError, Problem},
};

/// The parameters of a query string.
#[derive(Debug)]
pub struct Query<'q> {
    pairs: Vec<(Cow<'q, str>, Cow<'q, str>)>,
    errors: Vec<FieldError>,
}

impl<'q> Query<'q> {
    /// Reads what stands behind the question mark. Unknown parameters are passed over.
    pub fn read(query: Option<&'q str>) -> Self {
        let pairs = form_urlencoded::parse(query.unwrap_or_default().as_bytes()).collect();
        Self { pairs, errors: Vec::new() }
    }

    /// A whole number within `range`, if the parameter is there.
    pub fn integer(
        &mut self,
        name: &'static str,
        range: std::ops::RangeInclusive<i64>,
    ) -> Option<i64> {
        let text = self.take(name)?;
        let number = text.parse().ok().filter(|number| range.contains(number));
        // "+1" is not how a number is written here.
        let number = number.filter(|_| !text.starts_with('+'));
        if number.is_none() {
            let (first, last) = range.into_inner();
            let detail = if last == i64::MAX {
                format!("must be a whole number from {first} on")
            } else {
                format!("must be a whole number from {first} to {last}")
            };
            self.errors.push(FieldError::new(name, detail));
        }
        number
    }

    /// Anything that can be read from a text, if the parameter is there; `must` says what.
    pub fn parsed<T: std::str::FromStr>(
        &mut self,
        name: &'static str,
        must: impl FnOnce() -> String,
    ) -> Option<T> {
        let text = self.take(name)?;
        let value = text.parse().ok();
        if value.is_none() {
            self.errors.push(FieldError::new(name, must()));
        }
        value
    }

    /// Behind which row a page begins, if the parameter is there. To be read after all filters: with
    /// a wrong one, nobody can say whether the cursor is good.
    pub fn cursor<P: Position>(&mut self, scope: &Scope) -> Option<P> {
        let wrong_filters = !self.errors.is_empty();
        let text = self.take(CURSOR).filter(|_| !wrong_filters)?;
        scope.position(&text).map_err(|Invalid(reason)| self.wrong(CURSOR, reason)).ok()
    }

    /// Whether a parameter is there.
    pub fn has(&self, name: &str) -> bool {
        self.pairs.iter().any(|(key, _)| key == name)
    }

    /// Says that a parameter is wrong for a reason that only the endpoint knows.
    pub fn wrong(&mut self, name: &'static str, detail: impl Into<Cow<'static, str>>) {
        self.errors.push(FieldError::new(name, detail));
    }

    /// To be called when all parameters have been read.
    ///
    /// # Errors
    /// Every parameter that was wrong.
    pub fn finish(self) -> Result<(), Problem> {
        if self.errors.is_empty() { Ok(()) } else { Err(Problem::validation(self.errors)) }
    }

    fn take(&mut self, name: &'static str) -> Option<Cow<'q, str>> {
        let mut values = self.pairs.iter().filter(|(key, _)| key == name).map(|(_, value)| value);
        let first = values.next()?.clone();
        if values.next().is_some() {
            self.errors.push(FieldError::new(name, "must not be given twice"));
            return None;
        }
        Some(first)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_wrong_parameter_is_named() {
        let mut query =
            Query::read(Some("limit=0&skip=x&after=7&after=8&status=%70ending&other=1"));
        assert_eq!(query.integer("limit", 1..=1000), None);
        assert_eq!(query.integer("skip", 0..=10), None);
        assert_eq!(query.integer("after", 0..=i64::MAX), None);
        assert_eq!(query.integer("before", 0..=i64::MAX), None);
        assert_eq!(
            query.parsed::<holdfast_domain::OrderStatus>("status", String::new),
            Some(holdfast_domain::OrderStatus::Pending)
        );
        let problem = query.finish().unwrap_err();
        assert_eq!(problem.fields().collect::<Vec<_>>(), ["limit", "skip", "after"]);
    }
}
