package sandbox

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"syscall"

	"golang.org/x/sys/unix"
)

// searchPath is where commands without a directory are looked for.
const searchPath = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"

// Start runs the program of the spec and returns as soon as it runs.
//
// The surroundings are made on a thread of this process that is thrown away
// afterwards; the program is its child and inherits them. This needs neither a
// helper program nor a second start of this large one.
func Start(spec Spec) (*exec.Cmd, error) {
	return onThrowawayThread(func() (*exec.Cmd, error) {
		if err := unix.Unshare(unix.CLONE_NEWNS | unix.CLONE_NEWUTS); err != nil {
			return nil, fmt.Errorf("unshare: %w", err)
		}
		if err := unix.Setns(spec.NetNS, unix.CLONE_NEWNET); err != nil {
			return nil, fmt.Errorf("enter network namespace: %w", err)
		}
		if err := unix.Sethostname([]byte(spec.Hostname)); err != nil {
			return nil, fmt.Errorf("set host name: %w", err)
		}
		if err := buildRoot(spec); err != nil {
			return nil, err
		}
		return launch(spec)
	})
}

// Exec runs another program in the surroundings of a running one.
func Exec(pid int, spec Spec) (*exec.Cmd, error) {
	return onThrowawayThread(func() (*exec.Cmd, error) {
		// A thread that shares its root and directory with others cannot
		// change its mount namespace.
		if err := unix.Unshare(unix.CLONE_FS); err != nil {
			return nil, fmt.Errorf("unshare: %w", err)
		}
		pidfd, err := unix.PidfdOpen(pid, 0)
		if err != nil {
			return nil, fmt.Errorf("open process %d: %w", pid, err)
		}
		defer unix.Close(pidfd)
		if err := unix.Setns(pidfd, unix.CLONE_NEWNS|unix.CLONE_NEWUTS|unix.CLONE_NEWNET); err != nil {
			return nil, fmt.Errorf("enter namespaces of process %d: %w", pid, err)
		}
		return launch(spec)
	})
}

func onThrowawayThread(start func() (*exec.Cmd, error)) (*exec.Cmd, error) {
	type result struct {
		cmd *exec.Cmd
		err error
	}
	done := make(chan result)
	go func() {
		// Never unlocked: the runtime ends the thread with the goroutine.
		runtime.LockOSThread()
		cmd, err := start()
		done <- result{cmd, err}
	}()
	started := <-done
	return started.cmd, started.err
}

// launch starts the program from a thread that is already in place.
func launch(spec Spec) (*exec.Cmd, error) {
	if !spec.KeepPrivileges {
		if err := dropBoundingSet(); err != nil {
			return nil, err
		}
	}
	if spec.NoNewPrivileges {
		if err := unix.Prctl(unix.PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0); err != nil {
			return nil, fmt.Errorf("set no_new_privs: %w", err)
		}
	}
	path, err := findProgram(spec.Argv[0], spec.Env)
	if err != nil {
		return nil, err
	}
	cmd := &exec.Cmd{
		Path:   path,
		Args:   spec.Argv,
		Env:    spec.Env,
		Dir:    spec.Dir,
		Stdout: spec.Stdout,
		Stderr: spec.Stderr,
		SysProcAttr: &syscall.SysProcAttr{
			Credential: &syscall.Credential{Uid: spec.UID, Gid: spec.GID, Groups: spec.Groups},
			// A group of its own, so that its children can be killed with it.
			Setpgid: true,
		},
	}
	if cmd.Dir == "" {
		cmd.Dir = "/"
	}
	if err := cmd.Start(); err != nil {
		return nil, fmt.Errorf("run %s: %w", spec.Argv[0], err)
	}
	return cmd, nil
}

// dropBoundingSet takes all capabilities from whatever this thread executes,
// also for user 0. The thread itself keeps its own until then.
func dropBoundingSet() error {
	for capability := uintptr(0); capability <= unix.CAP_LAST_CAP; capability++ {
		if err := unix.Prctl(unix.PR_CAPBSET_DROP, capability, 0, 0, 0); err != nil {
			return fmt.Errorf("drop capability %d: %w", capability, err)
		}
	}
	return nil
}

// findProgram resolves a command in the root of the calling thread.
func findProgram(name string, env []string) (string, error) {
	if strings.ContainsRune(name, '/') {
		return name, nil
	}
	path := searchPath
	for _, variable := range env {
		if value, found := strings.CutPrefix(variable, "PATH="); found {
			path = value
		}
	}
	for _, dir := range strings.Split(path, ":") {
		if candidate := filepath.Join(dir, name); executable(candidate) {
			return candidate, nil
		}
	}
	return "", fmt.Errorf("run %s: %w in %s", name, os.ErrNotExist, path)
}
