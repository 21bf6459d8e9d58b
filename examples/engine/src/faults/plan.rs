//! What goes wrong with one request: drawn from the settings of the engine, or read from the directive that the request
//! carries.

use actix_web::http::StatusCode;

use super::{FaultError, error_status};

/// Request header that carries a directive for one request.
pub(crate) const FAULT_HEADER: &str = "x-simulate-fault";

/// What goes wrong with one request.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub(crate) struct FaultPlan {
    /// Error that is answered at once.
    pub status: Option<StatusCode>,
    /// What happens instead of an answer.
    pub refusal: Option<Breakage>,
    /// What happens after a number of chunks.
    pub cut: Option<(u64, Breakage)>,
}

/// How an answer breaks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Breakage {
    /// It stands still until the client leaves.
    Hang,
    /// The connection is reset.
    Reset,
}

impl FaultPlan {
    /// Reads the directive of one request.
    pub(crate) fn parse(directive: &str) -> Result<Self, FaultError> {
        let unknown = || FaultError::Directive(directive.to_owned());
        let (name, value) = directive.split_once('=').unwrap_or((directive, ""));
        let number = || value.parse::<u64>().map_err(|_| unknown());
        let mut plan = Self::default();
        match name {
            "status" => {
                let status = value.parse().map_err(|_| unknown())?;
                plan.status = Some(error_status(status)?);
            }
            "hang" if value.is_empty() => plan.refusal = Some(Breakage::Hang),
            "reset" if value.is_empty() => plan.refusal = Some(Breakage::Reset),
            "hang-after" => plan.cut = Some((number()?, Breakage::Hang)),
            "reset-after" => plan.cut = Some((number()?, Breakage::Reset)),
            _ => return Err(unknown()),
        }
        Ok(plan)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn directives_of_one_request() {
        let status = |status| FaultPlan { status: Some(status), ..FaultPlan::default() };
        let refusal = |breakage| FaultPlan { refusal: Some(breakage), ..FaultPlan::default() };
        let cut = |after, breakage| FaultPlan { cut: Some((after, breakage)), ..FaultPlan::default() };
        let unknown = |text: &str| Err(FaultError::Directive(text.to_owned()));
        let cases = [
            ("status=503", Ok(status(StatusCode::SERVICE_UNAVAILABLE))),
            ("status=200", Err(FaultError::ErrorStatus(200))),
            ("status=x", unknown("status=x")),
            ("hang", Ok(refusal(Breakage::Hang))),
            ("reset", Ok(refusal(Breakage::Reset))),
            ("hang-after=3", Ok(cut(3, Breakage::Hang))),
            ("reset-after=0", Ok(cut(0, Breakage::Reset))),
            ("reset-after=", unknown("reset-after=")),
            ("explode", unknown("explode")),
        ];
        for (directive, expected) in cases {
            assert_eq!(FaultPlan::parse(directive), expected, "{directive}");
        }
    }
}
