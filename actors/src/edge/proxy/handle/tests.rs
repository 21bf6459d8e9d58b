use super::*;

fn size<A, B, C, D, F>(_: impl Fn(A, B, C, D) -> F) -> usize {
    size_of::<F>()
}

#[test]
fn a_request_that_waits_is_small() {
    let size = size(handle);
    // Ten thousand of them, with their connections and bodies of a kilobyte, have 100 MB.
    assert!(size <= 3072, "{size} bytes");
}
