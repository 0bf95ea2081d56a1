//! Rejects variables with the prefix of settings that no program reads, because a misspelt name must not be ignored.

use strsim::damerau_levenshtein;

const PREFIX: &str = "HOLDFAST_";
/// The settings of all programs, one per line, because programs may share an environment. The test of `docs/settings.md`
/// generates the file.
const KNOWN: &str = include_str!("known_settings.txt");
/// Variables for tests, builds and the sandbox; see CONTRIBUTING.md.
const OF_DEVELOPERS: &str = include_str!("developer_variables.txt");
const OF_SANDBOX: &str = "HOLDFAST_SANDBOX_";

/// A sentence about the first variable that is not a setting.
pub(crate) fn sentence(
    variables: impl Iterator<Item = (String, String)>,
    own: &[String],
) -> Option<String> {
    let mut unknown: Vec<_> = variables
        .filter(|(name, value)| {
            name.starts_with(PREFIX)
                && !own.contains(name)
                && !is_known(name)
                && !is_service_link(name, value)
        })
        .map(|(name, _)| name)
        .collect();
    unknown.sort();
    let name = unknown.first()?;
    let known = KNOWN.lines().filter(|known| known.starts_with(PREFIX));
    let closest = known.min_by_key(|known| damerau_levenshtein(known, name))?;
    Some(format!("{name} is not a setting; the one with the closest name is {closest}."))
}

fn is_known(name: &str) -> bool {
    KNOWN.lines().chain(OF_DEVELOPERS.lines()).any(|known| known == name)
        || name.starts_with(OF_SANDBOX)
}

/// Whether Kubernetes sets the variable for a Service such as `holdfast-api`, or Docker for a link.
fn is_service_link(name: &str, value: &str) -> bool {
    let number = |text: &str| !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
    // HOLDFAST_API_PORT_80_TCP, …_TCP_ADDR
    let of_port = |name: &str| {
        let mut parts =
            name.rsplit('_').skip_while(|part| ["ADDR", "PORT", "PROTO"].contains(part));
        let protocol = parts.next().is_some_and(|part| ["TCP", "UDP", "SCTP"].contains(&part));
        protocol && parts.next().is_some_and(number) && parts.next() == Some("PORT")
    };
    let is_url = ["tcp://", "udp://", "sctp://"].iter().any(|scheme| value.starts_with(scheme));
    let numbered = number(value);
    name.ends_with("_SERVICE_HOST")
        || (name.ends_with("_SERVICE_PORT") || name.contains("_SERVICE_PORT_")) && numbered
        || name.ends_with("_PORT") && is_url
        || of_port(name)
        || name.ends_with("_NAME") && value.starts_with('/')
        || name.contains("_ENV_")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn about(name: &str, value: &str) -> Option<String> {
        sentence([(name.to_owned(), value.to_owned())].into_iter(), &[])
    }

    #[test]
    fn a_misspelt_name_is_reported_with_the_closest_one() {
        for (name, closest) in [
            ("HOLDFAST_MAX_QUANTTY", "HOLDFAST_MAX_QUANTITY"),
            ("HOLDFAST_LOGS", "HOLDFAST_LOG"),
            ("HOLDFAST_WORKER_CONCURENCY", "HOLDFAST_WORKER_CONCURRENCY"),
            ("HOLDFAST_HTTP_PORT", "HOLDFAST_HTTP_ADDR"),
        ] {
            let sentence = about(name, "1").unwrap();
            assert!(sentence.starts_with(&format!("{name} is not a setting")), "{sentence}");
            assert!(sentence.ends_with(&format!(" {closest}.")), "{sentence}");
        }
    }

    #[test]
    fn known_settings_and_foreign_variables_are_accepted() {
        for (name, value) in [
            ("HOLDFAST_MAX_QUANTITY", "x"),
            ("HOLDFAST_WORKER_CONCURRENCY", "1"),
            ("HOLDFAST_OPERATOR_NAMESPACE", "shop"),
            ("HOLDFAST_SANDBOX_FOLDER", "/tmp"),
            ("HOLDFAST_COMMIT", "abc"),
            ("HOLDFAST_API_SERVICE_HOST", "10.96.0.7"),
            ("HOLDFAST_API_SERVICE_PORT", "80"),
            ("HOLDFAST_API_SERVICE_PORT_HTTP", "80"),
            ("HOLDFAST_API_PORT", "tcp://10.96.0.7:80"),
            ("HOLDFAST_API_PORT_80_TCP", "tcp://10.96.0.7:80"),
            ("HOLDFAST_API_PORT_80_TCP_PROTO", "tcp"),
            ("HOLDFAST_API_PORT_80_TCP_PORT", "80"),
            ("HOLDFAST_API_PORT_80_TCP_ADDR", "10.96.0.7"),
            ("HOLDFAST_API_NAME", "/worker/holdfast-api"),
            ("HOLDFAST_API_ENV_PATH", "/bin"),
            ("HOLDFAS_LOG", "of another program"),
            ("PATH", "/bin"),
        ] {
            assert_eq!(about(name, value), None, "{name}");
        }
        assert!(about("HOLDFAST_API_PORT", "80").is_some(), "a person has set this one");
    }
}
