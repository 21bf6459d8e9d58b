// Package gateway runs the own suite of an earlier release of the Gateway API against a router that is deployed in the cluster of KUBECONFIG.
package gateway

import (
	"testing"

	"sigs.k8s.io/gateway-api/conformance"
	"sigs.k8s.io/gateway-api/conformance/tests"
)

// TestConformance is the suite's own test, with the suite's own flags, one test after the other.
//
// The suite records a test that is marked as parallel as passed when it pauses, which is before it has run, and writes
// the report before any of them has ended. Without the mark the report says what happened.
func TestConformance(t *testing.T) {
	for i := range tests.ConformanceTests {
		tests.ConformanceTests[i].Parallel = false
	}
	conformance.RunConformance(t)
}
