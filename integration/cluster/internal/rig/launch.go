// Package rig makes the isolated surroundings of a cluster, runs the cluster in
// them and runs the user's command against it.
package rig

import (
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"time"
)

// Names of the hidden subcommands of this package.
const (
	InsideCommand = "rig"
	SweepCommand  = "sweep"
)

// exitFailure is the exit code when the cluster itself fails, as opposed to the
// command; the same as that of env(1), timeout(1) and their like.
const exitFailure = 125

// Options are what a user asks for.
type Options struct {
	StateDir string
	Keep     bool
	// Images maps the last element of an image's name to a program.
	Images  map[string]string
	Command []string
}

// Launch runs the cluster in new namespaces and returns the exit code.
//
// Everything hangs on the first process of a new PID namespace, the rig: when
// it ends, for whatever reason, the kernel kills every process of the cluster,
// and with the last of them go the network namespaces and the mounts. The rig
// itself is bound to this process by a parent-death signal. What the kernel
// does not clean up is the state directory, so a sweeper waits for this
// process's end and removes it.
func Launch(options Options) (int, error) {
	if os.Geteuid() != 0 {
		return exitFailure, errors.New("network namespaces need root")
	}
	state, err := makeStateDir(options.StateDir)
	if err != nil {
		return exitFailure, err
	}
	if options.Keep {
		fmt.Fprintf(os.Stderr, "cluster: state is kept in %s\n", state)
	} else {
		finish, err := startSweeper(state)
		if err != nil {
			return exitFailure, errors.Join(err, os.RemoveAll(state))
		}
		defer finish()
	}
	return runInside(state, options)
}

// makeStateDir refuses a directory with contents, because it would be emptied.
func makeStateDir(dir string) (string, error) {
	if dir == "" {
		made, err := os.MkdirTemp("", "cluster-")
		if err != nil {
			return "", fmt.Errorf("make state directory: %w", err)
		}
		return made, os.Chmod(made, 0o755)
	}
	dir, err := filepath.Abs(dir)
	if err != nil {
		return "", fmt.Errorf("state directory: %w", err)
	}
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return "", fmt.Errorf("make state directory: %w", err)
	}
	entries, err := os.ReadDir(dir)
	if err != nil {
		return "", fmt.Errorf("state directory: %w", err)
	}
	if len(entries) > 0 {
		return "", fmt.Errorf("state directory %s is not empty", dir)
	}
	return dir, nil
}

// startSweeper starts the process that removes the state directory once the
// returned function is called or this process is gone.
func startSweeper(state string) (func(), error) {
	reader, writer, err := os.Pipe()
	if err != nil {
		return nil, fmt.Errorf("start sweeper: %w", err)
	}
	defer reader.Close()
	sweeper := exec.Command("/proc/self/exe", SweepCommand, state)
	sweeper.Stdin = reader
	sweeper.Stderr = os.Stderr
	// A session of its own survives a kill of the whole process group.
	sweeper.SysProcAttr = &syscall.SysProcAttr{Setsid: true}
	if err := sweeper.Start(); err != nil {
		return nil, errors.Join(fmt.Errorf("start sweeper: %w", err), writer.Close())
	}
	return func() {
		writer.Close()
		if err := sweeper.Wait(); err != nil {
			fmt.Fprintf(os.Stderr, "cluster: sweeper of %s: %v\n", state, err)
		}
	}, nil
}

// Sweep waits for the end of its input, which is the end of its parent, and
// removes the directory. The rig dies at the same time, and its last writes may
// still be under way, so the removal is tried for a while.
func Sweep(state string) error {
	if _, err := io.Copy(io.Discard, os.Stdin); err != nil {
		return fmt.Errorf("wait for parent: %w", err)
	}
	var err error
	for range 50 {
		if err = os.RemoveAll(state); err == nil {
			return nil
		}
		time.Sleep(100 * time.Millisecond)
	}
	return err
}

// runInside starts the rig in its namespaces, hands signals on and waits.
func runInside(state string, options Options) (int, error) {
	args := []string{InsideCommand, state}
	for name, program := range options.Images {
		args = append(args, "--image", name+"="+program)
	}
	inside := exec.Command("/proc/self/exe", append(append(args, "--"), options.Command...)...)
	inside.Stdin, inside.Stdout, inside.Stderr = os.Stdin, os.Stdout, os.Stderr
	inside.SysProcAttr = &syscall.SysProcAttr{
		Cloneflags: syscall.CLONE_NEWNET | syscall.CLONE_NEWNS | syscall.CLONE_NEWPID,
		Pdeathsig:  syscall.SIGKILL,
	}
	signals := make(chan os.Signal, 4)
	signal.Notify(signals, syscall.SIGINT, syscall.SIGTERM)
	defer signal.Stop(signals)
	if err := inside.Start(); err != nil {
		return exitFailure, fmt.Errorf("enter namespaces: %w", err)
	}
	go func() {
		for range signals {
			// An error means that the rig is gone, which Wait reports.
			_ = inside.Process.Signal(syscall.SIGTERM)
		}
	}()
	err := inside.Wait()
	if exit := (*exec.ExitError)(nil); errors.As(err, &exit) {
		return exitCode(exit.ProcessState), nil
	}
	if err != nil {
		return exitFailure, fmt.Errorf("wait for rig: %w", err)
	}
	return 0, nil
}

// exitCode follows the shell's convention for programs ended by a signal.
func exitCode(state *os.ProcessState) int {
	if status, ok := state.Sys().(syscall.WaitStatus); ok && status.Signaled() {
		return 128 + int(status.Signal())
	}
	return state.ExitCode()
}

// ParseImage splits NAME=PROGRAM and makes the program's path absolute.
func ParseImage(text string) (name, program string, err error) {
	name, program, found := strings.Cut(text, "=")
	if !found || name == "" || program == "" {
		return "", "", fmt.Errorf("--image %s: want NAME=PROGRAM", strconv.Quote(text))
	}
	program, err = filepath.Abs(program)
	if err != nil {
		return "", "", fmt.Errorf("--image %s: %w", name, err)
	}
	info, err := os.Stat(program)
	if err != nil {
		return "", "", fmt.Errorf("--image %s: %w", name, err)
	}
	if info.IsDir() || info.Mode()&0o111 == 0 {
		return "", "", fmt.Errorf("--image %s: %s is not executable", name, program)
	}
	return name, program, nil
}
