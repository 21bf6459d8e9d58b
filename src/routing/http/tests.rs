//! The traffic tables of the Gateway API's conformance tests, without a network.



mod hostnames;
mod matches;


mod scene;

