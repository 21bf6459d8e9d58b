package rig

import (
	"os"
	"path/filepath"
	"testing"
)

func TestParseImage(t *testing.T) {
	dir := t.TempDir()
	program, text := filepath.Join(dir, "program"), filepath.Join(dir, "text")
	for path, mode := range map[string]os.FileMode{program: 0o755, text: 0o644} {
		if err := os.WriteFile(path, nil, mode); err != nil {
			t.Fatal(err)
		}
	}
	if name, got, err := ParseImage("router=" + program); err != nil || name != "router" || got != program {
		t.Errorf("got %q %q, error %v", name, got, err)
	}
	for _, bad := range []string{"router", "=" + program, "router=", "router=" + text, "router=" + dir, "router=" + dir + "/absent"} {
		if _, _, err := ParseImage(bad); err == nil {
			t.Errorf("%q is accepted", bad)
		}
	}
}

func TestMakeStateDir(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "a", "b")
	if got, err := makeStateDir(dir); err != nil || got != dir {
		t.Errorf("got %q, error %v", got, err)
	}
	if _, err := makeStateDir(filepath.Dir(dir)); err == nil {
		t.Error("a directory with contents is accepted")
	}
}

func TestZombieOf(t *testing.T) {
	for stat, want := range map[string]bool{
		"9 (x) Z 1 9 9":    true,
		"9 (x) S 1 9 9":    false,
		"9 (x) Z 2 9 9":    false,
		"9 (Z 1) S 1 9 9":  false,
		"9 (a) Z) Z 1 9 9": true,
		"":                 false,
	} {
		if got := zombieOf(stat, 1); got != want {
			t.Errorf("%q: got %v", stat, got)
		}
	}
}
