//! stub
pub fn render(_: &super::model::Run) -> String { String::new() }
