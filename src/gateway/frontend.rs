//! How clients of a Gateway's HTTPS listeners are validated.
//!
//! Source: Gateway API, `FrontendTLSConfig`: the settings of a port replace the default ones there. References that
//! lead nowhere are reported at each listener that they matter to; without any valid one no client can be validated.

use std::sync::Arc;

use super::references::{Reasons, Reference, References, Referrer};
use super::tls::ClientValidation;
use crate::certificate::Authorities;
use crate::conditions::{Problem, reason};
use crate::kinds::gateway::{FrontendTls, FrontendTlsConfig, FrontendValidation, FrontendValidationMode};

/// How conditions tell of references to certificates of authorities.
const REASONS: Reasons =
    Reasons { kind: reason::INVALID_CA_CERTIFICATE_KIND, unusable: reason::INVALID_CA_CERTIFICATE_REF };

/// How clients of one Gateway are validated.
#[derive(Debug, Default)]
pub struct Frontend {
    default: Option<Validation>,
    per_port: Vec<(i32, Option<Validation>)>,
    is_insecure: bool,
}

/// How certificates of clients are validated.
#[derive(Debug)]
pub struct Validation {
    /// How; absent when no authority is left to validate them with.
    pub client: Option<ClientValidation>,
    /// References that lead nowhere.
    pub problems: Vec<Problem>,
}

impl Frontend {
    /// Reads the settings of a Gateway.
    pub fn new(spec: &FrontendTls, gateway: Referrer<'_>, references: &References<'_>) -> Self {
        let read = |config: &FrontendTlsConfig| {
            config.validation.as_ref().map(|validation| Validation::new(validation, gateway, references))
        };
        let configs = std::iter::once(&spec.default).chain(spec.per_port.iter().map(|entry| &entry.tls));
        let mut modes = configs.filter_map(|config| config.validation.as_ref()).map(|validation| validation.mode);
        Self {
            is_insecure: modes.any(|mode| mode == FrontendValidationMode::AllowInsecureFallback),
            default: read(&spec.default),
            per_port: spec.per_port.iter().map(|entry| (entry.port, read(&entry.tls))).collect(),
        }
    }

    /// Returns how clients are validated on a port; absent if they are asked for nothing.
    pub fn on_port(&self, port: i32) -> Option<&Validation> {
        let own = self.per_port.iter().find(|(own, _)| *own == port);
        own.map_or(self.default.as_ref(), |(_, validation)| validation.as_ref())
    }

    /// Returns whether clients without a valid certificate are let in somewhere, although certificates are asked for.
    pub fn is_insecure(&self) -> bool {
        self.is_insecure
    }
}

impl Validation {
    fn new(spec: &FrontendValidation, gateway: Referrer<'_>, references: &References<'_>) -> Self {
        let mut problems = Vec::new();
        let mut bundles: Vec<Arc<Authorities>> = Vec::new();
        for reference in &spec.ca_certificate_refs {
            match references.authorities(gateway, Reference::from(reference)) {
                Ok(bundle) => bundles.push(bundle),
                Err(fault) => problems.push(fault.problem(REASONS)),
            }
        }
        let required = spec.mode == FrontendValidationMode::AllowValidOnly;
        let client = join(bundles).map(|authorities| ClientValidation { authorities, required });
        Self { client, problems }
    }
}

/// Joins bundles of certificates; a single one, which is the rule, stays shared.
pub(crate) fn join(mut bundles: Vec<Arc<Authorities>>) -> Option<Arc<Authorities>> {
    match bundles.len() {
        0 | 1 => bundles.pop(),
        _ => Some(Arc::new(Authorities::join(bundles.iter().map(|bundle| &**bundle)))),
    }
}
