use super::*;

#[test]
fn only_passing_troubles_invite_another_try() {
    let nowhere = NoEndpoint::Route { route: ObjectKey::new("a", "b"), unresolved: Vec::new() };
    for (error, status, retry) in [
        (ProxyError::Overloaded, 429, Some("1")),
        (nowhere.into(), 503, Some("1")),
        (ProxyError::Failed { attempts: 3, failure: AttemptFailure::Refused }, 503, Some("1")),
        (ProxyError::Failed { attempts: 1, failure: AttemptFailure::Late(Limit::Head) }, 504, None),
        (ProxyError::BodyTooLarge { limit: 1 }, 413, None),
        (ReadError::Late.into(), 408, None),
        (Exhausted.into(), 503, Some("1")),
        (NotUnderstood::LongModel.into(), 400, None),
        (NotUnderstood::Encoded { encoding: "gzip".to_owned() }.into(), 415, None),
    ] {
        let response = error.response(None);
        assert_eq!(response.status().as_u16(), status, "{error}");
        let found = response.headers().get(RETRY_AFTER).and_then(|value| value.to_str().ok());
        assert_eq!(found, retry, "{error}");
    }
}
#[test]
fn one_attempt_is_not_told_as_several() {
    let told = |attempts| ProxyError::Failed { attempts, failure: AttemptFailure::Refused }.to_string();
    assert_eq!(told(1), "the endpoint refused the connection");
    assert_eq!(told(3), "all 3 attempts failed; the last endpoint refused the connection");
}
