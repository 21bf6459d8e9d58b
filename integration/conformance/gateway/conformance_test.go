// Package gateway runs the Gateway API's own suite against a router that is deployed in the cluster of KUBECONFIG.
package gateway

import (
	"testing"

	"sigs.k8s.io/gateway-api/conformance"
)

// TestConformance is the suite's own test, with the suite's own flags.
func TestConformance(t *testing.T) {
	conformance.RunConformance(t)
}
