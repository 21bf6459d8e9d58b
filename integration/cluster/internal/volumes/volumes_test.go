package volumes

import (
	"io/fs"
	"os"
	"path/filepath"
	"testing"
)

func write(t *testing.T, dir string, payload Payload) bool {
	t.Helper()
	changed, err := Write(dir, payload, nil)
	if err != nil {
		t.Fatal(err)
	}
	return changed
}

func expect(t *testing.T, dir, name, want string) {
	t.Helper()
	got, err := os.ReadFile(filepath.Join(dir, name))
	if err != nil || string(got) != want {
		t.Errorf("%s: got %q, error %v, want %q", name, got, err, want)
	}
}

func TestWrite(t *testing.T) {
	dir := t.TempDir()
	first := Payload{"a": {[]byte("1"), 0o400}, "sub/b": {[]byte("2"), 0o644}}
	if !write(t, dir, first) {
		t.Error("the first write changed nothing")
	}
	expect(t, dir, "a", "1")
	expect(t, dir, "sub/b", "2")
	if info, err := os.Stat(filepath.Join(dir, "a")); err != nil || info.Mode().Perm() != 0o400 {
		t.Errorf("mode of a: %v, error %v", info.Mode(), err)
	}
	if write(t, dir, first) {
		t.Error("the same contents were written again")
	}
	if !write(t, dir, Payload{"sub/b": {[]byte("3"), 0o644}, "c": {[]byte("4"), 0o644}}) {
		t.Error("other contents were not written")
	}
	expect(t, dir, "sub/b", "3")
	expect(t, dir, "c", "4")
	if _, err := os.Lstat(filepath.Join(dir, "a")); !os.IsNotExist(err) {
		t.Errorf("a is still there: %v", err)
	}
	entries, err := filepath.Glob(filepath.Join(dir, dataPrefix+"*"))
	if err != nil || len(entries) != 1 {
		t.Errorf("old contents were left behind: %q, error %v", entries, err)
	}
}

// A reader that resolves a path once sees one state of all files.
func TestOldContentsStayConsistent(t *testing.T) {
	dir := t.TempDir()
	write(t, dir, Payload{"cert": {[]byte("old"), 0o644}, "key": {[]byte("old"), 0o644}})
	link, err := os.Readlink(filepath.Join(dir, "cert"))
	if err != nil || link != filepath.Join(dataLink, "cert") {
		t.Fatalf("cert points to %q, error %v", link, err)
	}
	before, err := os.Readlink(filepath.Join(dir, dataLink))
	if err != nil {
		t.Fatal(err)
	}
	write(t, dir, Payload{"cert": {[]byte("new"), 0o644}, "key": {[]byte("new"), 0o644}})
	after, err := os.Readlink(filepath.Join(dir, dataLink))
	if err != nil || before == after {
		t.Errorf("contents changed in place: %q, %q, error %v", before, after, err)
	}
}

func TestEmptyPayload(t *testing.T) {
	dir := t.TempDir()
	if !write(t, dir, Payload{}) || write(t, dir, Payload{}) {
		t.Error("an empty volume is written not exactly once")
	}
}

func TestPrepare(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "v")
	group := int64(os.Getgid())
	if err := Prepare(dir, &group); err != nil {
		t.Fatal(err)
	}
	info, err := os.Stat(dir)
	if err != nil || info.Mode()&fs.ModeSetgid == 0 || info.Mode().Perm() != 0o777 {
		t.Errorf("mode %v, error %v", info.Mode(), err)
	}
}
