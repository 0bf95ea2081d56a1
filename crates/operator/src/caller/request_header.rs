//! Which clients may name callers in headers: the API server, identified by its client certificate.
//!
//! It works like `k8s.io/apiserver/pkg/authentication/request/headerrequest`, for which the ConfigMap is intended.

use std::{collections::BTreeMap, sync::Arc};

use http::{HeaderMap, HeaderName};
use rustls::{
    RootCertStore,
    pki_types::{CertificateDer, UnixTime},
    server::{WebPkiClientVerifier, danger::ClientCertVerifier},
};

use super::User;
use crate::authority::{CertificateError, common_name, crypto, parse_bundle};

const CLIENT_CA: &str = "requestheader-client-ca-file";
const ALLOWED_NAMES: &str = "requestheader-allowed-names";
const USERNAME_HEADERS: &str = "requestheader-username-headers";
const UID_HEADERS: &str = "requestheader-uid-headers";
const GROUP_HEADERS: &str = "requestheader-group-headers";
const EXTRA_PREFIXES: &str = "requestheader-extra-headers-prefix";

/// The trusted front proxies, and the headers in which they name the caller.
#[derive(Debug)]
pub struct RequestHeader {
    verifier: Arc<dyn ClientCertVerifier>,
    /// The trusted common names; if the list is empty, all are trusted.
    allowed_names: Vec<String>,
    username: Vec<HeaderName>,
    uid: Vec<HeaderName>,
    groups: Vec<HeaderName>,
    /// In lower case, as header names are.
    extra_prefixes: Vec<String>,
}

/// Why the contents of the ConfigMap cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum RequestHeaderError {
    /// Without an authority, the API server does not name callers.
    #[error("{0} is missing")]
    Missing(&'static str),
    #[error("{0} is not a list of names")]
    List(&'static str),
    #[error("{CLIENT_CA} cannot be used")]
    Authority(#[from] CertificateError),
    #[error("{CLIENT_CA} contains no certificate authority")]
    Verifier(#[from] rustls::server::VerifierBuilderError),
}

/// Why the caller is unknown. The details are not returned to the caller.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum NotIdentified {
    #[error("no client certificate was presented")]
    NoCertificate,
    /// Its authority is not trusted, or it is not valid now.
    #[error("the client certificate is not trusted")]
    NotBelieved,
    /// The authority is trusted, but not the common name.
    #[error("the client certificate's common name is not allowed to name callers")]
    NotAllowed,
    #[error("no user is named")]
    Unnamed,
    #[error("the trusted front proxies are not known yet")]
    NotYet,
}

impl RequestHeader {
    /// Reads the data of the ConfigMap `extension-apiserver-authentication`.
    pub fn from_config_map(data: &BTreeMap<String, String>) -> Result<Self, RequestHeaderError> {
        let bundle = data.get(CLIENT_CA).ok_or(RequestHeaderError::Missing(CLIENT_CA))?;
        let mut roots = RootCertStore::empty();
        // An invalid certificate does not affect the others in the bundle.
        roots.add_parsable_certificates(parse_bundle(bundle.as_bytes())?);
        let verifier =
            WebPkiClientVerifier::builder_with_provider(Arc::new(roots), Arc::new(crypto()))
                .build()?;
        let username = headers(data, USERNAME_HEADERS)?;
        if username.is_empty() {
            return Err(RequestHeaderError::Missing(USERNAME_HEADERS));
        }
        let extra_prefixes = list(data, EXTRA_PREFIXES)?;
        Ok(Self {
            verifier,
            allowed_names: list(data, ALLOWED_NAMES)?,
            username,
            uid: headers(data, UID_HEADERS)?,
            groups: headers(data, GROUP_HEADERS)?,
            extra_prefixes: extra_prefixes.iter().map(|name| name.to_ascii_lowercase()).collect(),
        })
    }

    /// The caller in the headers, if the client may name callers.
    pub fn user(
        &self,
        certificates: &[CertificateDer<'static>],
        headers: &HeaderMap,
        now: UnixTime,
    ) -> Result<User, NotIdentified> {
        let (certificate, intermediates) =
            certificates.split_first().ok_or(NotIdentified::NoCertificate)?;
        self.verifier
            .verify_client_cert(certificate, intermediates, now)
            .map_err(|_| NotIdentified::NotBelieved)?;
        let allowed = |name: String| self.allowed_names.contains(&name);
        if !self.allowed_names.is_empty() && !common_name(certificate).is_some_and(allowed) {
            return Err(NotIdentified::NotAllowed);
        }
        let first = |names: &[HeaderName]| {
            let mut values = names.iter().filter_map(|name| headers.get(name)?.to_str().ok());
            values.find(|value| !value.is_empty()).map(str::to_owned)
        };
        Ok(User {
            name: first(&self.username).ok_or(NotIdentified::Unnamed)?,
            uid: first(&self.uid).unwrap_or_default(),
            groups: self
                .groups
                .iter()
                .flat_map(|name| headers.get_all(name))
                .filter_map(|value| value.to_str().ok().map(str::to_owned))
                .collect(),
            extra: self.extra(headers),
        }
        .with_authenticated_group())
    }

    /// The values of headers such as `X-Remote-Extra-Scopes`. Keys are percent-encoded.
    fn extra(&self, headers: &HeaderMap) -> BTreeMap<String, Vec<String>> {
        let mut extra = BTreeMap::<String, Vec<String>>::new();
        for (name, value) in headers {
            let key = |prefix: &String| name.as_str().strip_prefix(prefix.as_str());
            let (Some(key), Ok(value)) = (self.extra_prefixes.iter().find_map(key), value.to_str())
            else {
                continue;
            };
            let key = percent_encoding::percent_decode_str(key).decode_utf8_lossy().into_owned();
            extra.entry(key).or_default().push(value.to_owned());
        }
        extra
    }
}

fn list(
    data: &BTreeMap<String, String>,
    key: &'static str,
) -> Result<Vec<String>, RequestHeaderError> {
    match data.get(key).map(String::as_str) {
        None | Some("") => Ok(Vec::new()),
        Some(text) => {
            holdfast_domain::json::from_str(text).map_err(|_| RequestHeaderError::List(key))
        }
    }
}

fn headers(
    data: &BTreeMap<String, String>,
    key: &'static str,
) -> Result<Vec<HeaderName>, RequestHeaderError> {
    list(data, key)?
        .iter()
        .map(|name| name.parse().map_err(|_| RequestHeaderError::List(key)))
        .collect()
}

#[cfg(test)]
mod tests {
    use rcgen::{
        BasicConstraints, CertificateParams, CertifiedIssuer, DnType, ExtendedKeyUsagePurpose,
        IsCa, KeyPair,
    };

    use super::*;

    type Ca = CertifiedIssuer<'static, KeyPair>;

    fn ca() -> Ca {
        let mut params = CertificateParams::default();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        CertifiedIssuer::self_signed(params, KeyPair::generate().unwrap()).unwrap()
    }

    fn certificate(ca: &Ca, name: &str, usage: ExtendedKeyUsagePurpose) -> CertificateDer<'static> {
        let mut params = CertificateParams::default();
        params.distinguished_name.push(DnType::CommonName, name);
        params.extended_key_usages = vec![usage];
        params.signed_by(&KeyPair::generate().unwrap(), ca).unwrap().into()
    }

    fn client(ca: &Ca, name: &str) -> CertificateDer<'static> {
        certificate(ca, name, ExtendedKeyUsagePurpose::ClientAuth)
    }

    fn config(bundle: &str, allowed: &str) -> BTreeMap<String, String> {
        [
            (CLIENT_CA, bundle),
            (ALLOWED_NAMES, allowed),
            (USERNAME_HEADERS, r#"["X-Remote-User"]"#),
            (UID_HEADERS, r#"["X-Remote-Uid"]"#),
            (GROUP_HEADERS, r#"["X-Remote-Group"]"#),
            (EXTRA_PREFIXES, r#"["X-Remote-Extra-"]"#),
        ]
        .map(|(key, value)| (key.to_owned(), value.to_owned()))
        .into()
    }

    fn named() -> HeaderMap {
        let mut headers = HeaderMap::new();
        for (name, value) in [
            ("x-remote-user", "hpa"),
            ("x-remote-uid", "7"),
            ("x-remote-group", "a"),
            ("x-remote-group", "b"),
            ("x-remote-extra-scopes", "read"),
            ("x-remote-extra-scopes", "write"),
            ("x-remote-extra-acme.com%2fproject", "x"),
            ("x-other", "y"),
        ] {
            headers.append(name, value.parse().unwrap());
        }
        headers
    }

    fn ask(
        data: &BTreeMap<String, String>,
        certificate: CertificateDer<'static>,
        headers: &HeaderMap,
    ) -> Result<User, NotIdentified> {
        let header = RequestHeader::from_config_map(data).unwrap();
        header.user(&[certificate], headers, UnixTime::now())
    }

    #[test]
    fn a_caller_is_named_with_all_groups_and_extras() {
        let ca = ca();
        let user = ask(&config(&ca.pem(), "[]"), client(&ca, "proxy"), &named()).unwrap();
        assert_eq!(user.name, "hpa");
        assert_eq!(user.uid, "7");
        assert_eq!(user.groups, ["a", "b", "system:authenticated"]);
        assert_eq!(user.extra["scopes"], ["read", "write"]);
        assert_eq!(user.extra["acme.com/project"], ["x"]);
        assert_eq!(user.extra.len(), 2);
    }

    #[test]
    fn a_named_user_is_authenticated_unless_the_headers_say_otherwise() {
        let ca = ca();
        let data = config(&ca.pem(), "[]");
        for (name, groups, expected) in [
            ("system:kube-aggregator", &[][..], &["system:authenticated"][..]),
            ("jane", &["a"], &["a", "system:authenticated"]),
            ("jane", &["system:authenticated", "a"], &["system:authenticated", "a"]),
            ("jane", &["system:unauthenticated"], &["system:unauthenticated"]),
            ("system:anonymous", &["system:unauthenticated"], &["system:unauthenticated"]),
            ("system:anonymous", &[], &[]),
        ] {
            let mut headers = HeaderMap::new();
            headers.append("x-remote-user", name.parse().unwrap());
            for group in groups {
                headers.append("x-remote-group", group.parse().unwrap());
            }
            let user = ask(&data, client(&ca, "proxy"), &headers).unwrap();
            assert_eq!(user.groups, expected, "{name} {groups:?}");
        }
    }

    #[test]
    fn only_allowed_names_are_trusted_and_an_empty_list_allows_any() {
        let ca = ca();
        let allowed = config(&ca.pem(), r#"["proxy", "other"]"#);
        assert!(ask(&allowed, client(&ca, "proxy"), &named()).is_ok());
        assert_eq!(ask(&allowed, client(&ca, "eve"), &named()), Err(NotIdentified::NotAllowed));
        for any in ["[]", ""] {
            assert!(ask(&config(&ca.pem(), any), client(&ca, "eve"), &named()).is_ok());
        }
    }

    #[test]
    fn only_the_cas_of_the_bundle_are_trusted() {
        let (old, new, other) = (ca(), ca(), ca());
        let data = config(&format!("{}{}", old.pem(), new.pem()), "[]");
        assert!(ask(&data, client(&old, "proxy"), &named()).is_ok());
        assert!(ask(&data, client(&new, "proxy"), &named()).is_ok());
        assert_eq!(ask(&data, client(&other, "proxy"), &named()), Err(NotIdentified::NotBelieved));
    }

    #[test]
    fn server_certificates_and_expired_certificates_are_not_trusted() {
        let ca = ca();
        let data = config(&ca.pem(), "[]");
        let server = certificate(&ca, "proxy", ExtendedKeyUsagePurpose::ServerAuth);
        assert_eq!(ask(&data, server, &named()), Err(NotIdentified::NotBelieved));
        let mut params = CertificateParams::default();
        params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ClientAuth];
        params.not_after = time::OffsetDateTime::now_utc() - std::time::Duration::from_secs(1);
        let ended = params.signed_by(&KeyPair::generate().unwrap(), &ca).unwrap().into();
        assert_eq!(ask(&data, ended, &named()), Err(NotIdentified::NotBelieved));
    }

    #[test]
    fn without_a_certificate_or_a_name_there_is_no_caller() {
        let ca = ca();
        let header = RequestHeader::from_config_map(&config(&ca.pem(), "[]")).unwrap();
        let now = UnixTime::now();
        assert_eq!(header.user(&[], &named(), now), Err(NotIdentified::NoCertificate));
        let certificates = [client(&ca, "proxy")];
        let nobody = HeaderMap::new();
        assert_eq!(header.user(&certificates, &nobody, now), Err(NotIdentified::Unnamed));
    }

    #[test]
    fn unusable_settings_are_refused() {
        let good = config(&ca().pem(), "[]");
        for (key, value) in [
            (CLIENT_CA, "garbage"),
            (CLIENT_CA, ""),
            (ALLOWED_NAMES, "proxy"),
            (USERNAME_HEADERS, "[]"),
            (USERNAME_HEADERS, r#"["not a header"]"#),
            (GROUP_HEADERS, "{}"),
        ] {
            let mut data = good.clone();
            data.insert(key.to_owned(), value.to_owned());
            assert!(RequestHeader::from_config_map(&data).is_err(), "{key}: {value}");
        }
        assert!(RequestHeader::from_config_map(&BTreeMap::new()).is_err());
    }
}
