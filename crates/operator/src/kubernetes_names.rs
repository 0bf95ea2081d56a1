//! The syntax of names and labels in Kubernetes.

/// Whether this is a valid label key: a name of up to 63 characters, optionally after a DNS name and a slash.
pub fn is_label_key(key: &str) -> bool {
    let (prefix, name) = match key.split_once('/') {
        Some((prefix, name)) => (Some(prefix), name),
        None => (None, key),
    };
    prefix.is_none_or(is_dns_name) && !name.is_empty() && is_label_value(name)
}

/// Whether this is a valid label value: empty, or at most 63 letters, digits, `-`, `_` and `.`, with a letter or digit
/// at both ends.
pub fn is_label_value(value: &str) -> bool {
    let inner = |sign: u8| sign.is_ascii_alphanumeric() || b"-_.".contains(&sign);
    value.len() <= 63
        && value.bytes().all(inner)
        && value.bytes().next().is_none_or(|sign| sign.is_ascii_alphanumeric())
        && value.bytes().last().is_none_or(|sign| sign.is_ascii_alphanumeric())
}

/// Whether this is a DNS name (RFC 1123): labels of [`is_dns_label`] with dots between them, at
/// most 253 characters.
pub fn is_dns_name(name: &str) -> bool {
    name.len() <= 253 && name.split('.').all(is_dns_label)
}

/// Whether this is a label of a DNS name: 1 to 63 lower-case letters, digits and `-`, with a letter or digit at both
/// ends. Namespaces and Services have such names.
pub fn is_dns_label(label: &str) -> bool {
    let alphanumeric = |sign: &u8| sign.is_ascii_lowercase() || sign.is_ascii_digit();
    label.len() <= 63
        && label.as_bytes().first().is_some_and(alphanumeric)
        && label.as_bytes().last().is_some_and(alphanumeric)
        && label.bytes().all(|sign| alphanumeric(&sign) || sign == b'-')
}
