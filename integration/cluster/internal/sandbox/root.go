package sandbox

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"

	"golang.org/x/sys/unix"
)

// devices are those that every container has.
var devices = []string{"null", "zero", "full", "random", "urandom", "tty"}

// sharedFiles are parts of the machine's /etc without which its programs do not
// run; they are left out where the machine lacks them.
var sharedFiles = []string{"/etc/ssl", "/etc/alternatives", "/etc/ld.so.cache"}

// buildRoot makes the container's root and moves the calling thread, which has
// a mount namespace of its own, into it.
func buildRoot(spec Spec) error {
	if err := unix.Mount("", "/", "", unix.MS_REC|unix.MS_PRIVATE, ""); err != nil {
		return fmt.Errorf("make mounts private: %w", err)
	}
	root := spec.Root
	if err := unix.Mount("root", root, "tmpfs", unix.MS_NOSUID, "mode=0755,size=64m"); err != nil {
		return fmt.Errorf("mount root: %w", err)
	}
	err := errors.Join(
		addSystem(root),
		addDevices(filepath.Join(root, "dev")),
		addKernel(root),
		addFiles(root, spec.Files),
	)
	if err != nil {
		return err
	}
	for _, mount := range spec.Mounts {
		if err := bind(root, mount); err != nil {
			return err
		}
	}
	if spec.Dir != "" {
		if err := os.MkdirAll(filepath.Join(root, spec.Dir), 0o755); err != nil && !spec.ReadOnlyRoot {
			return fmt.Errorf("make working directory: %w", err)
		}
	}
	if spec.ReadOnlyRoot {
		if err := unix.Mount("", root, "", unix.MS_REMOUNT|unix.MS_BIND|unix.MS_RDONLY|unix.MS_NOSUID, ""); err != nil {
			return fmt.Errorf("make root read-only: %w", err)
		}
	}
	return enter(root)
}

// addSystem shows the machine's programs and libraries, following its layout:
// on most, /bin and /lib are links into /usr.
func addSystem(root string) error {
	for _, name := range systemDirectories {
		info, err := os.Lstat("/" + name)
		switch {
		case errors.Is(err, fs.ErrNotExist):
			continue
		case err != nil:
			return fmt.Errorf("look at /%s: %w", name, err)
		case info.Mode()&fs.ModeSymlink != 0:
			target, err := os.Readlink("/" + name)
			if err != nil {
				return fmt.Errorf("look at /%s: %w", name, err)
			}
			if err := os.Symlink(target, filepath.Join(root, name)); err != nil {
				return fmt.Errorf("link /%s: %w", name, err)
			}
		default:
			if err := bind(root, Mount{Source: "/" + name, Target: "/" + name, ReadOnly: true}); err != nil {
				return err
			}
		}
	}
	for _, path := range sharedFiles {
		if _, err := os.Stat(path); err != nil {
			continue
		}
		if err := bind(root, Mount{Source: path, Target: path, ReadOnly: true}); err != nil {
			return err
		}
	}
	return nil
}

func addDevices(dev string) error {
	if err := os.MkdirAll(filepath.Join(dev, "shm"), 0o755); err != nil {
		return fmt.Errorf("make /dev: %w", err)
	}
	for _, name := range devices {
		if err := bind(dev, Mount{Source: "/dev/" + name, Target: "/" + name}); err != nil {
			return err
		}
	}
	for name, target := range map[string]string{"fd": "/proc/self/fd", "stdin": "fd/0", "stdout": "fd/1", "stderr": "fd/2"} {
		if err := os.Symlink(target, filepath.Join(dev, name)); err != nil {
			return fmt.Errorf("make /dev/%s: %w", name, err)
		}
	}
	if err := unix.Mount("shm", filepath.Join(dev, "shm"), "tmpfs", unix.MS_NOSUID|unix.MS_NODEV, "mode=1777,size=64m"); err != nil {
		return fmt.Errorf("mount /dev/shm: %w", err)
	}
	return nil
}

// addKernel shows /proc and /sys; a user 0 without capabilities could still
// write to /proc/sys, so that is read-only.
func addKernel(root string) error {
	return errors.Join(
		bind(root, Mount{Source: "/proc", Target: "/proc"}),
		bind(root, Mount{Source: "/proc/sys", Target: "/proc/sys", ReadOnly: true}),
		bind(root, Mount{Source: "/sys", Target: "/sys", ReadOnly: true}),
	)
}

func addFiles(root string, files []File) error {
	for _, file := range files {
		path := filepath.Join(root, file.Path)
		if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
			return fmt.Errorf("write %s: %w", file.Path, err)
		}
		if err := os.WriteFile(path, []byte(file.Content), 0o644); err != nil {
			return fmt.Errorf("write %s: %w", file.Path, err)
		}
	}
	for dir, mode := range map[string]fs.FileMode{"tmp": 0o777 | fs.ModeSticky, "var/tmp": 0o777 | fs.ModeSticky, "var/run": 0o755, "run": 0o755} {
		path := filepath.Join(root, dir)
		if err := os.MkdirAll(path, 0o755); err != nil {
			return fmt.Errorf("make /%s: %w", dir, err)
		}
		if err := os.Chmod(path, mode); err != nil {
			return fmt.Errorf("make /%s: %w", dir, err)
		}
	}
	return nil
}

// bind mounts a file or directory, making the mount point first.
func bind(root string, mount Mount) error {
	target := filepath.Join(root, mount.Target)
	if err := mountPoint(mount.Source, target); err != nil {
		return fmt.Errorf("make mount point %s: %w", mount.Target, err)
	}
	if err := unix.Mount(mount.Source, target, "", unix.MS_BIND, ""); err != nil {
		return fmt.Errorf("mount %s on %s: %w", mount.Source, mount.Target, err)
	}
	if !mount.ReadOnly {
		return nil
	}
	// The flags of the original mount must be repeated, or the kernel refuses.
	var stat unix.Statfs_t
	if err := unix.Statfs(target, &stat); err != nil {
		return fmt.Errorf("look at %s: %w", mount.Target, err)
	}
	kept := uintptr(stat.Flags) & (unix.MS_NOSUID | unix.MS_NODEV | unix.MS_NOEXEC | unix.MS_NOATIME | unix.MS_NODIRATIME | unix.MS_RELATIME)
	if err := unix.Mount("", target, "", unix.MS_REMOUNT|unix.MS_BIND|unix.MS_RDONLY|kept, ""); err != nil {
		return fmt.Errorf("make %s read-only: %w", mount.Target, err)
	}
	return nil
}

func mountPoint(source, target string) error {
	info, err := os.Stat(source)
	if err != nil {
		return err
	}
	if info.IsDir() {
		return os.MkdirAll(target, 0o755)
	}
	if _, err := os.Stat(target); err == nil {
		return nil
	}
	if err := os.MkdirAll(filepath.Dir(target), 0o755); err != nil {
		return err
	}
	return os.WriteFile(target, nil, 0o644)
}

// enter makes root the thread's root and lets go of the old one.
func enter(root string) error {
	if err := unix.Chdir(root); err != nil {
		return fmt.Errorf("enter root: %w", err)
	}
	if err := unix.PivotRoot(".", "."); err != nil {
		return fmt.Errorf("enter root: %w", err)
	}
	if err := unix.Unmount(".", unix.MNT_DETACH); err != nil {
		return fmt.Errorf("leave old root: %w", err)
	}
	return unix.Chdir("/")
}
