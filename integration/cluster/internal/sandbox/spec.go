// Package sandbox starts programs in surroundings like those of a container: a
// root file system, a host name and a network of their own and no privileges.
package sandbox

import (
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
)

// Mount makes a file or directory of the rig appear in the container.
type Mount struct {
	Source   string
	Target   string
	ReadOnly bool
}

// File is a small file that is written into the container's root.
type File struct {
	Path    string
	Content string
}

// Spec says what to run and where.
type Spec struct {
	// Root is an empty directory to mount the container's root on.
	Root     string
	Hostname string
	NetNS    int
	Mounts   []Mount
	Files    []File

	Argv []string
	Env  []string
	Dir  string

	UID, GID     uint32
	Groups       []uint32
	ReadOnlyRoot bool
	// KeepPrivileges leaves a root user its capabilities.
	KeepPrivileges bool
	// NoNewPrivileges makes set-user-ID programs harmless.
	NoNewPrivileges bool

	Stdout, Stderr *os.File
}

// Images maps the last element of an image's name to a program of this machine.
type Images map[string]string

// Lookup finds the program of an image.
func (i Images) Lookup(image string) (name, program string, found bool) {
	name = ImageName(image)
	program, found = i[name]
	return name, program, found
}

// Names lists the known images for messages.
func (i Images) Names() string {
	if len(i) == 0 {
		return "none"
	}
	return strings.Join(slices.Sorted(maps.Keys(i)), ", ")
}

// ImageName is the last element of an image's name, without tag and digest.
func ImageName(image string) string {
	image, _, _ = strings.Cut(image, "@")
	image = image[strings.LastIndexByte(image, '/')+1:]
	image, _, _ = strings.Cut(image, ":")
	return image
}

// systemDirectories are shared with the machine, so that programs find their
// loader and libraries and a shell is at hand.
var systemDirectories = []string{"usr", "bin", "sbin", "lib", "lib32", "lib64", "libx32"}

// ResolveCommand makes the argument vector of a container. Without a command
// the image's program is run at /NAME. A command that the container's root will
// not have is taken for the name of an image, since an image that is one
// program is all there is here. The second result is the program's mount.
func (i Images) ResolveCommand(image string, command, args []string) ([]string, []Mount) {
	name, program, _ := i.Lookup(image)
	own := Mount{Source: program, Target: "/" + name, ReadOnly: true}
	if len(command) == 0 {
		return append([]string{own.Target}, args...), []Mount{own}
	}
	mounts := []Mount{own}
	first := command[0]
	if other, found := i[filepath.Base(first)]; found && !shared(first) && first != own.Target {
		target := first
		if !filepath.IsAbs(target) {
			target = "/" + target
		}
		if target != own.Target {
			mounts = append(mounts, Mount{Source: other, Target: target, ReadOnly: true})
		}
		first = target
	}
	argv := append([]string{first}, command[1:]...)
	return append(argv, args...), mounts
}

// shared tells whether a command is one of the machine's own programs that
// every container sees.
func shared(command string) bool {
	if !filepath.IsAbs(command) {
		for _, dir := range strings.Split(searchPath, ":") {
			if executable(filepath.Join(dir, command)) {
				return true
			}
		}
		return false
	}
	top, _, _ := strings.Cut(strings.TrimPrefix(command, "/"), "/")
	for _, dir := range systemDirectories {
		if top == dir {
			return executable(command)
		}
	}
	return false
}

func executable(path string) bool {
	info, err := os.Stat(path)
	return err == nil && !info.IsDir() && info.Mode()&0o111 != 0
}
