//! Stub.
use crate::kinds::HttpRouteSpec;
use crate::object::{Kind, ObjectKey};
use crate::world::Record;
/// Stub.
#[derive(Clone, Debug)]
pub struct HttpRoute {
    /// x
    pub key: ObjectKey,
    /// x
    pub record: Record,
}
impl HttpRoute {
    /// x
    pub fn compile(key: ObjectKey, record: Record, _spec: HttpRouteSpec) -> Self {
        Self { key, record }
    }
    /// x
    pub fn refers_to(&self, _kind: Kind, _object: &ObjectKey) -> bool {
        false
    }
}
