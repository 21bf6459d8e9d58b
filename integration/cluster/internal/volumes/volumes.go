// Package volumes writes the contents of volumes the way programs that watch
// their files expect it: all files of a volume change at once.
package volumes

import (
	"bytes"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
)

const (
	// dataLink points to the directory of the current contents.
	dataLink = "..data"
	// dataPrefix starts the names of such directories.
	dataPrefix = "..contents-"
)

// File is one file of a volume.
type File struct {
	Data []byte
	Mode int32
}

// Payload is the contents of a volume by relative path.
type Payload map[string]File

// Prepare makes the directory of a volume. With a group, the directory belongs
// to it and so does what is made in it.
func Prepare(dir string, group *int64) error {
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return fmt.Errorf("make volume: %w", err)
	}
	mode := fs.FileMode(0o777)
	if group != nil {
		if err := os.Chown(dir, -1, int(*group)); err != nil {
			return fmt.Errorf("make volume: %w", err)
		}
		mode |= fs.ModeSetgid
	}
	if err := os.Chmod(dir, mode); err != nil {
		return fmt.Errorf("make volume: %w", err)
	}
	return nil
}

// Write replaces the contents of a volume if they differ. The files are links
// through one link to a directory with everything; renaming that link changes
// all of them in one step. It tells whether anything was written.
func Write(dir string, payload Payload, group *int64) (bool, error) {
	if same(dir, payload) {
		return false, nil
	}
	next, err := os.MkdirTemp(dir, dataPrefix)
	if err != nil {
		return false, fmt.Errorf("write volume: %w", err)
	}
	if err := fill(next, payload, group); err != nil {
		return false, errors.Join(fmt.Errorf("write volume: %w", err), os.RemoveAll(next))
	}
	if err := swap(dir, next); err != nil {
		return false, fmt.Errorf("write volume: %w", err)
	}
	return true, errors.Join(linkTop(dir, payload), unlinkStale(dir, payload))
}

func same(dir string, payload Payload) bool {
	count := 0
	root := filepath.Join(dir, dataLink) + "/"
	err := filepath.WalkDir(root, func(path string, entry fs.DirEntry, err error) error {
		if err != nil || entry.IsDir() {
			return err
		}
		name, err := filepath.Rel(root, path)
		if err != nil {
			return err
		}
		data, err := os.ReadFile(path)
		if err != nil {
			return err
		}
		if file, found := payload[name]; !found || !bytes.Equal(file.Data, data) {
			return fs.ErrInvalid
		}
		count++
		return nil
	})
	return err == nil && count == len(payload)
}

func fill(dir string, payload Payload, group *int64) error {
	if err := os.Chmod(dir, 0o755); err != nil {
		return err
	}
	for name, file := range payload {
		path := filepath.Join(dir, name)
		if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
			return err
		}
		if err := os.WriteFile(path, file.Data, 0o600); err != nil {
			return err
		}
		mode := fs.FileMode(file.Mode)
		if group != nil {
			if err := os.Chown(path, -1, int(*group)); err != nil {
				return err
			}
			mode |= 0o440
		}
		if err := os.Chmod(path, mode); err != nil {
			return err
		}
	}
	return nil
}

// swap points the link to the new contents and removes the old ones.
func swap(dir, next string) error {
	link := filepath.Join(dir, dataLink)
	old, err := os.Readlink(link)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	temporary := link + "_tmp"
	if err := os.Symlink(filepath.Base(next), temporary); err != nil {
		return err
	}
	if err := os.Rename(temporary, link); err != nil {
		return err
	}
	if old == "" {
		return nil
	}
	return os.RemoveAll(filepath.Join(dir, old))
}

// linkTop makes the visible names: only the first element of each path, so that
// whole directories change at once, too.
func linkTop(dir string, payload Payload) error {
	for name := range payload {
		top, _, _ := strings.Cut(name, "/")
		err := os.Symlink(filepath.Join(dataLink, top), filepath.Join(dir, top))
		if err != nil && !errors.Is(err, fs.ErrExist) {
			return fmt.Errorf("write volume: %w", err)
		}
	}
	return nil
}

func unlinkStale(dir string, payload Payload) error {
	wanted := map[string]bool{}
	for name := range payload {
		top, _, _ := strings.Cut(name, "/")
		wanted[top] = true
	}
	entries, err := os.ReadDir(dir)
	if err != nil {
		return fmt.Errorf("write volume: %w", err)
	}
	for _, entry := range entries {
		if strings.HasPrefix(entry.Name(), "..") || wanted[entry.Name()] {
			continue
		}
		if err := os.Remove(filepath.Join(dir, entry.Name())); err != nil {
			return fmt.Errorf("write volume: %w", err)
		}
	}
	return nil
}
