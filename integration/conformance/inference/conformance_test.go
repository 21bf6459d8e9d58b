// Package inference runs the Inference Extension's own suite against a router that is deployed in the cluster of
// KUBECONFIG.
package inference

import (
	"testing"

	"sigs.k8s.io/gateway-api-inference-extension/conformance"
)

// TestConformance is the suite's own test, with the suite's own flags. None of its tests is marked as parallel.
func TestConformance(t *testing.T) {
	conformance.RunConformance(t)
}
