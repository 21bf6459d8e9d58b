package sandbox

import (
	"slices"
	"testing"
)

func TestImageName(t *testing.T) {
	for image, want := range map[string]string{
		"router":                          "router",
		"ghcr.io/org/router:v1":           "router",
		"localhost:5000/router":           "router",
		"localhost:5000/a/router:v1@sha0": "router",
	} {
		if got := ImageName(image); got != want {
			t.Errorf("%s: got %q, want %q", image, got, want)
		}
	}
}

func TestResolveCommand(t *testing.T) {
	images := Images{"router": "/build/router", "helper": "/build/helper"}
	own := Mount{Source: "/build/router", Target: "/router", ReadOnly: true}
	tests := map[string]struct {
		command []string
		argv    []string
		mounts  []Mount
	}{
		"entry point": {nil, []string{"/router", "arg"}, []Mount{own}},
		"own name":    {[]string{"/router", "sub"}, []string{"/router", "sub", "arg"}, []Mount{own}},
		"own name elsewhere": {[]string{"/app/router"}, []string{"/app/router", "arg"},
			[]Mount{own, {Source: "/build/router", Target: "/app/router", ReadOnly: true}}},
		"another image": {[]string{"helper"}, []string{"/helper", "arg"},
			[]Mount{own, {Source: "/build/helper", Target: "/helper", ReadOnly: true}}},
		"the machine's": {[]string{"sh", "-c"}, []string{"sh", "-c", "arg"}, []Mount{own}},
		"unknown":       {[]string{"/nowhere"}, []string{"/nowhere", "arg"}, []Mount{own}},
	}
	for name, test := range tests {
		argv, mounts := images.ResolveCommand("registry/router:v1", test.command, []string{"arg"})
		if !slices.Equal(argv, test.argv) || !slices.Equal(mounts, test.mounts) {
			t.Errorf("%s: got %q %+v, want %q %+v", name, argv, mounts, test.argv, test.mounts)
		}
	}
}
