//! Whom encrypted connections trust: the built-in root certificates, or those of a file that the
//! environment names, for mirrors and engines behind an authority of their own.

use std::ffi::OsString;
use std::path::PathBuf;

use anyhow::{Context as _, ensure};
use ureq::tls::{Certificate, PemItem, RootCerts, TlsConfig, parse_pem};

/// Variables that name a file of root certificates, as OpenSSL, Python's requests and curl read
/// them; the first that is set holds.
const VARIABLES: [&str; 3] = ["SSL_CERT_FILE", "REQUESTS_CA_BUNDLE", "CURL_CA_BUNDLE"];

/// The settings of encrypted connections.
///
/// # Errors
///
/// When a variable names a file that holds no certificates.
pub(crate) fn tls() -> anyhow::Result<TlsConfig> {
    let roots = roots(&|name| std::env::var_os(name))?.unwrap_or(RootCerts::WebPki);
    Ok(TlsConfig::builder().root_certs(roots).build())
}

fn roots(variable: &dyn Fn(&str) -> Option<OsString>) -> anyhow::Result<Option<RootCerts>> {
    let named = VARIABLES
        .iter()
        .find_map(|name| Some((name, variable(name).filter(|value| !value.is_empty())?)));
    let Some((name, path)) = named else { return Ok(None) };
    let path = PathBuf::from(path);
    let context = || format!("failed to read the certificates {} of {name}", path.display());
    let pem = std::fs::read(&path).with_context(context)?;
    let mut certificates: Vec<Certificate<'static>> = Vec::new();
    for item in parse_pem(&pem) {
        if let PemItem::Certificate(certificate) = item.with_context(context)? {
            certificates.push(certificate);
        }
    }
    ensure!(
        !certificates.is_empty(),
        "failed to find a certificate in {}, which {name} names: it must be in PEM form",
        path.display()
    );
    Ok(Some(RootCerts::new_with_certs(&certificates)))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A certificate by its form alone: nothing is verified with it here.
    const PEM: &str = "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n";

    #[test]
    fn a_file_of_certificates_takes_the_place_of_the_built_in_ones() {
        let folder = tempfile::tempdir().unwrap();
        let file = |name: &str, text: &str| {
            let path = folder.path().join(name);
            std::fs::write(&path, text).unwrap();
            path.into_os_string()
        };
        let (two, none) = (file("two.pem", &PEM.repeat(2)), file("none.pem", "nothing"));
        let of = |set: &str, path: OsString| {
            roots(&|name| (name == set).then(|| path.clone())).map_err(|error| format!("{error:#}"))
        };
        for variable in VARIABLES {
            match of(variable, two.clone()).unwrap() {
                Some(RootCerts::Specific(found)) => assert_eq!(found.len(), 2),
                other => panic!("{other:?}"),
            }
        }
        assert!(of("OTHER", two).unwrap().is_none());
        assert!(of("SSL_CERT_FILE", OsString::new()).unwrap().is_none());
        let error = of("SSL_CERT_FILE", none).unwrap_err();
        assert!(error.contains("none.pem") && error.contains("SSL_CERT_FILE"), "{error}");
        let error = of("CURL_CA_BUNDLE", "no/file".into()).unwrap_err();
        assert!(error.contains("no/file") && error.contains("CURL_CA_BUNDLE"), "{error}");
    }
}
